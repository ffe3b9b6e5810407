"""Rows that trainers write of their rollouts: one of verl, NeMo-RL or NeMo Gym in; an entry out.

- verl (`trainer.rollout_data_dir`, `STEP.jsonl`): `input`, `output`, `score`, `gts`.
- NeMo-RL (`train_data_stepN.jsonl`): `content`, the conversation's texts, and `rewards`; each in a
  list of one, as it is logged.
- NeMo Gym (rollouts as JSONL): `responses_create_params.input`, `response` in OpenAI's form, and
  `reward`.

The first two hold prompts as their chat template has made them and no model's name. What ChatML
leaves is undone: with its marks, or without them as verl writes it. A text in which nothing of it
shows is the prompt as it stands; other templates have to be undone before.
"""

import re
from typing import Any

from persyn_ray.data.cells import label_of
from persyn_ray.data.files.rows import Row
from persyn_ray.data.importers.batch import output_texts
from persyn_ray.data.importers.converting import Unreadable, prompt_text, respond, unicode_text
from persyn_ray.data.importers.writing import Entry

SCORE = "score"
"""The column of what the trainer has graded; quality `recorded` reads it."""
_MARKED = re.compile(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>", re.S)
_UNMARKED = re.compile(
    r"(?:\Asystem\n.*?\n)?(?:\A|(?<=\n))user\n(?P<asked>.*?)\nassistant\n(?:<think>\n)?\Z", re.S
)
_ENDS = ("<|im_end|>", "<|endoftext|>", "</s>", "<|eot_id|>")


def verl_entry(row: Row, teacher: str) -> Entry:
    """One rollout with its score, and the ground truth as the answer."""
    entry = Entry(_asked(row.get("input"), "input"), _answer(row.get("gts")), [], [])
    respond(entry, teacher, row.get("output"), (_score(row.get("score")),))
    return entry


def nemo_rl_entry(row: Row, teacher: str) -> Entry:
    """One rollout of one turn with its reward."""
    content = _lone(row.get("content"))
    if not isinstance(content, list) or len(content) < 2:
        raise Unreadable(f"content holds no prompt and response, but {content!r:.100}")
    *before, said = content
    users = before[1:] if len(before) == 2 and _is_system(before[0]) else before
    if len(users) != 1:
        raise Unreadable(f"content is a conversation of {len(content)} messages")
    entry = Entry(_asked(users[0], "content"), None, [], [])
    respond(entry, teacher, _without_end(said), (_score(_lone(row.get("rewards"))),))
    return entry


def gym_entry(row: Row, teacher: str | None) -> Entry:
    """One rollout with its reward; the model is the response's own where none is given."""
    params, response = row.get("responses_create_params"), row.get("response")
    if not isinstance(params, dict) or not isinstance(response, dict):
        raise Unreadable("no responses_create_params and response")
    name = teacher or label_of(response.get("model"))
    if name is None:
        raise Unreadable("response names no model")
    asked = prompt_text(params.get("input"), "responses_create_params.input", skip_system=True)
    entry = Entry(asked, None, [], [])
    for text in output_texts(response):
        respond(entry, name, text, (_score(row.get("reward")),))
    return entry


def unrendered(text: str) -> str:
    """The user's text of a prompt of one turn that ChatML has rendered; others as they are.

    Raises:
        Unreadable: the prompt is a conversation.
    """
    turns = [turn for turn in _MARKED.findall(text) if turn[0] != "system"]
    if turns:
        if len(turns) != 1 or turns[0][0] != "user":
            raise Unreadable(f"the prompt is a conversation of {len(turns)} messages")
        return turns[0][1]
    found = _UNMARKED.search(text)
    if found is None:
        return text
    if "\nassistant\n" in found["asked"] or "\nuser\n" in found["asked"]:
        raise Unreadable("the prompt is a conversation, or holds what looks like one")
    return found["asked"]


def _asked(cell: Any, where: str) -> str:
    if not isinstance(cell, str):
        return prompt_text(cell, where, skip_system=True)
    return prompt_text(unrendered(cell), where)


def _answer(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("ground_truth")
    return unicode_text(label_of(value))


def _score(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number == number and abs(number) != float("inf") else None


def _lone(value: Any) -> Any:
    """What stands in a list of one."""
    is_batch = isinstance(value, list) and len(value) == 1
    return value[0] if is_batch else value


def _is_system(text: Any) -> bool:
    return isinstance(text, str) and text.lstrip().startswith("<|im_start|>system\n")


def _without_end(text: Any) -> Any:
    """A response without the template's mark of its end."""
    while isinstance(text, str) and text.rstrip("\n").endswith(_ENDS):
        text = text.rstrip("\n")
        text = text[: -max(len(end) for end in _ENDS if text.endswith(end))]
    return text
