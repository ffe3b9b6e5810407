"""Trainers in environments of their own: a tool's name in, its Python or what its loader says out.

An environment holds what the tool pins, installed as locked in requirements/exports/; all else it
takes from the environment of the tests, which stands behind its own packages on the path.
"""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".tools"
LOADERS = Path(__file__).parent / "loaders"
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "AXOLOTL_DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}
STUBS = {"llamafactory": ("torchaudio",)}
"""Modules that a tool imports and, for texts, never calls; their wheels need CUDA's libraries."""


def environment(tool: str) -> Path:
    """The Python of a tool's environment, which is built when it is missing or outdated."""
    locked = ROOT / "requirements" / "exports" / f"{tool}.txt"
    shared = sysconfig.get_path("purelib")
    stamp = hashlib.sha256(locked.read_bytes() + shared.encode()).hexdigest()
    home = ENVIRONMENTS / tool
    ENVIRONMENTS.mkdir(exist_ok=True)
    with (ENVIRONMENTS / f"{tool}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "stamp").exists() or (home / "stamp").read_text() != stamp:
            _build(tool, home, locked, shared)
            (home / "stamp").write_text(stamp)
    return home / "bin" / "python"


def _build(tool: str, home: Path, locked: Path, shared: str) -> None:
    uv = str(Path(sys.executable).parent / "uv")
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, home], check=True)
    install = [uv, "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*install, "--python", home / "bin/python", "-r", locked], check=True)
    (packages,) = home.glob("lib/*/site-packages")
    (packages / "behind.pth").write_text(f"{shared}\n")
    for name in STUBS.get(tool, ()):
        (packages / f"{name}.py").write_text('"""Not here."""\n')


def run(tool: str, *command: str | Path, cwd: Path, seconds: float = 1200) -> str:
    """Run Python in a tool's environment, without network and accelerators; returns its output.

    Raises:
        AssertionError: with the end of what it said, if it failed.
    """
    caches = {"HF_HOME": str(cwd / ".hf"), "MODELSCOPE_CACHE": str(cwd / ".modelscope")}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [environment(tool), *command],
        cwd=cwd,
        env=kept | QUIET | caches,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{tool}: {done.stdout[-2000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def read(tool: str, model: str, folder: Path, forms: list[str]) -> dict[str, Any]:
    """What a tool's own loader makes of forms, each in the folder of its name; see `loaders/`."""
    out = run(tool, LOADERS / f"read_{tool}.py", model, folder, *forms, cwd=folder)
    return json.loads(out.strip().splitlines()[-1])
