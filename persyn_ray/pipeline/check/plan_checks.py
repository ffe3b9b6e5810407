"""Checks by the plan: a recipe in; run folder, placement, time, cost and disk as findings out."""

from collections.abc import Iterator, Sequence

from persyn_ray.pipeline.check.findings import Finding
from persyn_ray.pipeline.check.machine_checks import check_disk
from persyn_ray.pipeline.choices import assigned_methods
from persyn_ray.pipeline.plan.model_sizes import known_parameters
from persyn_ray.pipeline.plan.placement import cluster_text
from persyn_ray.pipeline.plan.plan import Plan, plan_run
from persyn_ray.pipeline.steps import STEP_NAMES
from persyn_ray.recipe.base import ModelConfig
from persyn_ray.recipe.engines import OpenAIEngineConfig
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.report.numbers import compact, count, seconds
from persyn_ray.storage.layout import run_of
from persyn_ray.storage.records import read_record

BYTES_OF_WEIGHT = 4  # of a parameter in a saved student or router
# Of a parameter in the three checkpoints that a training has room for: the weights, and their
# float32 original with the optimiser's two moments (runtime/train/checkpoints.py).
BYTES_OF_TRAINING = 3 * 20
BYTES_OF_TOKEN = 16  # of a response in its tables: text, rewards, examples, data set


def check_plan(recipe: Recipe, overrides: tuple[str, ...]) -> Iterator[Finding]:
    """What `persyn plan` knows, judged.

    Raises:
        ConfigError, DriftError, DataError: there is no plan: teachers do not fit, the run folder is
            another's or was made with other settings, or prompts cannot be read.
    """
    plan = plan_run(recipe, overrides)
    done = [row.step for row in plan.rows if row.state == "done"]
    run = run_of(recipe)
    state = f"goes on behind {done[-1]}" if done else "is new"
    if not done and read_record(run.records, STEP_NAMES[0]) is not None:
        state = "begins anew: what it holds was made with other settings"
    yield Finding("run", "ok", f"{recipe.run} {state}.")
    if plan.placed:
        names, where = ", ".join(plan.placed), cluster_text(recipe.hardware)
        yield Finding("memory", "ok", f"{names} fit on {where}.")
    yield _work(plan)
    yield from _money(plan, recipe.teachers)
    yield from (Finding("plan", "remark", warning) for warning in plan.warnings)
    students = (len(assigned_methods(recipe.compare)), recipe.resources.finetune.side_by_side)
    yield from check_disk(
        run.root,
        _needed_bytes(recipe.student.model, recipe.router.backbone, students, plan),
    )


def _work(plan: Plan) -> Finding:
    """Responses, tokens and time that are still to come."""
    steps = plan.steps.values()
    responses = sum(one.prompts for step in steps for one in step.teachers.values())
    bound = "at most " if any(step.at_most for step in steps) else ""
    tokens = compact(sum(step.tokens for step in steps))
    known = [step.seconds for step in steps]
    time = "" if None in known else f", {seconds(sum(filter(None, known)))} on the hardware"
    text = f"{count(responses)} responses, {bound}{tokens} tokens{time}; `persyn plan` has more."
    return Finding("work", "ok", text)


def _money(plan: Plan, teachers: Sequence[TeacherConfig]) -> Iterator[Finding]:
    """What endpoints will bill, and who is without a price or a budget."""
    paid = [t for t in teachers if isinstance(t.engine, OpenAIEngineConfig) and not t.retired]
    if not paid:
        return
    dollars = sum(step.dollars or 0.0 for step in plan.steps.values())
    bound = "at most " if any(step.at_most for step in plan.steps.values()) else "about "
    unpriced = [teacher.name for teacher in paid if teacher.price is None]
    unbounded = [teacher.name for teacher in paid if teacher.budget is None]
    if unpriced:
        text = f"The cost of {', '.join(unpriced)} is not known: no price is given."
        fix = "Set teachers.N.price: {prompt: …, response: …}, dollars per million tokens."
        yield Finding("cost", "remark", text, fix)
    if len(unpriced) < len(paid):
        yield Finding("cost", "ok", f"Endpoints will bill {bound}${dollars:,.2f}.")
    if unbounded:
        text = f"Nothing stops {', '.join(unbounded)} at a sum: no budget is given."
        fix = "Set teachers.N.budget: {dollars: …} or {tokens: …}."
        yield Finding("budget", "remark", text, fix)
    else:
        yield Finding("budget", "ok", "Every endpoint has one; what goes over it is not asked.")


def _needed_bytes(
    student: ModelConfig, backbone: ModelConfig, students: tuple[int, int], plan: Plan
) -> float | None:
    """Bytes that the run folder will take at most; None where a model's size is not known.

    Args:
        students: how many there are, and how many of them are trained side by side.
    """
    of_student, of_backbone = map(known_parameters, (student, backbone))
    if of_student is None or of_backbone is None:
        return None
    num, side_by_side = students
    saved = (num * of_student + of_backbone) * BYTES_OF_WEIGHT
    training = max(side_by_side * of_student, of_backbone) * BYTES_OF_TRAINING
    tokens = sum(step.tokens for step in plan.steps.values())
    return saved + training + tokens * BYTES_OF_TOKEN
