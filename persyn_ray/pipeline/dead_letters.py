"""Dead letters: failed rows of each step with their reasons, derived from stored tables.

Failures of teachers are read off the stored responses to what this run has asked, so no way to stop
or go on can lose or double one. Only what is not stored, a teacher that could not be reached, is
noted when it happens (tables/unavailable), and counts until there is a response. The files in
tables/dead_letters are for people and for rows that are stored nowhere else.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import pyarrow as pa

from persyn_ray.data import selection
from persyn_ray.pipeline.assign.assignments import asked_by
from persyn_ray.pipeline.assign.methods import ResponseSettings, parallel_of
from persyn_ray.pipeline.choices import assigned_methods, collected_splits, open_splits
from persyn_ray.recipe.scoring import JudgeConfig, QualityPartConfig
from persyn_ray.shards.collect import asked_of, assigned, dead_letters, probe_order
from persyn_ray.shards.part_files import FAILED, existing
from persyn_ray.shards.response_store import scores_of
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.records import read_record
from persyn_ray.storage.results import ScoreResult, read_result
from persyn_ray.storage.schemas import DEAD_LETTERS, QUALITY, RESPONSES

FAILURES = "failures.parquet"
"""The file of a step's dead letters that are read off the responses."""


def all_letters(
    settings: ResponseSettings, parts: Sequence[QualityPartConfig], run: RunLayout
) -> Iterator[pa.Table]:
    """The dead letters of every step, as the run's tables say now.

    Args:
        parts: the qualities, some of which may be judges with a budget.
    """
    for step in ("prompts", "collect", "score", "route", "synthesize"):
        for name, table in run.dead_letters(step).tables():
            if name != FAILURES:
                yield table
        if step == "score":
            yield ungraded(settings, parts, run)
        if step in ASKED and read_record(run.records, "prompts") is not None:
            yield failures(settings, run, step)


def write_failures(settings: ResponseSettings, run: RunLayout, step: str) -> None:
    """Leave a step's failures where people look for dead letters."""
    table, folder = failures(settings, run, step), run.dead_letters(step)
    if table.num_rows:
        folder.write_table(FAILURES, table)
    else:
        folder.remove(FAILURES)


def failures(settings: ResponseSettings, run: RunLayout, step: str) -> pa.Table:
    """DEAD_LETTERS of collect or synthesize: what its teachers were asked and did not answer."""
    found = [DEAD_LETTERS.empty_table()]
    columns = ["prompt_id", "teacher", "finish_reason", "error"]
    for shard, asked in ASKED[step](settings, run):
        for teacher in settings.teachers:
            ids = pa.array(sorted(set(asked[teacher.name])), pa.string())
            if not len(ids):
                continue
            stored = existing(run.responses(teacher), shard, RESPONSES, columns)
            stored = selection.among(stored, "prompt_id", ids)
            failed = selection.among(stored, "finish_reason", FAILED)
            found.append(dead_letters(step, failed))
            noted = existing(run.unavailable(step, teacher.name), shard, DEAD_LETTERS)
            noted = selection.among(noted, "prompt_id", ids)
            found.append(selection.without(noted, "prompt_id", stored["prompt_id"]))
    return pa.concat_tables(found)


def odd_endings(settings: ResponseSettings, run: RunLayout, step: str) -> dict[str, int]:
    """How many whole responses of a step ended in words that are not known, by those words.

    An engine notes the word beside the text (see `engines/openai/finish_reasons.py`).
    """
    found: Counter[str] = Counter()
    for shard, asked in ASKED[step](settings, run):
        for teacher in settings.teachers:
            ids = pa.array(sorted(set(asked[teacher.name])), pa.string())
            if len(ids):
                columns = ["prompt_id", "teacher", "finish_reason", "error"]
                stored = existing(run.responses(teacher), shard, RESPONSES, columns)
                whole = selection.without(
                    selection.among(stored, "prompt_id", ids), "finish_reason", FAILED
                )
                found.update(note for note in whole["error"].to_pylist() if note is not None)
    return dict(found.most_common())


def ungraded(
    settings: ResponseSettings, parts: Sequence[QualityPartConfig], run: RunLayout
) -> pa.Table:
    """DEAD_LETTERS of step score: responses that a judge has no grade for yet, as its budget was
    used up; none once they are graded.
    """
    found = [DEAD_LETTERS.empty_table()]
    scored = read_result(run.records, ScoreResult)
    if scored is None or not scored.over_budget:
        return found[0]
    judged = [p for p in parts if isinstance(p.quality, JudgeConfig) and p.quality.budget]
    for shard in shards_of(run, *collected_splits(settings.methods.compare)):
        asked = run.prompts.read_table(shard, ["prompt_id"])["prompt_id"]
        for teacher in settings.teachers:
            said = existing(run.responses(teacher), shard, RESPONSES)
            said = selection.among(said, "prompt_id", asked)
            for part in judged:
                scores = scores_of(run.quality(teacher, part), shard, QUALITY, said)
                without = selection.without(said, "prompt_id", scores["prompt_id"])
                found.append(_over_budget(part, without))
    return pa.concat_tables(found)


def _over_budget(part: QualityPartConfig, responses: pa.Table) -> pa.Table:
    why = f"the budget of the judge (part {part.name!r} of scoring.quality) is used up"
    letters = [
        {
            "step": "score",
            "prompt_id": row["prompt_id"],
            "teacher": row["teacher"],
            "reason": "over_budget",
            "detail": why,
        }
        for row in responses.select(["prompt_id", "teacher"]).to_pylist()
    ]
    return pa.Table.from_pylist(letters, schema=DEAD_LETTERS)


Asked = Iterator[tuple[str, Mapping[str, Sequence[str]]]]
"""Shards, each with the ids of the prompts that each teacher was asked."""


def _asked_in_collect(settings: ResponseSettings, run: RunLayout) -> Asked:
    teachers, rules = settings.teachers, settings.methods
    order = probe_order(run, teachers, rules.seed)
    for shard in shards_of(run, *collected_splits(rules.compare)):
        prompts = run.prompts.read_table(shard, ["prompt_id"])
        yield (
            shard,
            {t.name: asked_of(t, prompts, order)["prompt_id"].to_pylist() for t in teachers},
        )


def _asked_in_synthesize(settings: ResponseSettings, run: RunLayout) -> Asked:
    rules, parallel = settings.methods, None
    methods = assigned_methods(rules.compare)
    for shard in shards_of(run, *open_splits(rules.compare)):
        if not all(run.assignment(method).exists(shard) for method in methods):
            continue
        asked: dict[str, list[str]] = {name: [] for name in rules.pool.names}
        if not settings.moves_on:
            for row in assigned(run, shard, methods).to_pylist():
                asked[row["teacher"]].append(row["prompt_id"])
        else:
            parallel = parallel or parallel_of(rules.pool, run)
            for of in map(partial(asked_by, rules, run, shard, parallel=parallel), methods):
                for name, ids in of.items():
                    asked[name] += ids
        yield shard, asked


ASKED = {"collect": _asked_in_collect, "synthesize": _asked_in_synthesize}
