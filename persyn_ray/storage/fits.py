"""What fits leave behind: RUN/router/fit.json and RUN/students/METHOD/finetune.json, typed.

Each is written last, so that it proves the folder of its model complete. Logits have a row per
held-out prompt, in the order of the parallel shards, and a column per teacher, in pool order.
"""

from typing import TypeVar

from pydantic import ValidationError

from persyn_ray.errors import DataError
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.results import ResultPart, TrainingLoss, TunedStudent

ROUTER_FIT_FILE = "fit.json"
TUNED_STUDENT_FILE = "finetune.json"
Logits = list[list[float]]
_Part = TypeVar("_Part", bound=ResultPart)


class TransferFit(ResultPart):
    """A router fitted on some tasks alone, and stopped early by their own held-out prompts."""

    fitted_on: list[str]
    """The tasks."""
    num_fit: int
    heldout_logits: Logits
    """Of all tasks' held-out prompts: those of other tasks are new to it."""


class TransferFits(ResultPart):
    """Fits without each task in turn and on each alone (`router.transfer`)."""

    heldout_tasks: list[str | None]
    """The label of each held-out prompt."""
    fits: list[TransferFit]
    skipped: list[list[str]]
    """Tasks with too few prompts for a router of their own."""


class ColumnFit(ResultPart):
    """The fit of a new teacher's column."""

    num_prompts: int
    num_pairs: int
    l2: float
    temperature: float


class ExtendedFit(ResultPart):
    """How a router that was there got columns for new teachers (`router.extend`)."""

    kept: list[str]
    """Teachers that it had before."""
    columns: dict[str, ColumnFit]
    """By new teacher."""


class KindEstimate(ResultPart):
    """What a kind of router is worth, by cross-validation on the parallel set."""

    kind: str
    gain: float | None = None
    """Reward of the prompts left out minus that of the best constant; None if not compared."""
    low: float | None = None
    high: float | None = None
    """The gain's 95 % interval over prompts."""
    told: str
    """Why the kind is used, or not."""


class KindsCompared(ResultPart):
    """How `router.kind: auto` has chosen."""

    why: str
    num_prompts: int
    """On which kinds were compared."""
    kinds: list[KindEstimate]
    """From the simplest on."""


class RouterFit(ResultPart):
    """What the fit of a run's router came to."""

    kind: str = "fitted"
    """See `router.kind`; `fitted_head` and `fine_tuned` where `auto` has chosen a network."""
    told: str | None = None
    """What a simple predictor has chosen on the parallel set, in words: k, weights."""
    compared: KindsCompared | None = None
    """Of `auto`."""
    num_fit: int
    """Parallel prompts that the run's router was fitted on."""
    loss_curve: list[TrainingLoss]
    """Of that fit; empty for an extended router."""
    heldout_logits: dict[int, Logits]
    """By the number of prompts that a router was fitted on; that of the run's router among them."""
    transfer: TransferFits | None = None
    extended: ExtendedFit | None = None


def write_router_fit(router: Folder, fit: RouterFit) -> None:
    """Leave what the fit of a router came to beside it."""
    _write(router, ROUTER_FIT_FILE, fit)


def read_router_fit(router: Folder) -> RouterFit:
    """What the fit of a router came to.

    Raises:
        DataError: the file is not there, is no JSON, or has other fields.
    """
    return _read(router, ROUTER_FIT_FILE, RouterFit, "Fit the router again: --from router.")


def write_tuned_student(student: Folder, facts: TunedStudent) -> None:
    """Leave the facts of a student's training beside its weights."""
    _write(student, TUNED_STUDENT_FILE, facts)


def read_tuned_student(student: Folder) -> TunedStudent:
    """The facts of a student's training.

    Raises:
        DataError: the file is not there, is no JSON, or has other fields.
    """
    remedy = "Fine-tune the student again: --from finetune."
    return _read(student, TUNED_STUDENT_FILE, TunedStudent, remedy)


def _write(folder: Folder, name: str, part: ResultPart) -> None:
    folder.write_json(name, part.model_dump(exclude_defaults=True))


def _read(folder: Folder, name: str, kind: type[_Part], remedy: str) -> _Part:
    try:
        return kind.model_validate(folder.read_json(name))
    except FileNotFoundError as error:
        raise DataError(f"{folder.path(name)} is not there. {remedy}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise DataError(
            f"{folder.path(name)} holds no {kind.__name__}: {where}: {first['msg']}. {remedy}"
        ) from error
    except DataError as error:
        raise DataError(f"{error} {remedy}") from error
