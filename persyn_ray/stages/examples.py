"""Responses beside their prompts, as the student would see them in training.

Without its thinking, if the recipe says so. Where nothing is left to see (no response, an empty
one, or thinking that was cut) there is nothing to score: a null that is counted, never a guess.
"""

from typing import Any

import pyarrow as pa

from persyn_ray.data.response_text import student_text
from persyn_ray.recipe.data import ResponsesConfig


def paired(
    prompts: pa.Table, responses: pa.Table, section: ResponsesConfig | None = None
) -> list[dict[str, Any]]:
    """One dict per response with its prompt's messages and reference, matched by `prompt_id`.

    Responses are as the student sees them; `seen_from` is the character of the stored response from
    which on it does.
    """
    of_prompt = {row["prompt_id"]: row for row in prompts.to_pylist()}
    rows = responses.select(["prompt_id", "teacher", "response"]).to_pylist()
    return [{**of_prompt[row["prompt_id"]], **row, **_seen(row, section)} for row in rows]


def _seen(row: dict[str, Any], section: ResponsesConfig | None) -> dict[str, Any]:
    said = row["response"]
    if section is None or said is None:
        return {"seen_from": 0}
    seen = student_text(said, section) or ""  # the end of what is stored, if not all of it
    return {"response": seen, "seen_from": len(said) - len(seen)}
