"""Reads a response body as JSON, also where a server sends an event stream unasked.

Some servers and proxies send good JSON as `text/plain`, with a byte order mark, with a broken
character in it, or as server-sent events though nobody asked for a stream. Pure.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from persyn_ray.engines.openai.message_content import read_message

DONE = "[DONE]"


def parse(content: bytes) -> Any:
    """What the bytes say.

    Raises:
        ValueError: they are no JSON, or a stream that broke off.
    """
    text = content.decode(json.detect_encoding(content), "replace").removeprefix("\ufeff")
    if text.lstrip().startswith(("data:", "event:", "id:", ": ", ":\n")):
        return _whole(list(_events(text)))
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _events(text: str) -> Iterator[Any]:
    """What the events of a stream hold; the last is `DONE` where the server said so."""
    for line in text.splitlines():
        if line.startswith("data:"):
            data = line.removeprefix("data:").strip()
            if data == DONE:
                yield DONE
            elif data:
                yield json.loads(data)


def _whole(events: list[Any]) -> dict[str, object]:
    """One answer from the events of a stream."""
    chunks = [event for event in events if isinstance(event, dict)]
    for chunk in chunks:
        if chunk.get("error"):
            return chunk
    choices = [chunk["choices"][0] for chunk in chunks if chunk.get("choices")]
    endings = [choice.get("finish_reason") for choice in choices]
    ending = next((one for one in reversed(endings) if one is not None), None)
    if not choices or (ending is None and DONE not in events):
        raise ValueError("a stream of events that broke off")
    usages = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    said = [read_message(_message(choice)) for choice in choices]
    message = {
        "content": "".join(one.text or "" for one in said),
        "reasoning_content": "".join(one.thinking for one in said),
        "refusal": "".join(one.refusal for one in said),
    }
    usage = usages[-1] if usages else None
    return {"choices": [{"message": message, "finish_reason": ending}], "usage": usage}


def _message(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    found = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
    return found if isinstance(found, Mapping) else {}
