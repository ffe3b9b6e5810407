from collections.abc import Iterator

import pytest

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.pipeline.check.findings import Finding, judged, milder, problems, refused


def looking(error: BaseException) -> Iterator[Finding]:
    yield Finding("prompts", "ok", "first")
    raise error


@pytest.mark.parametrize("error", [ConfigError("wrong path"), DataError("damaged")])
def test_a_check_that_cannot_go_on_is_a_problem_behind_what_it_found(error: Exception) -> None:
    found = list(judged("prompts", lambda: looking(error)))
    assert [one.state for one in found] == ["ok", "problem"]
    assert (found[1].what, found[1].detail, found[1].fix) == ("prompts", str(error), None)


def test_a_package_that_is_missing_comes_with_the_command_that_installs_it() -> None:
    (_, found) = judged("models", lambda: looking(ImportError("No module named 'torch'")))
    assert found.fix == "pip install 'persyn-ray[run]'"


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyboardInterrupt()])
def test_what_is_no_finding_goes_on(error: BaseException) -> None:
    with pytest.raises(type(error)):
        list(judged("prompts", lambda: looking(error)))


def test_an_error_without_words_is_called_by_its_name() -> None:
    assert refused("teacher", TimeoutError()).detail == "TimeoutError"


def test_only_problems_become_milder_and_only_problems_fail_a_run() -> None:
    found = [Finding("a", "ok", ""), Finding("b", "remark", ""), Finding("c", "problem", "")]
    assert problems(found) == [found[2]]
    assert [milder(one).state for one in found] == ["ok", "remark", "remark"]
    assert problems(map(milder, found)) == []
