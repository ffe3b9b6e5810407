"""Section router: how well the router ranks teachers on prompts that it was not fitted on.

In report.json:

    router        kind (kind.py), num_fit, num_heldout, heldout_set,
                  prompts (as in reward, of these prompts), hit_at_1, hit_at_3,
                  regret, pairwise_accuracy (Estimates),
                  chance_at_1, chance_at_3 (what a draw among the teachers hits on these prompts),
                  loss_curve (loss_curves.py),
                  references {method: {reward, regret, hit_at_1 (Estimates)}},
                  differences {method: Estimate} (routed reward, PerSyn minus it, by prompt),
                  learning_curve [{num_parallel, hit_at_1, chance_at_1, regret, pairwise_accuracy}],
                  calibration, hedging, novelty (claims.py), transfer (transfer.py)
"""

from typing import TypedDict

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from persyn_ray.report import drawing
from persyn_ray.report.drawing import ACCENT, DASHED, MUTED, REFERENCE, WARM, WIDTH
from persyn_ray.report.estimate import Estimate, verdict
from persyn_ray.report.methods import comparison_sentences, label, ordered
from persyn_ray.report.numbers import compact, count, estimate, number
from persyn_ray.report.sections.loss_curves import LossLine, LossPoint, draw_losses
from persyn_ray.report.sections.rewards import RewardedPrompts
from persyn_ray.report.sections.router.claims import (
    CalibrationSummary,
    HedgingPoint,
    NoveltySummary,
)
from persyn_ray.report.sections.router.kind import RouterKind
from persyn_ray.report.sections.router.transfer import Transfer

RULES = ("best_constant", "task_constant", "knn", "linear_probe", "stacked")
"""Assignments by what the parallel set shows, without a fitted router."""
NOT_MEASURED = {
    "router": "the router has no held-out figures.",
    "references": "no references were routed (<code>compare.methods</code>).",
    "learning_curve": "no smaller routers were fitted (<code>router.learning_curve</code>).",
    "loss_curve": "the router's fit left no loss curve.",
}
"""Why a part may be missing, in HTML."""


class Reference(TypedDict):
    reward: Estimate | None
    regret: Estimate | None
    hit_at_1: Estimate | None


class LearningPoint(TypedDict):
    num_parallel: int
    hit_at_1: Estimate | None
    chance_at_1: float | None
    regret: Estimate | None
    pairwise_accuracy: Estimate | None


class RouterSummary(TypedDict):
    kind: RouterKind | None
    num_fit: int | None
    num_heldout: int | None
    heldout_set: str | None
    prompts: RewardedPrompts | None
    hit_at_1: Estimate | None
    chance_at_1: float | None
    hit_at_3: Estimate | None
    chance_at_3: float | None
    regret: Estimate | None
    pairwise_accuracy: Estimate | None
    loss_curve: list[LossPoint]
    references: dict[str, Reference]
    differences: dict[str, Estimate]
    learning_curve: list[LearningPoint]
    calibration: CalibrationSummary | None
    transfer: Transfer | None
    hedging: list[HedgingPoint]
    novelty: NoveltySummary | None


def draw_routed(router: RouterSummary | None) -> Figure | None:
    """Mean routed reward of each method on the held-out prompts, with 95 % intervals."""
    found = router["references"] if router else {}
    names = [name for name in ordered(found) if found[name]["reward"] is not None]
    if not names:
        return None
    figure = Figure(figsize=(WIDTH, drawing.rows_height(len(names), 0.34)))
    axes = figure.subplots()
    for row, name in enumerate(names):
        drawing.dot(axes, row, found[name]["reward"], drawing.method_colour(name))
    drawing.label_methods(axes, [label(name) for name in names], label("persyn"))
    drawing.value_grid(axes)
    axes.set_xlabel("mean routed reward")
    return figure


def draw_hits(router: RouterSummary | None) -> Figure | None:
    """Hit@1 and regret of each method on the held-out prompts, with 95 % intervals."""
    found = router["references"] if router else {}
    names = [name for name in ordered(found) if found[name]["hit_at_1"] or found[name]["regret"]]
    if not names:
        return None
    figure = Figure(figsize=(WIDTH, drawing.rows_height(len(names), 0.34, 0.85)))
    hits, regrets = figure.subplots(1, 2, sharey=True)
    for row, name in enumerate(names):
        drawing.dot(hits, row, found[name]["hit_at_1"], drawing.method_colour(name))
        drawing.dot(regrets, row, found[name]["regret"], drawing.method_colour(name))
    drawing.label_methods(hits, [label(name) for name in names], label("persyn"))
    drawing.unlabelled_rows(regrets)
    for axes, title in ((hits, "Hit@1"), (regrets, "regret")):
        drawing.value_grid(axes, bins=4)
        axes.set_title(title)
    chance = router["chance_at_1"] if router else None
    if chance is not None:
        hits.axvline(chance, color=MUTED, linewidth=0.9, linestyle=DASHED)
    hits.set_xlim(0, 1)
    regrets.set_xlim(left=min(0, regrets.dataLim.x0))
    drawing.panel_gap(figure, 0.12)
    return figure


def draw_learning_curve(router: RouterSummary | None) -> Figure | None:
    """Hit@1 and regret of routers fitted on parts of the parallel set, with 95 % intervals."""
    points = router["learning_curve"] if router else []
    if not points:
        return None
    places = [float(point["num_parallel"]) for point in points]
    figure = Figure(figsize=(WIDTH, 2.5))
    for axes, key, colour in zip(
        figure.subplots(1, 2), ("hit_at_1", "regret"), (ACCENT, WARM), strict=True
    ):
        drawing.band(axes, places, [point[key] for point in points], colour)
        drawing.value_grid(axes, "y")
        axes.set_title("Hit@1" if key == "hit_at_1" else "regret")
        axes.set_xlabel("parallel prompts (log scale)")
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(places, [compact(place) for place in places])
    return figure


def draw_loss(router: RouterSummary | None) -> Figure | None:
    """Loss of the router by optimiser step, on its fitting prompts and its hold-out."""
    curve = router["loss_curve"] if router else []
    lines = (
        LossLine(curve, "train_loss", REFERENCE, "fit"),
        LossLine(curve, "heldout_loss", ACCENT, "hold-out"),
    )
    return draw_losses(lines, "loss, nats per pair")


def ranking_sentences(router: RouterSummary | None) -> list[str]:
    """How well the router ranks, and its routed reward beside every other method's."""
    if router is None:
        return []
    sentences: list[str] = []
    hit = router["hit_at_1"]
    if hit and hit["value"] is not None:
        chance = router["chance_at_1"]
        drawn = "" if chance is None else f"; a teacher drawn at random, with {number(chance)}"
        of = (
            f"{count(router['num_heldout'])} held-out prompts"
            if router["num_heldout"]
            else "held-out prompts"
        )
        sentences.append(
            f"On {of} the router finds a best teacher with Hit@1 {estimate(hit)}{drawn}."
        )
    others = {name: value for name, value in router["differences"].items() if name != "persyn"}
    sentences += comparison_sentences("Its mean routed reward", others)
    return sentences + _simple_rule(router)


def _simple_rule(router: RouterSummary) -> list[str]:
    """That a rule without a fitted router is as good, where one is: the best of those measured."""
    found = {
        name: difference
        for name, difference in router["differences"].items()
        if name in RULES and difference["value"] is not None
    }
    if not found:
        return []
    best = min(found, key=lambda name: found[name]["value"] or 0.0)
    if verdict(found[best]) == "higher":
        return []
    return [
        f"A simple rule is as good as the router here: {label(best)}. With router.kind auto such "
        "rules are compared and may be used; persyn screen says whether more prompts would help."
    ]
