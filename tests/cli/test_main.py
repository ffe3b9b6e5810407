"""The command line: what it prints, and how it fails."""

import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from persyn_ray import __version__
from persyn_ray.cli.main import app, guarded
from persyn_ray.errors import ConfigError, DriftError, PersynError
from persyn_ray.recipe.recipe import Recipe, load_recipe
from persyn_ray.storage.layout import RunLayout, run_of
from persyn_ray.storage.ledger import spent
from persyn_ray.storage.usage import Usage

Make = Callable[..., Recipe]


def persyn(*arguments: object) -> str:
    """What a command prints; its errors are raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def words(table: str) -> str:
    """What stands in a printed table, without its lines."""
    return " ".join(table.replace("│", " ").split())


def test_the_version_is_printed() -> None:
    assert persyn("--version").strip() == f"persyn-ray {__version__}"


def test_init_writes_a_recipe_that_loads_and_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "new" / "recipe.yaml"
    persyn("init", path)
    assert len(load_recipe(path).teachers) >= 2
    path.write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        persyn("init", path)
    assert path.read_text() == "mine"


def test_the_schema_is_json_and_says_what_settings_mean() -> None:
    schema = json.loads(persyn("schema"))
    assert schema["required"] == ["run", "student", "teachers", "prompts", "scoring", "router"]
    assert schema["$defs"]["ScoringConfig"]["properties"]["alpha"]["description"]
    assert schema["additionalProperties"] is False


def test_the_plan_lists_every_step_and_the_responses(recipe: Path) -> None:
    text = words(persyn("plan", recipe))
    assert "12 parallel" in text
    assert "36 collected from all teachers" in text
    for step in ("prompts", "collect", "finetune", "evaluate"):
        assert f"{step} to do" in text


def test_the_plan_takes_another_cluster(recipe: Path) -> None:
    assert "12 parallel" in words(persyn("plan", recipe, "--cluster", "2x8x80"))
    with pytest.raises(ConfigError, match="NODESxGPUSxGIB"):
        persyn("plan", recipe, "--cluster", "many")


def test_a_run_stops_where_told_and_its_status_says_so(recipe: Path, tmp_path: Path) -> None:
    persyn("run", recipe, "--until", "prompts")
    status = words(persyn("status", tmp_path / "run"))
    assert "24" in status
    assert "collect –" in status
    assert "prompts done" in words(persyn("plan", recipe))


def test_status_shows_what_endpoints_were_paid(recipe: Path, tmp_path: Path) -> None:
    made = yaml.safe_load(recipe.read_text())
    endpoint = {"kind": "openai", "model": "tiny", "base_url": "http://127.0.0.1:9/v1"}
    budget = {"price": {"response": 10.0}, "budget": {"tokens": 5000, "dollars": 0.5}}
    made["teachers"].append({"name": "far", "engine": endpoint} | budget)
    recipe.write_text(yaml.safe_dump(made))
    persyn("run", recipe, "--until", "prompts")
    nothing = words(persyn("status", tmp_path / "run"))
    assert "teachers/far: 0 tokens of 5,000, $0.0000 of $0.5000" in nothing
    loaded = load_recipe(recipe)
    spending = run_of(loaded).spending_of(loaded.teachers[-1])
    assert spending.more(Usage(100, 900))  # and killed here, before it was settled
    entry = spent(run_of(loaded).ledger / "teachers" / "far")
    shown = words(persyn("status", tmp_path / "run"))
    assert f"teachers/far: {entry.tokens:,} tokens of 5,000" in shown
    assert f"({entry.tokens:,} tokens under way, or when their process was killed)" in shown


def test_overrides_follow_the_recipe(recipe: Path, tmp_path: Path) -> None:
    persyn("run", recipe, "prompts.num_parallel=7", "--until", "prompts")
    made = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert made["prompts"]["num_parallel"] == 7
    with pytest.raises(DriftError, match="num_parallel was 7, the recipe says 12"):
        persyn("run", recipe, "--until", "prompts")
    persyn("run", recipe, "--from", "prompts", "--until", "prompts")


def test_a_prompt_is_explained_by_the_beginning_of_its_id(
    finished: tuple[Recipe, RunLayout],
) -> None:
    _, run = finished
    prompt_id = run.prompts.read_table(run.prompts.names()[0])["prompt_id"][0].as_py()
    text = persyn("explain", run.root.address, prompt_id[:10])
    assert prompt_id in text
    assert "persyn →" in text


def test_the_report_is_written_anew(finished: tuple[Recipe, RunLayout], tmp_path: Path) -> None:
    _, run = finished
    copy = Path(shutil.copytree(run.root.local_path, tmp_path / ("long-name-" * 9)))
    assert f"Report: {copy}/report.html\n" in persyn("report", copy)  # to be copied in one piece
    assert json.loads((copy / "report.json").read_text())["run"]["student"]
    assert "<html" in (copy / "report.html").read_text()
    assert (copy / "dataset" / "README.md").is_file()


LINES = b'{"prompt": "1 + 1?", "answer": 2, "task": "add"}\n' * 40


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.jsonl.gz", gzip.compress(LINES)[:-30], "ends too early"),
        ("p.jsonl.gz", LINES, "is not gzip data"),
        ("p.jsonl", gzip.compress(LINES), "is gzip data"),
        ("p.jsonl", b"", "is empty"),
        ("p.parquet", b"<!DOCTYPE html><html>", "is a web page"),
        ("p.parquet", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        ("p.csv", b'prompt,answer,task\n"1 + 1?,2,add\n2 + 2?,4,add\n', "line 2: a quotation mark"),
        ("p.jsonl", LINES.replace(b"prompt", b"promt"), "'promt' is nearest to 'prompt'"),
        ("p.jsonl", LINES.replace(b'"1 + 1?"', b"[]"), "row 1: the conversation has no user"),
    ],
    ids=lambda given: given if isinstance(given, str) else "content",
)
@pytest.mark.parametrize("command", [("plan",), ("run", "--until", "prompts")])
def test_a_file_that_cannot_be_read_is_one_message_with_its_name(
    recipe: Path, tmp_path: Path, command: tuple[str, ...], name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PersynError, match=rf"{name}.*{says}"):
        persyn(command[0], recipe, f"prompts.path={tmp_path / name}", *command[1:])


def test_a_known_error_is_one_message_and_exit_code_1(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "persyn_ray.cli.main", "status", str(tmp_path / "[x]")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith("ConfigError: ")
    assert "[x]" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_damaged_table_is_named_with_what_mends_it(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    persyn("run", recipe, "--until", "prompts")
    run = run_of(load_recipe(recipe))
    path = Path(run.prompts.path("shard-000000.parquet"))
    data = path.read_bytes()
    path.write_bytes(data[:40] + bytes(20) + data[60:])

    def look() -> None:
        run.prompts.read_table(path.name)

    assert guarded(look) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert f"{path.name} cannot be read as a table" in told
    assert "`persyn run RECIPE --verify` finds what is damaged" in told
    assert "Every table was read: 1 damaged." in persyn(
        "run", recipe, "--until", "prompts", "--verify"
    )
    look()


def test_an_interrupted_command_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    interrupted = typer.Typer()

    @interrupted.command()
    def command() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        guarded(partial(interrupted, []))
    assert ended.value.code == 130
    assert "goes on where this one stopped" in " ".join(capsys.readouterr().err.split())


def test_a_key_is_let_in_by_its_second_line() -> None:
    from persyn_ray.recipe.serving import ServingConfig
    from persyn_ray.serving.middleware.api_keys import Keys

    key, line = CliRunner().invoke(app, ["key", "anna"]).stdout.splitlines()[:2]
    settings = ServingConfig()  # pyright: ignore[reportCallIssue]
    assert Keys.of(settings, {"PERSYN_API_KEYS": line}).owner(key) == "anna"


def test_nothing_is_served_without_a_router(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no router"):
        persyn("serve", tmp_path)


def test_the_lab_is_not_built_over_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text("precious")
    with pytest.raises(ConfigError, match="is not empty"):
        persyn("lab", "build", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["prompts.jsonl"]


def test_plan_and_status_as_json_say_what_the_tables_say(recipe: Path, tmp_path: Path) -> None:
    planned = json.loads(persyn("plan", recipe, "--json"))
    assert planned["prompts"] == {"parallel": 12, "heldout": 4, "routed": 8}
    assert planned["responses"]["collect"] == 36
    assert {row["step"]: row["state"] for row in planned["steps"]}["finetune"] == "to do"
    assert planned["teachers"]["a"]["collect"]["prompts"] == 12
    persyn("run", recipe, "--until", "prompts")
    found = json.loads(persyn("status", tmp_path / "run", "--json"))
    assert (found["steps"]["prompts"]["state"], found["steps"]["prompts"]["rows"]) == ("done", 24)
    assert found["steps"]["collect"] == {
        "state": "to do",
        "finished": None,
        "rows": None,
        "seconds": None,
    }
    assert (found["at_work"], found["error"]) == (None, None)


def test_status_says_what_ended_a_run(tmp_path: Path, recipe: Path) -> None:
    with pytest.raises(PersynError):
        persyn("run", recipe, "prompts.column=nowhere", "--until", "prompts")
    told = " ".join(persyn("status", tmp_path / "run").split())
    assert "The last attempt ended with an error:" in told
    assert "nowhere" in told


def completions(*words: str) -> list[str]:
    """What bash is offered for the last word of a command line."""
    line = " ".join(("persyn", *words))
    asked = {"_PERSYN_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    return CliRunner().invoke(app, [], prog_name="persyn", env=asked).stdout.split()


def test_the_shell_completes_keys_of_a_recipe_and_names_of_its_teachers(
    recipe: Path, tmp_path: Path
) -> None:
    assert completions("run", str(recipe), "router.ep") == ["router.epochs="]
    assert completions("plan", str(recipe), "seed=5", "prompts.num_h") == ["prompts.num_heldout="]
    assert completions("run", str(recipe), "teachers.b.ret") == ["teachers.b.retired="]
    assert completions("run", str(recipe), "student")[:2] == ["student=", "student.name="]
    assert completions("run", str(tmp_path / "none.yaml"), "teachers.") == []
    assert completions("quickstart", "compare.met") == ["compare.methods="]


def test_the_version_of_the_stack_is_told_for_people_and_programs() -> None:
    found = json.loads(persyn("version", "--json"))
    assert found["versions"]["persyn-ray"] == __version__
    assert found["versions"]["python"].startswith("3.")
    assert {"ray", "torch", "transformers", "vllm", "deepspeed"} <= set(found["versions"])
    assert found["cpus"] >= 1
    assert f"persyn-ray    {__version__}" in persyn("version")


def test_help_loads_neither_torch_nor_ray_nor_tables_and_offers_completion() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from persyn_ray.cli.main import app;"
        "print(CliRunner().invoke(app, ['--help']).stdout);"
        "print([name for name in ('torch', 'ray', 'pyarrow', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--install-completion" in done.stdout
    assert done.stdout.strip().endswith("[]")


def test_the_quickstart_runs_from_the_package_wherever_one_stands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    text = persyn("quickstart", "prompts.limit=60", "prompts.num_parallel=9", "--until", "prompts")
    recipe = Path(text.partition("The recipe: ")[2].partition("\n")[0])
    in_checkout = Path(__file__).parents[2] / "jobs" / "quickstart.yaml"
    assert recipe.samefile(in_checkout)
    assert load_recipe(recipe).pool.names[-1] == "weak"
    assert (tmp_path / "runs" / "quickstart" / "recipe.json").is_file()
