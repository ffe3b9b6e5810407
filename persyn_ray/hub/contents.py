"""What of a run goes to the Hub: a run folder in; the files of data set, router or student, with
their card, out."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import yaml

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.hub.names import HUB_NAME
from persyn_ray.report.card import card as dataset_card
from persyn_ray.report.cards.licences import licence_fields
from persyn_ray.report.cards.models import ModelFacts, router_card, student_card
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import PERSYN, RunLayout

What = Literal["dataset", "router", "student"]
CARD = "README.md"
MADE_BY = {"dataset": "synthesize", "router": "router", "student": "finetune"}
"""Steps without which there is nothing to push."""
OLD_FILES = {
    "dataset": ["data/*-?????.parquet"],
    "router": ["model*.safetensors"],
    "student": ["model*.safetensors", "model.safetensors.index.json"],
}
"""Files of an earlier push that are removed where this one has none of the name."""


@dataclass(frozen=True)
class Pushed:
    """What is pushed, and under which name."""

    what: What
    run: RunLayout
    address: str
    """ORG/NAME."""
    licence: str | None = None
    """Of router or student, if somebody has said it."""

    @property
    def repo_type(self) -> str:
        """As the Hub calls it."""
        return "dataset" if self.what == "dataset" else "model"

    @property
    def folder(self) -> Folder:
        """Where its files lie in the run."""
        if self.what == "dataset":
            return self.run.dataset
        return self.run.router if self.what == "router" else self.run.student(PERSYN)


@contextmanager
def staged(pushed: Pushed) -> Iterator[Path]:
    """A local folder with the files and the card, as the repository will hold them.

    Raises:
        ConfigError: the run has not made it yet, or there is no such run.
    """
    report = _report(pushed)
    with TemporaryDirectory(prefix="push-") as scratch:
        source = pushed.folder.download(Path(scratch) / "source")
        target = Path(scratch) / "repository"
        for path in sorted(source.rglob("*")):
            inside = path.relative_to(source)
            if path.is_file() and not any(part.startswith(".") for part in inside.parts):
                (target / inside).parent.mkdir(parents=True, exist_ok=True)
                os.symlink(path.resolve(), target / inside)  # nothing is copied
        (target / CARD).unlink(missing_ok=True)
        (target / CARD).write_text(_card(pushed, report, source), encoding="utf-8")
        yield target


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file, by its path in the repository."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _report(pushed: Pushed) -> Mapping[str, object]:
    root, what = pushed.run.root, pushed.what
    if not root.exists("recipe.json"):
        raise ConfigError(f"{root.address} holds no run: name a run folder.")
    known = {"dataset": "data", "router": "config.json", "student": "config.json"}[what]
    if not pushed.folder.exists(known):
        raise ConfigError(
            f"{root.address} has no {what} yet: step {MADE_BY[what]} is not done. `persyn run` "
            "goes on with it."
        )
    if not root.exists("report.json"):
        raise ConfigError(
            f"{root.address} has no report, of which the card is made: `persyn report "
            f"{root.address}` writes it."
        )
    return root.read_json("report.json")


def _card(pushed: Pushed, report: Mapping[str, object], source: Path) -> str:
    if pushed.what == "dataset":
        beside = source / CARD
        files = {"train": "data/train-*.parquet"}
        text = beside.read_text("utf-8") if beside.exists() else dataset_card(report, files)
        return _with_known_licences(text, pushed.licence)
    if pushed.what == "student":
        base = _on_the_hub(_said(report, "run", "recipe", "student", "name"))
        return student_card(report, ModelFacts(pushed.address, base, pushed.licence))
    config = pushed.folder.read_json("config.json")
    facts = ModelFacts(
        pushed.address,
        _on_the_hub(_said(report, "run", "recipe", "router", "backbone", "name")),
        pushed.licence,
        tuple(config["teachers"]),
        config.get("backbone_config", {}).get("model_type"),
    )
    return router_card(report, facts)


def _with_known_licences(text: str, licence: str | None) -> str:
    """A card in whose front matter licences are identifiers of the Hub."""
    before, _, rest = text.partition("---\n")
    front, mark, body = rest.partition("\n---\n")
    fields = yaml.safe_load(front) if not before and mark else None
    if not isinstance(fields, dict):
        raise DataError("The data set's README.md has no front matter: `persyn report` renews it.")
    named = fields.pop("license", [])
    fields.pop("license_name", None)
    names = [licence] if licence else [named] if isinstance(named, str) else list(named)
    made = yaml.safe_dump(fields | licence_fields(names), sort_keys=False, allow_unicode=True)
    return f"---\n{made}---\n{body}"


def _said(content: object, *names: str) -> str | None:
    """The text at the end of a path of keys; None where it is not there."""
    for name in names:
        content = content.get(name) if isinstance(content, Mapping) else None
    return content if isinstance(content, str) else None


def _on_the_hub(name: str | None) -> str | None:
    """The name of a model that others can find; folders and packages are this machine's."""
    is_named = name is not None and HUB_NAME.fullmatch(name) and not Path(name).exists()
    return name if is_named else None
