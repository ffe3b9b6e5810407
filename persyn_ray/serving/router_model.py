"""The fitted router for serving: loads it, tokenises prompts, computes logits of a batch.

Axes: P prompts, M teachers.
"""

import copy
import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import TemplateError

from persyn_ray.errors import PersynError
from persyn_ray.method.arrays import Floats
from persyn_ray.method.novelty import Novelty
from persyn_ray.models.chat import Message
from persyn_ray.models.load import on_device
from persyn_ray.models.router.frozen import checked_logits
from persyn_ray.models.router.model import (
    encode_router_prompts,
    load_router,
    over_batches,
    pad_of,
)
from persyn_ray.serving.error_response import Refusal
from persyn_ray.stages.route import NOVELTY_FILE
from persyn_ray.storage.fits import ROUTER_FIT_FILE
from persyn_ray.storage.folder import Folder

Rows = Sequence[Sequence[int]]
MOST_CHARACTERS_PER_TOKEN = 16
ENDLESS = 2**31
"""More tokens than any prompt has."""


@dataclass(frozen=True)
class Scores:
    """What a pass gives for its prompts."""

    logits_PM: Floats
    distances: list[tuple[float, bool]] | None
    """Distance to the parallel set, and whether it counts as novel."""

    def part(self, start: int, stop: int) -> "Scores":
        """Those of prompts start to stop."""
        distances = None if self.distances is None else self.distances[start:stop]
        return Scores(self.logits_PM[start:stop], distances)


class RouterModel:
    """A fitted router, ready to answer. One thread at a time may read, one may score."""

    def __init__(self, address: str) -> None:
        """Load a router's folder (local, or any fsspec address).

        Raises:
            ConfigError: the folder holds no router.
        """
        self.address = address
        with tempfile.TemporaryDirectory() as scratch:
            folder = Folder.absolute(address).download(Path(scratch) / "router")
            model, self.tokenizer = load_router(folder)
            self.tokenizer.name_or_path = "the router"  # clients are not told where it lies
            self.version = _version(folder)
            novelty = folder / NOVELTY_FILE
            self.novelty = Novelty.load(novelty) if novelty.exists() else None
        self.router = on_device(model)
        config = model.config
        self.teachers = tuple(config.teachers)
        self.loss = str(config.loss)
        self.kind = str(config.extra.get("kind", "fitted"))
        self.backbone = str(config.backbone_config.get("model_type"))
        self.max_length = int(config.extra.get("max_length", 1024))
        self.prior: dict[str, float] = dict(config.extra.get("prior", {}))
        # Whether a prompt is too long is told by all of its tokens.
        self._wide = copy.copy(self.tokenizer)
        self._wide.model_max_length = ENDLESS

    @property
    def facts(self) -> dict[str, object]:
        """What /v1/status says of it."""
        names = ("version", "kind", "loss", "backbone", "max_length")
        said: dict[str, object] = {name: getattr(self, name) for name in names}
        return said | {"tells_novelty": self.novelty is not None}

    def read(
        self, conversations: Sequence[Sequence[Message]], max_tokens: int, first: int = 0
    ) -> Rows:
        """Token ids of each prompt, as the router reads it; `first` is the first one's number.

        Raises:
            Refusal: 422 for a prompt that is longer than max_tokens, or that the router cannot
                read.
        """
        _require_short(conversations, max_tokens, first)
        try:
            rows = encode_router_prompts(self._wide, conversations, ENDLESS)
            for number, row in enumerate(rows):
                if len(row) > max_tokens:
                    raise Refusal(
                        422,
                        f"Prompt {first + number} has {len(row)} tokens; "
                        f"serving.max_prompt_tokens is {max_tokens}.",
                    )
            limit = min(self.max_length, self.tokenizer.model_max_length)
            long = [number for number, row in enumerate(rows) if len(row) > limit]
            # Encoded anew and not cut: an encoder's marks stand at both ends.
            cut = encode_router_prompts(
                self.tokenizer, [conversations[number] for number in long], self.max_length
            )
        except (PersynError, TemplateError) as error:
            raise Refusal(422, str(error)) from error
        for number, row in zip(long, cut, strict=True):
            rows[number] = row
        return rows

    def score(
        self, rows: Rows, tokens_per_batch: int, tasks: Sequence[str | None] | None = None
    ) -> Scores:
        """Logits and distances of prompts, one pass over the backbone.

        Args:
            tasks: their labels, which some kinds of router read.
        """
        pad = pad_of(self.tokenizer)
        features_PD = over_batches(self.router, self.router.pooled, rows, pad, tokens_per_batch)
        distances = None
        if self.novelty is not None:
            distance_P = self.novelty.distance(features_PD.float().numpy())
            is_novel_P = distance_P > self.novelty.threshold
            distances = list(zip(distance_P.tolist(), is_novel_P.tolist(), strict=True))
        return Scores(checked_logits(self.router, features_PD, tasks), distances)


def teachers_of(address: str) -> tuple[str, ...]:
    """A router's teachers, without loading it."""
    return tuple(Folder.absolute(address).read_json("config.json")["teachers"])


def content_of(address: str) -> str:
    """Changes when a router is fitted again in the same place; reads only what is small."""
    folder = Folder.absolute(address)
    names = [name for name in ("config.json", ROUTER_FIT_FILE) if folder.exists(name)]
    return hashlib.sha256(b"".join(folder.read_bytes(name) for name in names)).hexdigest()[:12]


def _require_short(conversations: Sequence[Sequence[Message]], max_tokens: int, first: int) -> None:
    """Refuse by characters what would take long to count in tokens."""
    limit = MOST_CHARACTERS_PER_TOKEN * max_tokens
    for number, turns in enumerate(conversations, first):
        size = sum(len(turn["content"]) for turn in turns)
        if size > limit or len(turns) > max_tokens:
            raise Refusal(
                422,
                f"Prompt {number} has {size} characters; serving.max_prompt_tokens is "
                f"{max_tokens}, of at most {MOST_CHARACTERS_PER_TOKEN} characters each.",
            )


def _version(folder: Path) -> str:
    """Twelve hex digits of the content of all that decides an answer."""
    digest = hashlib.sha256()
    names = sorted(
        p.name for p in folder.iterdir() if p.suffix in (".safetensors", ".json", ".npz")
    )
    for name in (name for name in names if name != ROUTER_FIT_FILE):
        digest.update(name.encode() + b"\0")
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]
