"""What is staged for the Hub of a small run folder, its licences, and what keeps it from it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from persyn_ray.cli.main import app
from persyn_ray.errors import ConfigError, DataError
from persyn_ray.hub.contents import Pushed, sizes, staged
from persyn_ray.hub.names import address_of
from persyn_ray.hub.push import push
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout

CARD = "---\nlicense:\n- Apache 2.0\n- Our Own\npretty_name: Größe\n---\n# Body\n---\nend\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with a data set, and files that are nobody's business."""
    data = tmp_path / "run" / "dataset" / "data"
    data.mkdir(parents=True)
    (data / "train-00000.parquet").write_bytes(b"rows")
    (data / ".train-00001.parquet.part").write_bytes(b"half")
    (data.parent / ".cache").mkdir()
    (data.parent / ".cache" / "lock").write_bytes(b"")
    (data.parent / "README.md").write_text(CARD, encoding="utf-8")
    for name in ("recipe.json", "report.json"):
        (tmp_path / "run" / name).write_text("{}")
    return tmp_path / "run"


def of(run: Path, licence: str | None = None) -> Pushed:
    return Pushed("dataset", RunLayout(Folder.absolute(str(run))), "org/set", licence)


def test_only_whole_files_are_staged_and_the_run_stays_as_it_is(run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with staged(of(run)) as folder:
        found = sizes(folder)
        text = (folder / "README.md").read_text("utf-8")
        assert (folder / "data/train-00000.parquet").read_bytes() == b"rows"
    assert found == {"README.md": len(text.encode()), "data/train-00000.parquet": 4}
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert not folder.exists()


@pytest.mark.parametrize(
    ("licence", "named"),
    [
        (None, {"license": ["apache-2.0", "other"], "license_name": "our-own"}),
        ("CC BY 4.0", {"license": "cc-by-4.0"}),
        ("Secret / v1.", {"license": "other", "license_name": "secret-v1"}),
    ],
)
def test_licences_of_the_card_are_the_hubs_or_other(
    run: Path, licence: str | None, named: dict[str, Any]
) -> None:
    with staged(of(run, licence)) as folder:
        text = (folder / "README.md").read_text("utf-8")
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front) == {"pretty_name": "Größe"} | named
    assert body == "# Body\n---\nend\n"


@pytest.mark.parametrize("card", ["# No front matter\n", "---\njust text\n---\nx", "---\na: 1\n"])
def test_a_card_that_somebody_has_spoilt_is_told(run: Path, card: str) -> None:
    (run / "dataset" / "README.md").write_text(card)
    with pytest.raises(DataError, match=r"README\.md has no front matter"), staged(of(run)):
        pytest.fail("was staged")


def test_a_dry_run_lists_and_needs_no_client(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persyn_ray.hub.push.push", lambda *_: pytest.fail("was sent"))
    odd = run / "dataset" / "data" / "[red]x\n.parquet"
    odd.write_bytes(b"1" * 1234)
    result = CliRunner().invoke(app, ["push", str(run), "hub:org/set", "--dry-run"])
    assert result.exit_code == 0, result.exception
    assert "[red]x" in result.output
    assert "1,234" in result.output
    assert "3 files" in result.output
    assert ".cache" not in result.output


@pytest.mark.parametrize(
    "target",
    ["", "hub:", "hub:org", "hub:org/", "hub:a/b/c", "HUB:org/set", "hub:org/..", "hub:-org/set"],
)
def test_names_that_are_none_are_refused_with_what_was_said(target: str) -> None:
    with pytest.raises(ConfigError) as told:
        address_of(target)
    assert target.removeprefix("hub:") in str(told.value)


@pytest.mark.parametrize("name", ["org/set", "o/s.v1_2", "My-Org/a.b-c"])
def test_names_that_the_hub_takes_pass(name: str) -> None:
    assert address_of(f"hub:{name}") == name


@pytest.mark.parametrize(("token", "told"), [(None, "HF_TOKEN"), ("hf_x", "HF_HUB_OFFLINE")])
def test_without_token_or_network_what_to_set_is_said(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str | None, told: str
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ConfigError, match=told):
        push(of(run), run / "dataset", False)
