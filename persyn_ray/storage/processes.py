"""Identity of the process namespace (boot, container): tells which pids are comparable.

A host name is not enough: two containers may share it and see none of each other's processes.
"""

import os
import socket
from functools import cache
from hashlib import blake2b
from pathlib import Path

import psutil


@cache
def boot() -> str:
    """Names this start of the machine, the same in all its containers; empty if unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
    except OSError:
        return ""


@cache
def processes() -> str:
    """Names the processes that can see each other: a machine's, or a container's.

    16 hex digits, of host name, boot and the kernel's namespace of process ids.
    """
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    parts = f"{socket.gethostname()}\0{boot()}\0{space}"
    return blake2b(parts.encode(), digest_size=8).hexdigest()


def is_running(pid: int) -> bool:
    """Whether a process of `processes()` is there and not dead already."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
