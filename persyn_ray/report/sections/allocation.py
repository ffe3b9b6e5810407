"""Section allocation: which share of the prompts each teacher gets, by method and task.

In report.json:

    allocation    teachers [], methods {method: {teacher: share}},
                  parallel_set_oracle {teacher: share},
                  by_task {task: {teacher: share}} (PerSyn's assignment)
"""

from collections.abc import Sequence
from typing import TypedDict

from matplotlib.figure import Figure

from persyn_ray.report import drawing
from persyn_ray.report.drawing import ACCENT, MUTED, ORACLE, PERCENT, WIDTH
from persyn_ray.report.numbers import count, percent
from persyn_ray.report.sections.run import Prompts

Shares = dict[str, float | None]
Band = tuple[str, str, list[float]]
"""Name, colour and one share a table of a teacher, in a stacked chart."""
NOT_MEASURED = {
    "allocation": "no prompts were assigned.",
    "by_task": "the prompts carry no task labels (<code>prompts.task_column</code>).",
}
"""Why a part may be missing, in HTML."""


class Allocation(TypedDict):
    teachers: list[str]
    methods: dict[str, Shares]
    parallel_set_oracle: Shares
    by_task: dict[str, Shares]


def draw_allocation(allocation: Allocation | None) -> Figure | None:
    """Share of prompts each teacher gets: PerSyn beside the oracle on the parallel set."""
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


def draw_tasks(allocation: Allocation | None) -> Figure | None:
    """Share of each task's prompts that PerSyn gives to each teacher."""
    if allocation is None or not allocation["by_task"]:
        return None
    tasks = list(allocation["by_task"])
    bands = bands_of(allocation, list(allocation["by_task"].values()))
    figure = Figure(
        figsize=(WIDTH, drawing.rows_height(len(tasks), 0.4, 0.6 + legend_height(bands)))
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
        *axes.get_legend_handles_labels(), loc="outside lower left", ncols=legend_columns(bands)
    )
    return figure


def bands_of(allocation: Allocation | None, tables: Sequence[Shares]) -> list[Band]:
    """Name, colour and one share a table for each teacher; beyond nine they become "others".

    Colours follow the pool, or PerSyn's allocation when the pool is larger than the palette, so
    that a teacher has one colour on the whole page.
    """
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


def legend_columns(bands: Sequence[Band]) -> int:
    """Columns of a legend that fit the width of the figure."""
    longest = max(len(name) for name, _, _ in bands)
    return min(len(bands), max(2, int(400 // (5.0 * longest + 36))))


def legend_height(bands: Sequence[Band]) -> float:
    """Inches that a legend below the chart takes."""
    return 0.19 * -(-len(bands) // legend_columns(bands)) + 0.1


def allocation_sentences(allocation: Allocation | None, prompts: Prompts | None) -> list[str]:
    """Over which teachers PerSyn spread the prompts."""
    shares = (allocation or {"methods": {}})["methods"].get("persyn", {})
    known = sorted(((share, name) for name, share in shares.items() if share), reverse=True)
    if not known:
        return []
    routed = prompts["num_routed"] if prompts else None
    what = f"{count(routed)} prompts" if routed is not None else "the prompts"
    leading = ", ".join(f"{name} {percent(share)}" for share, name in known[:3])
    more = f" and {len(known) - 3} more" if len(known) > 3 else ""
    return [f"PerSyn spread {what} over {len(known)} of {len(shares)} teachers: {leading}{more}."]
