"""Who may write into a run: the process that took it last.

Whoever is about to write makes RUN/attempts/NUMBER.json, with the number after the highest, by a
write that succeeds for one process alone. A run is free when its last holder has ended, or has died
on this machine. While the holder lives on this machine another is refused. One on another machine
may have been lost with it, as when a job's cluster is replaced: its run is taken after it has had
the time to see that, and a holder that sees a higher number ends itself. It looks before each step,
before each record, and every `WATCH_SECONDS` between. A machine that is cut off from the others but
not from the storage is thus fenced out; one that is cut off from both cannot write.
"""

import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

import psutil
from rich.console import Console

from persyn_ray.errors import AttemptError
from persyn_ray.records import utc_now
from persyn_ray.storage import Folder

logger = logging.getLogger(__name__)

WATCH_SECONDS = 10.0
END_SECONDS = 20.0
"""What a holder that was overtaken has for its end; then it is cut off."""


@dataclass(frozen=True)
class Holder:
    """The process of an attempt."""

    host: str
    pid: int
    process_started: float
    """Seconds since 1970, a little off as clocks are set; tells apart processes of the same pid."""
    started: str
    """UTC time, ISO 8601."""
    ended: str | None = None

    @classmethod
    def here(cls) -> "Holder":
        """This process."""
        process = psutil.Process()
        return cls(socket.gethostname(), process.pid, process.create_time(), utc_now())

    @property
    def is_alive(self) -> bool | None:
        """Whether it works on the run; None if it is on another machine."""
        if self.ended is not None:
            return False
        if self.host != socket.gethostname():
            return None
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.process_started) < 5.0
            return is_same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def __str__(self) -> str:
        return f"process {self.pid} of {self.host}, since {self.started}"


@dataclass(frozen=True)
class Attempt:
    """The right to write into a run, until somebody takes the next number."""

    folder: Folder
    number: int
    holder: Holder

    def require_newest(self) -> None:
        """Raise AttemptError when the run has been taken by another."""
        newest = _newest(self.folder)
        if newest > self.number:
            raise AttemptError(
                f"Attempt {newest} ({_holder(self.folder, newest) or 'unknown'}) has taken over "
                f"the run in {self.folder.address}; this was attempt {self.number}."
            )

    def end(self) -> None:
        """Leave the run to whoever comes; without storage it has to be found out later."""
        ended = asdict(self.holder) | {"ended": utc_now()}
        with suppress(Exception):
            self.folder.write_json(_name(self.number), ended)


@contextmanager
def attempt_at(folder: Folder, console: Console) -> Iterator[Attempt]:
    """Hold a run while it is worked on.

    Args:
        folder: the run's `attempts`.

    Raises:
        AttemptError: a process of this machine holds it, or another has taken it over.
    """
    attempt = _taken(folder, console)
    try:
        with _watched(attempt):
            yield attempt
    finally:
        attempt.end()


def holder_of(folder: Folder) -> Holder | None:
    """Who works on a run now, as far as can be told from here."""
    holder = _holder(folder, _newest(folder))
    return holder if holder is not None and holder.is_alive is not False else None


def _taken(folder: Folder, console: Console) -> Attempt:
    while True:
        newest = _newest(folder)
        previous = _holder(folder, newest)
        if previous is not None and previous.is_alive:
            raise AttemptError(
                f"Another process works on this run ({folder.address}): {previous}. Wait for it, "
                "end it, or set `run` to another folder."
            )
        attempt = Attempt(folder, newest + 1, Holder.here())
        content = json.dumps(asdict(attempt.holder), indent=2).encode()
        if folder.create_bytes(_name(attempt.number), content):
            break
    if previous is not None and previous.is_alive is None:
        seconds = WATCH_SECONDS + END_SECONDS
        console.print(f"Attempt {newest} ({previous}) has left no end: {seconds:g} s for it.")
        time.sleep(seconds)
    return attempt


@contextmanager
def _watched(attempt: Attempt) -> Iterator[None]:
    """Interrupts the main thread once the run has been taken by another."""
    is_over, is_overtaken = threading.Event(), threading.Event()

    def watch() -> None:
        while not is_over.wait(WATCH_SECONDS):
            try:
                attempt.require_newest()
            except AttemptError as error:
                logger.error("%s", error)
                is_overtaken.set()
                signal.pthread_kill(main_thread, signal.SIGINT)
                if not is_over.wait(END_SECONDS):
                    os._exit(1)
                return
            except Exception:  # the storage is out of reach: nothing can be written either
                continue

    main_thread = threading.get_ident()
    is_main = main_thread == threading.main_thread().ident  # nobody else can be interrupted
    watcher = threading.Thread(target=watch, name="attempts", daemon=True)
    if is_main:
        watcher.start()
    try:
        yield
    except BaseException:
        if is_overtaken.is_set():  # whatever the interruption has become on its way
            attempt.require_newest()
        raise
    finally:
        is_over.set()


def _newest(folder: Folder) -> int:
    """The highest number; 0 if there is none."""
    stems = (name.removesuffix(".json") for name in folder.names(".json"))
    return max((int(stem) for stem in stems if stem.isdigit()), default=0)


def _holder(folder: Folder, number: int) -> Holder | None:
    """None for number 0, and if the file is empty: its writer died in that moment, or is about to
    fill it."""
    if not number:
        return None
    try:
        return Holder(**folder.read_json(_name(number)))
    except (ValueError, TypeError):
        return None


def _name(number: int) -> str:
    return f"{number:06d}.json"
