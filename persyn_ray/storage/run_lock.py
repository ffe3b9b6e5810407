"""Lock of a run folder with fencing: the process that took it last may write.

Whoever is about to write makes RUN/attempts/NUMBER.json, with the number after the highest, by a
write that succeeds for one process alone and shows all of the file at once. A run is free when its
last holder has ended, or has died among the processes that can be seen from here. While the holder
lives on this machine another is refused; in another container of it, whose processes cannot be
seen, it is known to live by the sign that it leaves in its file every `WATCH_SECONDS`. A holder on
another machine may have been lost with it, as when a job's cluster is replaced: its run is taken
after it has had the time to see that, and a holder that sees a higher number ends itself. It looks
before each step, before each record, and every `WATCH_SECONDS` between. A machine that is cut off
from the others but not from the storage is thus fenced out; one that is cut off from both cannot
write.

What another machine has written to a file system may be seen late: an NFS client believes its
memory of a folder for up to `CACHE_SECONDS` (mount option acdirmax). Object stores show it at once.
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

from persyn_ray.credentials import cut_secrets
from persyn_ray.errors import AttemptError, PersynError
from persyn_ray.escaping import plain
from persyn_ray.storage import processes
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.records import utc_now

logger = logging.getLogger(__name__)

WATCH_SECONDS = 10.0
END_SECONDS = 20.0
"""What a holder that was overtaken has for its end; then it is cut off."""
CACHE_SECONDS = 60.0
"""How long a holder on another machine may not see a new file; not on object stores."""
MOST_CHARACTERS = 4000
"""Of an error that is kept."""
FILL_SECONDS = 2.0
"""What a file that was made has to be filled, where it cannot appear with its content."""


@dataclass(frozen=True)
class Holder:
    """The process of an attempt."""

    host: str
    pid: int
    process_started: float
    """Seconds since 1970, a little off as clocks are set; tells apart processes of the same pid."""
    started: str
    """UTC time, ISO 8601."""
    processes: str = ""
    """Which processes can see it, see `processes.processes`."""
    boot: str = ""
    """Of which start of which machine it is."""
    ended: str | None = None
    seen: str | None = None
    """UTC time of its last sign of life."""
    error: str | None = None
    """The error that ended it, without secrets."""

    @classmethod
    def here(cls) -> "Holder":
        """This process."""
        process = psutil.Process()
        return cls(
            socket.gethostname(),
            process.pid,
            process.create_time(),
            utc_now(),
            processes.processes(),
            processes.boot(),
        )

    @property
    def is_alive(self) -> bool | None:
        """Whether it works on the run; None if it cannot be seen from here."""
        if self.ended is not None:
            return False
        if self.host != socket.gethostname() or self.processes != processes.processes():
            return None
        try:
            started = psutil.Process(self.pid).create_time()
        except psutil.NoSuchProcess:
            return False
        return abs(started - self.process_started) < 5.0 and processes.is_running(self.pid)

    @property
    def is_in_a_container_here(self) -> bool:
        """Whether it is on this machine, in another container under the same name."""
        is_here = self.host == socket.gethostname() and self.boot == processes.boot() != ""
        return is_here and self.processes != processes.processes()

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

    def content(self, **changes: str) -> bytes:
        """The attempt's file."""
        return json.dumps(asdict(self.holder) | changes, indent=2).encode()

    def leave_sign(self) -> None:
        """Say that the holder lives, to those who cannot see its process."""
        self.folder.write_bytes(_name(self.number), self.content(seen=utc_now()))

    def end(self, error: str | None = None) -> None:
        """Leave the run to whoever comes; without storage it has to be found out later."""
        told = {} if error is None else {"error": error}
        try:
            self.folder.write_bytes(_name(self.number), self.content(ended=utc_now(), **told))
        except Exception:
            with suppress(Exception):  # a full disk still lets go
                self.folder.remove(_name(self.number))


@contextmanager
def attempt_at(folder: Folder, console: Console) -> Iterator[Attempt]:
    """Hold a run while it is worked on.

    Args:
        folder: the run's `attempts`.

    Raises:
        AttemptError: a process of this machine holds it, or another has taken it over.
    """
    attempt = _taken(folder, console)
    told: str | None = None
    try:
        with _watched(attempt):
            yield attempt
    except Exception as error:
        told = _told(error)
        raise
    finally:
        attempt.end(told)


def holder_of(folder: Folder) -> Holder | None:
    """Who works on a run now, as far as can be told from here."""
    holder = last_holder(folder)
    return holder if holder is not None and holder.is_alive is not False else None


def last_holder(folder: Folder) -> Holder | None:
    """Who has worked on a run last; None where nobody has, or the file does not say."""
    return _holder(folder, _newest(folder))


def _taken(folder: Folder, console: Console) -> Attempt:
    tried = 0
    while True:
        # A listing may lag behind what a write was told.
        newest = max(_newest(folder), tried)
        previous = _filled(folder, newest)
        if previous is not None and previous.is_alive:
            raise _refusal(folder, previous)
        if previous is not None and previous.is_in_a_container_here and not previous.ended:
            _require_no_sign_of_life(folder, newest, previous, console)
        attempt = Attempt(folder, newest + 1, Holder.here())
        if folder.create_bytes(_name(attempt.number), attempt.content()):
            break
        tried = attempt.number
    if previous is not None and previous.is_alive is None:
        seconds = _fencing_seconds(folder, previous)
        told = f"Attempt {newest} ({previous}) has left no end: {seconds:g} s for it."
        console.print(plain(told))
        time.sleep(seconds)
    return attempt


def _refusal(folder: Folder, holder: Holder) -> AttemptError:
    return AttemptError(
        f"Another process works on this run ({folder.address}): {holder}. Wait for it, end it, or "
        "set `run` to another folder."
    )


def _require_no_sign_of_life(folder: Folder, number: int, holder: Holder, console: Console) -> None:
    """Refuse when a holder whose process cannot be seen leaves a sign; it has twice the time."""
    console.print(plain(f"Attempt {number} ({holder}) is in another container: is it alive?"))
    end = time.monotonic() + 2 * WATCH_SECONDS
    while time.monotonic() < end:
        time.sleep(WATCH_SECONDS / 10)
        now = _holder(folder, number)
        if now is not None and now.ended is None and now.seen != holder.seen:
            raise _refusal(folder, now)


def _fencing_seconds(folder: Folder, holder: Holder) -> float:
    """What a holder that cannot be seen needs to see that it was overtaken, and to end."""
    sees_late = folder.is_local and not holder.is_in_a_container_here
    return WATCH_SECONDS + END_SECONDS + (CACHE_SECONDS if sees_late else 0.0)


@contextmanager
def _watched(attempt: Attempt) -> Iterator[None]:
    """Interrupts the main thread once the run has been taken by another."""
    is_over, is_overtaken = threading.Event(), threading.Event()

    def watch() -> None:
        while not is_over.wait(WATCH_SECONDS):
            try:
                attempt.require_newest()
                attempt.leave_sign()
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
        if is_main:  # a late sign must not stand over the end
            watcher.join(END_SECONDS)


def _told(error: Exception) -> str:
    """An error as it is kept: a known one speaks for itself."""
    kind = "" if isinstance(error, PersynError) else f"{type(error).__name__}: "
    return cut_secrets(f"{kind}{error}")[:MOST_CHARACTERS]


def _newest(folder: Folder) -> int:
    """The highest number; 0 if there is none."""
    stems = (name.removesuffix(".json") for name in folder.names(".json"))
    return max((int(stem) for stem in stems if stem.isdigit()), default=0)


def _filled(folder: Folder, number: int) -> Holder | None:
    """The holder of a number, None for 0. One that does not say who it is has to be fenced like a
    holder on another machine: its writer died in that moment, or is about to fill the file.
    """
    end = time.monotonic() + FILL_SECONDS
    while number:
        holder = _holder(folder, number)
        if holder is not None or time.monotonic() >= end:
            return holder or Holder("an unknown machine", 0, 0.0, "an unknown time")
        time.sleep(FILL_SECONDS / 20)
    return None


def _holder(folder: Folder, number: int) -> Holder | None:
    """None for number 0, and if the file does not say."""
    if not number:
        return None
    try:
        return Holder(**folder.read_json(_name(number)))
    except (ValueError, TypeError, FileNotFoundError):
        return None


def _name(number: int) -> str:
    return f"{number:06d}.json"
