"""Every figure of a report: sections of the content in, inline SVG out.

`draw(content)` returns the figures that the content has numbers for, by name. The numbers are shown
as given; only the many small teachers of a stacked chart are summed into one band, "others".
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from persyn_ray.report import drawing
from persyn_ray.report.content import Report
from persyn_ray.report.problems import Problems
from persyn_ray.report.sections import (
    allocation,
    alpha,
    limits,
    rewards,
    student,
    timing,
    tokens,
    training,
)
from persyn_ray.report.sections.router import claims, ranking, transfer

Draw = Callable[..., Figure | None]
"""Draws one figure of the sections it is given; None without numbers for it."""


def draw(content: Report, problems: Problems | None = None) -> dict[str, str]:
    """Every figure the content has numbers for, as inline SVG by name; one that fails is left out,
    with its reason among the problems.
    """
    problems = problems or Problems()
    with drawing.styled():
        drawn = {
            name: problems.attempt(
                f"figures.{name}", partial(_drawn, name, function, *sections), None
            )
            for name, (function, *sections) in _figures(content).items()
        }
    return {name: svg for name, svg in drawn.items() if svg is not None}


def _figures(content: Report) -> dict[str, tuple[Draw, *tuple[Any, ...]]]:
    """Each figure's function, and the sections that it draws."""
    routed = content["router"]
    return {
        "student": (student.draw_student, content["student"]),
        "training": (training.draw_training, content["training"]),
        "routed": (ranking.draw_routed, routed),
        "hits": (ranking.draw_hits, routed),
        "learning_curve": (ranking.draw_learning_curve, routed),
        "loss": (ranking.draw_loss, routed),
        "reliability": (
            claims.draw_reliability,
            routed["calibration"] if routed else None,
        ),
        "transfer": (transfer.draw_transfer, routed["transfer"] if routed else None),
        "hedging": (claims.draw_hedging, routed["hedging"] if routed else []),
        "front": (limits.draw_front, content["constraints"]),
        "allocation": (allocation.draw_allocation, content["allocation"]),
        "tasks": (allocation.draw_tasks, content["allocation"]),
        "reward": (rewards.draw_reward, content["reward"]),
        "alpha": (alpha.draw_alpha, content["alpha_sweep"], content["allocation"]),
        "tokens": (tokens.draw_tokens, content["tokens"]),
        "timing": (timing.draw_timing, content["timing"]),
    }


def _drawn(name: str, function: Draw, *sections: Any) -> str | None:
    figure = function(*sections)
    description = (function.__doc__ or name).splitlines()[0]
    return None if figure is None else drawing.to_svg(figure, name, description)
