"""One function a figure: a section of the content in, an inline SVG out.

`draw(content)` returns the figures that the content has numbers for, by name. The numbers are shown
as given; only the many small teachers of a stacked chart are summed into one band, "others".
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from persyn_ray.report import drawing, router_figures
from persyn_ray.report.content import Report, Shares
from persyn_ray.report.drawing import (
    ACCENT,
    ACCENT_SOFT,
    COMPACT,
    INK,
    MUTED,
    ORACLE,
    PERCENT,
    REFERENCE,
    WARM,
    WIDTH,
)
from persyn_ray.report.numbers import compact, number, percent, seconds
from persyn_ray.report.problems import Problems
from persyn_ray.report.summary import label, ordered

ALPHA = "\N{GREEK SMALL LETTER ALPHA}"


def draw(content: Report, problems: Problems | None = None) -> dict[str, str]:
    """Every figure the content has numbers for, as inline SVG by name; one that fails is left out,
    with its reason among the problems.
    """
    problems = problems or Problems()
    figures = {
        "student": _student,
        "routed": _routed,
        "hits": _hits,
        "learning_curve": _learning_curve,
        "loss": _loss,
        "reliability": router_figures.reliability,
        "transfer": router_figures.transfer,
        "hedging": router_figures.hedging,
        "front": router_figures.front,
        "allocation": _allocation,
        "tasks": _tasks,
        "reward": _reward,
        "alpha": _alpha,
        "tokens": _tokens,
        "timing": _timing,
    }
    with drawing.styled():
        drawn = {
            name: problems.attempt(
                f"figures.{name}", partial(_drawn, name, function, content), None
            )
            for name, function in figures.items()
        }
    return {name: svg for name, svg in drawn.items() if svg is not None}


def _drawn(name: str, function: Callable[[Report], Figure | None], content: Report) -> str | None:
    figure = function(content)
    description = (function.__doc__ or name).splitlines()[0]
    return None if figure is None else drawing.to_svg(figure, name, description)


def _student(content: Report) -> Figure | None:
    """Student accuracy before fine-tuning and after it by method, with 95 % intervals."""
    student = content["student"]
    if student is None:
        return None
    found = {**({"before": student["before"]} if student["before"] else {}), **student["methods"]}
    names = [name for name in ordered(found) if found[name]["value"] is not None]
    if not names:
        return None
    figure = Figure(figsize=(WIDTH, drawing.rows_height(len(names), 0.4)))
    axes = figure.subplots()
    for row, name in enumerate(names):
        estimate = found[name]
        axes.barh(row, estimate["value"], height=0.62, color=drawing.method_colour(name))
        end = max(estimate["value"], estimate["high"] or 0)
        if estimate["low"] is not None and estimate["high"] is not None:
            axes.plot([estimate["low"], estimate["high"]], [row, row], color=INK, linewidth=1.3)
        weight = "bold" if name == "persyn" else "normal"
        drawing.after(axes, end, row, number(estimate["value"]), fontweight=weight)
    drawing.label_methods(axes, [label(name) for name in names], label("persyn"))
    drawing.value_grid(axes)
    axes.set_xlabel(student["metric"] or "accuracy")
    axes.set_xlim(0, min(1.12, 1.18 * axes.dataLim.x1))
    return figure


def _routed(content: Report) -> Figure | None:
    """Mean routed reward of each method on the held-out prompts, with 95 % intervals."""
    router = content["router"]
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


def _hits(content: Report) -> Figure | None:
    """Hit@1 and regret of each method on the held-out prompts, with 95 % intervals."""
    router = content["router"]
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
        hits.axvline(chance, color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)))
    hits.set_xlim(0, 1)
    regrets.set_xlim(left=min(0, regrets.dataLim.x0))
    drawing.panel_gap(figure, 0.12)
    return figure


def _learning_curve(content: Report) -> Figure | None:
    """Hit@1 and regret of routers fitted on parts of the parallel set, with 95 % intervals."""
    points = content["router"]["learning_curve"] if content["router"] else []
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


def _loss(content: Report) -> Figure | None:
    """Loss of the router by optimiser step, on its fitting prompts and its hold-out."""
    points = content["router"]["loss_curve"] if content["router"] else []
    if not points:
        return None
    figure = Figure(figsize=(WIDTH, 2.5))
    axes = figure.subplots()
    for key, colour, name in (
        ("train_loss", REFERENCE, "fit"),
        ("heldout_loss", ACCENT, "hold-out"),
    ):
        known = [(point["step"], point[key]) for point in points if point[key] is not None]
        marker = "o" if len(known) <= 20 else ""
        steps, losses = [step for step, _ in known], [loss for _, loss in known]
        axes.plot(
            steps, losses, marker=marker, color=colour, linewidth=1.8, markersize=4, label=name
        )
    drawing.value_grid(axes, "y")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("optimiser step")
    axes.set_title("loss, nats per pair")
    axes.legend(loc="upper right", ncols=2)
    return figure


def _allocation(content: Report) -> Figure | None:
    """Share of prompts each teacher gets: PerSyn beside the oracle on the parallel set."""
    allocation = content["allocation"]
    if allocation is None or "persyn" not in allocation["methods"]:
        return None
    teachers, shown = allocation["teachers"], [("PerSyn", allocation["methods"]["persyn"], ACCENT)]
    if allocation["parallel_set_oracle"]:
        shown.append(("oracle, parallel set", allocation["parallel_set_oracle"], ORACLE))
    figure = Figure(figsize=(WIDTH, drawing.rows_height(len(teachers), 0.42, 0.75)))
    axes = figure.subplots()
    height = 0.74 / len(shown)
    for index, (name, shares, colour) in enumerate(shown):
        places = [row + (index - (len(shown) - 1) / 2) * height for row in range(len(teachers))]
        values = [shares.get(teacher) or 0 for teacher in teachers]
        bars = axes.barh(places, values, height=height * 0.92, color=colour, label=name)
        texts = [percent(shares.get(teacher)) for teacher in teachers]
        axes.bar_label(bars, texts, padding=3, fontsize=8.3, color=MUTED)
    drawing.label_rows(axes, teachers)
    drawing.value_grid(axes)
    axes.xaxis.set_major_formatter(PERCENT)
    axes.set_xlim(0, 1.15 * axes.dataLim.x1 or 1)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure


def _tasks(content: Report) -> Figure | None:
    """Share of each task's prompts that PerSyn gives to each teacher."""
    allocation = content["allocation"]
    if allocation is None or not allocation["by_task"]:
        return None
    tasks = list(allocation["by_task"])
    bands = _bands(content, list(allocation["by_task"].values()))
    figure = Figure(
        figsize=(WIDTH, drawing.rows_height(len(tasks), 0.4, 0.6 + _legend_height(bands)))
    )
    axes = figure.subplots()
    left = [0.0] * len(tasks)
    for name, colour, values in bands:
        axes.barh(
            range(len(tasks)),
            values,
            left=left,
            height=0.66,
            color=colour,
            label=name,
            edgecolor=drawing.SURFACE,
            linewidth=0.8,
        )
        left = [start + value for start, value in zip(left, values, strict=True)]
    drawing.label_rows(axes, tasks)
    axes.xaxis.set_major_formatter(PERCENT)
    axes.set_xlim(0, 1)
    axes.spines["bottom"].set_visible(False)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower left", ncols=_columns(bands)
    )
    return figure


def _reward(content: Report) -> Figure | None:
    """Mean reward of each teacher with 95 % intervals, beside its mean quality and learnability."""
    teachers = content["reward"]["teachers"] if content["reward"] else {}
    if not teachers:
        return None
    figure = Figure(figsize=(WIDTH, drawing.rows_height(len(teachers), 0.32, 0.8)))
    panels = figure.subplots(1, 3, sharey=True)
    columns = (("reward", ACCENT), ("quality", ORACLE), ("learnability", WARM))
    for axes, (column, colour) in zip(panels, columns, strict=True):
        for row, values in enumerate(teachers.values()):
            mean = values[f"mean_{column}"]
            estimate = mean if isinstance(mean, Mapping) or mean is None else {"value": mean}
            drawing.dot(axes, row, estimate, colour)
        drawing.value_grid(axes, bins=3)
        axes.margins(x=0.12)
        axes.set_title(column)
        drawing.unlabelled_rows(axes)
    drawing.label_rows(panels[0], drawing.short_names(list(teachers), 19))
    drawing.panel_gap(figure, 0.1)
    return figure


def _alpha(content: Report) -> Figure | None:
    """The oracle's allocation by alpha, and its agreement with the choice at the run's alpha."""
    sweep = content["alpha_sweep"]
    points = sweep["points"] if sweep else []
    if sweep is None or not points:
        return None
    alphas = [point["alpha"] for point in points]
    bands = _bands(content, [point["shares"] for point in points])
    figure = Figure(figsize=(WIDTH, 3.3 + _legend_height(bands)))
    stack, agreement = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
    names, colours = (
        [name for name, _, _ in bands],
        [colour for _, colour, _ in bands],
    )
    values = [shares for _, _, shares in bands]
    stack.stackplot(
        alphas, values, labels=names, colors=colours, edgecolor=drawing.SURFACE, linewidth=0.6
    )
    stack.set_ylim(0, 1)
    stack.set_title("oracle's allocation")
    known = [
        (point["alpha"], point["agreement"]) for point in points if point["agreement"] is not None
    ]
    agreement.plot(
        [at for at, _ in known],
        [value for _, value in known],
        "-o",
        color=INK,
        markersize=4,
        clip_on=False,
    )
    agreement.set_title("same teacher as at the run's alpha")
    agreement.set_ylim(-0.08, 1.08)
    for axes in (stack, agreement):
        drawing.value_grid(axes, "y")
        axes.yaxis.set_major_formatter(PERCENT)
        axes.set_xlim(alphas[0], alphas[-1] if len(alphas) > 1 else alphas[0] + 1e-9)
        _mark_reference(axes, sweep["reference_alpha"])
    agreement.set_yticks((0, 0.5, 1))
    agreement.set_xlabel(f"{ALPHA}, the weight of learnability")
    figure.legend(
        *stack.get_legend_handles_labels(), loc="outside lower left", ncols=_columns(bands)
    )
    return figure


def _mark_reference(axes: Axes, alpha: float | None) -> None:
    if alpha is not None:
        axes.axvline(alpha, color=INK, linewidth=1.1, linestyle=(0, (3, 3)))


def _tokens(content: Report) -> Figure | None:
    """Teacher tokens of route-then-generate beside those of generate-then-select."""
    tokens = content["tokens"]
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


def _timing(content: Report) -> Figure | None:
    """Wall-clock time of each step."""
    steps = [
        step
        for step in (content["timing"] or {"steps": []})["steps"]
        if step["seconds"] is not None
    ]
    if not steps:
        return None
    figure = Figure(figsize=(WIDTH, drawing.rows_height(len(steps), 0.27)))
    axes = figure.subplots()
    bars = axes.barh(
        range(len(steps)), [step["seconds"] or 0 for step in steps], height=0.62, color=ACCENT
    )
    axes.bar_label(
        bars, [seconds(step["seconds"]) for step in steps], padding=4, fontsize=8.8, color=MUTED
    )
    drawing.label_rows(axes, [step["step"] for step in steps])
    drawing.value_grid(axes)
    axes.set_xlabel("seconds")
    axes.set_xlim(0, 1.18 * axes.dataLim.x1 or 1)
    return figure


def _bands(content: Report, tables: Sequence[Shares]) -> list[tuple[str, str, list[float]]]:
    """Name, colour and one share a table for each teacher; beyond nine they become "others".

    Colours follow the pool, or PerSyn's allocation when the pool is larger than the palette, so
    that a teacher has one colour on the whole page.
    """
    allocation = content["allocation"]
    teachers = list(dict.fromkeys(name for table in tables for name in table))
    if allocation:
        rest = [name for name in teachers if name not in allocation["teachers"]]
        teachers = [*allocation["teachers"], *rest]
    colours = drawing.TEACHER_COLOURS
    leading = teachers
    if len(teachers) > len(colours):
        shares = allocation["methods"].get("persyn", {}) if allocation else {}
        leading = sorted(teachers, key=lambda name: -(shares.get(name) or 0))[: len(colours)]
    names = drawing.short_names(leading, 20)
    bands = [
        (shown, colour, [table.get(name) or 0.0 for table in tables])
        for shown, name, colour in zip(names, leading, colours[: len(names)], strict=True)
    ]
    if len(leading) < len(teachers):
        rest = [name for name in teachers if name not in leading]
        sums = [sum(table.get(name) or 0.0 for name in rest) for table in tables]
        bands.append((f"{len(rest)} others", drawing.OTHERS, sums))
    return bands


def _columns(bands: Sequence[tuple[str, str, list[float]]]) -> int:
    longest = max(len(name) for name, _, _ in bands)
    return min(len(bands), max(2, int(400 // (5.0 * longest + 36))))


def _legend_height(bands: Sequence[tuple[str, str, list[float]]]) -> float:
    """Inches that a legend below the chart takes."""
    return 0.19 * -(-len(bands) // _columns(bands)) + 0.1
