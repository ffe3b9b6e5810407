"""Comparisons over seeds: recipes of the seeds, what is kept, what is measured, what is refused."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from persyn_ray.cli.main import app
from persyn_ray.errors import ConfigError, DriftError
from persyn_ray.pipeline import compare as comparing
from persyn_ray.pipeline.compare import (
    METHODS,
    compare,
    compared_seeds,
    seed_recipes,
    why_no_students,
)
from persyn_ray.pipeline.results.comparison import gather_comparison
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.report.comparison import content as comparison_content
from persyn_ray.report.comparison import page as comparison_page
from persyn_ray.report.content import to_json
from persyn_ray.statistics.significance import holm, paired_difference
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import BEFORE, PERSYN, RunLayout, run_of
from persyn_ray.storage.records import read_record
from persyn_ray.storage.schemas import EVALUATIONS

Make = Callable[..., Recipe]
CarryOut = Callable[..., RunLayout]
Answers = dict[str, list[dict[str, Any]]]
NO_CHECK = {"scoring.quality": {"kind": "reward_model", "model": {"name": "random:reward"}}}


def write_evaluations(run: RunLayout, student: str, answers: dict[str, Any]) -> None:
    """Each answer is 1, 0, None (no verdict) or "absent"; two shards."""
    rows = [
        {
            "prompt_id": prompt_id,
            "student": student,
            "response": None,
            "finish_reason": "stop",
            "outcome": "no_response" if given == "absent" else "correct" if given else "wrong",
            "correct": None if given == "absent" else given,
        }
        for prompt_id, given in answers.items()
    ]
    for number in (0, 1):
        table = pa.Table.from_pylist(rows[number::2], schema=EVALUATIONS)
        run.evaluations(student).write_table(f"shard-{number}.parquet", table)


def write_report_of(run: RunLayout, rewards: dict[str, float], num_examples: int = 20) -> None:
    """The sections of a seed's report that a comparison reads."""
    estimates = {
        name: {"reward": {"value": value, "low": value - 0.1, "high": value + 0.1, "num": 4}}
        for name, value in rewards.items()
    }
    differences = {
        name: {"value": rewards[PERSYN] - value, "low": -0.2, "high": 0.4, "num": 4}
        for name, value in rewards.items()
        if name != PERSYN
    }
    students = {
        name: {"value": 0.5, "num_examples": num_examples, "correct_share": value}
        for name, value in rewards.items()
    }
    router = {"heldout_set": "a set", "references": estimates, "differences": differences}
    content = {"router": router, "student": {"methods": students}}
    run.root.write_text("report.json", to_json(content))


def finished_seeds(recipe: Recipe, methods: list[str], answers: Answers) -> list[Recipe]:
    """Seeds with hand-written answers: for each student one table a seed."""
    seeds = seed_recipes(recipe, methods, len(answers[PERSYN]))
    for number, seed in enumerate(seeds):
        run = run_of(seed)
        for student, tables in answers.items():
            write_evaluations(run, student, tables[number])
        rewards = {name: 0.1 * (place + number) for place, name in enumerate([PERSYN, *methods])}
        write_report_of(run, rewards, num_examples=20 + number)
    return seeds


def compared(recipe: Recipe, seeds: list[Recipe], why: str | None) -> dict[str, Any]:
    return gather_comparison(compared_seeds(recipe, seeds), why)


def why_not(recipe: Recipe) -> str | None:
    return why_no_students(recipe.evaluate, recipe.scoring, recipe.prompts)


def drawn(num_problems: int, level: float, seed: int, start: int = 0) -> dict[str, Any]:
    right = np.random.default_rng(seed).random(num_problems) < level
    return {f"p{start + i:03}": float(right[i]) for i in range(num_problems)}


def test_a_seed_is_the_same_recipe_with_every_seed_set(make_recipe: Make) -> None:
    recipe = make_recipe({"prompts.seed": 7, "router.seed": 1, "compare.methods": ["mix"]})
    seeds = seed_recipes(recipe, ["strong", "random", "persyn"], 3)
    for number, seed in enumerate(seeds):
        assert (seed.prompts.seed, seed.router.seed, seed.finetune.seed) == (7 + number,) * 3
        assert seed.run == f"{recipe.run}/seeds/{number}"
        # In the order of all methods, so that another order of asking changes nothing.
        assert seed.compare.methods == ("random", "strong")
        assert seed.compare.students
        assert seed.responses.store == f"{recipe.run}/tables/responses"
        assert run_of(seed).ledger == run_of(recipe).ledger == Folder(f"{recipe.run}/ledger")
        set_apart = {"run", "name", "prompts", "router", "finetune", "compare", "responses"}
        for section in set(Recipe.model_fields) - set_apart - {"ledger"}:
            assert getattr(seed, section) == getattr(recipe, section)


def test_a_store_of_its_own_is_kept(make_recipe: Make, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    recipe = make_recipe({"responses.store": store})
    assert {seed.responses.store for seed in seed_recipes(recipe, ["random"], 2)} == {store}


def test_what_a_beginner_gets_wrong_is_named(make_recipe: Make, quiet: Console) -> None:
    recipe = make_recipe()
    with pytest.raises(ConfigError, match=r"'rendom'.*there are random, best_constant.*oracle"):
        compare(recipe, quiet, ["rendom"], 2)
    with pytest.raises(ConfigError, match="--seeds is 0; it must be at least 1"):
        compare(recipe, quiet, ["random"], 0)
    with pytest.raises(ConfigError, match=r"family_strong: list the teachers.*compare\.family"):
        compare(recipe, quiet, ["family_strong"], 2)
    assert not run_of(recipe).root.exists()


def test_the_command_takes_methods_by_commas(make_recipe: Make, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(make_recipe().model_dump(mode="json", exclude_unset=True)))
    for given in (["--methods", "random, wrong"], ["--methods", "random", "--methods", "wrong"]):
        result = CliRunner().invoke(app, ["compare", str(path), *given])
        assert isinstance(result.exception, ConfigError)
        assert "--methods has 'wrong'" in str(result.exception)


def test_without_check_or_problems_no_student_is_compared(make_recipe: Make) -> None:
    assert why_not(make_recipe()) is None
    elsewhere = make_recipe({"prompts.num_heldout": 0, "evaluate.path": "problems.jsonl"})
    assert why_not(elsewhere) is None
    for changes, setting in (
        (NO_CHECK, "evaluate.check"),
        ({"evaluate.path": None, "prompts.num_heldout": 0}, "prompts.num_heldout"),
    ):
        recipe = make_recipe(changes)
        why = why_not(recipe)
        assert why is not None
        assert setting in why
        assert "only routed rewards" in why
        assert not seed_recipes(recipe, ["random"], 1)[0].compare.students


def test_seeds_share_their_responses(
    make_recipe: Make, carry_out: CarryOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What every teacher is asked: each prompt once, though parallel sets overlap."""
    from persyn_ray.engines.scripted import ScriptedEngine

    asked: list[tuple[str, str]] = []
    plain = ScriptedEngine.generate

    def counted(self: Any, requests: Any) -> Any:
        asked.extend((self._teacher, json.dumps(one.messages)) for one in requests)
        return plain(self, requests)

    monkeypatch.setattr(ScriptedEngine, "generate", counted)
    seeds = seed_recipes(make_recipe(), ["random"], 2)
    runs = [carry_out(seed, until="collect") for seed in seeds]
    parallel = [
        {
            row["prompt_id"]
            for _, table in run.prompts.tables()
            for row in table.to_pylist()
            if row["split"] == "parallel"
        }
        for run in runs
    ]
    assert parallel[0] != parallel[1]
    assert parallel[0] & parallel[1]
    assert len(asked) == len(set(asked)) == 3 * len(parallel[0] | parallel[1])


def test_means_differences_and_p_values_are_those_of_the_tables(make_recipe: Make) -> None:
    recipe = make_recipe({"prompts.seed": 5})
    answers: Answers = {
        student: [drawn(30, level, 10 * place + s) for s in range(3)]
        for place, (student, level) in enumerate(
            {BEFORE: 0.1, PERSYN: 0.7, "random": 0.4, "strong": 0.65}.items()
        )
    }
    seeds = finished_seeds(recipe, ["random", "strong"], answers)
    content = compared(recipe, seeds, None)
    tables = {
        student: np.array([[of[i] for i in sorted(of)] for of in seeds_of], dtype=float)
        for student, seeds_of in answers.items()
    }
    assert list(content["methods"]) == [BEFORE, PERSYN, "random", "strong"]
    for student, facts in content["methods"].items():
        assert facts["mean"]["value"] == pytest.approx(tables[student].mean())
        assert facts["by_seed"] == pytest.approx(tables[student].mean(axis=1).tolist())
        assert facts["mean"]["num"] == 90
        if student == PERSYN:
            assert facts["difference"] is None
            continue
        expected = paired_difference(tables[PERSYN], tables[student], 5)
        difference = facts["difference"]
        assert difference["value"] == pytest.approx((tables[PERSYN] - tables[student]).mean())
        assert (difference["low"], difference["high"]) == (expected.low, expected.high)
        assert difference["p_value"] == expected.p_value
    # The student before fine-tuning is no baseline.
    p_values = {
        name: content["methods"][name]["difference"]["p_value"] for name in ("random", "strong")
    }
    assert content["adjusted_for"] == ["random", "strong"]
    for name, p_value in holm(p_values).items():
        assert content["methods"][name]["difference"]["p_holm"] == p_value
    assert "p_holm" not in content["methods"][BEFORE]["difference"]
    assert (content["num_problems"], content["same_problems"]) == (30, True)
    assert [one["seed"] for one in content["seeds"]] == [5, 6, 7]


def test_intervals_of_two_seeds_stay_among_possible_accuracies(make_recipe: Make) -> None:
    """Student's interval of 0.1 and 0.9 alone would reach from -4.6 to 5.6."""
    low, high = (
        {f"p{i}": float(i < 1) for i in range(10)},
        {f"p{i}": float(i < 9) for i in range(10)},
    )
    answers: Answers = {BEFORE: [low, low], PERSYN: [high, low], "random": [low, high]}
    recipe = make_recipe()
    methods = compared(recipe, finished_seeds(recipe, ["random"], answers), None)["methods"]
    mean, difference = methods[PERSYN]["mean"], methods["random"]["difference"]
    assert (mean["value"], mean["low"], mean["high"]) == (pytest.approx(0.5), 0, 1)
    assert (difference["value"], difference["low"], difference["high"]) == (0, -1, 1)
    assert difference["p_value"] == 1


def test_data_and_routed_reward_are_means_over_seeds(make_recipe: Make) -> None:
    recipe = make_recipe()
    answers: Answers = {
        student: [drawn(5, 0.5, s) for s in range(2)] for student in (BEFORE, PERSYN, "random")
    }
    content = compared(recipe, finished_seeds(recipe, ["random"], answers), None)
    random = content["methods"]["random"]
    assert random["num_examples"] == 20.5
    assert random["correct_share"] == pytest.approx((0.1 + 0.2) / 2)
    assert random["routed_reward"]["value"] == pytest.approx((0.1 + 0.2) / 2)
    assert random["routed_reward"]["num"] == 2
    assert content["methods"][BEFORE]["routed_reward"] is None
    assert "num_examples" not in content["methods"][BEFORE]
    assert content["rewarded_on"] == "a set"


def test_an_absent_answer_is_wrong_and_one_without_verdict_unknown(make_recipe: Make) -> None:
    answers: Answers = {
        BEFORE: [{"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0}],
        PERSYN: [{"a": 1.0, "b": "absent", "c": None, "d": 1.0}],
        "random": [{"a": None, "b": 0.0, "c": 0.0, "d": 0.0}],
    }
    recipe = make_recipe()
    methods = compared(recipe, finished_seeds(recipe, ["random"], answers), None)["methods"]
    assert methods[PERSYN]["mean"]["value"] == pytest.approx(2 / 3)
    assert methods["random"]["mean"]["value"] == 0
    # Known in both: b (0 - 0) and d (1 - 0).
    assert methods["random"]["difference"]["value"] == pytest.approx(1 / 2)
    assert methods["random"]["difference"]["num_problems"] == 2


def test_problems_of_each_seeds_own_are_joined_by_their_ids(make_recipe: Make) -> None:
    """Seeds share the problems p010 to p019; what a seed was not asked is unknown there."""
    answers: Answers = {
        student: [drawn(20, level, place), drawn(20, level, place + 9, start=10)]
        for place, (student, level) in enumerate({BEFORE: 0.1, PERSYN: 0.8, "random": 0.4}.items())
    }
    recipe = make_recipe()
    content = compared(recipe, finished_seeds(recipe, ["random"], answers), None)
    assert (content["num_problems"], content["same_problems"]) == (30, False)
    differences = [
        answers[PERSYN][s][i] - answers["random"][s][i] for s in (0, 1) for i in answers[PERSYN][s]
    ]
    difference = content["methods"]["random"]["difference"]
    assert difference["value"] == pytest.approx(sum(differences) / 40)
    assert (difference["num_seeds"], difference["num_problems"]) == (2, 30)


def test_one_seed_without_students_has_its_prompts_interval_and_no_p_value(
    make_recipe: Make,
) -> None:
    recipe = make_recipe(NO_CHECK)
    (seed,) = seed_recipes(recipe, ["random"], 1)
    write_report_of(run_of(seed), {PERSYN: 0.6, "random": 0.5})
    content = compared(recipe, [seed], "no check")
    difference = content["methods"]["random"]["difference"]
    assert difference["value"] == pytest.approx(0.1)
    assert (difference["low"], difference["high"], difference["num_problems"]) == (-0.2, 0.4, 4)
    assert content["adjusted_for"] == []
    assert content["metric"] == "routed reward"
    assert content["methods"][PERSYN]["mean"]["low"] == pytest.approx(0.5)


def test_several_seeds_without_students_are_compared_by_their_means(make_recipe: Make) -> None:
    from scipy.stats import ttest_1samp

    recipe = make_recipe(NO_CHECK)
    seeds = seed_recipes(recipe, ["random"], 4)
    rewards = [(0.6, 0.5), (0.65, 0.52), (0.59, 0.6), (0.7, 0.6)]
    for seed, (persyn, random) in zip(seeds, rewards, strict=True):
        write_report_of(run_of(seed), {PERSYN: persyn, "random": random})
    content = compared(recipe, seeds, "no check")
    expected: Any = ttest_1samp([a - b for a, b in rewards], 0)
    difference = content["methods"]["random"]["difference"]
    assert difference["value"] == pytest.approx(np.mean([a - b for a, b in rewards]))
    assert difference["p_holm"] == pytest.approx(expected.pvalue)
    assert content["adjusted_for"] == ["random"]


@dataclass
class Carried:
    """What a comparison asked for, seed by seed, in place of runs on Ray."""

    recipes: list[Recipe] = field(default_factory=list)
    given: list[tuple[str, ...]] = field(default_factory=list)
    until: list[str | None] = field(default_factory=list)
    sessions: int = 0


@pytest.fixture
def carried(monkeypatch: pytest.MonkeyPatch, quiet: Console) -> Carried:
    """Seeds stop after step prompts, and have answers and a report of their own."""
    noted, plain = Carried(), comparing.run_recipe

    def run_recipe(recipe: Recipe, console: Console, **options: Any) -> RunLayout:
        noted.recipes.append(recipe)
        noted.given.append(options["overrides"])
        noted.until.append(options["until"])
        run = plain(recipe, quiet, overrides=options["overrides"], until="prompts")
        names = [PERSYN, *recipe.compare.methods]
        for place, student in enumerate([BEFORE, *names]):
            write_evaluations(run, student, drawn(12, 0.5, place + recipe.prompts.seed))
        write_report_of(run, dict.fromkeys(names, 0.5))
        return run

    @contextmanager
    def session(is_needed: bool, verbose: bool, modules: Sequence[str]) -> Iterator[None]:
        noted.sessions += is_needed
        yield

    monkeypatch.setattr(comparing, "run_recipe", run_recipe)
    monkeypatch.setattr(comparing, "_one_session", session)
    monkeypatch.setattr(comparing, "write_report", lambda *_: None)
    monkeypatch.setattr(comparing.comparison_page, "render", lambda _: "drawn elsewhere")
    return noted


def test_seeds_are_run_one_after_the_other_in_one_session(
    make_recipe: Make, quiet: Console, carried: Carried
) -> None:
    run = compare(make_recipe(), quiet, ["random"], 3, overrides=("scoring.alpha=0.4",))
    assert [recipe.prompts.seed for recipe in carried.recipes] == [0, 1, 2]
    assert carried.sessions == 1
    assert carried.until == [None] * 3
    assert all("scoring.alpha=0.4" in given for given in carried.given)
    found = json.loads(run.root.read_text("comparison.json"))
    assert set(found["methods"]) == {BEFORE, PERSYN, "random"}
    assert "random teacher" in run.root.read_text("comparison.md")


def test_without_check_seeds_stop_at_the_route(
    make_recipe: Make, quiet: Console, carried: Carried
) -> None:
    run = compare(make_recipe(NO_CHECK), quiet, ["random"], 2)
    assert carried.until == ["route"] * 2
    found = json.loads(run.root.read_text("comparison.json"))
    assert found["metric"] == "routed reward"
    assert set(found["methods"]) == {PERSYN, "random"}


def test_a_seed_that_was_run_for_other_methods_gets_the_new_ones_too(
    make_recipe: Make, quiet: Console, carried: Carried, record_step: Callable[..., RunLayout]
) -> None:
    compare(make_recipe(), quiet, ["random", "strong"], 1)
    (first,) = carried.recipes
    for step in ("prompts", "collect", "score", "rewards", "router", "route"):
        record_step(first, step)
    recipe = make_recipe()
    content = compare(recipe, quiet, ["strong", "mix"], 2).root.read_json("comparison.json")
    assert carried.recipes[1].compare.methods == ("random", "strong", "mix")
    assert carried.recipes[2].compare.methods == ("strong", "mix")
    # Only what was asked for is shown.
    assert set(content["methods"]) == {BEFORE, PERSYN, "strong", "mix"}
    # Fewer methods than there are change nothing.
    compare(recipe, quiet, ["random"], 1)
    assert carried.recipes[3].compare.methods == ("random", "strong", "mix")


def test_drift_in_any_seed_is_refused_before_one_is_run(
    make_recipe: Make, quiet: Console, carried: Carried, record_step: Callable[..., RunLayout]
) -> None:
    compare(make_recipe(), quiet, ["random"], 2)
    last = carried.recipes[-1]
    for step in ("prompts", "collect", "score", "rewards"):
        record_step(last, step)
    carried.recipes.clear()
    changed = make_recipe({"scoring.alpha": 0.9})
    with pytest.raises(DriftError, match=r"scoring\.alpha was 0\.4, the recipe says 0\.9"):
        compare(changed, quiet, ["random"], 2)
    assert carried.recipes == []
    compare(changed, quiet, ["random"], 2, overrides=("scoring.alpha=0.9",))
    assert len(carried.recipes) == 2


def test_ray_is_left_alone_when_all_seeds_are_finished(
    make_recipe: Make, quiet: Console, carried: Carried, record_step: Callable[..., RunLayout]
) -> None:
    recipe = make_recipe(NO_CHECK)
    compare(recipe, quiet, ["random"], 2)
    assert carried.sessions == 1
    for seed in carried.recipes[:2]:
        for step in ("prompts", "collect", "score", "rewards", "router", "route"):
            record_step(seed, step)
    compare(recipe, quiet, ["random"], 2)
    assert carried.sessions == 1
    compare(recipe, quiet, ["random"], 3)
    assert carried.sessions == 2


def test_a_real_run_of_two_seeds_is_compared(
    make_recipe: Make,
    carry_out: CarryOut,
    quiet: Console,
    random_llama: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(comparing, "run_recipe", lambda recipe, *_, **__: carry_out(recipe))
    monkeypatch.setattr(comparing, "_one_session", lambda *_: nullcontext())
    models = {"student.name": random_llama, "router.backbone.name": random_llama}
    run = compare(make_recipe(models), quiet, ["random"], 2)
    found = run.root.read_json("comparison.json")
    for number in (0, 1):
        record = read_record(run.seed(number) / "records", "evaluate")
        assert record is not None
        assert run.seed(number).exists("report.html")
    assert set(found["methods"]) == {BEFORE, PERSYN, "random"}
    assert found["methods"]["random"]["num_examples"] == 20
    assert found["methods"]["random"]["routed_reward"]["num"] == 2
    assert found["rewarded_on"] == "router hold-out"
    assert found["same_problems"] is False
    assert "<svg" in run.root.read_text("comparison.html")


def test_methods_are_those_of_recipes() -> None:
    assert {"random", "strong", "oracle"} <= set(METHODS)
    assert PERSYN not in METHODS


@pytest.mark.parametrize("lost", ["report.json", "tables", "router", "everything"])
def test_a_comparison_appears_whatever_its_seeds_have_lost(make_recipe: Make, lost: str) -> None:
    answers = {name: [{"p": 1, "q": 0}, {"p": 1, "q": 1}] for name in (BEFORE, PERSYN, "random")}
    recipe = make_recipe()
    seeds = finished_seeds(recipe, ["random"], answers)
    for seed in seeds if lost in ("tables", "everything") else seeds[:1]:
        root = run_of(seed).root
        if lost == "everything":
            root.remove()
        elif lost == "router":
            root.write_text("report.json", to_json({"problems": {"router": "it \x1b[2J is lost"}}))
        else:
            root.remove(lost)
    content = compared(recipe, seeds, None)
    assert content["problems"]
    page = comparison_page.render(content)
    text = comparison_page.markdown(content)
    for part in content["problems"]:
        assert part in page
        assert part in text
    assert "\x1b" not in page + text + comparison_content.to_json(content)
    if lost == "report.json":
        assert content["methods"][PERSYN]["mean"]["value"] == 0.75
        assert "seeds.0" in content["problems"]
