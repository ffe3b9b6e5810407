"""Detects secrets by their form: in recipes (refused) and in texts (redacted).

A recipe is written into its run, so none may stand in it. Messages of servers and libraries may
repeat one, so every message is cut before it is shown or stored. Nothing here returns a secret.
"""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

CUT = "[key]"

# Forms that keys of well-known services have; a whole one is long.
_LONG = r"""
    sk-(?:[A-Za-z0-9]{2,12}[-_]){0,3}[A-Za-z0-9_]{16,} | sk-[A-Za-z0-9_-]{32,}
  | pk-[A-Za-z0-9_-]{32,} | AIza[A-Za-z0-9_-]{20,} | (?:hf|r8|gsk|nvapi)[_-][A-Za-z0-9_-]{24,}
  | gh[oprsu]_[A-Za-z0-9]{16,} | github_pat_[A-Za-z0-9_]{16,} | glpat-[A-Za-z0-9_-]{16,}
  | (?:AKIA|ASIA)[A-Z0-9]{12,} | (?:xai|pplx|fw|csk|tgp|key|glc)[-_][A-Za-z0-9]{24,}
  | xox[abeprs]-[A-Za-z0-9-]{16,} | ya29\.[A-Za-z0-9_-]{16,}
  | eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]{4,}){1,2} | eyJ[A-Za-z0-9_-]{32,}
  | tgp_v\d_[A-Za-z0-9_-]{24,} | (?:esecret|rpa)_[A-Za-z0-9]{20,} | dapi[0-9a-f]{32}
  | lsv2_[a-z]{2}_[A-Za-z0-9_]{24,} | ABSK[A-Za-z0-9+/=]{24,}
  | -----BEGIN[ ][A-Z ]{0,30}PRIVATE[ ]KEY-----[^-]*
"""
# Where an address or a name is expected, the beginning is enough.
_SHORT = r"""
    (?:sk|pk|xai|pplx|csk|glpat|nvapi)-[A-Za-z0-9_-]{3,} | AIza[A-Za-z0-9_-]{3,}
  | (?:hf|gsk|gh[oprsu]|github_pat|r8)_[A-Za-z0-9]{6,} | xox[abeprs]-[A-Za-z0-9]{6,}
  | (?:AKIA|ASIA)[A-Z0-9]{3,} | eyJ[A-Za-z0-9_-]{3,}[A-Za-z0-9_.-]*
"""
_NOT_INSIDE = r"(?<![A-Za-z0-9])"
LONG_KEY = re.compile(f"{_NOT_INSIDE}(?:{_LONG})", re.VERBOSE)
SHORT_KEY = re.compile(f"{_NOT_INSIDE}(?:{_LONG}|{_SHORT})", re.VERBOSE)

# Names of models and files may begin like a key, and then go on in words and numbers.
_WORD = re.compile(r"[A-Za-z]?[a-z]{0,14}|[A-Z]{1,14}|[a-z]{0,3}\d{1,4}[a-z]{0,2}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VARIABLE_OF_A_KEY = re.compile(r"\w+(?i:key|token|secret)")
_HEXADECIMAL = re.compile(r"(?<![A-Za-z0-9])(?=[a-f]*\d)[0-9a-f]{20,}(?![A-Za-z0-9])")

# Names, in small letters without punctuation, whose value is a secret.
_OWNER = (
    "(?:x|aws|proxy)?(?:amz)?(?:access|api|auth|azuread|bearer|client|hf|private|refresh|secret|"
    "secretaccess|security|session|(?:ocpapim)?subscription)"
)
_SECRET = (
    f"{_OWNER}(?:key|keyid|secret|token)|(?:x|proxy)?authorization|bearer|credentials?|jwt|"
    "pass(?:phrase|wd|word)|pwd|secret|token|"
    "[a-z0-9]*(?:accesskey|accesstoken|apikey|authtoken|clientsecret|credentials|password|secretkey|"
    "virtualkey)"
)
SECRET_FIELD = re.compile(_SECRET)
SECRET_PARAMETER = re.compile(
    f"{_SECRET}|[a-z]*token|auth|code|key|sig|x?(?:amz|goog)?(?:signature|credential)"
)

# What may be repeated before something else has to follow is bounded: long texts take linear time.
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]{0,15}://"
_USER = re.compile(rf"({_SCHEME})([^\s/?#'\"<>]*)@(?=[^\s/@]*)")
# Keys of storage hold slashes that nobody quotes; a port's number is no password.
_PASSWORD_WITH_SLASH = re.compile(
    rf"({_SCHEME})[^\s/?#:@'\"<>\[]{{1,128}}:(?!:|\d{{1,5}}[/?#])[^\s@'\"<>]{{1,256}}@"
)
_USER_WITHOUT_SCHEME = re.compile(
    r"(?<![\w/:.%+-])[\w.%+-]{1,64}:[^\s/@:'\"]{3,256}@(?=[\w-]+(?:\.[\w-]|:\d|/))"
)
_ADDRESS = re.compile(rf"{_SCHEME}[^\s'\"<>]+")
_PARAMETER = re.compile(r"([?&#;])([A-Za-z0-9_.-]+)=([^&#;\s'\"<>]*)")
_RELATIVE_PARAMETER = re.compile(r"([?&])([A-Za-z0-9_.-]+)=([^&#;\s'\"<>]*)")
_SCHEMES = r"(?i:bearer|basic|token)"
_HEADER = re.compile(rf"\b((?i:authorization)['\"]?\s*[:=]\s*['\"]?(?:{_SCHEMES}\s+)?)[^\s'\",;]+")
_BEARER = re.compile(r"\b((?i:bearer)\s+)(?=[^\s'\",;]*[\d_-])[^\s'\",;]{8,}")
_ASSIGNED = re.compile(
    r"\b((?:[\w-]{0,40}[_-])?(?i:api[_-]?key|(?:access|auth|refresh|security|session)[_-]?token"
    r"|secret(?:[_-]\w+)?"
    r"|password|passwd)['\"]?\s*[:=]\s*['\"]?)(?!\[key\])([^\s'\",;&]{4,})"
)
_SECRET_VARIABLE = re.compile(r"(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD)$", re.I)
SHORTEST = 8  # characters of a variable's value that is looked for: `EMPTY` is no secret

MAPPINGS = frozenset({"arguments", "extra_body", "extra_headers", "headers", "template_kwargs"})
"""Fields of a recipe with any content: what it is called may tell a secret."""
NAMED = frozenset({"api_key_env", "keys_env", "keys"})
"""Fields that hold a name, in whose place a key is often put."""
VARIABLES = frozenset({"api_key_env", "keys_env"})
"""Those of them that hold the name of an environment variable."""
GUARDED = MAPPINGS | NAMED | {"base_url", "api_key_file", "keys_file"}
"""Fields whose content no message repeats."""


def looks_like_key(text: str) -> bool:
    """Whether a name or a part of an address begins like a key, or is drawn like one."""
    return SHORT_KEY.search(text) is not None or any(
        map(_is_drawn, re.split(r"[^A-Za-z0-9]", text))
    )


def _is_drawn(word: str) -> bool:
    """Long, and of small and capital letters with digits among them, as no word is."""
    kinds = (str.islower, str.isupper, str.isdigit)
    return len(word) >= 20 and all(any(map(kind, word)) for kind in kinds)


def is_variable_name(text: str) -> bool:
    """Whether a text can be the name of an environment variable, and is no key in its place."""
    if not _VARIABLE.fullmatch(text) or _HEXADECIMAL.search(text):
        return False
    is_named_so = _VARIABLE_OF_A_KEY.fullmatch(text) is not None and _reads_as_words(text)
    return is_named_so or not looks_like_key(text)


def _reads_as_words(text: str) -> bool:
    """Whether a text is made of short words and numbers, as no drawn key is."""
    return all(map(_WORD.fullmatch, re.split("[-_]", text)))


def cut_secrets(text: str) -> str:
    """A message without keys, passwords, signatures and the values of variables that hold such."""
    for value in _values_of_variables():
        text = text.replace(value, CUT).replace(quote(value, safe=""), CUT)
    text = _USER.sub(lambda match: f"{match[1]}{CUT}@" if _is_secret(match) else match[0], text)
    text = _PASSWORD_WITH_SLASH.sub(rf"\1{CUT}@", text)
    text = _USER_WITHOUT_SCHEME.sub(f"{CUT}@", text)
    text = _ADDRESS.sub(lambda match: _PARAMETER.sub(_cut_parameter, match[0]), text)
    text = _RELATIVE_PARAMETER.sub(_cut_parameter, text)
    text = _HEADER.sub(rf"\1{CUT}", text)
    text = _BEARER.sub(rf"\1{CUT}", text)
    text = _ASSIGNED.sub(rf"\1{CUT}", text)
    return LONG_KEY.sub(lambda match: match[0] if _reads_as_words(match[0]) else CUT, text)


def _is_secret(user: re.Match[str]) -> bool:
    """A name alone is none, but where it may be a token: no web address needs one."""
    return ":" in unquote(user[2]) or user[1].lower() in ("http://", "https://")


def _values_of_variables() -> list[str]:
    """The longest first: one may be the beginning of another."""
    found = (value.strip() for name, value in os.environ.items() if _SECRET_VARIABLE.search(name))
    return sorted({value for value in found if len(value) >= SHORTEST}, key=len, reverse=True)


def _cut_parameter(match: re.Match[str]) -> str:
    mark, name, _ = match.groups()
    return f"{mark}{name}={CUT}" if SECRET_PARAMETER.fullmatch(_plain(name)) else match[0]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def places_of_secrets(data: Any) -> list[str]:
    """A sentence for each place of a recipe's mapping that holds what looks like a secret.

    The secret itself is not in it.
    """
    return [
        f"  {'.'.join(map(_shown, path)) or 'recipe'}: {problem}" for path, problem in _found(data)
    ]


def _shown(part: str) -> str:
    return CUT if looks_like_key(part) else part


def _found(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            name = str(key)
            if _is_key(name, path):
                yield (*path, name), f"a name that looks like a key; {ADVICE}"
            elif _is_secret_field(name, path) and _is_given(value):
                yield (*path, name), f"a secret by its name; {ADVICE}"
            else:
                yield from _found(value, (*path, name))
    elif isinstance(node, list | tuple):
        for number, value in enumerate(node):
            yield from _found(value, (*path, str(number)))
    elif isinstance(node, str) and (problem := _problem(node, path)):
        yield path, f"{problem} would be stored with the run; {ADVICE}"


ADVICE = "keys belong in a variable or a file that api_key_env or api_key_file names"


def _is_free(path: tuple[str, ...]) -> bool:
    return not MAPPINGS.isdisjoint(path)


def _is_secret_field(name: str, path: tuple[str, ...]) -> bool:
    if MAPPINGS.isdisjoint(path) or path[-1] == "properties":  # a JSON schema's names of fields
        return False
    is_of_account = name == "key" and path[-1] in ("auth", "authentication")
    return is_of_account or SECRET_FIELD.fullmatch(_plain(name)) is not None


def _is_given(value: Any) -> bool:
    return value is not None and not isinstance(value, bool) and value not in ("", {}, [])


def _is_key(text: str, path: tuple[str, ...]) -> bool:
    """By its look alone, which may be the shorter the more a field is apt to hold a key."""
    if not NAMED.isdisjoint(path):
        is_name = not VARIABLES.isdisjoint(path) and is_variable_name(text)
        return looks_like_key(text) and not is_name
    if _is_free(path):
        return SHORT_KEY.search(text) is not None
    return not all(_reads_as_words(match[0]) for match in LONG_KEY.finditer(text))


def _problem(text: str, path: tuple[str, ...]) -> str | None:
    if _PASSWORD_WITH_SLASH.search(text) or any(map(_is_secret, _USER.finditer(text))):
        return "an address with a user or a password"
    if _USER_WITHOUT_SCHEME.match(text):
        return "an address with a password"
    for address in _ADDRESS.findall(text):
        if any(
            SECRET_PARAMETER.fullmatch(_plain(name)) for _, name, _ in _PARAMETER.findall(address)
        ):
            return "an address with a key or a signature"
    if _is_key(text, path) or (not MAPPINGS.isdisjoint(path) and _ASSIGNED.search(text)):
        return "what looks like a key"
    return None
