"""A sitting of a resumable command over recorded responses: its arguments in, when it ends out."""

import argparse
import sys
import time
from pathlib import Path

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
"""The recorded responses."""


def ends_at(description: str | None) -> float:
    """When this sitting ends, on the monotonic clock; without the data the command ends here."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=float("inf"))
    ends = time.monotonic() + 60 * parser.parse_args().minutes
    if not DATA.exists():
        sys.exit(f"{DATA} is missing: the recorded responses are needed.")
    return ends
