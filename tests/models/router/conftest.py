"""A pool, prompts and backbones that tests of routers share."""

import pytest

from persyn_ray.models.chat import Message

POOL = ("small", "large", "coder")
PROMPTS = [[Message(role="user", content=text)] for text in ("a", "bc" * 20, "def", "g" * 9)]


@pytest.fixture(params=["llama", "bert"])
def folder(request: pytest.FixtureRequest, llama_folder: str, bert_folder: str) -> str:
    """A backbone that reads from left to right, and one that reads both ways."""
    return llama_folder if request.param == "llama" else bert_folder
