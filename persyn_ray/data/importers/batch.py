"""OpenAI's batch files: those of requests and of results in; entries out, joined by `custom_id`.

    request   {"custom_id", "method", "url", "body": {"model", "messages" | "input" | "prompt"}}
    result    {"custom_id", "response": {"status_code", "body": {"model", "choices" | "output"}},
              "error"}

vLLM's `run-batch` and other endpoints write the same. Results come in any order and hold no prompt,
so the requests are read first and kept; of several batches only one may give an id another prompt.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from persyn_ray.data.cells import label_of
from persyn_ray.data.files.rows import BadRow, Row, rows_of
from persyn_ray.data.importers.converting import Unreadable, prompt_text, respond
from persyn_ray.data.importers.writing import Entry
from persyn_ray.errors import ConfigError, DataError

SOURCES = "SOURCES to the files of requests and the files of results"


class Batch:
    """Prompts of all requests, by their id."""

    def __init__(self, files: Sequence[str], teacher: str | None) -> None:
        """Read the requests.

        Raises:
            ConfigError: no file holds requests.
            DataError: an id has two prompts.
        """
        self.files, self.teacher = files, teacher
        self.prompts: dict[str, str | Unreadable] = {}
        for file, _, row in self._all():
            if isinstance(row, dict) and isinstance(row.get("body"), dict):
                self._keep(file, row)
        if not self.prompts:
            raise ConfigError(f"{list(files)} hold no request with a body: set {SOURCES}.")

    def results(self) -> Iterator[tuple[str, int, Row | BadRow]]:
        """All rows that are no requests."""
        for file, number, row in self._all():
            if isinstance(row, BadRow) or not isinstance(row.get("body"), dict):
                yield file, number, row

    def entry(self, row: Row) -> Entry:
        """A result with its request's prompt.

        Raises:
            Unreadable: it failed, or there is no such request.
        """
        name = label_of(row.get("custom_id"))
        prompt = self.prompts.get(name or "")
        if prompt is None:
            raise Unreadable(f"no request has the custom_id {name!r}")
        if isinstance(prompt, Unreadable):
            raise prompt
        response = row.get("response")
        response = response if isinstance(response, dict) else {}
        body = response.get("body")
        if not isinstance(body, dict) or response.get("status_code", 200) != 200:
            raise Unreadable(f"request {name!r} failed: {row.get('error') or body!r:.200}")
        teacher = self.teacher or label_of(body.get("model"))
        if teacher is None:
            raise Unreadable(f"the result of {name!r} names no model")
        entry = Entry(prompt, None, [], [])
        for text in output_texts(body):
            respond(entry, teacher, text)
        return entry

    def _all(self) -> Iterator[tuple[str, int, Row | BadRow]]:
        return ((file, number, row) for file in self.files for number, row in rows_of(file))

    def _keep(self, file: str, row: Row) -> None:
        name, body = label_of(row.get("custom_id")) or "", row["body"]
        asked = next((body[key] for key in ("messages", "input", "prompt") if body.get(key)), None)
        try:
            prompt: str | Unreadable = prompt_text(asked, f"request {name!r}", skip_system=True)
        except Unreadable as why:
            prompt = why
        there = self.prompts.setdefault(name, prompt)
        if isinstance(there, str) and isinstance(prompt, str) and there != prompt:
            raise DataError(
                f"{file}: the custom_id {name!r} stands for two prompts. Import one batch at a "
                "time, or give its requests ids of their own."
            )


def output_texts(body: Row) -> list[Any]:
    """Texts of a response of OpenAI's interfaces: chat, completions, or responses."""
    choices = body.get("choices")
    if isinstance(choices, list):
        return [_choice_text(one) for one in choices if isinstance(one, dict)]
    parts = [
        part.get("text")
        for item in _listed(body.get("output"))
        if isinstance(item, dict) and item.get("type") == "message"
        for part in _listed(item.get("content"))
        if isinstance(part, dict) and part.get("type") == "output_text"
    ]
    return ["".join(part for part in parts if isinstance(part, str))] if parts else [None]


def _choice_text(choice: Row) -> Any:
    said = choice.get("message") or choice
    return said.get("content", said.get("text")) if isinstance(said, dict) else None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
