"""The runner: what is done is kept, what has drifted is refused, what was interrupted goes on."""

import io
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from persyn_ray.errors import AttemptError, ConfigError, DriftError, StepError
from persyn_ray.pipeline import runner
from persyn_ray.pipeline.integrity.ownership import claim
from persyn_ray.pipeline.results import report
from persyn_ray.pipeline.results.report import report_what_stands
from persyn_ray.pipeline.runner import drift, planned_steps, require_no_drift, run_recipe
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout, run_of
from persyn_ray.storage.records import read_record
from persyn_ray.storage.results import PromptsResult
from persyn_ray.storage.run_lock import attempt_at

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]


def state(folder: Folder) -> dict[str, tuple[int, int]]:
    files = [path for path in folder.local_path.rglob("*") if path.is_file()]
    return {str(f): (f.stat().st_ino, f.stat().st_mtime_ns) for f in files}


def finished_steps(recipe: Recipe, *steps: str, record: Callable[..., RunLayout]) -> RunLayout:
    for step in steps:
        record(recipe, step)
    return run_of(recipe)


def refused(recipe: Recipe, given: tuple[str, ...] = (), start: str | None = None) -> str | None:
    """What the runner says of a recipe over its run folder; None when it goes ahead."""
    try:
        require_no_drift(planned_steps(recipe, run_of(recipe)), given, start)
    except DriftError as error:
        return str(error)
    return None


def test_a_finished_step_is_not_done_again(make_recipe: Make, quiet: Console) -> None:
    recipe = make_recipe()
    run = run_recipe(recipe, quiet, until="prompts")
    before = state(run.root / "tables") | state(run.records)
    run_recipe(recipe, quiet, until="prompts")
    assert state(run.root / "tables") | state(run.records) == before
    record = read_record(run.records, "prompts")
    assert record is not None
    assert record.result["splits"] == {"parallel": 12, "heldout": 4, "routed": 8}
    assert record.versions["persyn-ray"]


def test_from_does_a_finished_step_again(make_recipe: Make, quiet: Console) -> None:
    recipe = make_recipe()
    run = run_recipe(recipe, quiet, until="prompts")
    before, tables = state(run.prompts), dict(run.prompts.tables())
    run_recipe(recipe, quiet, start="prompts", until="prompts")
    assert state(run.prompts) != before
    assert dict(run.prompts.tables()) == tables


def test_a_stale_record_refuses_with_the_keys_and_both_values(
    make_recipe: Make, quiet: Console
) -> None:
    run = run_recipe(make_recipe(), quiet, until="prompts")
    before = state(run.root)
    changed = make_recipe({"prompts.num_parallel": 10, "prompts.seed": 7})
    with pytest.raises(DriftError) as refusal:
        run_recipe(changed, quiet, until="prompts")
    text = str(refusal.value)
    assert "prompts: prompts.num_parallel was 12, the recipe says 10" in text
    assert "prompts: prompts.seed was 0, the recipe says 7" in text
    assert "--from prompts" in text
    assert state(run.root) == before


def test_a_teacher_of_another_recipe_is_named_and_not_shown_in_full(
    make_recipe: Make, record_step: Callable[..., RunLayout]
) -> None:
    finished_steps(make_recipe(), "prompts", "collect", record=record_step)
    teachers = [one.model_dump(mode="json", exclude_unset=True) for one in make_recipe().teachers]
    text = refused(make_recipe({"teachers": [*teachers[1:], {**teachers[0], "name": "new"}]}))
    assert text is not None
    old = teachers[0]["name"]
    assert f"collect: teachers.{old} was there, and is not in the recipe" in text
    assert "collect: teachers.new was not there, and is in the recipe" in text
    assert "max_tokens" not in text


def test_a_change_named_on_the_command_line_is_carried_out(
    make_recipe: Make, quiet: Console
) -> None:
    run_recipe(make_recipe(), quiet, until="prompts")
    changed = make_recipe({"prompts.num_parallel": 10})
    run = run_recipe(changed, quiet, overrides=("prompts.num_parallel=10",), until="prompts")
    record = read_record(run.records, "prompts")
    assert record is not None
    assert record.result["splits"]["parallel"] == 10
    assert run.root.read_json("recipe.json")["prompts"]["num_parallel"] == 10


def test_from_accepts_a_change_of_its_step(make_recipe: Make, quiet: Console) -> None:
    run_recipe(make_recipe(), quiet, until="prompts")
    changed = make_recipe({"prompts.num_parallel": 10})
    run = run_recipe(changed, quiet, start="prompts", until="prompts")
    assert sum(table.num_rows for _, table in run.prompts.tables()) == 24
    assert sum("parallel" in t["split"].to_pylist() for _, t in run.prompts.tables()) == 2


def test_from_a_later_step_does_not_excuse_an_earlier_change(
    make_recipe: Make, record_step: Callable[..., RunLayout]
) -> None:
    finished_steps(make_recipe(), "prompts", "collect", "score", record=record_step)
    changed = make_recipe({"student.dtype": "bfloat16"})
    assert refused(changed, start="score") is None
    assert refused(changed, start="prompts") is None
    assert "score: student.dtype was 'float32', the recipe says 'bfloat16'" in str(
        refused(changed, start="rewards")
    )


@pytest.mark.parametrize(
    ("changes", "override"),
    [
        ({"scoring.alpha": 0.9}, "scoring.alpha=0.9"),
        ({"scoring.alpha": 0.9}, "scoring={quality: {kind: exact_match}, alpha: 0.9}"),
        ({"student.name": "other"}, "student.name=other"),
        ({"compare.heldout": True}, "compare.heldout=true"),
        ({"compare.students": True}, "compare.students=true"),
        ({"scoring.quality": {"kind": "exact_answer"}}, "scoring.quality={kind: exact_answer}"),
        (
            {"teachers": [{"name": "a", "engine": {"kind": "scripted", "seed": 3}}]},
            "teachers.0.engine.seed=3",
        ),
    ],
)
def test_an_override_covers_the_differences_it_makes(
    make_recipe: Make,
    record_step: Callable[..., RunLayout],
    changes: dict[str, Any],
    override: str,
) -> None:
    steps = ("prompts", "collect", "score", "rewards", "router", "route")
    finished_steps(make_recipe(), *steps, record=record_step)
    changed = make_recipe(changes)
    assert refused(changed) is not None
    assert refused(changed, (override,)) is None
    assert refused(changed, ("prompts.seed=0",)) is not None


@pytest.mark.parametrize(
    ("place", "key", "value", "override"),
    [
        (1, "weight", 2.0, "scoring.quality.parts.1.weight=2"),
        (0, "quality", {"kind": "exact_answer"}, "scoring.quality.parts.0.quality={...}"),
    ],
)
def test_an_override_of_one_part_covers_the_differences_it_makes(
    make_recipe: Make,
    record_step: Callable[..., RunLayout],
    place: int,
    key: str,
    value: Any,
    override: str,
) -> None:
    parts: list[dict[str, Any]] = [
        {"name": name, "quality": {"kind": "exact_match", "marker": name}} for name in ("a", "b")
    ]
    quality = {"kind": "several", "parts": parts}
    recipe = make_recipe({"scoring.quality": quality})
    finished_steps(recipe, "prompts", "collect", "score", "rewards", record=record_step)
    parts[place][key] = value
    changed = make_recipe({"scoring.quality": quality})
    assert refused(changed) is not None
    assert refused(changed, (override,)) is None


def test_an_override_does_not_cover_a_key_that_only_begins_alike(
    make_recipe: Make, record_step: Callable[..., RunLayout]
) -> None:
    finished_steps(make_recipe(), "prompts", record=record_step)
    changed = make_recipe({"prompts.num_parallel": 10})
    assert refused(changed, ("prompts.num=10",)) is not None


def test_other_resources_go_on_with_the_same_run(
    make_recipe: Make, record_step: Callable[..., RunLayout]
) -> None:
    recipe = make_recipe()
    run = finished_steps(recipe, "prompts", "collect", "score", record=record_step)
    bigger = make_recipe({"resources.collect": {"actors": 16}, "resources.score": {"gpus": 1}})
    assert refused(bigger) is None
    assert [p.is_done for p in planned_steps(bigger, run)] == [True] * 3 + [False] * 6


def test_alpha_makes_rewards_again_and_leaves_what_was_collected_and_scored(
    make_recipe: Make, record_step: Callable[..., RunLayout]
) -> None:
    run = finished_steps(
        make_recipe(), "prompts", "collect", "score", "rewards", "router", record=record_step
    )
    plan = planned_steps(make_recipe({"scoring.alpha": 0.9}), run)
    assert [p.step.name for p in plan if p.is_done] == ["prompts", "collect", "score"]
    assert drift(plan) == {"rewards": {"scoring.alpha": (0.4, 0.9)}}


def test_another_order_of_teachers_is_a_change(
    make_recipe: Make, record_step: Callable[..., RunLayout]
) -> None:
    run = finished_steps(make_recipe(), "prompts", "collect", "rewards", record=record_step)
    engine = {"kind": "scripted"}
    turned = make_recipe({"teachers": [{"name": n, "engine": engine} for n in ("c", "b", "a")]})
    assert list(drift(planned_steps(turned, run))) == ["rewards"]
    assert "['a', 'b', 'c']" in str(refused(turned))


def test_another_alpha_scores_nothing_again(
    make_recipe: Make, carry_out: CarryOut, quiet: Console, random_llama: str
) -> None:
    run = carry_out(make_recipe({"student.name": random_llama}), until="rewards")
    signals = [run.root / "tables" / name for name in ("responses", "learnability", "quality")]
    before = [state(folder) for folder in signals]
    rewards = dict(run.rewards.tables())
    mixed = make_recipe({"student.name": random_llama, "scoring.alpha": 1.0})
    run_recipe(mixed, quiet, overrides=("scoring.alpha=1",), until="rewards")
    assert [state(folder) for folder in signals] == before
    again = dict(run.rewards.tables())
    assert again.keys() == rewards.keys()
    for name, table in again.items():
        assert table["learnability"] == rewards[name]["learnability"]
        assert table["rewards"] != rewards[name]["rewards"]


def test_records_of_later_steps_go_when_an_earlier_one_changes(
    make_recipe: Make, record_step: Callable[..., RunLayout], quiet: Console
) -> None:
    recipe = make_recipe()
    run_recipe(recipe, quiet, until="prompts")
    run = finished_steps(recipe, "collect", "score", record=record_step)
    changed = make_recipe({"prompts.seed": 3})
    run_recipe(changed, quiet, overrides=("prompts.seed=3",), until="prompts")
    assert run.records.names(".json") == ["prompts.json"]


def interrupted(recipe: Recipe, quiet: Console, mark: str) -> RunLayout:
    """A run whose step prompts has begun under the identity `mark` and left a file."""
    run = run_recipe(recipe, quiet, until="prompts")
    run.records.remove("prompts.json")
    run.records.write_text("prompts.begun", mark)
    run.prompts.write_text("leftover.txt", "from the interrupted attempt")
    return run


def test_leftovers_of_the_same_step_are_kept(make_recipe: Make, quiet: Console) -> None:
    recipe = make_recipe()
    same = planned_steps(recipe, run_of(recipe))[0].identity
    run = interrupted(recipe, quiet, same)
    run_recipe(recipe, quiet, until="prompts")
    assert run.prompts.exists("leftover.txt")
    assert run.records.names() == ["prompts.json"]


def test_leftovers_of_another_recipe_are_removed(make_recipe: Make, quiet: Console) -> None:
    recipe = make_recipe()
    other = planned_steps(make_recipe({"prompts.seed": 9}), run_of(recipe))[0].identity
    run = interrupted(recipe, quiet, other)
    run_recipe(recipe, quiet, until="prompts")
    assert not run.prompts.exists("leftover.txt")
    assert sum(table.num_rows for _, table in run.prompts.tables()) == 24


def test_a_step_that_fails_leaves_no_record(make_recipe: Make, quiet: Console) -> None:
    recipe = make_recipe({"prompts.num_parallel": 99})
    with pytest.raises(ConfigError, match="num_parallel is 99"):
        run_recipe(recipe, quiet, until="prompts")
    assert read_record(run_of(recipe).records, "prompts") is None


@pytest.mark.parametrize("option", ["start", "until"])
def test_a_step_that_does_not_exist_is_refused_with_those_that_do(
    make_recipe: Make, quiet: Console, option: str
) -> None:
    with pytest.raises(ConfigError, match="'sing' is no step; the steps are prompts, collect"):
        run_recipe(make_recipe(), quiet, **{option: "sing"})


def test_a_run_that_fails_leaves_a_report_of_what_stands(
    make_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, screen = make_recipe(), Console(width=200, file=io.StringIO())
    run_recipe(recipe, screen, until="prompts")

    def fail(*_: object) -> None:
        raise StepError("no teacher answers")

    monkeypatch.setattr(runner.Execution, "carry_out_somewhere", fail)
    with pytest.raises(StepError, match="no teacher answers"):
        run_recipe(recipe, screen, when_failed=partial(report_what_stands, screen))
    run = run_of(recipe)
    assert run.root.read_json("report.json")["prompts"]["num_parallel"] == 12
    assert "Not measured in this run" in run.root.read_text("report.html")
    assert f"Report of what stands: {run.root.address}/report.html" in screen.file.getvalue()


def test_a_report_that_cannot_be_written_hides_no_error(
    make_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, screen = make_recipe(), Console(width=200, file=io.StringIO())
    run_recipe(recipe, screen, until="prompts")

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "write_report", no_room)
    report_what_stands(screen, recipe, run_of(recipe))
    assert "No report could be written: OSError: [Errno 28]" in screen.file.getvalue()


def test_a_run_folder_that_cannot_be_written_is_refused(
    make_recipe: Make, quiet: Console, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    recipe = make_recipe({"run": str(tmp_path / "file" / "run")})
    with pytest.raises(ConfigError, match="Set `run` to a writable place"):
        run_recipe(recipe, quiet, until="prompts")


def test_a_run_that_another_works_on_is_left_as_it_is(make_recipe: Make, quiet: Console) -> None:
    recipe = make_recipe()
    run = run_of(recipe)
    claim(run)
    with attempt_at(run.attempts, quiet):
        before = state(run.root)
        with pytest.raises(AttemptError, match="Another process works on this run"):
            run_recipe(recipe, quiet, until="prompts")
        assert state(run.root) == before
    run_recipe(recipe, quiet, until="prompts")


def test_a_step_of_an_attempt_that_was_overtaken_gets_no_record(
    make_recipe: Make, quiet: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe()
    run = run_of(recipe)

    def overtaken(*_: Any) -> PromptsResult:
        run.attempts.write_json("000099.json", {})
        return PromptsResult(rows=1, splits={}, sharding="x", shards={})

    step = next(step for step in runner.STEPS if step.name == "prompts")
    replaced = [replace(one, carry_out=overtaken) if one is step else one for one in runner.STEPS]
    monkeypatch.setattr(runner, "STEPS", tuple(replaced))
    with pytest.raises(AttemptError, match=r"Attempt 99 \(unknown\) has taken over"):
        run_recipe(recipe, quiet, until="prompts")
    assert read_record(run.records, "prompts") is None
