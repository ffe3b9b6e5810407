"""Compare PerSyn with other methods over seeds: one recipe several times, one table at the end.

Seed s is the recipe with prompts.seed, router.seed and finetune.seed all set to the recipe's own
prompts.seed + s: another draw of the prompts and the parallel set, another router, another order of
training. Each is a whole run of its own in RUN/seeds/s. Teachers and their sampling stay, and all
seeds share one store of responses, so no teacher is asked twice for the same response, and one
ledger, so a budget is that of all seeds together.

Seeds run one after the other in one session. Finished ones are kept, and an interrupted comparison
goes on. A seed that was run for other methods is done anew from step route for theirs and the new
ones: responses stay, but all its students are tuned again.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, get_args

from rich.console import Console
from rich.text import Text

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.escaping import plain, visible
from persyn_ray.pipeline.choices import students
from persyn_ray.pipeline.integrity.ownership import claim, inputs_of, require_own
from persyn_ray.pipeline.results.comparison import Seeds, gather_comparison
from persyn_ray.pipeline.results.report import report_what_stands, write_report
from persyn_ray.pipeline.runner import Planned, planned_steps, require_no_drift, run_recipe
from persyn_ray.pipeline.steps import STEP_NAMES
from persyn_ray.recipe.comparison import Method
from persyn_ray.recipe.data import PromptsConfig
from persyn_ray.recipe.recipe import Recipe, parse_recipe
from persyn_ray.recipe.scoring import ScoringConfig
from persyn_ray.recipe.training import EvaluateConfig
from persyn_ray.report.comparison import content as comparison_content
from persyn_ray.report.comparison import page as comparison_page
from persyn_ray.shards.score import check_of
from persyn_ray.storage.layout import PERSYN, RunLayout, run_of
from persyn_ray.storage.own_parts import modules_to_ship, own_parts

METHODS: tuple[str, ...] = get_args(Method)
CHANGED = ("compare.methods=", "compare.students=")
"""What a comparison changes in a seed's run on purpose, as on the command line."""


def compare(
    recipe: Recipe,
    console: Console,
    methods: Sequence[str] = (),
    num_seeds: int = 3,
    overrides: Sequence[str] = (),
    verbose: bool = False,
) -> RunLayout:
    """Bring every seed's run up to date and write comparison.json, .md and .html beside them.

    Args:
        methods: what PerSyn is compared with; by default the recipe's compare.methods.
        overrides: the `key=value`s of the command line; changes they name are on purpose.

    Raises:
        ConfigError: a method is unknown or lacks a setting, or there are no seeds.
        DriftError: a seed's run was made with other settings.
    """
    methods = methods or recipe.compare.methods
    asked = seed_recipes(recipe, methods, num_seeds)
    seeds = [_with_methods(seed, _methods_there(run_of(seed))) for seed in asked]
    given = (*overrides, *CHANGED)
    _require_own(recipe, seeds)
    plans = [planned_steps(seed, run_of(seed)) for seed in seeds]
    for plan in plans:
        require_no_drift(plan, given, None)
    why = why_no_students(recipe.evaluate, recipe.scoring, recipe.prompts)
    if why is not None:
        console.print(plain(why, "yellow"))
    until = None if why is None else "route"
    modules = modules_to_ship(own_parts(recipe.teachers, recipe.scoring, recipe.evaluate.check))
    with _one_session(any(_needs_ray(plan, until) for plan in plans), verbose, modules):
        for number, seed in enumerate(seeds, 1):
            console.print(
                Text.assemble((f"\nRun {number} of {num_seeds}  ", "bold"), visible(seed.run))
            )
            run = run_recipe(
                seed,
                console,
                overrides=given,
                until=until,
                verbose=verbose,
                when_failed=partial(report_what_stands, console),
            )
            write_report(seed, run, Console(quiet=True))
    return _write(run_of(recipe), gather_comparison(compared_seeds(recipe, asked), why), console)


def seed_recipes(recipe: Recipe, methods: Sequence[str], num_seeds: int) -> list[Recipe]:
    """The recipe of every seed, with the compared methods in one order, whatever order was given.

    Raises:
        ConfigError: a method is unknown or lacks a setting, or there are no seeds.
    """
    if num_seeds < 1:
        raise ConfigError(f"--seeds is {num_seeds}; it must be at least 1, and 3 or more are wise.")
    for method in methods:
        if method not in (PERSYN, *METHODS):
            raise ConfigError(
                f"--methods has {method!r}, which is no method; there are {', '.join(METHODS)}."
            )
    run, why = run_of(recipe), why_no_students(recipe.evaluate, recipe.scoring, recipe.prompts)
    changes = [
        {
            "run": run.seed(number).address,
            "name": f"{recipe.name or 'Comparison'}, seed {recipe.prompts.seed + number}",
            "responses.store": run.response_store.address,
            "ledger": run.ledger.address,
            "prompts.seed": recipe.prompts.seed + number,
            "router.seed": recipe.prompts.seed + number,
            "finetune.seed": recipe.prompts.seed + number,
            "compare.methods": _in_order(methods),
            "compare.students": why is None,
        }
        for number in range(num_seeds)
    ]
    return [_changed(recipe, one) for one in changes]


def seed_runs(run: RunLayout, num_seeds: int) -> list[RunLayout]:
    """The runs of the seeds of a comparison."""
    return [RunLayout(run.seed(number)) for number in range(max(0, num_seeds))]


def compared_seeds(recipe: Recipe, seeds: Sequence[Recipe]) -> Seeds:
    """What is compared of the seeds of a recipe."""
    first = seeds[0]
    return Seeds(
        recipe.name or recipe.run.rstrip("/").rsplit("/", 1)[-1],
        {seed.prompts.seed: run_of(seed) for seed in seeds},
        first.compare,
        students(first.compare, first.evaluate, first.scoring),
        recipe.prompts.seed,
    )


def why_no_students(
    evaluate: EvaluateConfig, scoring: ScoringConfig, prompts: PromptsConfig
) -> str | None:
    """What keeps students from being compared; routed rewards are compared in any case."""
    what = None
    if check_of(evaluate, scoring) is None:
        what = "no check (evaluate.check, or an exact scoring.quality)"
    elif evaluate.path is None and not prompts.num_heldout:
        what = "no held-out problems (evaluate.path or prompts.num_heldout)"
    if what is None:
        return None
    return f"The recipe has {what}: no student is tuned, and only routed rewards are compared."


def _require_own(recipe: Recipe, seeds: Sequence[Recipe]) -> None:
    """Refuse what a run would refuse, for all seeds before the first one; mark the folder."""
    for one in (recipe, *seeds):
        require_own(run_of(one), inputs_of(one))
    claim(run_of(recipe))


def _methods_there(run: RunLayout) -> list[str]:
    """The methods that a run already has."""
    if not run.root.exists("recipe.json"):
        return []
    try:
        return run.root.read_json("recipe.json").get("compare", {}).get("methods", [])
    except DataError:  # torn: the run writes it anew
        return []


def _with_methods(seed: Recipe, more: Sequence[str]) -> Recipe:
    """The same seed with further methods, whose students stay."""
    return _changed(seed, {"compare.methods": _in_order([*seed.compare.methods, *more])})


def _in_order(methods: Sequence[str]) -> list[str]:
    """Another order would be another identity."""
    return [method for method in METHODS if method in methods]


def _changed(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The recipe with values set under dotted keys, validated anew."""
    data = recipe.model_dump(mode="json")
    for key, value in changes.items():
        section, _, name = key.rpartition(".")
        (data[section] if section else data)[name] = value
    return parse_recipe(data, "The recipe with --methods")


def _needs_ray(plan: Sequence[Planned], until: str | None) -> bool:
    """Whether a step that is not done runs on Ray."""
    last = len(plan) if until is None else STEP_NAMES.index(until) + 1
    return any(planned.step.on_ray and not planned.is_done for planned in plan[:last])


def _one_session(
    is_needed: bool, verbose: bool, modules: Sequence[str]
) -> AbstractContextManager[Any]:
    """One connection to Ray for all seeds; `run_recipe` uses one that is open."""
    if not is_needed:
        return nullcontext()
    from persyn_ray.runtime.session import session

    return session(verbose, modules)


def _write(run: RunLayout, content: dict[str, Any], console: Console) -> RunLayout:
    """Leave the comparison in three forms and print its table."""
    run.root.write_text("comparison.json", comparison_content.to_json(content))
    run.root.write_text("comparison.md", comparison_page.markdown(content))
    run.root.write_text("comparison.html", comparison_page.render(content))
    console.print()
    console.print(comparison_page.console(content))
    return run
