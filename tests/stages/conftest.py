"""Tables to hand to stages."""

from collections.abc import Callable

import pyarrow as pa
import pytest

from persyn_ray.storage.schemas import PROMPTS, RESPONSES

Prompts = Callable[..., pa.Table]
Responses = Callable[..., pa.Table]


@pytest.fixture
def prompts() -> Prompts:
    """PROMPTS with the ids p0, p1, … for (text, reference) pairs."""

    def make(*pairs: tuple[str, str | None]) -> pa.Table:
        rows = [
            {
                "prompt_id": f"p{number}",
                "messages": [{"role": "user", "content": text}],
                "reference": reference,
                "source": "test",
                "split": "parallel",
            }
            for number, (text, reference) in enumerate(pairs)
        ]
        return pa.Table.from_pylist(rows, schema=PROMPTS)

    return make


@pytest.fixture
def responses() -> Responses:
    """RESPONSES of teacher t from (prompt id, text) pairs; None is a failure."""

    def make(*pairs: tuple[str, str | None]) -> pa.Table:
        rows = [
            {
                "prompt_id": prompt_id,
                "teacher": "t",
                "response": text,
                "finish_reason": "error" if text is None else "stop",
                "num_prompt_tokens": 1,
                "num_tokens": 1,
            }
            for prompt_id, text in pairs
        ]
        return pa.Table.from_pylist(rows, schema=RESPONSES)

    return make
