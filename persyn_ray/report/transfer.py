"""Transfer between tasks as the page shows it: which router was fitted on what, in which order."""

from collections.abc import Sequence

from persyn_ray.report.content import Transfer

WITHOUT = "without "


def ordered_fits(transfer: Transfer) -> list[str]:
    """Names of the fits: on all tasks, without one, on one alone; then whatever else there is."""
    tasks = transfer["tasks"]
    wanted = ["all", *(WITHOUT + task for task in tasks), *tasks]
    known = [name for name in dict.fromkeys(wanted) if name in transfer["fits"]]
    return known + [name for name in transfer["fits"] if name not in known]


def fit_label(fit: str, tasks: Sequence[str]) -> str:
    """What a router was fitted on, in words."""
    if fit in tasks:
        return f"{fit} alone"
    return "all tasks" if fit == "all" else fit


def is_new(fit: str, task: str, tasks: Sequence[str]) -> bool:
    """Whether a router was fitted on no prompt of the task."""
    return fit == WITHOUT + task or (fit in tasks and fit != task)
