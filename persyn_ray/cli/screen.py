"""`persyn screen`: will routing pay, judged from a parallel table or a run's rewards."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from persyn_ray.cli.shared import console
from persyn_ray.escaping import plain

if TYPE_CHECKING:
    from persyn_ray.screening.probe import Probe


def screen(
    source: Annotated[
        list[str],
        typer.Argument(help="A run folder with rewards, or parquet, jsonl, json or csv files."),
    ],
    prompt: Annotated[str, typer.Option(help="Column with the prompt.")] = "prompt",
    teacher: Annotated[str, typer.Option(help="Column with the teacher's name.")] = "teacher",
    score: Annotated[str, typer.Option(help="Column with the quality, a number.")] = "score",
    task: Annotated[str, typer.Option(help="Column with a label of the prompt.")] = "task",
    learnability: Annotated[
        str, typer.Option(help="Column with log-likelihoods under the student, nats per token.")
    ] = "learnability",
    alpha: Annotated[
        float, typer.Option(min=0, max=1, help="Weight of learnability in a table's rewards.")
    ] = 0.4,
    worth: Annotated[float, typer.Option(help="Gain over the best constant that pays.")] = 0.01,
    planned: Annotated[int, typer.Option(help="Prompts that the parallel set will have.")] = 2500,
    encoder: Annotated[
        str | None, typer.Option(help="Model that embeds a table's prompts; none by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of folds, resamples and draws among equals.")] = 0,
) -> None:
    """Will routing pay for this student and pool? Expected gain, simple rules, spare teachers."""
    from persyn_ray.screening.display import show_screening
    from persyn_ray.screening.judge import ScreeningGoal
    from persyn_ray.screening.judge import screen as judge
    from persyn_ray.screening.probe import Columns, Weighing, probe_of_table

    goal = ScreeningGoal(worth, planned)
    probe = _probe_of_run(source, seed)
    if probe is None:
        columns = Columns(prompt, teacher, score, task, learnability)
        probe = probe_of_table(source, columns, Weighing(alpha), seed)
    if encoder is not None:
        probe = _encoded(probe, encoder)
    for note in probe.notes:
        console.print(plain(note, "dim"))
    show_screening(judge(probe.data, probe.signals, goal), goal, console)


def _probe_of_run(source: list[str], seed: int) -> "Probe | None":
    """The probe of a run folder; None where the address is none."""
    from persyn_ray.pipeline.results.explain import open_run
    from persyn_ray.screening.probe import probe_of_run
    from persyn_ray.storage.folder import Folder

    if len(source) != 1 or "*" in source[0] or not Folder.absolute(source[0]).exists("recipe.json"):
        return None
    recipe, run = open_run(source[0])
    return probe_of_run(run, recipe.pool, seed)


def _encoded(probe: "Probe", encoder: str) -> "Probe":
    """The probe with embeddings of its prompts."""
    from persyn_ray.errors import ConfigError
    from persyn_ray.screening.encode import embedded

    if not probe.texts:
        raise ConfigError("--encoder embeds the prompts of a table; a run has its own embeddings.")
    features = replace(probe.data.features, embeddings_PD=embedded(probe.texts, encoder))
    return replace(probe, data=replace(probe.data, features=features))
