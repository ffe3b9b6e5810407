"""Steps router and finetune: a training of either in; what its record holds out.

Training is shown on the terminal while it runs, and its workers' progress lies beside the records.
"""

from typing import TYPE_CHECKING

from rich.console import Console

from persyn_ray.pipeline.plan.utilisation import with_utilisation
from persyn_ray.pipeline.progress import watch_training
from persyn_ray.pipeline.results.step_remarks import left_out
from persyn_ray.recipe.resources import HardwareConfig
from persyn_ray.recipe.router import RouterConfig
from persyn_ray.storage.fits import read_router_fit, read_tuned_student
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.records import Settings
from persyn_ray.storage.results import FinetuneResult, RouterResult

if TYPE_CHECKING:
    from persyn_ray.runtime.train.training import RouterTraining, StudentTraining


def router_settings(section: RouterConfig) -> Settings:
    """What a fit is made from: candidates are read by `auto` alone, and a kind by all but the
    fitted router.
    """
    unread = {"fitted": {"kind", "candidates"}, "auto": set[str]()}.get(
        section.kind, {"candidates"}
    )
    return section.model_dump(mode="json", exclude=unread | {"report_to"})


def train_router(training: "RouterTraining", identity: str, console: Console) -> RouterResult:
    """Fit the router and all others that its section asks for."""
    from persyn_ray.runtime.train.training import fit_router
    from persyn_ray.runtime.train.workers import PROGRESS_FILE

    with watch_training(training.run.records, PROGRESS_FILE, console):
        fit_router(training, identity)
    return router_result(training.run)


def router_result(run: RunLayout) -> RouterResult:
    """What the record of step router holds, by the router that it has left."""
    fit = read_router_fit(run.router)
    why = None if fit.compared is None else fit.compared.why
    return RouterResult(rows=fit.num_fit, kind=fit.kind, why=why)


def train_students(
    training: "StudentTraining", hardware: HardwareConfig, identity: str, console: Console
) -> FinetuneResult:
    """Fine-tune a student per method, and tell of examples that it was not tuned on."""
    from persyn_ray.runtime.train.training import finetune
    from persyn_ray.runtime.train.workers import PROGRESS_FILE

    run = training.run
    with watch_training(run.records, PROGRESS_FILE, console):
        finetune(training, identity)
    of_methods = {
        method: with_utilisation(
            read_tuned_student(run.student(method)), training.resources, hardware
        )
        for method in training.methods
    }
    run.remove(run.checkpoints)
    for method, tuned in of_methods.items():
        if tuned.num_too_long or tuned.num_unreadable:
            console.print(left_out(method, tuned), style="yellow", markup=False)
    num_examples = sum(tuned.num_examples for tuned in of_methods.values())
    return FinetuneResult(rows=num_examples, students=of_methods)
