"""Classifies error responses of endpoints: key, quota, model, parameter or prompt.

Servers say so in codes and in words, under many statuses: a wrong key is 401 at one and 400 at
another. Codes decide before words. What none of this fits is unclear, and whether it is the
prompt's own is found out from other prompts (see shared_refusals.py). Pure.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from persyn_ray.engines.openai.event_stream import parse

Cause = Literal["key", "money", "model", "parameter", "prompt"]

CODES: dict[Cause, frozenset[str]] = {
    "key": frozenset(
        {
            "invalid_api_key",
            "api_key_invalid",
            "invalid_authentication_error",
            "authentication_error",
            "unauthenticated",
            "unauthorized",
            "permission_denied",
            "invalid_issuer",
            "account_deactivated",
        }
    ),
    "money": frozenset(
        {
            "arrearage",
            "billing_error",
            "billing_hard_limit_reached",
            "billing_not_active",
            "exceeded_current_quota_error",
            "insufficient_balance",
            "insufficient_credits",
            "insufficient_quota",
            "insufficient_user_quota",
            "payment_required",
        }
    ),
    "model": frozenset(
        {
            "deploymentnotfound",
            "invalid_model",
            "invalid_model_error",
            "model_not_available",
            "model_not_found",
            "model_not_found_error",
        }
    ),
    "parameter": frozenset(
        {
            "extra_forbidden",
            "unknown_parameter",
            "unsupported_parameter",
            "unsupported_value",
            "unrecognized_parameter",
        }
    ),
    "prompt": frozenset(
        {
            "content_filter",
            "content_policy_violation",
            "data_inspection_failed",
            "datainspectionfailed",
            "invalid_prompt",
            "moderation_blocked",
            "responsibleaipolicyviolation",
        }
    ),
}
_ACCESS = (
    r"(api[ _-]?(key|token)|x-api-key|access[ _]token|auth\w* (token|key|header)|credentials?)"
)
_INVALID = r"(not valid|invalid|incorrect|expired|missing|required|revoked|disabled|not found)"
_SHORT = r"(balance|credits?|funds|quota)"
WORDS: tuple[tuple[Cause, re.Pattern[str]], ...] = (
    ("key", re.compile(r"account (has been |is |was )?(suspended|de\w*|disabled|flagged|blocked)")),
    (
        "prompt",
        re.compile(
            r"content[ _-]?(policy|filter|management|moderation|safety|inspection)|responsible ?ai"
            r"|moderat(ed|ion)|safety (system|policy|filter|setting|guideline)|flagged"
            r"|inappropriate|(usage|acceptable use) polic|prohibited content"
            r"|sensitive (content|word|information)"
        ),
    ),
    (
        "key",
        re.compile(
            rf"{_ACCESS}\b.{{0,40}}\b{_INVALID}|\b({_INVALID}|wrong|no|provide)\b.{{0,30}}{_ACCESS}"
            r"|unauthori[sz]ed|authentication (failed|error|required)|not authenticated"
        ),
    ),
    (
        "money",
        re.compile(
            rf"(insufficient|not enough|no|out of|low on) (remaining |account )?{_SHORT}\b"
            r"|(balance|credits?) (balance )?(is |are )?(too low|insufficient|exhausted)"
            r"|余额不足|欠费|payment (is )?required|in good standing|overdue|arrears|billing"
            r"|(exceeded|exhausted) (your|the) (current |monthly )?quota|spending limit"
        ),
    ),
    (
        "model",
        re.compile(
            r"\b(invalid|unknown|no such|unrecognized|nonexistent) model\b"
            r"|\bmodels?\b.{0,120}\b(not found|not exist|is not a valid|is invalid|cannot be found"
            r"|could not be found|identifier is invalid|is not available|not been deployed"
            r"|is not served|not a valid model)|not a valid model"
        ),
    ),
)
# A pace that is too fast is also called an exceeded quota; these words are about money alone.
BROKE = re.compile(rf"(insufficient|not enough) (account )?{_SHORT}\b|credit balance|余额不足|欠费")


@dataclass(frozen=True)
class Complaint:
    """The body of an error: its message, its codes and the parameter that it names, all lower."""

    message: str
    codes: frozenset[str] = frozenset()
    params: tuple[str, ...] = ()
    fields: Mapping[str, Any] | None = None  # of the error itself, for its numbers

    @property
    def key(self) -> str:
        """What refusals with one cause have in common: no numbers, quotations or ids."""
        plain = re.sub(r"([`'\"])[^`'\"]{1,2000}\1", "_", self.message.lower())
        plain = re.sub(r"\b(?=\w*\d)[\w-]+\b", "#", plain)
        return " ".join([*sorted(self.codes), *plain.split()])[:400]

    def cause(self, status: int, sent: Collection[str]) -> Cause | None:
        """Whose fault the refusal is, where codes or words say so.

        Args:
            sent: names of the request's fields that are not the prompt's.
        """
        for cause, codes in CODES.items():
            if codes & self.codes:
                return cause
        said = self.message.lower()
        if status == 429:  # words about quotas are also said of a pace that is too fast
            return "money" if BROKE.search(said) else None
        if status >= 500:
            return None
        for cause, words in WORDS:
            if words.search(said):
                return cause
        return "parameter" if self.names(sent) else None

    def names(self, sent: Collection[str]) -> bool:
        """Whether one of these fields of the request is what the refusal is about."""
        if self.params:
            return any(re.split(r"[.\[]", param)[0] in sent for param in self.params)
        return any(_is_named(name, self.message) for name in sent)


def read_complaint(content: bytes) -> Complaint:
    """An error in one of the shapes that servers use."""
    text = content.decode("utf-8", "replace").strip()
    try:
        parsed = parse(content)
    except ValueError:
        return Complaint(text or "no message")
    if isinstance(parsed, list) and parsed and isinstance(parsed[0], dict):
        parsed = parsed[0]  # Gemini
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else parsed
    if not isinstance(error, dict):
        return Complaint(error if isinstance(error, str) and error else text)
    return Complaint(_message(error, text), _codes(error), _params(error), error)


def _message(error: Mapping[str, Any], text: str) -> str:
    message = error.get("message") or error.get("detail") or error.get("msg") or text
    if isinstance(message, list) and all(isinstance(m, dict) and "msg" in m for m in message):
        # Not all of a validation error: it repeats the prompt.
        message = "; ".join(f"{'.'.join(map(str, m.get('loc', [])))}: {m['msg']}" for m in message)
    message = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return f"{message}: {raw}" if isinstance(raw, str) and raw else message


def _codes(error: Mapping[str, Any]) -> frozenset[str]:
    found = [error.get(name) for name in ("code", "type", "status")]
    details = error.get("details") or error.get("detail")
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict):
            found += [detail.get("reason"), detail.get("type")]
    inner = error.get("innererror")
    if isinstance(inner, dict):
        found.append(inner.get("code"))
    return frozenset(code.lower() for code in found if isinstance(code, str))


def _params(error: Mapping[str, Any]) -> tuple[str, ...]:
    """Parameters named by `param`, or by the places of a validation error."""
    param, details = error.get("param"), error.get("detail")
    found = [param] if isinstance(param, str) and param else []
    for detail in details if isinstance(details, list) else []:
        place = detail.get("loc") if isinstance(detail, dict) else None
        if isinstance(place, list):
            found += [str(part) for part in place if part not in ("body", "query")][:1]
    return tuple(found)


def _is_named(name: str, message: str) -> bool:
    """Whether a message names a parameter; a name that is a word as well must look like one."""
    word = rf"(?<!\w){re.escape(name)}(?!\w)"
    if "_" in name or name == "temperature":
        return re.search(word, message) is not None
    return bool(
        re.search(
            rf"[`'\"]{word}[`'\"]|^{word}\s*:|body\.{word}|supplied: {word}"
            rf"|{word} (is|are|was) (not|un|only|deprecated)"
            r"|(parameters?|arguments?|fields?|property|option|input|supported?|unsupported|unknown"
            rf"|unrecognized|unexpected|invalid)\W+(\w+ ){{0,2}}{word}",
            message,
            re.IGNORECASE,
        )
    )
