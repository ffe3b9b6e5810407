"""Licences as the Hub knows them: what a recipe names in; the fields of a card's front matter out.

The Hub takes identifiers of a list of its own (`licences.txt`, from its documentation). Another
licence is `other` there, with its name beside it; which licences bind a mixture of texts is
nobody's to say here, so all are named.
"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

_SPELLED = {"apache-2": "apache-2.0", "apache2": "apache-2.0", "apache2.0": "apache-2.0"}
MOST_LETTERS = 80


@cache
def known() -> frozenset[str]:
    """The Hub's identifiers."""
    return frozenset(Path(__file__).with_name("licences.txt").read_text("utf-8").split())


def licence_fields(names: Sequence[str]) -> dict[str, str | list[str]]:
    """`license`, and `license_name` where one is none of the Hub's; nothing for no licence."""
    found = [(name, identifier(name)) for name in names]
    ids = sorted({one or "other" for _, one in found})
    if not ids:
        return {}
    fields: dict[str, str | list[str]] = {"license": ids[0] if len(ids) == 1 else ids}
    foreign = sorted({_slug(name) for name, one in found if one is None})
    if foreign:
        fields["license_name"] = "-and-".join(foreign)[:MOST_LETTERS].rstrip("-.")
    return fields


def identifier(name: str) -> str | None:
    """The Hub's identifier of a licence; None where it has none."""
    key = _slug(name)
    key = _SPELLED.get(key, key).removesuffix("-license").removesuffix("-licence")
    key = _SPELLED.get(key, key)
    if name.strip().lower() in known():
        return name.strip().lower()
    return key if key in known() else None


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.strip().lower()).strip("-.") or "unnamed"
