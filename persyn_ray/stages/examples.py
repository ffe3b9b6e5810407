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

    Responses are as the student sees them.
    """
    of_prompt = {row["prompt_id"]: row for row in prompts.to_pylist()}
    rows = responses.select(["prompt_id", "teacher", "response"]).to_pylist()
    if section is not None:
        rows = [row | {"response": student_text(row["response"], section)} for row in rows]
    return [{**of_prompt[row["prompt_id"]], **row} for row in rows]
