"""Licences of teachers, as a recipe names them: what they say against training on responses.

A remark is no legal advice: it names the licence to read. A licence that is not known here passes.
"""

from collections.abc import Sequence

from persyn_ray.recipe.teachers import TeacherConfig

FORBIDDING = {
    "llama2": "forbids to improve other language models with its output",
    "llama3": "forbids to improve language models that are no Llama with its output",
    "openai": "forbids to train models that compete with it on its output",
    "anthropic": "forbids to train models that compete with it on its output",
    "cc-by-nc": "forbids commercial use",
    "mistral-ai-research": "forbids commercial use",
    "mrl": "forbids commercial use",
    "qwen-research": "forbids commercial use",
    "cohere": "forbids commercial use",
}
BINDING = {
    "llama3.1": "binds models trained on its output to its name and its use policy",
    "llama3.2": "binds models trained on its output to its name and its use policy",
    "llama3.3": "binds models trained on its output to its name and its use policy",
    "llama4": "binds models trained on its output to its name and its use policy",
    "gemma": "binds models trained on its output to its use policy",
}


def licence_remarks(teachers: Sequence[TeacherConfig]) -> list[str]:
    """A sentence for each teacher whose licence is unknown, or says something against training."""
    return [
        f"Teacher {teacher.name}: {remark}"
        for teacher in teachers
        if (remark := _remark(teacher.licence)) is not None
    ]


def _remark(licence: str | None) -> str | None:
    if licence is None or licence.lower() in ("unknown", "other"):
        return "its licence is unknown (teachers.N.licence); see whether it allows training."
    key = licence.lower().replace("_", "-").replace(" ", "-").replace("llama-", "llama")
    for known in sorted((*FORBIDDING, *BINDING), key=len, reverse=True):  # llama3.1 before llama3
        if key.startswith(known):
            return f"its licence {licence} {(FORBIDDING | BINDING)[known]}."
    return None
