"""Each on-policy form, read back: every row with its texts and its teacher.

miles, slime and NeMo-RL are not on a package index. What their loaders do with a file is written
down here again from their sources (miles and slime `utils/data.py` and `on_policy_distillation.py`,
NeMo-RL `nemogym_dataset.py`, `opd.py` and `utils/config.py`, all of August 2026): this holds the
files against that reading of them, and not against the loaders themselves.
"""

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from persyn_ray.exports.export import export
from persyn_ray.exports.form import Facts
from persyn_ray.exports.forms import form_named
from persyn_ray.recipe.base import StudentConfig
from persyn_ray.storage.folder import Folder

from ..rows import TableRows, routed
from .conftest import ALIKE, teacher

Row = dict[str, Any]
Write = Callable[[str], Path]
Record = Callable[[str, str], None]


@pytest.fixture
def write(routed_rows: TableRows, routed_facts: Facts, tmp_path: Path) -> Write:
    def of(form: str) -> Path:
        export(form_named(form), routed_rows, routed_facts, Folder(str(tmp_path / form)))
        return tmp_path / form

    return of


def expected(rows: TableRows, split: str = "assigned") -> list[tuple[list[Row], str]]:
    return [(row["messages"], row["teacher"]) for row in rows.of(split) if row["teacher"] in ALIKE]


def read_lines(path: Path) -> list[Row]:
    """As miles, slime and NeMo-RL do: the file's lines in text mode, each a JSON object."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line.strip()) for line in file]


def arguments(folder: Path) -> dict[str, list[str]]:
    """What a shell makes of arguments.sh: each option with its values."""
    shell = 'source arguments.sh && printf "%s\\n" "${PERSYN_ARGUMENTS[@]}"'
    told = subprocess.run(
        ["bash", "-euc", shell], cwd=folder, capture_output=True, text=True, check=True
    )
    found: dict[str, list[str]] = {}
    for word in told.stdout.splitlines():
        if word.startswith("--"):
            found[word] = values = []
        else:
            values.append(word)
    return found


def miles_url(sample: Row, options: dict[str, list[str]]) -> str:
    """Where miles sends a sample: NAME=URL split at the first sign, and no fallback without one."""
    urls: dict[str, str] = {}
    for value in options["--opd-teacher-urls"]:
        name, sign, url = value.partition("=")
        assert all((sign, name.strip(), url.strip()))
        assert name not in urls
        urls[name.strip()] = url.strip()
    return urls[str(sample["metadata"][options["--opd-teacher-key"][0]])]


def test_miles_sends_each_row_to_its_teacher(
    write: Write, routed_rows: TableRows, record_property: Record
) -> None:
    folder = write("miles")
    options = arguments(folder)
    (key,), (label,) = options["--input-key"], options["--label-key"]
    rows = read_lines(folder / options["--prompt-data"][0])
    assert [(row[key], row["metadata"]["opd_teacher"]) for row in rows] == expected(routed_rows)
    assert [miles_url(row, options) for row in rows] == [
        f"http://{name}:30000/generate" for _, name in expected(routed_rows)
    ]
    known = [row["reference"] for row in routed_rows.of("assigned") if row["teacher"] in ALIKE]
    assert [row[label] for row in rows] == known
    assert options["--opd-type"] == ["sglang"]
    assert options["--use-opd"] == options["--apply-chat-template"] == []
    record_property("by_schema", "miles")  # benchmarks/exports.py reads these


def test_slime_carries_each_rows_teacher_as_its_source(
    write: Write, routed_rows: TableRows, record_property: Record
) -> None:
    folder = write("slime")
    rows = read_lines(folder / "train.jsonl")
    # slime's get_source: `metadata["source_name"]` unless a sample has a `source` of its own.
    assert [(row["prompt"], row["metadata"]["source_name"]) for row in rows] == expected(
        routed_rows
    )
    assert "--opd-teacher-urls" not in arguments(folder)
    readme = (folder / "README.md").read_text()
    assert "get_source(sample)" in readme
    assert all(f"{name} (" in readme for name in ALIKE)
    record_property("by_schema", "slime")


def test_nemo_rl_finds_a_teacher_for_the_agent_of_each_row(
    write: Write, routed_rows: TableRows, student: str, record_property: Record
) -> None:
    folder = write("nemo-rl-mopd")
    rows = read_lines(folder / "train.jsonl")
    told = [(row["responses_create_params"]["input"], row["agent_ref"]["name"]) for row in rows]
    assert told == expected(routed_rows)
    assert {row["agent_ref"]["type"] for row in rows} == {"responses_api_agents"}
    assert all(isinstance(row["expected_answer"], str) for row in rows)  # string_match asks for it
    settings = yaml.safe_load((folder / "mopd.yaml").read_text())
    teachers = settings["on_policy_distillation"]
    assert teachers["teacher_model_by_agent_name"] == dict.fromkeys(ALIKE, student)
    assert teachers["strict_agent_name_match"] is True
    agents = settings["env"]["nemo_gym"]
    for name in ALIKE:
        agent = agents[name]["responses_api_agents"]["simple_agent"]
        assert agent["model_server"]["name"] == "policy_model"
        assert any(agent["resources_server"]["name"] in path for path in agents["config_paths"])
    overrides = teachers["non_colocated_teachers"]["teacher_overrides"]
    assert overrides["7"]["tensor_model_parallel_size"] == 2
    # Policy and generation have a node each; teachers of one checkpoint share theirs.
    assert settings["cluster"]["num_nodes"] == 3
    record_property("by_schema", "nemo-rl-mopd")


def test_nemo_rl_keeps_the_teachers_of_the_recipe_underneath_out(write: Write) -> None:
    settings = yaml.safe_load((write("nemo-rl-mopd") / "mopd.yaml").read_text())
    # load_config_with_inheritance: `_override_` at the top of a section replaces the parent's.
    assert settings["on_policy_distillation"]["_override_"] is True
    assert settings["env"]["_override_"] is True
    assert settings["defaults"].endswith(".yaml")


def test_verl_has_a_model_for_the_teacher_of_each_row(
    write: Write, routed_rows: TableRows, student: str
) -> None:
    folder = write("verl")
    rows = pq.read_table(folder / "train.parquet").to_pylist()
    assert [(row["prompt"], row["teacher"]) for row in rows] == expected(routed_rows)
    assert [row["extra_info"]["index"] for row in rows] == list(range(len(rows)))
    settings = yaml.safe_load((folder / "verl.yaml").read_text())
    entries = settings["distillation"]["teacher_models"]
    assert "teacher_model" not in entries  # it would go without a word
    assert [one["key"] for one in entries.values()] == list(ALIKE)
    assert {one["model_path"] for one in entries.values()} == {student}
    assert {one["inference"]["load_format"] for one in entries.values()} == {"auto"}
    assert settings["distillation"]["n_gpus_per_node"] == 1 + 2 + 1
    assert settings["distillation"]["teacher_key"] == "teacher"


def test_ms_swift_has_a_server_for_the_tag_of_each_row(
    write: Write, routed_rows: TableRows
) -> None:
    folder = write("ms-swift-gkd")
    settings = yaml.safe_load((folder / "gkd.yaml").read_text())
    (file,) = settings["dataset"]
    rows = pq.read_table(folder / file).to_pylist()
    key = settings["teacher_tag_key"]
    assert [(row["messages"], row[key]) for row in rows] == expected(routed_rows)
    assert settings["remove_unused_columns"] is False
    servers = json.loads(settings["teacher_model_server"])
    assert [tag for server in servers for tag in server["tags"]] == list(ALIKE)
    assert len({server["url"] for server in servers}) == len(ALIKE)


def is_long(messages: list[Row]) -> bool:
    """Whether one of the hostile conversations has more tokens than the window."""
    return any(len(one["content"]) > 10_000 for one in messages)


@pytest.mark.parametrize(
    ("form", "split", "column"),
    [
        ("trl-gkd", "train", "messages"),
        ("trl-gold", "train", "messages"),
        ("trl-distillation", "assigned", "prompt"),
    ],
)
def test_trl_has_a_file_and_a_configuration_for_each_teacher(
    form: str, split: str, column: str, write: Write, routed_rows: TableRows
) -> None:
    folder = write(form)
    teachers = [*ALIKE, "stranger"] if form == "trl-gold" else list(ALIKE)
    assert {one.name for one in folder.iterdir() if one.is_dir()} == set(teachers)
    for name in teachers:
        rows = pq.read_table(folder / name / "train.parquet").to_pylist()
        told = [row["messages"] for row in routed_rows.of(split) if row["teacher"] == name]
        if split == "train":
            told = [messages for messages in told if not is_long(messages)]
        assert [row[column] for row in rows] == told
        (path,) = (folder / name).glob("*.yaml")
        assert yaml.safe_load(path.read_text())["output_dir"] == f"student-{name}"


def test_gold_crosses_tokenizers_for_the_one_that_is_other(write: Write, stranger: str) -> None:
    folder = write("trl-gold")
    of = {
        name: yaml.safe_load((folder / name / "gold.yaml").read_text())
        for name in (*ALIKE, "stranger")
    }
    assert of["stranger"]["use_uld_loss"] is True
    assert of["stranger"]["teacher_tokenizer_name_or_path"] == stranger
    assert not any("use_uld_loss" in of[name] for name in ALIKE)


def test_trl_hands_the_student_from_one_teacher_to_the_next(write: Write, student: str) -> None:
    folder = write("trl-distillation")
    first, *others = (
        yaml.safe_load((folder / name / "distillation.yaml").read_text()) for name in ALIKE
    )
    assert first["model_name_or_path"] == student
    assert [one["model_name_or_path"] for one in others] == ["student-a", "student-7"]
    commands = (folder / "README.md").read_text()
    places = [commands.index(f"--config {name}/distillation.yaml") for name in ALIKE]
    assert places == sorted(places)


def test_outputs_of_another_width_are_no_match_for_trl(
    routed_facts: Facts, student: str, tmp_path: Path
) -> None:
    """The tokenizer is the student's, and the model has more rows than it has tokens."""
    wide = tmp_path / "wide"
    wide.mkdir()
    for path in Path(student).iterdir():
        (wide / path.name).write_bytes(path.read_bytes())
    config = json.loads((wide / "config.json").read_text())
    (wide / "config.json").write_text(json.dumps(config | {"vocab_size": 9999}))
    pool = (teacher("a", student), teacher("wide", str(wide)))
    facts = replace(routed_facts, teachers=pool)
    rows = TableRows(
        tuple(
            routed(n, split, pool[n % 2].name) for n in range(4) for split in ("train", "assigned")
        )
    )
    left_out = {
        form: export(form_named(form), rows, facts, Folder(str(tmp_path / form))).written.left_out
        for form in ("verl", "trl-gkd", "trl-distillation", "trl-gold")
    }
    assert not left_out["verl"]
    assert not left_out["trl-gold"]
    for form in ("trl-gkd", "trl-distillation"):
        ((reason, number),) = left_out[form].items()
        assert "teacher wide has 9,999 logits" in reason
        assert number == 2
    gold = yaml.safe_load((tmp_path / "trl-gold" / "wide" / "gold.yaml").read_text())
    assert gold["use_uld_loss"] is True


def test_what_a_tool_is_not_told_by_its_files_is_told_in_its_readme(
    routed_facts: Facts, student: str, tmp_path: Path
) -> None:
    pinned = teacher("a", student).model_copy(deep=True)
    model = pinned.engine.model.model_copy(update={"revision": "abc123"})  # pyright: ignore
    engine = pinned.engine.model_copy(update={"model": model})
    facts = replace(
        routed_facts,
        teachers=(pinned.model_copy(update={"engine": engine}),),
        student=StudentConfig(name=student, chat_template="{{ messages }}"),
    )
    rows = TableRows((routed(1, "assigned", "a"),))
    export(form_named("verl"), rows, facts, Folder(str(tmp_path / "verl")))
    readme = (tmp_path / "verl" / "README.md").read_text()
    assert "pins a revision of a (abc123)" in readme
    assert "a chat template of its own" in readme
    export(form_named("ms-swift-gkd"), rows, facts, Folder(str(tmp_path / "swift")))
    assert "--model_revision abc123" in (tmp_path / "swift" / "README.md").read_text()


def test_examples_that_fill_the_window_are_counted(write: Write, routed_rows: TableRows) -> None:
    marker = json.loads((write("trl-gold") / "persyn-export.json").read_text())
    taken = [row for row in routed_rows.of("train") if row["teacher"] != "unknown"]
    long = sum(is_long(row["messages"]) for row in taken)
    assert long > 0
    assert marker["left_out"]["longer than 2,048 tokens (finetune.max_length)"] == long
    assert marker["rows"] == len(taken) - long


def test_counts_of_the_marker_add_up(write: Write, routed_rows: TableRows) -> None:
    sent = Counter(row["teacher"] for row in routed_rows.of("assigned"))
    for form in ("verl", "ms-swift-gkd", "miles", "slime", "nemo-rl-mopd"):
        marker = json.loads((write(form) / "persyn-export.json").read_text())
        assert marker["rows"] == sum(sent[name] for name in ALIKE)
        assert marker["rows"] + sum(marker["left_out"].values()) == sent.total()
