"""Cost of the run in teacher tokens against generate-then-select, and rows lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from persyn_ray.data import selection
from persyn_ray.pipeline.assign.assignments import asked_by_persyn
from persyn_ray.pipeline.assign.methods import ResponseSettings
from persyn_ray.pipeline.dead_letters import all_letters
from persyn_ray.recipe.scoring import JudgeConfig, QualityPartConfig
from persyn_ray.recipe.teachers import BudgetConfig, PriceConfig, TeacherConfig
from persyn_ray.report.sections.dead_letters import DeadLetter, DeadLetters
from persyn_ray.report.sections.tokens import AccountSpending, Spending, Tokens
from persyn_ray.shards.part_files import existing
from persyn_ray.shards.response_store import scores_of
from persyn_ray.shards.tables import shards_of
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.ledger import Spent, accounts
from persyn_ray.storage.schemas import LEARNABILITY, RESPONSES

NUM_EXAMPLES = 5  # dead letters shown in the report


@dataclass(frozen=True)
class TeacherTokens:
    """Token counts of one teacher's responses."""

    num_prompts: int
    """Of the parallel and the routed set, whoever answers them."""
    known: int
    num_known: int
    mean: float
    """Per response."""
    parallel: int
    num_parallel: int
    assigned: float
    """Of the prompts that PerSyn asks it; the mean where there is no response."""
    num_assigned: int


def tokens(
    settings: ResponseSettings, measures_learnability: bool, run: RunLayout
) -> Tokens | None:
    """Teacher tokens of route-then-generate and of generate-then-select over the same prompts; None
    where nobody counted them: recorded responses that the student did not score.

    Route-then-generate: every teacher on the parallel set, the assigned one on each routed prompt,
    and those that were asked before it and gave no complete response.
    Generate-then-select: every teacher on all of them; where a teacher has not answered a prompt,
    its mean over its own responses stands in, and the figure is marked as estimated.
    """
    by_student = _counts_by_student(settings.teachers)
    if by_student and not measures_learnability:
        return None
    routed = shards_of(run, "routed")
    asked = {shard: asked_by_persyn(settings.methods, run, shard) for shard in routed}
    counted = {
        teacher.name: _teacher_tokens(
            run,
            run.responses(teacher),
            run.learnability(teacher) if by_student else None,
            {shard: of[teacher.name] for shard, of in asked.items()},
        )
        for teacher in settings.teachers
    }
    return _compared(counted, "student tokens" if by_student else "teacher tokens")


def _compared(counted: Mapping[str, TeacherTokens], unit: str) -> Tokens:
    """Both ways to make the data, summed over teachers."""
    of = tuple(counted.values())
    num_prompts = of[0].num_prompts
    collect, synthesize = sum(c.parallel for c in of), sum(c.assigned for c in of)
    select = sum(c.known + c.mean * (num_prompts - c.num_known) for c in of)
    spent = collect + synthesize
    num_collected, num_assigned = sum(c.num_parallel for c in of), sum(c.num_assigned for c in of)
    return {
        "unit": unit,
        "collect": float(collect),
        "synthesize": float(synthesize),
        "route_then_generate": float(spent),
        "generate_then_select": float(select),
        "saving_fraction": 1 - spent / select if select else None,
        "estimated": any(c.num_known < num_prompts for c in of),
        "per_teacher": {name: float(c.parallel + c.assigned) for name, c in counted.items()},
        "responses": {
            "collect": num_collected,
            "synthesize": num_assigned,
            "route_then_generate": num_collected + num_assigned,
            "generate_then_select": num_prompts * len(of),
        },
    }


def _counts_by_student(teachers: Sequence[TeacherConfig]) -> bool:
    """Recorded responses have no token counts; the student's tokenizer counted them in scoring."""
    return any(teacher.engine.kind == "recorded" for teacher in teachers)


def _teacher_tokens(
    run: RunLayout,
    responses: Folder,
    learnability: Folder | None,
    asked: Mapping[str, Sequence[str]],
) -> TeacherTokens:
    """What one teacher's stored responses took.

    Args:
        responses: of the teacher.
        learnability: of the teacher; where it is given, the student's token counts stand in.
        asked: by shard, the routed prompts that PerSyn asks this teacher.
    """
    known: list[int] = []
    parallel: list[int] = []
    assigned: list[int] = []
    unknown = num_prompts = 0
    for split in ("parallel", "routed"):
        for shard in shards_of(run, split):
            prompt_ids = run.prompts.read_table(shard, ["prompt_id"])["prompt_id"]
            num_prompts += len(prompt_ids)
            # Files may also hold prompts that another split had put into this shard.
            table = existing(responses, shard, RESPONSES)
            if learnability is not None:
                table = scores_of(learnability, shard, LEARNABILITY, table)
            table = selection.among(table, "prompt_id", prompt_ids)
            of = dict(
                zip(table["prompt_id"].to_pylist(), table["num_tokens"].to_pylist(), strict=True)
            )
            known += of.values()
            if split == "parallel":
                parallel += of.values()
                continue
            for prompt_id in asked[shard]:
                unknown += prompt_id not in of
                assigned.append(of.get(prompt_id, 0))
    mean = float(np.mean(known)) if known else 0.0
    return TeacherTokens(
        num_prompts=num_prompts,
        known=sum(known),
        num_known=len(known),
        mean=mean,
        parallel=sum(parallel),
        num_parallel=len(parallel),
        assigned=sum(assigned) + unknown * mean,
        num_assigned=len(assigned),
    )


def spending(
    teachers: Sequence[TeacherConfig],
    parts: Sequence[QualityPartConfig],
    ledger: Folder,
    num_ungraded: int | None,
) -> Spending | None:
    """What endpoints were paid, beside their budgets; None where there is neither.

    Args:
        parts: the recipe's qualities; judges among them are paid as teachers are.
    """
    budgets: dict[str, tuple[BudgetConfig | None, PriceConfig | None]] = {
        f"teachers/{teacher.name}": (teacher.budget, teacher.price) for teacher in teachers
    }
    for part in parts:
        if isinstance(part.quality, JudgeConfig):
            budgets[f"judges/{part.name}"] = (part.quality.budget, part.quality.price)
    paid = accounts(ledger)
    names = sorted({*paid, *(name for name, (budget, _) in budgets.items() if budget is not None)})
    found: dict[str, AccountSpending] = {}
    for name in names:
        budget, price = budgets.get(name, (None, None))
        spent = paid.get(name, Spent())
        found[name] = {
            "tokens": spent.tokens,
            "dollars": spent.dollars if spent.dollars or price is not None else None,
            "open_tokens": spent.open_tokens,
            "budget_tokens": budget.tokens if budget else None,
            "budget_dollars": budget.dollars if budget else None,
        }
    return {"accounts": found, "num_ungraded": num_ungraded} if found else None


def spending_text(of: AccountSpending) -> str:
    """One account of `spending` in a line."""
    text = f"{of['tokens']:,} tokens" + _of(of["budget_tokens"], "{:,}")
    if of["dollars"] is not None:
        text += f", ${of['dollars']:,.4f}" + _of(of["budget_dollars"], "${:,.4f}")
    if of["open_tokens"]:
        text += f" ({of['open_tokens']:,} tokens under way, or when their process was killed)"
    return text


def _of(budget: float | None, form: str) -> str:
    return "" if budget is None else f" of {form.format(budget)}"


def dead_letters(
    settings: ResponseSettings, parts: Sequence[QualityPartConfig], run: RunLayout
) -> DeadLetters:
    """Counts by reason and by teacher, and the first few."""
    by_reason: dict[str, int] = {}
    by_teacher: dict[str, int] = {}
    examples: list[DeadLetter] = []
    tables = all_letters(settings, parts, run)
    for row in (row for table in tables for row in table.to_pylist()):
        by_reason[row["reason"]] = by_reason.get(row["reason"], 0) + 1
        if row["teacher"] is not None:
            by_teacher[row["teacher"]] = by_teacher.get(row["teacher"], 0) + 1
        if len(examples) < NUM_EXAMPLES:
            examples.append(row)
    num = sum(by_reason.values())
    return {"num": num, "by_reason": by_reason, "by_teacher": by_teacher, "examples": examples}
