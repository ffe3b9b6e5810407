"""One prompt with all that is known of it: its id in; responses, signals, choices and why out."""

from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa

from persyn_ray.data.response_text import Tags
from persyn_ray.pipeline.assign.methods import Parallel
from persyn_ray.pipeline.results.explain import Prompt
from persyn_ray.pipeline.results.prompt_rows import part_rows_of, row_of, rows_of
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.shards.provenance import choice_probabilities
from persyn_ray.shards.response_store import belonging
from persyn_ray.storage.layout import PERSYN, parts_of
from persyn_ray.storage.schemas import LEARNABILITY, QUALITY, RESPONSES, filed, logits_schema
from persyn_ray.view.numbers import number
from persyn_ray.view.prompts.choices import limit_names, methods_of
from persyn_ray.view.prompts.response_text import ShownText, Span, shown_text, spans_in
from persyn_ray.view.prompts.why import Choice, why
from persyn_ray.view.snapshot import Snapshot

Row = Mapping[str, Any]


class QualityPart(TypedDict):
    """One quality by itself, on its own scale."""

    name: str
    value: float | None


class ResponseFacts(TypedDict):
    """One teacher on the prompt; null where no step has written it."""

    teacher: str
    thinking: str | None
    thinking_loop_start: int | None
    text: str | None
    finish_reason: str | None
    is_cut: bool
    loop_start: int | None
    error: str | None
    num_tokens: int | None
    quality: float | None
    quality_outcome: str | None
    quality_parts: list[QualityPart]
    learnability: float | None
    lowest_window: float | None
    lowest_span: Span | None
    """Characters of `text` that are least likely under the student."""
    thinking_lowest_span: Span | None
    reward: float | None
    logit: float | None
    probability: float | None
    is_candidate: bool | None
    is_assigned: bool
    is_best: bool


class PromptFacts(Prompt):
    """One prompt, and where it went."""

    margin: float | None
    novelty: float | None
    is_novel: bool | None
    why: str
    methods: dict[str, str | None]
    responses: list[ResponseFacts]
    previous_id: str | None
    next_id: str | None


def prompt_facts(
    seen: Snapshot,
    shard: str,
    prompt_id: str,
    around: tuple[str | None, str | None],
    parallel: Parallel | None,
) -> PromptFacts:
    """Read one prompt's rows of every table; of texts only its own.

    Args:
        around: ids of its neighbours in the list.
        parallel: what methods beside PerSyn go by, once there are rewards.
    """
    run = seen.run
    prompt = rows_of(run.prompts, shard, [prompt_id]).to_pylist()[0]
    assigned, logits, rewards, novelty = (
        row_of(folder, shard, prompt_id)
        for folder in (run.assignment(PERSYN), run.logits, run.rewards, run.novelty)
    )
    responses = [
        _response(seen, teacher, shard, prompt_id, m, (assigned, logits, rewards))
        for m, teacher in enumerate(seen.recipe.teachers)
    ]
    _mark_best(responses)
    within = row_of(run.within_limits, shard, prompt_id).get("teacher")
    is_novel = novelty.get("is_novel")
    choice = _choice(seen, prompt["split"], assigned, logits, within, responses, is_novel)
    return PromptFacts(
        prompt_id=prompt_id,
        messages=prompt["messages"],
        reference=prompt["reference"],
        task=prompt["task"],
        source=prompt["source"],
        split=prompt["split"],
        margin=number(assigned.get("margin")),
        novelty=number(novelty.get("distance")),
        is_novel=is_novel,
        why=why(choice),
        methods=methods_of(seen, shard, prompt_id, logits, rewards, parallel),
        responses=responses,
        previous_id=around[0],
        next_id=around[1],
    )


def _choice(
    seen: Snapshot,
    split: str,
    assigned: Row,
    logits: Row,
    within: str | None,
    responses: list[ResponseFacts],
    is_novel: bool | None,
) -> Choice:
    """What decided where a prompt went, for the sentence that says so."""
    return Choice(
        names=seen.recipe.pool.names,
        split=split,
        teacher=assigned.get("teacher"),
        margin=assigned.get("margin"),
        logits_M=_array(logits.get("logits")),
        candidates_M=None if not logits else np.array(logits["candidates"], np.bool_),
        within=within,
        limits=limit_names(seen.recipe.assignment),
        endings=_endings(responses),
        is_novel=is_novel,
    )


def _endings(responses: "list[ResponseFacts]") -> dict[str, str]:
    """Finish reasons by teacher, where there is a response."""
    return {one["teacher"]: one["finish_reason"] for one in responses if one["finish_reason"]}


def _response(
    seen: Snapshot,
    teacher: TeacherConfig,
    shard: str,
    prompt_id: str,
    m: int,
    rows: tuple[Row, Row, Row],
) -> ResponseFacts:
    """One teacher's response with its signals."""
    run, section = seen.run, seen.recipe.responses
    assigned, logits, rewards = rows
    said = part_rows_of(run.responses(teacher), shard, prompt_id, RESPONSES)
    row: Row = next(iter(said.to_pylist()), {})
    text = row.get("response")
    shown = None if text is None else shown_text(text, section.think_tags, section.loop_repeats)
    measures = _score(run.learnability(teacher), shard, prompt_id, said, LEARNABILITY)
    qualities = [
        (part.name, _score(run.quality(teacher, part), shard, prompt_id, said, QUALITY))
        for part in parts_of(seen.recipe.scoring)
    ]
    learnability = _at(rewards, "learnability", m)
    measure = measures.get(seen.recipe.scoring.learnability)
    quality = _at(rewards, "quality", m)
    values = [of.get("quality") for _, of in qualities]
    lowest = _lowest(shown, text, section.think_tags, measures)
    return ResponseFacts(
        teacher=teacher.name,
        thinking=shown.thinking if shown else None,
        thinking_loop_start=shown.thinking_loop_start if shown else None,
        text=shown.text if shown else None,
        finish_reason=row.get("finish_reason"),
        is_cut=row.get("finish_reason") in ("length", "loop"),
        loop_start=shown.loop_start if shown else None,
        error=row.get("error"),
        num_tokens=row.get("num_tokens"),
        quality=quality if quality is not None or len(values) > 1 else number(values[0]),
        quality_outcome=next((of["outcome"] for _, of in qualities if of), None),
        quality_parts=[QualityPart(name=n, value=number(of.get("quality"))) for n, of in qualities],
        learnability=number(measure) if learnability is None else learnability,
        lowest_window=number(measures.get("lowest_window")),
        lowest_span=lowest[1],
        thinking_lowest_span=lowest[0],
        reward=_at(rewards, "rewards", m),
        logit=_at(logits, "logits", m),
        probability=_probability(seen, teacher.name, logits),
        is_candidate=logits["candidates"][m] if logits else None,
        is_assigned=assigned.get("teacher") == teacher.name,
        is_best=False,
    )


def _lowest(
    shown: ShownText | None, response: str | None, tags: Tags, measures: Row
) -> tuple[Span | None, Span | None]:
    """The least likely stretch in the thinking and in the text, where it is known."""
    start, end = measures.get("lowest_start"), measures.get("lowest_end")
    if shown is None or response is None or start is None or end is None:
        return None, None
    return spans_in(shown, response, tags, (start, end))


def _score(folder: Any, shard: str, prompt_id: str, said: pa.Table, schema: pa.Schema) -> Row:
    """The score that belongs to a response, or nothing."""
    stored = part_rows_of(folder, shard, prompt_id, filed(schema))
    return next(iter(belonging(stored, said).to_pylist()), {})


def _mark_best(responses: list[ResponseFacts]) -> None:
    """The greatest reward; every one of several."""
    known = [one["reward"] for one in responses if one["reward"] is not None]
    for one in responses:
        one["is_best"] = bool(known) and one["reward"] == max(known)


def _probability(seen: Snapshot, teacher: str, logits: Row) -> float | None:
    """That the teacher is the best of all, by the router's logits; None for no candidate."""
    if not logits:
        return None
    names = seen.recipe.pool.names
    table = pa.Table.from_pylist([dict(logits)], schema=logits_schema(names))
    chances = choice_probabilities(table, names)[0]
    return next((one["probability"] for one in chances if one["teacher"] == teacher), None)


def _at(row: Row, column: str, m: int) -> float | None:
    return number(row[column][m]) if row else None


def _array(values: Any) -> Any:
    if values is None:
        return None
    return np.array([np.nan if value is None else value for value in values], np.float64)
