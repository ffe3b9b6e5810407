"""Section tokens: teacher tokens against generate-then-select, and what endpoints were paid.

In report.json:

    tokens        unit, collect, synthesize, route_then_generate, generate_then_select,
                  saving_fraction, estimated, per_teacher {teacher: tokens},
                  responses {collect, synthesize, route_then_generate, generate_then_select}
    spending      accounts {KIND/NAME: {tokens, dollars, open_tokens, budget_tokens,
                  budget_dollars}} (what endpoints were paid, by the ledger, which runs may share;
                  open_tokens are in flight now or were when their process died, and count at
                  their upper bound), num_ungraded (responses without a grade because a judge's
                  budget was used up)
"""

from typing import TypedDict

from matplotlib.figure import Figure

from persyn_ray.report import drawing
from persyn_ray.report.drawing import ACCENT, ACCENT_SOFT, COMPACT, REFERENCE, WIDTH
from persyn_ray.report.numbers import compact, percent

NOT_MEASURED = {
    "tokens": "no teacher tokens were counted (of recorded responses the student counts "
    "them: <code>scoring.measure</code>).",
}
"""Why a part may be missing, in HTML."""


class Responses(TypedDict):
    collect: int | None
    synthesize: int | None
    route_then_generate: int | None
    generate_then_select: int | None


class Tokens(TypedDict):
    unit: str | None
    collect: float | None
    synthesize: float | None
    route_then_generate: float | None
    generate_then_select: float | None
    saving_fraction: float | None
    estimated: bool | None
    per_teacher: dict[str, float | None]
    responses: Responses | None


class AccountSpending(TypedDict):
    tokens: int | None
    dollars: float | None
    open_tokens: int | None
    budget_tokens: int | None
    budget_dollars: float | None


class Spending(TypedDict):
    accounts: dict[str, AccountSpending]
    num_ungraded: int | None


def draw_tokens(tokens: Tokens | None) -> Figure | None:
    """Teacher tokens of route-then-generate beside those of generate-then-select."""
    if (
        tokens is None
        or tokens["route_then_generate"] is None
        or tokens["generate_then_select"] is None
    ):
        return None
    figure = Figure(figsize=(WIDTH, 1.9))
    axes = figure.subplots()
    collect, synthesize = tokens["collect"] or 0, tokens["synthesize"] or 0
    axes.barh(0, collect, height=0.6, color=ACCENT_SOFT, label="collect")
    axes.barh(0, synthesize, left=collect, height=0.6, color=ACCENT, label="synthesize")
    axes.barh(1, tokens["generate_then_select"], height=0.6, color=REFERENCE)
    for row, key in enumerate(("route_then_generate", "generate_then_select")):
        drawing.after(axes, tokens[key] or 0, row, compact(tokens[key]))
    drawing.label_rows(axes, ["route-then-generate", "generate-then-select"], "route-then-generate")
    drawing.value_grid(axes)
    axes.xaxis.set_major_formatter(COMPACT)
    axes.set_xlim(0, 1.18 * axes.dataLim.x1 or 1)
    axes.set_xlabel(tokens["unit"] or "teacher tokens")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure


def token_sentences(tokens: Tokens | None) -> list[str]:
    """What route-then-generate saves against generate-then-select."""
    if tokens is None or tokens["saving_fraction"] is None:
        return []
    saving = tokens["saving_fraction"]
    spent, other = compact(tokens["route_then_generate"]), compact(tokens["generate_then_select"])
    how = "an estimated " if tokens["estimated"] else ""
    outcome = f"{percent(abs(saving))} {'fewer' if saving >= 0 else 'more'}"
    if saving == 0:
        outcome = "no saving"
    unit = tokens["unit"] or "teacher tokens"
    spending = f"Route-then-generate took {spent} {unit} against {how}{other}"
    return [f"{spending} of generate-then-select: {outcome}."]
