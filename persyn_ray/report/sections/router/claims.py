"""Part of section router: whether its claims hold (calibration, hedging, novelty).

In report.json, below router:

    calibration {ece: Estimate, noise (the ECE that chance alone gives),
                temperature, scaled_ece: Estimate (its temperatures fitted on other prompts),
                scaled_noise, table [{confidence, accuracy, num}]}
    hedging [{extra (generations a prompt beyond the first), reward,
                random (the same, at prompts drawn at random)}]
    novelty {by_split {split: share}, by_task {task: share}}
"""

from collections.abc import Sequence
from typing import TypedDict

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from persyn_ray.report import drawing
from persyn_ray.report.drawing import ACCENT, DASHED, INK, MUTED, ORACLE, REFERENCE, WIDTH
from persyn_ray.report.estimate import Estimate
from persyn_ray.report.numbers import estimate, number, percent

MUCH_NOVELTY = 0.05
"""Of the routed prompts; about 0.01 is flagged where they are like the parallel set."""
SPLITS = {
    "routed": "of the routed prompts",
    "heldout": "of the held-out prompts",
    "parallel": "of the parallel set itself",
}
NOT_MEASURED = {
    "calibration": "the router ranked no pair of teachers with different rewards.",
    "hedging": "hedging was not tried on prompts that all teachers answered.",
    "novelty": "the prompts were not compared with the parallel set.",
}
"""Why a part may be missing, in HTML."""


class ReliabilityBin(TypedDict):
    confidence: float
    accuracy: float
    num: float | None


class CalibrationSummary(TypedDict):
    ece: Estimate | None
    noise: float | None
    temperature: float | None
    scaled_ece: Estimate | None
    scaled_noise: float | None
    table: list[ReliabilityBin]


class HedgingPoint(TypedDict):
    extra: float
    reward: float | None
    random: float | None


class NoveltySummary(TypedDict):
    by_split: dict[str, float | None]
    by_task: dict[str, float | None]


def draw_reliability(calibration: CalibrationSummary | None) -> Figure | None:
    """How often the router's claims come true, and their error before and after scaling."""
    if calibration is None or not calibration["table"]:
        return None
    figure = Figure(figsize=(WIDTH, 3.0))
    diagram, errors = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _diagram(diagram, calibration)
    _errors(errors, calibration)
    drawing.panel_gap(figure, 0.12)
    return figure


def _diagram(axes: Axes, calibration: CalibrationSummary) -> None:
    claimed = [one["confidence"] for one in calibration["table"]]
    true = [one["accuracy"] for one in calibration["table"]]
    axes.plot([0.5, 1], [0.5, 1], color=MUTED, linewidth=1, linestyle=DASHED)
    axes.plot(claimed, true, "-o", color=ACCENT, linewidth=1.8, markersize=4.5, clip_on=False)
    axes.set_xlim(0.5, 1)
    axes.set_ylim(min(0.5, *true) - 0.02, 1)
    axes.set_xlabel("claimed probability")
    axes.set_title("share of claims that are true")
    for axis in ("x", "y"):
        drawing.value_grid(axes, axis, bins=5)


def _errors(axes: Axes, calibration: CalibrationSummary) -> None:
    rows = (
        ("as they are", calibration["ece"], calibration["noise"], ACCENT),
        ("scaled", calibration["scaled_ece"], calibration["scaled_noise"], ORACLE),
    )
    shown = [row for row in rows if row[1] and row[1]["value"] is not None]
    for place, (_, error, noise, colour) in enumerate(shown):
        drawing.dot(axes, place, error, colour)
        if noise is not None:
            axes.plot([noise, noise], [place - 0.22, place + 0.22], color=INK, linewidth=1.4)
    drawing.label_rows(axes, [name for name, *_ in shown])
    drawing.value_grid(axes, bins=4)
    axes.set_xlim(0, 1.15 * max(0.0, axes.dataLim.x1) or 1)
    axes.set_title("calibration error")
    axes.set_xlabel("mark: by chance alone")


def draw_hedging(points: Sequence[HedgingPoint]) -> Figure | None:
    """Reward of the best response against generations beyond the first, beside a random control."""
    if not points:
        return None
    figure = Figure(figsize=(WIDTH, 2.9))
    axes = figure.subplots()
    for key, colour, name, style in (
        ("random", REFERENCE, "prompts drawn at random", "--"),
        ("reward", ACCENT, "closest calls first", "-"),
    ):
        known = [(point["extra"], point[key]) for point in points if point[key] is not None]
        places, rewards = [place for place, _ in known], [reward for _, reward in known]
        axes.plot(places, rewards, style, color=colour, linewidth=1.8, label=name)
    _name_ends(axes, [(point["extra"], point["reward"]) for point in points])
    drawing.value_grid(axes, "y", bins=5)
    axes.margins(x=0.03, y=0.15)
    axes.set_xlabel("generations per prompt beyond the first")
    axes.set_title("mean reward of the best response")
    axes.legend(loc="lower right")
    return figure


def _name_ends(axes: Axes, points: Sequence[tuple[float, float | None]]) -> None:
    known = [(extra, reward) for extra, reward in points if reward is not None]
    if len(known) < 2:
        return
    for (extra, reward), name, colour, offset, side in (
        (known[0], "route-only", ACCENT, (8, -4), "left"),
        (known[-1], "generate-then-select", ORACLE, (4, 8), "right"),
    ):
        axes.plot([extra], [reward], "o", color=colour, markersize=6, clip_on=False)
        axes.annotate(name, (extra, reward), offset, textcoords="offset points", ha=side)


def claim_sentences(
    calibration: CalibrationSummary | None, novelty: NoveltySummary | None
) -> list[str]:
    """Sentences for the summary: only where the router should not simply be believed."""
    return [*_calibration(calibration), *_novelty(novelty)]


def is_off(calibration: CalibrationSummary) -> bool:
    """Whether the claims miss by more than chance gives: the interval is then above zero."""
    ece, noise = calibration["ece"], calibration["noise"]
    if ece is None or ece["value"] is None or noise is None:
        return False
    return bool(ece["low"]) and ece["value"] > noise


def miscalibration(calibration: CalibrationSummary) -> str:
    """What the temperature says of claims that miss."""
    temperature = calibration["temperature"]
    if temperature is None or temperature == 1:
        return "off"
    return "overconfident" if temperature > 1 else "underconfident"


def novelty_sentence(novelty: NoveltySummary) -> str:
    """The share of novel prompts in each split that was looked at."""
    known = [
        (percent(novelty["by_split"][split]), name)
        for split, name in SPLITS.items()
        if novelty["by_split"].get(split) is not None
    ]
    if not known:
        return "No split was looked at."
    (first, name), *others = known
    rest = "".join(f", {share} {of}" for share, of in others)
    return f"{first} {name} are unlike the parallel set{rest}."


def _calibration(calibration: CalibrationSummary | None) -> list[str]:
    if calibration is None or not is_off(calibration):
        return []
    scaled = calibration["scaled_ece"]
    after = ""
    if scaled and scaled["value"] is not None:
        after = f"; scaled by a temperature, they miss by {estimate(scaled)}"
    return [
        f"The router's claims that one teacher beats another are "
        f"{miscalibration(calibration)}: they miss by {estimate(calibration['ece'])} on average, "
        f"where chance alone gives {number(calibration['noise'])}{after}."
    ]


def _novelty(novelty: NoveltySummary | None) -> list[str]:
    share = novelty["by_split"].get("routed") if novelty else None
    if share is None or share <= MUCH_NOVELTY:
        return []
    return [
        f"{percent(share)} of the routed prompts are unlike the parallel set; there the router "
        "chooses by what it learned elsewhere."
    ]


FILTERS = (is_off, miscalibration, novelty_sentence)
"""Functions that the template calls."""
