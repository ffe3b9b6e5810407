from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from persyn_ray.recipe.data import COLUMNS
from persyn_ray.report.card import card
from persyn_ray.storage.schemas import EXAMPLES

FILES = {"train": "*.parquet"}
PLAIN = str.maketrans({"\N{EN DASH}": "-", "\N{MINUS SIGN}": "-", "\N{NO-BREAK SPACE}": " "})


def front_matter(text: str) -> dict[str, Any]:
    _, front, body = text.split("---\n", 2)
    assert body.lstrip().startswith("# ")
    return yaml.safe_load(front)


def test_front_matter_names_licences_and_files(content: dict[str, Any]) -> None:
    front = front_matter(card(content, FILES))
    assert front["pretty_name"] == "Four small tasks, five teachers"
    assert front["license"] == ["apache-2.0", "unknown"]
    assert front["size_categories"] == ["1K<n<10K"]
    assert front["configs"][0]["data_files"] == [{"split": "train", "path": "*.parquet"}]


def test_every_split_and_column_is_told(content: dict[str, Any]) -> None:
    files = {split: f"data/{split}-*.parquet" for split in ("train", "parallel", "heldout")}
    text = card(content, files)
    found = front_matter(text)["configs"][0]["data_files"]
    assert {one["split"]: one["path"] for one in found} == files
    for name in COLUMNS:
        (line,) = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
        assert len(line.split("|")) == 5
    fewer = card(content, FILES, columns=("messages", "teacher"))
    assert "| `messages` |" in fewer
    assert "`reward`" not in fewer


def test_one_licence_stands_alone(content: dict[str, Any]) -> None:
    for teacher in content["run"]["recipe"]["teachers"]:
        teacher["licence"] = "mit"
    assert front_matter(card(content, FILES))["license"] == "mit"


@pytest.mark.parametrize("title", ["colon: here", "--- dashes", 'a "quoted" name', "naïve 日本"])
def test_any_title_is_sound_yaml(content: dict[str, Any], title: str) -> None:
    content["run"]["name"] = title
    assert front_matter(card(content, FILES))["pretty_name"] == title


def test_body_shows_teachers_results_and_recipe(content: dict[str, Any]) -> None:
    text = card(content, {"train": "tables/examples/*.parquet"}, num_examples=9437).translate(PLAIN)
    assert "| weak-generalist | 38 % | unknown |" in text
    assert "| PerSyn | 0.98 | 0.87 (0.85-0.89) | 0.79 (0.75-0.82) |" in text
    assert "| best by quality alone † |" in text
    assert "| oracle † |" in text
    assert 'data_files="tables/examples/*.parquet"' in text
    recipe = text.rsplit("```yaml\n", 1)[1].split("```")[0]
    assert yaml.safe_load(recipe) == content["run"]["recipe"]


def test_an_empty_run_still_has_a_card() -> None:
    text = card({}, FILES)
    assert front_matter(text)["license"] == "unknown"
    assert "Nothing was measured in this run." in text


def test_datasets_loads_what_lies_beside_the_card(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    messages = [{"role": "user", "content": "1+1"}, {"role": "assistant", "content": "#2"}]
    row = {"prompt_id": "a1", "teacher": "add-specialist", "messages": messages}
    folder = tmp_path / "data"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist([row], schema=EXAMPLES), folder / "shard-00000.parquet")
    (folder / "README.md").write_text(card(content, FILES), encoding="utf-8")
    cache = str(tmp_path / "cache")
    by_file = datasets.load_dataset(
        "parquet", data_files=str(folder / "*.parquet"), split="train", cache_dir=cache
    )
    by_card = datasets.load_dataset(str(folder), split="train", cache_dir=cache)
    assert by_file[0]["messages"] == messages
    assert by_card[0]["teacher"] == "add-specialist"
