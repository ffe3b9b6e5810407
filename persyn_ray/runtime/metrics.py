"""Prometheus counters of actor pools, through Ray's metrics."""

from ray.util.metrics import Counter

from persyn_ray.shards.units import Progress


class UnitMetrics:
    """Counters of one actor, labelled with its step and teacher."""

    def __init__(self, name: str) -> None:
        tags = ("name",)
        self.tags = {"name": name}
        self.counters = {
            "rows": Counter("persyn_rows", "Rows made.", tag_keys=tags),
            "tokens": Counter("persyn_tokens", "Tokens written or scored.", tag_keys=tags),
            "errors": Counter("persyn_errors", "Nulls and dead letters.", tag_keys=tags),
        }

    def count(self, done: Progress) -> None:
        """Add what one unit did."""
        for field, counter in self.counters.items():
            value = getattr(done, field)
            if value:
                counter.inc(value, self.tags)
