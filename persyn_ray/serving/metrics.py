"""Counters of a replica, and their sum over replicas in Prometheus' text format."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

Sample = tuple[str, tuple[tuple[str, str], ...], float]
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
PROMPTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
TOKENS = tuple(2.0**power for power in range(4, 18, 2))


@dataclass(frozen=True)
class Family:
    """One metric of one replica."""

    name: str
    kind: str
    text: str
    samples: tuple[Sample, ...]


class Counts:
    """Counters of one replica."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._requests = Counter(
            "persyn_requests", "Requests answered.", ("path", "status"), registry=registry
        )
        self._seconds = Histogram(
            "persyn_request_seconds",
            "Until the answer ended.",
            ("path",),
            buckets=SECONDS,
            registry=registry,
        )
        self._prompts = Histogram(
            "persyn_batch_prompts",
            "Prompts in a pass of the router.",
            buckets=PROMPTS,
            registry=registry,
        )
        self._tokens = Histogram(
            "persyn_batch_tokens",
            "Tokens in a pass of the router.",
            buckets=TOKENS,
            registry=registry,
        )
        self._passes = Histogram(
            "persyn_batch_seconds", "Duration of a pass.", buckets=SECONDS, registry=registry
        )
        self._routed = Counter(
            "persyn_routed", "Prompts given to a teacher.", ("teacher",), registry=registry
        )
        self._fallbacks = Counter(
            "persyn_fallbacks",
            "Prompts assigned without the router.",
            ("reason",),
            registry=registry,
        )

    def request(self, path: str, status: int, seconds: float) -> None:
        """An answered request."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def batch(self, num_prompts: int, num_tokens: int, seconds: float) -> None:
        """A pass of the router."""
        self._prompts.observe(num_prompts)
        self._tokens.observe(num_tokens)
        self._passes.observe(seconds)

    def routed(self, teacher: str, num: int) -> None:
        """Prompts given to a teacher, with or without the router."""
        self._routed.labels(teacher).inc(num)

    def fallback(self, reason: str, num: int) -> None:
        """Prompts assigned without the router."""
        self._fallbacks.labels(reason).inc(num)

    def snapshot(self) -> list[Family]:
        """All counters as they stand."""
        return [
            Family(
                metric.name,
                metric.type,
                metric.documentation,
                tuple(
                    (one.name, tuple(sorted(one.labels.items())), one.value)
                    for one in metric.samples
                    # When a replica began to count means nothing in a sum.
                    if not one.name.endswith("_created")
                ),
            )
            for metric in self.registry.collect()
        ]


def merged(snapshots: Iterable[Sequence[Family]]) -> list[Family]:
    """The sum of replicas' counters, label by label."""
    families: dict[str, Family] = {}
    sums: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for snapshot in snapshots:
        for family in snapshot:
            families.setdefault(family.name, family)
            sums.setdefault(family.name, defaultdict(float))
            for name, labels, value in family.samples:
                sums[family.name][name, labels] += value
    return [
        Family(
            one.name, one.kind, one.text, tuple((*key, value) for key, value in sums[name].items())
        )
        for name, one in families.items()
    ]


def routed_by_teacher(families: Iterable[Family]) -> dict[str, int]:
    """Prompts given to each teacher so far."""
    return {
        dict(labels)["teacher"]: int(value)
        for family in families
        if family.name == "persyn_routed"
        for _, labels, value in family.samples
    }


class _Fixed(Collector):
    def __init__(self, families: Sequence[Family], num_replicas: int) -> None:
        self.families, self.num_replicas = families, num_replicas

    def collect(self) -> Iterator[Metric]:
        for family in self.families:
            metric = Metric(family.name, family.text, family.kind)
            for name, labels, value in family.samples:
                metric.add_sample(name, dict(labels), value)
            yield metric
        replicas = Metric("persyn_replicas", "Replicas that count now.", "gauge")
        replicas.add_sample("persyn_replicas", {}, self.num_replicas)
        yield replicas


def prometheus_text(families: Sequence[Family], num_replicas: int) -> bytes:
    """Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Fixed(families, num_replicas))
    return generate_latest(registry)
