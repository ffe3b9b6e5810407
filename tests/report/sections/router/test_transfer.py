import random

from persyn_ray.report.content import complete
from persyn_ray.report.sections.router.transfer import fit_label, is_new, ordered_fits

TASKS = ["math", "code", "chat"]


def test_fits_are_ordered_by_what_they_left_out() -> None:
    names = ["all", *(f"without {task}" for task in TASKS), *TASKS]
    mixed = [*names, "math, code"]
    random.Random(3).shuffle(mixed)
    fits = {name: {task: {} for task in TASKS} for name in mixed}
    router = complete({"router": {"transfer": {"tasks": TASKS, "fits": fits}}})["router"]
    assert router is not None
    assert router["transfer"] is not None
    assert ordered_fits(router["transfer"]) == [*names, "math, code"]


def test_fits_are_called_by_what_they_saw() -> None:
    shown = [fit_label(name, TASKS) for name in ("all", "without math", "math", "math, code")]
    assert shown == ["all tasks", "without math", "math alone", "math, code"]


def test_a_task_is_new_to_what_was_fitted_without_it() -> None:
    assert [is_new("without math", task, TASKS) for task in TASKS] == [True, False, False]
    assert [is_new("math", task, TASKS) for task in TASKS] == [False, True, True]
    assert not any(is_new("all", task, TASKS) for task in TASKS)
