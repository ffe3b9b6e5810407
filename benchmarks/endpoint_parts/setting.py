"""What all parts share: the routers, the prompts, the key, the endpoint's settings."""

import hashlib
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endpoint_parts.judging import Workload
from endpoint_parts.processes import run_part
from persyn_ray.recipe.serving import ServingConfig

KEY = "pk-" + secrets.token_urlsafe(32)
NUM_PROMPTS = {False: 1024, True: 256}  # by whether it is quick
LOGICAL_CPUS = 8
"""Of Ray; the machine's real ones are shared by all."""


@dataclass(frozen=True)
class Setting:
    """One run of the benchmark."""

    root: Path
    """A scratch folder."""
    is_quick: bool
    facts: dict[str, Any]
    """Of routers and prompts."""

    @classmethod
    def prepared(cls, root: Path, is_quick: bool, *backbone: str) -> "Setting":
        """Routers, prompts and expected scores, written into `root`."""
        arguments = (root, NUM_PROMPTS[is_quick], *backbone)
        lines = run_part("preparing", *arguments, seconds=300).splitlines()
        return cls(root, is_quick, json.loads(lines[-1]))

    @property
    def workload(self) -> Path:
        """File with prompts and expected scores."""
        return self.root / "workload.json"

    @property
    def routers(self) -> dict[str, str]:
        """Folders of the routers by name."""
        return Workload.load(self.workload).routers

    @property
    def tokens_per_batch(self) -> int:
        """As the endpoint has it by default."""
        return ServingConfig().tokens_per_batch

    def folder(self, name: str) -> Path:
        """A scratch folder of one server; its sockets' paths must be short."""
        path = self.root / name
        path.mkdir(exist_ok=True)
        return path

    def plan(self, app: str = "ours", **more: Any) -> dict[str, Any]:
        """What `server.py` is told; the limits of a key are out of the way."""
        digest = hashlib.sha256(KEY.encode()).hexdigest()
        args = {"keys": {"bench": digest}, "requests_per_second": 1e6, "burst": 10**6} | more
        return {
            "app": app,
            "router": self.routers["first"],
            "args": args if app == "ours" else {},
            "cpus": LOGICAL_CPUS,
        }
