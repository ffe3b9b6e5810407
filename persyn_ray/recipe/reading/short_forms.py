"""Short forms of a recipe: a model or a teacher as one text in, the long form of its section out.

`Qwen/Qwen2.5-1.5B` stands for `{name: Qwen/Qwen2.5-1.5B}` wherever a recipe takes a model, and
`vllm:Qwen/Qwen2.5-7B-Instruct` for a teacher with that engine. Both are validated as the long form
is, and what is made of them is the same to the letter: so is a run's identity.
"""

import re
from difflib import get_close_matches
from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

KINDS = ("vllm", "transformers", "openai")
"""Engines of which a model's name says it all."""
SECTIONS_OF_MODELS = ("student", "backbone", "model")
"""Keys under which a recipe takes a model."""


def long_model(given: Any) -> Any:
    """The long form of a model given by its name; anything else as it is."""
    return {"name": given} if isinstance(given, str) else given


def long_teacher(given: Any) -> Any:
    """The long form of a teacher given as KIND:MODEL; anything else as it is.

    Raises:
        ValueError: the text begins with no kind of engine that a model's name is enough for.
    """
    if not isinstance(given, str):
        return given
    kind, separator, model = given.partition(":")
    if not separator or kind not in KINDS or not model:
        near = get_close_matches(kind, KINDS, 1)
        examples = [f"{one}:{model or given}" for one in near or ("vllm", "openai")]
        raise ValueError(
            f"a teacher in one text reads KIND:MODEL with one of {', '.join(KINDS)}, such as "
            f"{' or '.join(examples)}; other engines need `name` and `engine`"
        )
    return {"name": teacher_name(model), "engine": {"kind": kind, "model": model}}


def teacher_name(model: str) -> str:
    """The name of a teacher that is known by its model alone: what stands behind the last slash."""
    last = model.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._-]", "-", last).lstrip("._-") or "teacher"


def or_text(core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
    """The JSON schema of a section that takes a text in place of an object, too."""
    schema = handler(core_schema)
    handler.resolve_ref_schema(schema)["type"] = ["object", "string"]
    return schema
