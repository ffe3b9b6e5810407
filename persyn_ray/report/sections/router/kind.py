"""Part of section router: its kind (`router.kind`), and why `auto` has chosen that one.

In report.json:

    router.kind   kind, told (what a simple predictor has chosen by itself: k, weights),
                  why, num_prompts, kinds [{kind, gain: Estimate, told}] (of `auto`: reward on
                  prompts of the parallel set that were left out, minus that of the best constant;
                  intervals are normal, over prompts; told is why a kind is used or not)
"""

from typing import TypedDict

from persyn_ray.report.estimate import Estimate
from persyn_ray.report.numbers import count

LABELS = {
    "fitted": "fitted router",
    "constant": "best constant teacher",
    "per_task": "best teacher per task, shrunk",
    "knn": "k-NN on frozen embeddings",
    "linear": "ridge regression on embedding and task",
    "stacked": "per task, k-NN and regression, weighted",
    "fitted_head": "fitted head on the frozen backbone",
    "fine_tuned": "fine-tuned backbone",
}
NETWORKS = ("fitted", "fitted_head", "fine_tuned")
NOT_MEASURED: dict[str, str] = {}
"""Why a part may be missing, in HTML."""


class KindGain(TypedDict):
    kind: str | None
    gain: Estimate | None
    told: str | None


class RouterKind(TypedDict):
    kind: str | None
    told: str | None
    why: str | None
    num_prompts: int | None
    kinds: list[KindGain]


def kind_label(kind: str | None) -> str:
    """A kind as people read of it."""
    return LABELS.get(kind or "fitted", kind or "")


def is_network(kind: RouterKind | None) -> bool:
    """Whether a loss was minimised, and not a simple predictor fitted."""
    return kind is None or (kind["kind"] or "fitted") in NETWORKS


FILTERS = (kind_label, is_network)


def kind_sentences(kind: RouterKind | None) -> list[str]:
    """What chooses teachers where it is not the fitted router, and why."""
    if kind is None or kind["kind"] in (None, "fitted"):
        return []
    told = f" ({kind['told']})" if kind["told"] else ""
    if kind["why"] is None:
        return [f"The router is of kind {kind['kind']}: {kind_label(kind['kind'])}{told}."]
    return [
        f"router.kind: auto uses {kind_label(kind['kind'])}{told}, compared on "
        f"{count(kind['num_prompts'])} prompts: {kind['why']}."
    ]
