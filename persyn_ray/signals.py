"""Handles SIGTERM like Ctrl-C: the first ends a command in order, a second at once.

Kubernetes, `ray job stop` and systemd send SIGTERM and, some seconds later, SIGKILL. The first one
becomes a KeyboardInterrupt of the main thread, so that whatever cleans up after Ctrl-C does so
here: Ray of this machine is shut down, processes are ended, the run is left to whoever comes.
Signals are counted in a thread of their own, since the main thread may be held up in the C++ of a
library, where two of them would become one. Where Python ignores what is raised (in destructors and
callbacks, many of which run while modules are imported) the interruption is raised once more.
"""

import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

import psutil

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
TERMINATED = 128 + signal.SIGTERM
"""Exit code after SIGTERM: 143."""
SAID = b"\nSIGTERM: ending in order; a second one ends at once.\n"
_taken = threading.Event()
_terminated = threading.Event()
_interrupted = threading.Event()
_repeated = threading.Event()
_family: list[psutil.Process] = []
"""All processes below this one when the first SIGTERM came: a later look would miss the agents of a
raylet that is already gone, which hold on for a minute."""
AGAIN_SECONDS = 0.05
"""Time to leave the place where an interruption was ignored."""


def take_sigterm() -> None:
    """From now on SIGTERM interrupts this process as Ctrl-C does; its forks keep the system's way.

    Call it once, from the main thread.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_count, args=(reading,), name="SIGTERM", daemon=True).start()
    _taken.set()
    sys.unraisablehook = _when_ignored
    os.register_at_fork(after_in_child=_leave)
    keep_sigterm()


def keep_sigterm() -> None:
    """Take it again, after a library has put its own handler there; without `take_sigterm` and in
    other threads than the main one this does nothing.
    """
    if _taken.is_set() and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)


def is_terminated() -> bool:
    """Whether a SIGTERM has come."""
    return _terminated.is_set() or _interrupted.is_set()


def keep_exit_code() -> None:
    """Let a process end with the exit code that it gives, after an interruption it has caught.

    `python -m` ends by SIGINT instead if that came in text that Python carries out (`dataclass`
    does it), until other text is carried out.
    """
    exec("")


def _when_ignored(ignored: Any) -> None:
    """Interrupt again what has ignored it; tell of anything else as Python does."""
    if ignored.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(ignored)
    else:
        again = threading.Timer(AGAIN_SECONDS, _interrupt_again)
        again.daemon = True
        again.start()


def _interrupt_again() -> None:
    """Send the signal once more, so that also a system call is left."""
    number = signal.SIGTERM if _interrupted.is_set() else signal.SIGINT
    if number == signal.SIGTERM:
        _repeated.set()
    signal.pthread_kill(threading.main_thread().ident or 0, number)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _interrupted.set()
    # Threads of libraries would tell, with tracebacks, of workers that are now ended beneath them.
    logging.disable(logging.CRITICAL)
    raise KeyboardInterrupt


def _count(reading: int) -> None:
    """Read the numbers of all signals as they come, whatever the main thread does."""
    while number := os.read(reading, 1):
        if number[0] != signal.SIGTERM:
            continue
        if _repeated.is_set():  # by ourselves
            _repeated.clear()
            continue
        if _terminated.is_set():
            _end_at_once()
        _terminated.set()
        _family[:] = psutil.Process().children(recursive=True)
        with suppress(OSError):
            os.write(2, SAID)


def _leave() -> None:
    """In a fork: its signals are its own."""
    _taken.clear()
    sys.unraisablehook = sys.__unraisablehook__
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end_at_once() -> None:
    """Kill all processes below this one and itself; nothing is cleaned up, as after kill -9."""
    for child in [*psutil.Process().children(recursive=True), *_family]:
        with suppress(psutil.Error):
            child.kill()
    os._exit(TERMINATED)
