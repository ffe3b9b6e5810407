"""Expected prompts and response tokens left per teacher, from stored responses.

Lengths are means of the stored responses to the parallel set; before there are any, the token limit
stands in and the figure is "at most". Shares of the routed prompts come from the assignment, before
that from who would be assigned on the parallel set if the router were perfect, before that they are
equal. Nothing is forecast here from the text of a prompt, but for its length.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
from numpy.typing import NDArray

from persyn_ray.data import selection
from persyn_ray.pipeline.assign.methods import (
    Choices,
    MethodSettings,
    method_teachers,
    parallel_of,
)
from persyn_ray.pipeline.choices import assigned_methods, collected_splits
from persyn_ray.pipeline.plan.placement import longest
from persyn_ray.recipe.comparison import EMBEDDED, CompareConfig
from persyn_ray.recipe.engines import VllmEngineConfig
from persyn_ray.recipe.teachers import BYTES_PER_TOKEN, TeacherConfig
from persyn_ray.shards.collect import assigned
from persyn_ray.shards.part_files import existing, shards_in
from persyn_ray.shards.response_store import scores_of
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.records import read_record
from persyn_ray.storage.schemas import LEARNABILITY, RESPONSES

pc: Any = compute  # its functions are made at import, where a type checker does not see them
Booleans = NDArray[np.bool_]
SPLITS = ("parallel", "heldout", "routed")
WRITTEN = ("stop", "length", "loop")  # finish reasons of responses that cost their tokens
PROMPT_TOKENS = 500.0  # of a prompt that cannot be read yet


@dataclass(frozen=True)
class Length:
    """Tokens of a prompt and of a response, on average or at most."""

    prompt: float
    response: float
    is_bound: bool

    @property
    def while_writing(self) -> float:
        """Mean length, prompt included, over the time in which a response is written."""
        return self.prompt + self.response / 2


@dataclass
class Stored:
    """A teacher's responses to this run's prompts."""

    num_answered: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    """Answered prompts by split."""
    answered: dict[str, Booleans] = field(default_factory=dict[str, Booleans])
    """Which prompts of a shard are answered, by their places; shards without any are left out."""
    num_prompt_tokens: list[int] = field(default_factory=list[int])
    """Of responses to the parallel set."""
    num_tokens: list[int] = field(default_factory=list[int])


@dataclass(frozen=True)
class Share:
    """How the routed prompts spread over the teachers, as far as is known."""

    of: dict[str, float]
    """Share of the routed prompts that each teacher answers; with several methods over 1 in all."""
    source: str


def stored_responses(teachers: Sequence[TeacherConfig], run: RunLayout) -> dict[str, Stored]:
    """What each teacher has answered of this run's shards; nothing before step prompts."""
    found = {teacher.name: Stored() for teacher in teachers}
    if read_record(run.records, "prompts") is None:
        return found
    folders = {teacher.name: run.responses(teacher) for teacher in teachers}
    files = {name: shards_in(folder) for name, folder in folders.items()}
    columns = ["prompt_id", "finish_reason", "num_prompt_tokens", "num_tokens"]
    for split in SPLITS:
        for shard in shards_of(run, split):
            holders = [name for name, names in files.items() if shard in names]
            if not holders:
                continue
            ids = run.prompts.read_table(shard, ["prompt_id"])["prompt_id"]
            for name in holders:
                table = existing(folders[name], shard, RESPONSES, columns)
                table = selection.among(table, "prompt_id", ids)
                answered = pc.is_in(ids, value_set=table["prompt_id"]).to_numpy()
                found[name].answered[shard] = answered
                found[name].num_answered[split] += int(answered.sum())
                if split == "parallel":
                    written = selection.among(table, "finish_reason", WRITTEN)
                    found[name].num_prompt_tokens += written["num_prompt_tokens"].to_pylist()
                    found[name].num_tokens += written["num_tokens"].to_pylist()
    return found


def expected_length(teacher: TeacherConfig, stored: Stored, prompt_tokens: float) -> Length:
    """Tokens of one response: the mean of those stored, or the teacher's limit."""
    if teacher.engine.kind == "recorded":
        return Length(0.0, 0.0, False)  # looked up, not written
    if stored.num_tokens:
        prompt, response = float(np.mean(stored.num_prompt_tokens)), np.mean(stored.num_tokens)
        return Length(prompt or prompt_tokens, float(response), False)
    return Length(prompt_tokens, float(most_tokens(teacher)), True)


def mean_student_tokens(
    run: RunLayout, teachers: Sequence[TeacherConfig]
) -> dict[str, float | None]:
    """Mean response length on the parallel set, in the student's tokens; after step score."""
    means: dict[str, float | None] = {}
    for teacher in teachers:
        counts: list[int] = []
        for shard in shards_of(run, "parallel"):
            prompt_ids = run.prompts.read_table(shard, ["prompt_id"])["prompt_id"]
            responses = existing(run.responses(teacher), shard, RESPONSES)
            table = scores_of(run.learnability(teacher), shard, LEARNABILITY, responses)
            table = selection.among(table, "prompt_id", prompt_ids)
            counts += [count for count in table["num_tokens"].to_pylist() if count]
        means[teacher.name] = float(np.mean(counts)) if counts else None
    return means


def most_tokens(teacher: TeacherConfig) -> int:
    """Most tokens that one prompt can cost, a second attempt at a cut response included."""
    sampling, context = teacher.sampling, None
    if teacher.size is not None:
        context = longest(teacher, teacher.size.context)
    elif isinstance(teacher.engine, VllmEngineConfig):
        context = teacher.engine.max_model_len
    limits = [sampling.max_tokens] + ([sampling.retry_tokens] if sampling.retry_tokens else [])
    return sum(limit if context is None else min(limit, context) for limit in limits)


def expected_share(
    settings: MethodSettings, run: RunLayout, is_routed: bool, is_rewarded: bool
) -> Share:
    """Who answers the routed prompts.

    Args:
        is_routed: whether the assignment by these settings is stored.
        is_rewarded: whether the rewards of its parallel set are.
    """
    names, methods = settings.pool.names, assigned_methods(settings.compare)
    if is_routed:
        return Share(_assigned_shares(names, methods, run), "as assigned")
    if is_rewarded:
        of = dict(zip(names, map(float, _rewarded_shares(settings, run)), strict=True))
        return Share(of, "by the rewards of the parallel set")
    equal = min(len(methods), len(names)) / len(names)
    return Share(dict.fromkeys(names, equal), "assumed equal")


def _assigned_shares(
    names: Sequence[str], methods: tuple[str, ...], run: RunLayout
) -> dict[str, float]:
    counts, total = dict.fromkeys(names, 0), 0
    for shard in shards_of(run, "routed"):
        total += run.prompts.num_rows(shard)
        for name, is_given in assigned_places(names, methods, run, shard).items():
            counts[name] += int(is_given.sum())
    return {name: count / max(total, 1) for name, count in counts.items()}


def assigned_places(
    names: Iterable[str], methods: tuple[str, ...], run: RunLayout, shard: str
) -> dict[str, Booleans]:
    """Which prompts of a shard any method gives to each teacher, by their places."""
    ids = run.prompts.read_table(shard, ["prompt_id"])["prompt_id"]
    given = assigned(run, shard, methods)
    return {
        name: pc.is_in(
            ids, value_set=selection.where(given, "teacher", name)["prompt_id"]
        ).to_numpy()
        for name in names
    }


def _rewarded_shares(settings: MethodSettings, run: RunLayout) -> NDArray[np.float64]:
    """Share of the parallel set that any method would give to each teacher, by true rewards."""
    parallel = parallel_of(settings.pool, run)
    signals, rewards_PM = parallel.signals, parallel.signals.rewards_PM
    known_PM = ~np.isnan(rewards_PM)
    choices = Choices(signals.prompt_ids, rewards_PM, known_PM, signals, parallel.embeddings_PD)
    wanted_PM = np.zeros_like(known_PM)
    for method in assigned_methods(settings.compare):
        if method in EMBEDDED and parallel.embeddings_PD is None:
            continue  # nothing is embedded before step route; the others bound the shares
        teacher_P, _ = method_teachers(method, settings, choices, parallel)
        some_P = np.flatnonzero(teacher_P >= 0)
        wanted_PM[some_P, teacher_P[some_P]] = True
    return wanted_PM.sum(axis=0) / max(int(known_PM.any(axis=1).sum()), 1)


def open_collect(
    compare: CompareConfig, splits: dict[str, int], stored: dict[str, Stored]
) -> dict[str, float]:
    """Prompts that step collect still asks of each teacher."""
    return {
        name: float(sum(splits[s] - one.num_answered[s] for s in collected_splits(compare)))
        for name, one in stored.items()
    }


def open_synthesize(
    compare: CompareConfig,
    run: RunLayout,
    splits: dict[str, int],
    stored: dict[str, Stored],
    share: Share,
    is_routed: bool,
) -> dict[str, float]:
    """Prompts that step synthesize still asks of each teacher."""
    if "routed" in collected_splits(compare):
        return dict.fromkeys(stored, 0.0)
    if not is_routed:
        return {
            name: share.of[name] * (splits["routed"] - one.num_answered["routed"])
            for name, one in stored.items()
        }
    counts, methods = dict.fromkeys(stored, 0.0), assigned_methods(compare)
    for shard in shards_of(run, "routed"):
        for name, is_given in assigned_places(stored, methods, run, shard).items():
            answered = stored[name].answered.get(shard, np.zeros_like(is_given))
            counts[name] += int((is_given & ~answered).sum())
    return counts


def prompt_tokens(prompts: pa.Table) -> float:
    """Mean tokens of some prompts, by the bytes of their text."""
    sizes = [
        sum(len(message["content"].encode()) for message in messages)
        for messages in prompts["messages"].to_pylist()
    ]
    return float(np.mean(sizes)) / BYTES_PER_TOKEN if sizes else PROMPT_TOKENS


def stored_prompt_tokens(run: RunLayout) -> float:
    """Mean tokens of a prompt, by the first shard of the parallel set."""
    (first, *_) = shards_of(run, "parallel")
    return prompt_tokens(run.prompts.read_table(first, ["messages"]))
