"""Shows the plan on a terminal: every figure with its unit and source."""

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.table import Table

from persyn_ray.escaping import plain
from persyn_ray.pipeline.plan.engine_display import engine_caption, engine_table, engines_by_step
from persyn_ray.pipeline.plan.forecasts.estimate import Forecast, TeacherForecast
from persyn_ray.pipeline.plan.forecasts.training import TrainingForecast
from persyn_ray.pipeline.plan.placement import cluster_text, gib
from persyn_ray.pipeline.plan.plan import Plan
from persyn_ray.recipe.teachers import GPU_USE
from persyn_ray.report.numbers import NOTHING, compact, count, percent, seconds
from persyn_ray.scheduling.gpu_memory import GIB, OVERHEAD_BYTES, Layout
from persyn_ray.scheduling.schedule import JobPart

AT_MOST = "≤ "


def show(plan: Plan, console: Console) -> None:
    """Print the whole plan."""
    table = Table("step", "state", "needs", header_style="bold", show_edge=False)
    for row in plan.rows:
        table.add_row(row.step, plain(row.state), plain(row.needs))
    console.print(table)
    prompts = ", ".join(f"{number:,} {split}" for split, number in plan.num_prompts.items())
    console.print(f"\nPrompts: {prompts}. This machine has {plan.cpus} CPUs.")
    console.print(
        f"Responses: {plan.responses_collect:,} collected from all teachers, at most "
        f"{plan.responses_routed:,} more for the assignments; generate-then-select would take "
        f"{plan.responses_generate_then_select:,}."
    )
    if plan.placed:
        where = cluster_text(plan.recipe.hardware)
        _section(console, f"Memory on {where}", _memory(plan), _memory_caption())
    if any(one.prompts for step in plan.steps.values() for one in step.teachers.values()):
        _section(console, "Teachers: what is still to be written", _teachers(plan), _caption(plan))
    else:
        console.print("\n[bold]Teachers[/bold]: everything is written.")
    for step, engines in engines_by_step(plan.steps).items():
        title, caption = f"How full engines will be in {step}", engine_caption(engines.values())
        _section(console, title, engine_table(engines), caption)
    for step, forecast in plan.steps.items():
        if forecast.schedule is not None:
            _section(console, f"Waves of {step}", _waves(forecast), _waves_caption(plan, forecast))
    if plan.score and plan.recipe.hardware.nodes:
        _section(console, "Score: what models read", _score(plan), _SCORE_CAPTION)
    if plan.training is not None:
        _section(console, "Fine-tuning", *_training(plan.training))
    _section(console, "In all, from the start", _totals(plan), _totals_caption())
    for note in plan.notes:
        console.print(plain(f"\n{note}"))
    for warning in plan.warnings:
        console.print(plain(f"\n{warning}", "yellow"))


def _section(console: Console, title: str, table: Table, caption: str) -> None:
    console.print(plain(f"\n{title}", "bold"))
    console.print(table)
    console.print(plain(caption, "dim"))


def _table(columns: Iterable[str]) -> Table:
    """The first column holds names, the others figures."""
    table = Table(header_style="bold", show_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=not number)
    return table


def _memory(plan: Plan) -> Table:
    table = _table(("teacher", "weights", "per GPU", "TP", "least", "at once", "tokens/s"))
    for name, placed in plan.placed.items():
        length = plan.lengths[name]
        table.add_row(
            name,
            gib(placed.model.weight_bytes),
            f"{gib(placed.need.total)}/{placed.gpu.usable_bytes / GIB:.0f}",
            _layout(placed.layout),
            _layout(placed.smallest) if placed.smallest else NOTHING,
            count(placed.at_once(length.while_writing)),
            count(placed.tokens_per_second(length.while_writing)),
        )
    return table


def _layout(layout: Layout) -> str:
    return f"{layout.tensor}" if layout.pipeline == 1 else f"{layout.tensor} x {layout.pipeline}"


def _memory_caption() -> str:
    return (
        "weights: GiB. per GPU: GiB of its part of the weights, one response of full length and "
        f"{gib(OVERHEAD_BYTES)} overhead / GiB usable ({percent(GPU_USE)} or "
        "gpu_memory_utilization). TP: tensor x pipeline parallel. least: the fewest GPUs that do. "
        "at once: responses in memory together. tokens/s: of one engine, estimated unless given."
    )


def _teachers(plan: Plan) -> Table:
    steps = list(plan.steps.values())
    is_timed = any(one.seconds for step in steps for one in step.teachers.values())
    is_priced = any(step.dollars is not None for step in steps)
    columns = ["teacher", "collect", "synth.", "tokens"]
    table = _table(columns + _cost_columns(plan, is_timed, is_priced))
    for name in plan.recipe.pool:
        parts = [step.teachers[name] for step in steps]
        row = [name, *(count(part.prompts) for part in parts)]
        row.append(_bounded(sum(part.tokens for part in parts), parts[0].at_most))
        table.add_row(*row, *_cost_cells(plan, parts, is_timed, is_priced))
    return table


def _cost_columns(plan: Plan, is_timed: bool, is_priced: bool) -> list[str]:
    return ["time"] * is_timed + ["GPU h"] * bool(plan.placed) + ["$"] * is_priced


def _cost_cells(
    plan: Plan, parts: Sequence[Forecast | TeacherForecast], is_timed: bool, is_priced: bool
) -> Iterator[str]:
    """Time, GPU hours and dollars of some parts together, under `_cost_columns`."""
    if is_timed:
        yield _duration(_sum(part.seconds for part in parts))
    if plan.placed:
        yield _hours(sum(part.gpu_seconds for part in parts))
    if is_priced:
        yield _dollars(_sum(part.dollars for part in parts))


def _caption(plan: Plan) -> str:
    bounded = any(step.at_most for step in plan.steps.values())
    tokens = (
        f"at most ({AT_MOST.strip()}), by sampling.max_tokens, as no response is stored yet"
        if bounded
        else "by the mean stored response"
    )
    if all(teacher.engine.kind == "recorded" for teacher in plan.recipe.teachers):
        tokens = "recorded answers are looked up and cost none"
    spread = ""
    if any(one.prompts for one in plan.steps["synthesize"].teachers.values()):
        spread = f" Shares of the routed prompts: {plan.share_source}."
    return f"Prompts of each step. tokens: {tokens}.{spread}"


def _waves(forecast: Forecast) -> Table:
    assert forecast.schedule is not None
    table = Table(header_style="bold", show_edge=False)
    table.add_column("start", justify="right")
    table.add_column("end", justify="right")
    table.add_column("teacher", no_wrap=True)
    table.add_column("engines", justify="right")
    table.add_column("node: GPUs")
    table.add_column("share", justify="right")
    for part in forecast.schedule.parts:
        table.add_row(
            _duration(part.start),
            _duration(part.end),
            part.job,
            count(part.replicas),
            "; ".join(_nodes(part)),
            percent(part.share),
        )
    return table


def _waves_caption(plan: Plan, forecast: Forecast) -> str:
    assert forecast.schedule is not None
    hardware, makespan = plan.recipe.hardware, forecast.schedule.makespan
    busy = forecast.gpu_seconds / (hardware.nodes * hardware.gpus_per_node * makespan)
    return (
        f"{_duration(makespan)} on {cluster_text(hardware)}, {percent(busy)} of it in use; no "
        f"order could take less than {_duration(forecast.schedule.bound)}."
    )


def _nodes(part: JobPart) -> Iterator[str]:
    """The GPUs of a part, node by node, with consecutive numbers as a range."""
    for node in sorted({node for node, _ in part.gpus}):
        runs: list[list[int]] = []
        for number in sorted(number for at, number in part.gpus if at == node):
            if runs and number == runs[-1][-1] + 1:
                runs[-1].append(number)
            else:
                runs.append([number])
        spans = (f"{run[0]}" if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)
        yield f"{node}: {', '.join(spans)}"


def _score(plan: Plan) -> Table:
    table = _table(("model", "responses", "tokens", "actors", "time"))
    for one in plan.score:
        tokens = _bounded(one.tokens, one.at_most)
        figures = (count(one.responses), tokens, count(one.actors), _duration(one.seconds))
        table.add_row(plain(one.model), *figures)
    return table


_SCORE_CAPTION = (
    "Responses to the prompts that all teachers answer, with their prompts. time: on GPUs, loading "
    "included, reckoned from the model's size; not known where its files are not on this machine."
)


def _training(one: TrainingForecast) -> tuple[Table, str]:
    """What fine-tuning takes, and what the figures mean."""
    table = _table(("students", "parameters", "examples", "steps", "tokens", "per GPU", "time"))
    need = f"{gib(one.need.total)}/{one.usable_bytes / GIB:.0f}" if one.need else NOTHING
    figures = (f"{one.parameters / 1e9:.3g}B", count(one.examples), count(one.steps))
    tokens = _bounded(one.tokens, one.at_most)
    table.add_row(count(one.students), *figures, tokens, need, _duration(one.seconds))
    parts = vars(one.need) if one.need else {}
    memory = ", ".join(f"{name} {gib(size)}" for name, size in parts.items() if size)
    caption = f"Trained: {one.adapters}. examples, steps and tokens: of each student, at most. "
    if memory:
        caption += f"per GPU: GiB of {memory} and {gib(OVERHEAD_BYTES)} overhead / GiB usable. "
    return table, caption + "time: of all students, by arithmetic."


def _totals(plan: Plan) -> Table:
    collect, later = plan.anew
    ways = {
        "collect": (collect,),
        "synthesize": (later,),
        "route-then-generate": (collect, later),
        "generate-then-select": (plan.everything,),
    }
    is_timed = any(part.seconds for parts in ways.values() for part in parts)
    is_priced = any(part.dollars is not None for part in plan.anew)
    table = _table(["way", "responses", "tokens", *_cost_columns(plan, is_timed, is_priced)])
    for name, parts in ways.items():
        answers = sum(one.prompts for part in parts for one in part.teachers.values())
        tokens = sum(part.tokens for part in parts)
        row = [name, count(answers), _bounded(tokens, any(part.at_most for part in parts))]
        table.add_row(*row, *_cost_cells(plan, parts, is_timed, is_priced))
    return table


def _totals_caption() -> str:
    return "Teachers alone: scoring, training and evaluation come on top of either way."


def _bounded(value: float, at_most: bool) -> str:
    return (AT_MOST if at_most and value else "") + compact(value)


def _duration(value: float | None) -> str:
    """Seconds, minutes or hours, in about three figures: columns are narrow."""
    if value is None or value < 60:
        return seconds(value)
    minutes = value / 60
    if minutes < 60:
        return f"{minutes:.1f} min" if minutes < 10 else f"{minutes:.0f} min"
    return f"{minutes / 60:,.1f} h"


def _hours(value: float) -> str:
    return f"{value / 3600:,.1f}" if value else NOTHING


def _dollars(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.2f}"


def _sum(values: Iterable[float | None]) -> float | None:
    """The sum if all are known."""
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) if len(known) == len(found) else None
