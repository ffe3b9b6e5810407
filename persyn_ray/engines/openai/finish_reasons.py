"""Maps finish reasons of servers to this library's.

The words of one server mean nothing to another: TGI says `eos_token`, Anthropic `end_turn`, Gemini
`MAX_TOKENS`, LM Studio `eosFound`. They are compared without case, signs and the name of an enum.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["stop", "length", "loop", "filtered", "called", "interrupted", "unknown"]


@dataclass(frozen=True)
class Ending:
    """What a finish reason means, and the server's own word for it."""

    kind: Kind
    word: str | None

    @property
    def shown(self) -> str:
        """The word as messages show it."""
        return "no finish reason" if not self.word else f"finish reason {self.word[:60]!r}"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


KINDS: dict[Kind, frozenset[str]] = {
    "stop": _words(
        "stop stopped eos eostoken eosfound eot eom endturn endofturn endoftext endofsequence "
        "stopsequence stopsequences stopstring stopstringfound stoptoken stopword stopcriteria "
        "stopcriteriamet word complete completed done end finish finished normal success succeeded"
    ),
    "length": _words(
        "length maxtokens maxtoken maxtokensreached maxpredictedtokensreached maxoutputtokens "
        "maxnewtokens maxcompletiontokens maxlength maxlengthreached tokenlimit tokenlimitreached "
        "limit modellength contextlength contextlengthreached contextlengthexceeded contextwindow "
        "modelcontextwindowexceeded errorlimit lengthlimit truncated incomplete timelimit"
    ),
    "loop": _words("repetition loop looped"),
    "filtered": _words(
        "contentfilter contentfiltered contentfiltering contentpolicy contentpolicyviolation "
        "policyviolation safety imagesafety recitation blocklist prohibitedcontent spii language "
        "sensitive guardrail guardrails guardrailintervened moderation moderated blocked flagged "
        "errortoxic toxic refusal refused"
    ),
    "called": _words(
        "toolcalls toolcall tooluse functioncall functioncalls malformedfunctioncall "
        "malformedtooluse malformedtoolcall unexpectedtoolcall toomanytoolcalls pauseturn"
    ),
    # The endpoint's own troubles, reported as reasons for the end of a response.
    "interrupted": _words(
        "abort aborted cancel cancelled canceled usercancel userstopped error failed failure "
        "networkerror servererror internalerror insufficientsystemresource timeout timedout load "
        "unload modelunloaded malformedresponse malformedmodeloutput notfinished preempted "
        "overloaded disconnected"
    ),
}
_KIND_OF: dict[str, Kind] = {word: kind for kind, words in KINDS.items() for word in words}


def read_ending(given: Any) -> Ending:
    """What a finish reason says, whatever the server calls it."""
    if isinstance(given, dict):  # {"type": "eos_token"}
        given = given.get("type") or given.get("reason")
    word = None if given is None or given == [] else str(given).strip()
    plain = re.sub(r"[^a-z0-9]", "", (word or "").rpartition(".")[2].lower())
    return Ending(_KIND_OF.get(plain.removeprefix("finishreason"), "unknown"), word)
