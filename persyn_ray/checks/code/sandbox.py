"""Confines the calling process before it runs a program that nobody has read.

Three things the kernel itself enforces, and nothing can take back: limits of time, memory and files
(setrlimit), the few system calls that are left (a seccomp filter, through the system's libseccomp),
and the folders that can be read at all (Landlock, where the kernel has it: Linux 5.13). A confined
process writes no file, opens no socket, starts no process or program, and signals nobody; it may
use threads, read Python's own files, and write into what it was handed open.
"""

import ctypes
import math
import os
import resource
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

ALLOWED = frozenset(
    """
    access arch_prctl brk clock_getres clock_gettime clock_nanosleep close dup dup2 dup3
    epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd2 exit exit_group faccessat
    faccessat2 fcntl fstat fstatfs futex getcpu getcwd getdents64 getegid geteuid getgid getpgrp
    getpid getppid getrandom getrlimit getrusage gettid gettimeofday getuid lseek lstat madvise
    membarrier mmap mprotect mremap munmap nanosleep newfstatat pipe pipe2 poll ppoll pread64
    pselect6 read readlink readlinkat readv restart_syscall rseq rt_sigaction rt_sigprocmask
    rt_sigreturn rt_sigsuspend rt_sigtimedwait sched_getaffinity sched_yield select set_robust_list
    set_tid_address sigaltstack socketpair stat statfs statx sysinfo time times umask uname write
    writev
    """.split()  # noqa: SIM905
)
"""What Python, its standard library and numpy need to compute, and nothing beyond."""
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_MASKED_EQUAL = 7
_CLONE_THREAD = 0x00010000
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_REQUESTS = (0x5401, 0x5413, 0x5421, 0x5451)
"""Of ioctl: is it a terminal, how large, do not block, close on exec. Python asks for these."""
_NO_NEW_PRIVILEGES = 38
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_READ = 0b1100  # files, folders
_ALL_OF_FILES = (1 << 13) - 1  # every right of Landlock's first version
READABLE = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/dev/null")


@dataclass(frozen=True)
class Limits:
    """What a program may take."""

    cpu_seconds: float
    memory_gib: float


class _Comparison(ctypes.Structure):
    """libseccomp's scmp_arg_cmp: argument number, how, and two values."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64),)


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def why_unavailable() -> str | None:
    """Why programs cannot be confined on this machine, or None."""
    if not sys.platform.startswith("linux"):
        return f"programs are confined by Linux's seccomp, and this is {sys.platform}"
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return "libseccomp.so.2 is missing: install the system's package libseccomp2"
    return None


def confine(limits: Limits) -> None:
    """Confine this process and all it will ever start; irrevocable.

    Raises:
        OSError: the kernel or the library refuses, so nothing may be run.
    """
    seconds = math.ceil(limits.cpu_seconds)
    size = int(limits.memory_gib * 2**30)
    for what, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, size),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
    _restrict_reading(libc, {*READABLE, sys.prefix, sys.base_prefix, *sys.path})
    _filter_system_calls(ctypes.CDLL("libseccomp.so.2"))


def _restrict_reading(libc: Any, places: Iterable[str]) -> None:
    """Leave only these files and folders readable, where the kernel has Landlock."""
    if libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1) < 1:
        return
    ruleset = _Ruleset(_ALL_OF_FILES)
    handle = libc.syscall(
        _LANDLOCK_CREATE, ctypes.byref(ruleset), ctypes.c_size_t(ctypes.sizeof(ruleset)), 0
    )
    if handle < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    for place in filter(os.path.exists, places):
        where = os.open(place, os.O_PATH | os.O_CLOEXEC)
        rights = _READ if os.path.isdir(place) else _READ & 0b0100
        rule = _PathBeneath(rights, where)
        if libc.syscall(_LANDLOCK_ADD, handle, 1, ctypes.byref(rule), 0):
            raise OSError(ctypes.get_errno(), f"landlock_add_rule {place}")
        os.close(where)
    if libc.syscall(_LANDLOCK_RESTRICT, handle, 0):
        raise OSError(ctypes.get_errno(), "landlock_restrict_self")
    os.close(handle)


def _filter_system_calls(library: Any) -> None:
    """Leave the allowed calls; every other one fails as not permitted."""
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(_ERRNO | _EPERM))
    if not context:
        raise OSError("seccomp_init")

    def rule(action: int, name: str, *comparisons: _Comparison) -> None:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:  # this architecture has no such call
            return
        given = (_Comparison * len(comparisons))(*comparisons)
        failed = library.seccomp_rule_add_array(context, action, number, len(comparisons), given)
        if failed:
            raise OSError(-failed, f"seccomp_rule_add {name}")

    def masked(arg: int, mask: int, value: int) -> _Comparison:
        return _Comparison(arg, _MASKED_EQUAL, mask, value)

    for name in ALLOWED:
        rule(_ALLOW, name)
    rule(_ALLOW, "open", masked(1, _WRITING, 0))
    rule(_ALLOW, "openat", masked(2, _WRITING, 0))
    rule(_ALLOW, "prlimit64", masked(2, 2**64 - 1, 0))  # asking, not setting
    rule(_ALLOW, "clone", masked(0, _CLONE_THREAD, _CLONE_THREAD))
    rule(_ERRNO | _ENOSYS, "clone3")  # its flags lie in memory; the C library falls back to clone
    for request in _REQUESTS:
        rule(_ALLOW, "ioctl", masked(1, 2**32 - 1, request))
    failed = library.seccomp_load(context)
    library.seccomp_release(context)
    if failed:
        raise OSError(-failed, "seccomp_load")
