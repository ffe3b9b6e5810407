"""Rows with their provenance: a run's tables in, ROUTED rows out, shard by shard.

    assigned  each prompt with the teacher it goes to, and no response (after step route)
    train     PerSyn's examples: each prompt with its teacher's response (after step synthesize)
    parallel  the parallel set with every teacher's complete response and its reward (step rewards)
    heldout   prompts kept for evaluation, without teacher and response (step prompts)

What no step has measured is null. Rows of one prompt follow one another, in the pool's order.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from persyn_ray.errors import DataError
from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.recipe.scoring import ScoringConfig
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.shards.response_store import qualities_of, responses_of
from persyn_ray.shards.tables import column_PM, examples_table, shards_of
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import PERSYN, RunLayout, parts_of
from persyn_ray.storage.records import canonical, fingerprint
from persyn_ray.storage.schemas import ROUTED, conform

Split = Literal["assigned", "train", "parallel", "heldout"]
SHARDS: dict[Split, tuple[str, ...]] = {
    "assigned": ("parallel", "routed"),
    "train": ("parallel", "routed"),
    "parallel": ("parallel",),
    "heldout": ("heldout",),
}
"""Which prompts of a run each split is made of."""
Known = dict[str, Any]
Pair = tuple[str, str | None]
"""A prompt's id and a teacher's name."""


@dataclass(frozen=True)
class RoutedRows:
    """The rows of one run, read when they are asked for and one shard at a time."""

    run: RunLayout
    teachers: tuple[TeacherConfig, ...]
    scoring: ScoringConfig
    responses: ResponsesConfig

    def batches(self, split: Split) -> Iterator[pa.RecordBatch]:
        """ROUTED rows of a split; memory holds one shard.

        Raises:
            DataError: a text is no valid UTF-8.
        """
        for shard in shards_of(self.run, *SHARDS[split]):
            try:
                table = self.table(split, shard)
            except UnicodeError as error:
                raise DataError(
                    f"{shard} of {self.run.root.address} holds a text that is no valid UTF-8: "
                    f"{error}. Do step prompts or collect anew: --from prompts."
                ) from error
            yield from table.combine_chunks().to_batches()

    def table(self, split: Split, shard: str) -> pa.Table:
        """ROUTED rows of one shard."""
        prompts = self.run.prompts.read_table(shard)
        asked = {row["prompt_id"]: row for row in prompts.to_pylist()}
        said = (
            responses_of(self.run, self.teachers, shard) if split in ("train", "parallel") else []
        )
        messages = self._messages(split, shard, prompts, said)
        of_prompt = self._of_prompts(shard)
        of_pair = self._of_pairs(shard, said)
        of_teacher = {teacher.name: identity_of(teacher) for teacher in self.teachers}
        rows = []
        for (prompt_id, teacher), said_last in messages.items():
            prompt, known = asked[prompt_id], dict(of_prompt.get(prompt_id, {}))
            if known.pop("assigned", None) != teacher:
                known["margin"] = None
            rows.append(
                {name: prompt[name] for name in ("task", "source", "reference")}
                | {"id": row_id(prompt_id, teacher, said_last), "prompt_id": prompt_id}
                | {"split": split, "teacher": teacher}
                | {"messages": [*prompt["messages"], *said_last]}
                | known
                | of_pair.get((prompt_id, teacher), {})
                | of_teacher.get(teacher or "", {})
            )
        return conform(pa.Table.from_pylist(rows, schema=ROUTED), ROUTED, f"{split} of {shard}")

    def _messages(
        self, split: Split, shard: str, prompts: pa.Table, said: Sequence[pa.Table]
    ) -> dict[Pair, list[dict[str, str]]]:
        """The rows of a split: what is said last (nothing, or the response) by prompt and teacher,
        in the order of prompts.
        """
        ids = prompts["prompt_id"].to_pylist()
        if split == "heldout":
            return {(prompt_id, None): [] for prompt_id in ids}
        if split == "assigned":
            assigned = self.run.assignment(PERSYN).read_table(shard, ["prompt_id", "teacher"])
            return {(row["prompt_id"], row["teacher"]): [] for row in assigned.to_pylist()}
        tables = (
            [self.run.examples(PERSYN).read_table(shard)]
            if split == "train"
            else [
                examples_table(prompts, of.to_pylist(), self.responses, f"responses of {shard}")[0]
                for of in said
            ]
        )
        found = {
            (row["prompt_id"], row["teacher"]): row["messages"][-1:]
            for table in tables
            for row in table.to_pylist()
        }
        names = [teacher.name for teacher in self.teachers]
        pairs = ((prompt_id, name) for prompt_id in ids for name in names)
        return {pair: found[pair] for pair in pairs if pair in found}

    def _of_prompts(self, shard: str) -> dict[str, Known]:
        """What is known of each prompt: probabilities, novelty, its teacher and the margin."""
        found: dict[str, Known] = {}
        for row in _stored(self.run.assignment(PERSYN), shard):
            found[row["prompt_id"]] = {"assigned": row["teacher"], "margin": row["margin"]}
        for row in _stored(self.run.novelty, shard):
            facts = found.setdefault(row["prompt_id"], {})
            facts |= {"novelty": row["distance"], "is_novel": row["is_novel"]}
        if self.run.logits.exists(shard):
            logits = self.run.logits.read_table(shard)
            names = [teacher.name for teacher in self.teachers]
            chances = choice_probabilities(logits, names)
            for prompt_id, of in zip(logits["prompt_id"].to_pylist(), chances, strict=True):
                found.setdefault(prompt_id, {})["router_probabilities"] = of
        return found

    def _of_pairs(self, shard: str, said: Sequence[pa.Table]) -> dict[Pair, Known]:
        """What is known of each response: how it ended, its tokens, its signals and its reward."""
        names = ("finish_reason", "num_prompt_tokens", "num_tokens")
        found: dict[Pair, Known] = {
            (row["prompt_id"], row["teacher"]): {name: row[name] for name in names}
            for table in said
            for row in table.select(["prompt_id", "teacher", *names]).to_pylist()
        }
        if not said or not self.run.rewards.exists(shard):
            return found
        for row in self.run.rewards.read_table(shard).to_pylist():
            signals = (row["quality"], row["learnability"], row["rewards"])
            for teacher, *values in zip(self.teachers, *signals, strict=True):
                if (pair := (row["prompt_id"], teacher.name)) in found:
                    columns = ("quality", "learnability", "reward")
                    found[pair] |= dict(zip(columns, values, strict=True))
        for part in parts_of(self.scoring):
            for table in qualities_of(self.run, self.teachers, part, shard, said):
                for row in table.to_pylist():
                    parts = found[row["prompt_id"], row["teacher"]].setdefault("quality_parts", [])
                    parts.append({"name": part.name, "value": row["quality"]})
        return found


def row_id(prompt_id: str, teacher: str | None, said_last: Sequence[Mapping[str, str]]) -> str:
    """The id of a row: 32 hex digits of the SHA-256 of its prompt's id, teacher and response."""
    response = said_last[0]["content"] if said_last else None
    return hashlib.sha256(canonical([prompt_id, teacher, response]).encode()).hexdigest()[:32]


def identity_of(teacher: TeacherConfig) -> Known:
    """Which model a teacher is, and fingerprints of how it samples and of how it is prompted.

    Recorded and scripted teachers name no model.
    """
    engine = teacher.engine
    model = getattr(engine, "model", None)
    prompting = {
        "system_prompt": teacher.system_prompt,
        "template_kwargs": teacher.template_kwargs,
        "chat_template": getattr(model, "chat_template", None),
    }
    return {
        "model": model if model is None or isinstance(model, str) else model.name,
        "revision": getattr(model, "revision", None),
        "sampling_fingerprint": fingerprint(teacher.sampling.model_dump(mode="json")),
        "template_fingerprint": fingerprint(prompting),
    }


def choice_probabilities(logits: pa.Table, names: Sequence[str]) -> list[list[Known]]:
    """For each row of LOGITS, each candidate's probability by Luce's choice axiom."""
    logits_PM, able_PM = column_PM(logits, "logits"), column_PM(logits, "candidates") == 1
    open_PM = np.where(able_PM & ~np.isnan(logits_PM), logits_PM, -np.inf)
    top_P1 = open_PM.max(axis=1, keepdims=True)
    odds_PM = np.exp(open_PM - np.where(np.isfinite(top_P1), top_P1, 0.0))
    chances_PM = odds_PM / np.maximum(odds_PM.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    return [
        [
            {"teacher": name, "probability": chance}
            for name, chance, is_able in zip(names, chances_M, able_M, strict=True)
            if is_able
        ]
        for chances_M, able_M in zip(chances_PM.tolist(), able_PM.tolist(), strict=True)
    ]


def _stored(folder: Folder, shard: str) -> list[Known]:
    return folder.read_table(shard).to_pylist() if folder.exists(shard) else []
