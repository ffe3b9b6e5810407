"""Occupancy of a vLLM engine from its own metrics: scheduler statistics in, sums over time out."""

import threading
import time
from typing import Any

from persyn_ray.engines.base import Occupancy


class OccupancyMeter:
    """Sums what vLLM's scheduler says after each step, weighted by the time until the next."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sum = Occupancy()
        self._last: tuple[float, int, float] | None = None

    def observe(self, running: int, kv_use: float, now: float) -> None:
        """Take the running responses and the used share of the KV cache from `now` on."""
        with self._lock:
            if self._last is not None and self._last[1]:
                before, was_running, kv_was = self._last
                seconds = now - before
                self._sum += Occupancy(seconds, seconds * was_running, seconds * kv_was)
            self._sum += Occupancy(most_running=running)
            self._last = (now, running, kv_use)

    def take(self) -> Occupancy:
        """What was summed since the last call."""
        with self._lock:
            taken, self._sum = self._sum, Occupancy()
            return taken

    def stat_logger(self) -> Any:
        """A class of vLLM's stat loggers that reports here."""
        from vllm.v1.metrics.loggers import StatLoggerBase

        meter = self

        class Reporting(StatLoggerBase):
            def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
                pass

            def record(
                self,
                scheduler_stats: Any,
                iteration_stats: Any,
                mm_cache_stats: Any = None,
                engine_idx: int = 0,
            ) -> None:
                if scheduler_stats is not None:
                    running, kv_use = (
                        scheduler_stats.num_running_reqs,
                        scheduler_stats.kv_cache_usage,
                    )
                    meter.observe(running, kv_use, time.monotonic())

            def log_engine_initialized(self) -> None:
                pass

        return Reporting
