"""Rows that generators of data write: one of distilabel, Curator or datatrove in; an entry out.

- distilabel: `instruction` (or `messages`) with `generation` and `model_name`, each a text or a
  list (`group_generations`); or what `GroupColumns` makes of them under the usual names.
- Curator: a line of `responses_N.jsonl` in its working folder, with `generic_request` (model,
  messages) and `response_message`.
- datatrove: a document whose `text` is the prompt, with `rollout_results` (older:
  `inference_results`) in its metadata or beside it. Which model wrote stands in no document.

A system message is left out: recipes set one for all prompts (`prompts.system_prompt`).
"""

from collections.abc import Sequence
from typing import Any

from persyn_ray.data.cells import label_of, text_of
from persyn_ray.data.files.rows import Row
from persyn_ray.data.importers.converting import Unreadable, prompt_text, respond
from persyn_ray.data.importers.writing import Entry

DISTILABEL_PROMPTS = ("instruction", "messages", "prompt")
DISTILABEL_RESPONSES = ("generation", "generations", "grouped_generation", "merged_generation")
DISTILABEL_MODELS = (
    "model_name",
    "model_names",
    "generation_models",
    "grouped_model_name",
    "merged_model_name",
)
ROLLOUTS = ("rollout_results", "inference_results")


def distilabel_entry(row: Row) -> Entry:
    """Each generation with the model that wrote it."""
    column = _first(row, DISTILABEL_PROMPTS)
    entry = _entry(row.get(column), f"column {column!r}")
    said, models = (
        row.get(_first(row, DISTILABEL_RESPONSES)),
        row.get(_first(row, DISTILABEL_MODELS)),
    )
    generations = said if isinstance(said, list) else [said]
    names = models if isinstance(models, list) else [models]
    if len(names) == 1:  # of all, as GroupColumns leaves it where they are the same
        names = names * len(generations)
    if len(names) != len(generations):
        raise Unreadable(f"{len(generations)} generations and {len(names)} models")
    for name, generation in zip(names, generations, strict=True):
        respond(entry, _teacher(name), generation)
    return entry


def curator_entry(row: Row) -> Entry:
    """One response; a structured one as its JSON."""
    request = row.get("generic_request")
    if not isinstance(request, dict):
        raise Unreadable("no generic_request: a line of responses_N.jsonl is expected")
    entry = _entry(request.get("messages"), "generic_request.messages")
    message, name = row.get("response_message"), _teacher(request.get("model"))
    if message is None:
        errors = row.get("response_errors") or ()
        errors = errors if isinstance(errors, list | tuple) else [errors]
        why = "; ".join(map(str, errors)) or "no response_message"
        entry.faults.append(f"response of {name}: {why}")
    respond(entry, name, text_of(message) if isinstance(message, dict) else message)
    return entry


def datatrove_entry(row: Row, teacher: str) -> Entry:
    """All rollouts of a document."""
    metadata = row.get("metadata")
    places = [row, metadata] if isinstance(metadata, dict) else [row]
    found = [place[name] for place in places for name in ROLLOUTS if place.get(name) is not None]
    if not found:
        raise Unreadable(f"no {ROLLOUTS[0]} in the document or its metadata")
    entry = _entry(row.get("text"), "text")
    for rollout in found[0] if isinstance(found[0], list) else [found[0]]:
        _respond_rollout(entry, teacher, rollout)
    return entry


def _respond_rollout(entry: Entry, teacher: str, rollout: Any) -> None:
    """A text, or a result with text and perhaps reasoning apart; a failed one is a fault."""
    if not isinstance(rollout, dict):
        respond(entry, teacher, rollout)
    elif rollout.get("text") is None:
        why = rollout.get("error") or f"a rollout without text, but {sorted(rollout)}"
        entry.faults.append(f"response of {teacher}: {why}"[:300])
    else:
        respond(entry, teacher, with_thinking(rollout.get("reasoning"), rollout["text"]))


def with_thinking(thinking: Any, text: Any) -> Any:
    """A response with its thinking before it, in the tags that recipes have by default."""
    is_there = isinstance(thinking, str) and thinking.strip() and isinstance(text, str)
    return f"<think>{thinking}</think>\n{text}" if is_there else text


def _entry(cell: Any, where: str) -> Entry:
    return Entry(prompt_text(cell, where, skip_system=True), None, [], [])


def _first(row: Row, names: Sequence[str]) -> str:
    found = next((name for name in names if row.get(name) is not None), None)
    if found is None:
        raise Unreadable(f"none of the columns {list(names)} has a value")
    return found


def _teacher(value: Any) -> str:
    name = label_of(value)
    if name is None:
        raise Unreadable("no model is named")
    return name
