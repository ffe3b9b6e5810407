"""What a run is: a snapshot in; its names, teachers, tasks and what there is to see out."""

from typing import TypedDict

from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.report.sections.router.kind import kind_label
from persyn_ray.shards.provenance import identity_of
from persyn_ray.storage.layout import PERSYN
from persyn_ray.view.index import SPLITS, Index
from persyn_ray.view.snapshot import Snapshot


class TeacherOverview(TypedDict):
    """One teacher by what the recipe says."""

    name: str
    model: str | None
    size: float | None
    licence: str | None
    price_in: float | None
    price_out: float | None
    share: float | None


class Has(TypedDict):
    """What there is to see."""

    rewards: bool
    logits: bool
    assignment: bool
    novelty: bool
    students: bool
    report: bool


class RouterOverview(TypedDict):
    """Which router decides."""

    kind: str
    label: str
    """The kind in words."""
    why: str | None
    """Why `router.kind: auto` has taken it; None where the recipe names the kind."""


class Overview(TypedDict):
    """What every view shows of the run."""

    name: str
    address: str
    student: str
    alpha: float
    methods: list[str]
    router: RouterOverview | None
    """None before step router is done."""
    teachers: list[TeacherOverview]
    tasks: list[str]
    splits: list[str]
    has: Has
    num_prompts: int


def overview_of(seen: Snapshot, index: Index | None) -> Overview:
    """The run at a glance; reads no table."""
    recipe, run = seen.recipe, seen.run
    splits = seen.prompts.splits if seen.prompts is not None else {}
    return Overview(
        name=recipe.name or recipe.run.rstrip("/").rsplit("/", 1)[-1],
        address=run.root.address,
        student=recipe.student.name,
        alpha=recipe.scoring.alpha,
        methods=[PERSYN, *recipe.compare.methods],
        router=router_of(seen),
        teachers=[_teacher(one, m, index) for m, one in enumerate(recipe.teachers)],
        tasks=sorted(index.tasks.labels) if index is not None else [],
        splits=[split for split in SPLITS if splits.get(split)],
        has=Has(
            rewards=bool(run.rewards.names(".parquet")),
            logits=bool(run.logits.names(".parquet")),
            assignment=bool(run.assignment(PERSYN).names(".parquet")),
            novelty=bool(run.novelty.names(".parquet")),
            students="evaluate" in seen.records,
            report=run.root.exists("report.html"),
        ),
        num_prompts=sum(splits.values()),
    )


def router_of(seen: Snapshot) -> RouterOverview | None:
    """The router that step router has left; None before."""
    record = seen.records.get("router")
    if record is None:
        return None
    kind, why = str(record.result.get("kind") or "fitted"), record.result.get("why")
    return RouterOverview(
        kind=kind, label=kind_label(kind), why=why if isinstance(why, str) else None
    )


def _teacher(teacher: TeacherConfig, m: int, index: Index | None) -> TeacherOverview:
    share = None
    if index is not None and (num := int((index.teacher_P >= 0).sum())):
        share = int((index.teacher_P == m).sum()) / num
    return TeacherOverview(
        name=teacher.name,
        model=identity_of(teacher)["model"],
        size=size_of(teacher),
        licence=teacher.licence,
        price_in=teacher.price.prompt if teacher.price else None,
        price_out=teacher.price.response if teacher.price else None,
        share=share,
    )


def size_of(teacher: TeacherConfig) -> float | None:
    """A teacher's parameters; None where the recipe does not say."""
    return None if teacher.size is None else float(teacher.size.parameters)
