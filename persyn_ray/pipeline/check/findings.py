"""What a check found: one subject, whether it is well, and what to do where it is not."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from persyn_ray.errors import PersynError

State = Literal["ok", "remark", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of `persyn check`."""

    what: str
    """Its subject, such as prompts or a teacher's name."""
    state: State
    detail: str
    fix: str | None = None
    """What to do about it, or a setting to change."""
    samples: tuple[str, ...] = ()
    """Texts to look at, each by itself."""
    shared: str = ""
    """What it says in words that may hold of several teachers at once; empty if of one alone."""


def problems(findings: Iterable[Finding]) -> list[Finding]:
    """The findings with which a run would fail."""
    return [finding for finding in findings if finding.state == "problem"]


def refused(what: str, error: Exception, fix: str | None = None) -> Finding:
    """A problem by the message of what was raised; that names the setting already."""
    return Finding(what, "problem", str(error) or type(error).__name__, fix)


def judged(what: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What a check finds; where it cannot go on, that is a problem of `what`."""
    try:
        yield from look()
    except PersynError as error:
        yield refused(what, error)
    except ImportError as error:
        yield refused(what, error, "pip install 'persyn-ray[run]'")


def milder(finding: Finding) -> Finding:
    """A problem as a remark: what this machine lacks may be there where the run will be."""
    return replace(finding, state="remark") if finding.state == "problem" else finding
