"""Every form as its tool's own loader reads it: all rows, all texts, and what is trained on.

NeMo-RL is not on PyPI: its files are held against the schema that its documents give.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from persyn_ray.exports.form import Facts
from persyn_ray.exports.forms import form_named

from . import tools
from .rows import TableRows
from .test_forms import expected

FORMS_OF = [
    ("trl", ["trl", "trl-messages", "trl-dpo", "trl-kto"]),
    ("llamafactory", ["llamafactory", "llamafactory-dpo", "llamafactory-kto"]),
    ("axolotl", ["axolotl", "axolotl-dpo"]),
    ("ms_swift", ["ms-swift", "ms-swift-dpo", "ms-swift-kto"]),
    ("torchtune", ["torchtune", "torchtune-dpo"]),
]
"""Tools, each with the forms that one process reads."""
LONG = 10_000
"""Characters of a text that no max_length below takes whole."""


def written(folder: Path, forms: list[str], rows: TableRows, facts: Facts) -> Path:
    for form in forms:
        (folder / form).mkdir()
        form_named(form).write(rows, folder / form, facts)
    return folder


def without_empty_system(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """As LLaMA-Factory holds it: there an empty system message is none."""
    return [one for one in messages if one["role"] != "system" or one["content"]]


@pytest.mark.exports
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("tool", "forms"), FORMS_OF)
def test_the_tools_own_loader_takes_every_row_and_text(
    tool: str,
    forms: list[str],
    hostile_rows: TableRows,
    facts: Facts,
    random_llama: str,
    tmp_path: Path,
    record_property: Callable[[str, str], None],
) -> None:
    found = tools.read(tool, random_llama, written(tmp_path, forms, hostile_rows, facts), forms)
    for form in forms:
        wanted = json.loads(json.dumps(expected(form, hostile_rows)))
        if form == "llamafactory":
            wanted = [without_empty_system(messages) for messages in wanted]
        rows = found[form]["rows"]
        assert sorted(map(json.dumps, rows)) == sorted(map(json.dumps, wanted)), form
        require_prepared(form, found[form], wanted)
    record_property("accepted", ",".join(forms))  # benchmarks/exports.py reads these
    if trained := [form for form in forms if "loss" in found[form]]:
        record_property("trained", ",".join(trained))


def is_long(messages: list[dict[str, str]]) -> bool:
    return any(len(one["content"]) > LONG for one in messages)


def require_prepared(form: str, found: dict[str, Any], wanted: list[Any]) -> None:
    """Nothing is lost on the way to training but what is too long (axolotl), or has no response
    before `max_length` (TRL); and the loss is on the response alone.
    """
    read: dict[str, Callable[[Any], list[dict[str, str]]]] = {
        "axolotl": lambda row: row,
        "axolotl-dpo": lambda row: row[0] + row[1],
        "trl": lambda row: row[:-1],
        "trl-messages": lambda row: row[:-1],
    }
    long = [row for row in wanted if form in read and is_long(read[form](row))]
    assert found["num_prepared"] == len(wanted) - len(long), form
    if "loss" in found:
        assert 0 < found["loss"] < 20
    if "trained" in found:
        short = [row[-1]["content"] for row in wanted if len(str(row)) < 2000]
        said = [text.removesuffix("\n").removesuffix("<|im_end|>") for text in found["trained"]]
        missing = [text for text in short if text.strip() not in [one.strip() for one in said]]
        assert not missing, form


@pytest.mark.exports
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("form", ["llamafactory"])
def test_llamafactorys_command_trains_by_the_yaml(
    form: str,
    hostile_rows: TableRows,
    facts: Facts,
    random_llama: str,
    tmp_path: Path,
    record_property: Callable[[str, str], None],
) -> None:
    folder = written(tmp_path, [form], hostile_rows, facts) / form
    settings = yaml.safe_load((folder / "train.yaml").read_text())
    here = {"model_name_or_path": random_llama, "use_cpu": True, "max_steps": 1, "cutoff_len": 256}
    here |= {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 1}
    (folder / "train.yaml").write_text(yaml.safe_dump(settings | here))
    tools.run("llamafactory", "-m", "llamafactory.cli", "train", "train.yaml", cwd=folder)
    assert json.loads((folder / "student" / "train_results.json").read_text())["train_loss"] > 0
    assert (folder / "student" / "model.safetensors").is_file()
    record_property("trained", form)


def test_nemo_rl_sft_is_as_its_documents_say(
    hostile_rows: TableRows,
    facts: Facts,
    tmp_path: Path,
    record_property: Callable[[str, str], None],
) -> None:
    """OpenAIFormatDataset: a line each, `messages` that end with the assistant."""
    form_named("nemo-rl").write(hostile_rows, tmp_path, facts)
    data = yaml.safe_load((tmp_path / "data.yaml").read_text())["data"]["train"]
    assert data["dataset_name"] == "openai_format"
    with (tmp_path / data["data_path"]).open() as file:
        rows = [json.loads(line) for line in file]  # as it reads them
    assert [row[data["chat_key"]] for row in rows] == expected("nemo-rl", hostile_rows)
    assert {row["messages"][-1]["role"] for row in rows} == {"assistant"}
    assert all(set(turn) == {"role", "content"} for row in rows for turn in row["messages"])
    record_property("by_schema", "nemo-rl")


def test_nemo_rl_dpo_is_as_its_documents_say(
    hostile_rows: TableRows,
    facts: Facts,
    tmp_path: Path,
    record_property: Callable[[str, str], None],
) -> None:
    """PreferenceDataset: `context` and two `completions`, of which rank 0 is preferred."""
    datasets = pytest.importorskip("datasets")
    form_named("nemo-rl-dpo").write(hostile_rows, tmp_path, facts)
    file, cache = str(tmp_path / "train.jsonl"), str(tmp_path / "cache")
    train = datasets.load_dataset("json", data_files=file, split="train", cache_dir=cache)
    for row, (chosen, rejected) in zip(train, expected("nemo-rl-dpo", hostile_rows), strict=True):
        ranked = {one["rank"]: row["context"] + one["completion"] for one in row["completions"]}
        assert ranked == {0: chosen, 1: rejected}
    record_property("by_schema", "nemo-rl-dpo")
