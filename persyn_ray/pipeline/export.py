"""`persyn export`: a run's address and a form's name in, the tool's files in a folder out."""

from persyn_ray.errors import ConfigError
from persyn_ray.exports.export import Exported, export
from persyn_ray.exports.form import Facts, Form
from persyn_ray.exports.forms import form_named
from persyn_ray.exports.on_policy.settings import OnPolicySettings
from persyn_ray.pipeline.plan.forecasts.training import trained_model
from persyn_ray.pipeline.results.explain import open_run
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.shards.provenance import RoutedRows
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout
from persyn_ray.storage.records import Record, read_record


def export_run(
    address: str,
    to: str,
    out: str | None = None,
    on_policy: OnPolicySettings = OnPolicySettings(),  # noqa: B008 (frozen)
) -> Exported:
    """Export a run in a form; by default into RUN/exports/FORM.

    Raises:
        ConfigError: there is no such form or run, the run has not come so far, or the folder is
            somebody else's.
    """
    form = form_named(to)
    recipe, run = open_run(address)
    record = _require_step(run, form, address)
    target = run.exported(form.name) if out is None else Folder.absolute(out)
    rows = RoutedRows(run, recipe.teachers, recipe.scoring, recipe.responses)
    return export(form, rows, _facts(recipe, run, record, on_policy), target)


def _require_step(run: RunLayout, form: Form, address: str) -> Record:
    record = read_record(run.records, form.needs)
    if record is None:
        raise ConfigError(
            f"{address} has nothing for --to {form.name} yet: step {form.needs} is not finished. "
            f"`persyn run RECIPE --until {form.needs}` carries it out."
        )
    return record


def _facts(recipe: Recipe, run: RunLayout, record: Record, on_policy: OnPolicySettings) -> Facts:
    size = trained_model(recipe.student.model, recipe.resources.finetune.size)
    adapters = recipe.finetune.adapters(size.parameters if size else 0.0)
    return Facts(
        name=recipe.name or "PerSyn data",
        fingerprint=record.fingerprint,
        student=recipe.student,
        teachers=recipe.teachers,
        finetune=recipe.finetune.model_copy(update={"lora": adapters}),
        think_tags=recipe.responses.think_tags,
        router=run.router,
        on_policy=on_policy,
    )
