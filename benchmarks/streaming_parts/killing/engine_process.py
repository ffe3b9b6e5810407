"""A simulated engine's own process: rows on stdin, their ends on stdout, both noted in a side log.

    python engine_process.py LOGS SLOTS

Its log is `LOGS.PID.jsonl`. A line in is `NUMBER PROMPT_ID SECONDS`, a line out `NUMBER`. So many
rows run at once, each for its seconds; the others wait. The log is written before anything is told,
so that after a kill it holds what was begun and what had ended. The end of stdin ends the process,
as the death of its actor does with a real engine. The standard library alone: it starts at once.
"""

import heapq
import json
import os
import select
import sys
import time
from collections import deque

Row = tuple[str, str, float]


class Slots:
    """Rows that wait and rows that run."""

    def __init__(self, log: int, size: int) -> None:
        self.log, self.size = log, size
        self.waiting: deque[Row] = deque()
        self.running: list[tuple[float, str, str]] = []

    def note(self, what: str, prompt_id: str) -> None:
        """One line of the log, whole or not at all."""
        line = json.dumps({"what": what, "id": prompt_id, "at": time.time()})
        os.write(self.log, line.encode() + b"\n")

    def turn(self) -> list[str]:
        """End what is due, begin what there is room for; numbers of the rows that ended."""
        ended: list[str] = []
        while self.running and self.running[0][0] <= time.monotonic():
            _, number, prompt_id = heapq.heappop(self.running)
            self.note("end", prompt_id)
            ended.append(number)
        while self.waiting and len(self.running) < self.size:
            number, prompt_id, seconds = self.waiting.popleft()
            self.note("begin", prompt_id)
            heapq.heappush(self.running, (time.monotonic() + seconds, number, prompt_id))
        return ended

    def pause(self) -> float | None:
        """Seconds until a row ends; None while nothing runs."""
        return max(0.0, self.running[0][0] - time.monotonic()) if self.running else None


def main() -> None:
    """Until the other end is gone."""
    log = os.open(f"{sys.argv[1]}.{os.getpid()}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    slots, read = Slots(log, int(sys.argv[2])), b""
    while True:
        if select.select([0], [], [], slots.pause())[0]:
            data = os.read(0, 1 << 16)
            if not data:
                return
            *lines, read = (read + data).split(b"\n")
            for line in lines:
                number, prompt_id, seconds = line.decode().split()
                slots.waiting.append((number, prompt_id, float(seconds)))
        for number in slots.turn():
            os.write(1, number.encode() + b"\n")


if __name__ == "__main__":
    main()
