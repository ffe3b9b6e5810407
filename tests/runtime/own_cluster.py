"""Runs a script that starts several raylets in a process of its own: lines that it prints."""

import os
import subprocess
import sys
from pathlib import Path


def printed_by(name: str, folder: Path, seconds: float = 1700) -> list[str]:
    """Lines of a script beside this file, given a folder; Ray's processes print among them."""
    # What the Ray of other tests has left in the environment is not meant for this one, whose
    # raylets have no token.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    ended = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(name)), str(folder)],
        capture_output=True,
        text=True,
        timeout=seconds,
        env=environment | {"RAY_AUTH_MODE": "disabled"},
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stdout.strip().splitlines()
