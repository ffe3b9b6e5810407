"""The sum over replicas outlives them."""

from asyncio import run

from persyn_ray.runtime import metrics_actor as module
from persyn_ray.runtime.metrics_actor import MetricsActor
from persyn_ray.serving.metrics import Counts, routed_by_teacher


def counted(num: int) -> list:
    counts = Counts()
    counts.routed("ada", num)
    return counts.snapshot()


def test_replicas_are_summed_and_a_later_push_replaces_an_earlier_one():
    metrics = MetricsActor()
    assert run(metrics.push("one", counted(1))) == 1
    assert run(metrics.push("one", counted(3))) == 1
    assert run(metrics.push("two", counted(10))) == 2
    families, num_replicas = run(metrics.everywhere())
    assert (routed_by_teacher(families), num_replicas) == ({"ada": 13}, 2)


def test_a_replica_that_is_gone_no_longer_counts_but_what_it_did_does(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    metrics = MetricsActor()
    run(metrics.push("one", counted(5)))
    for now[0] in (module.SILENT_SECONDS + 1, module.GONE_SECONDS + 1, 10 * module.GONE_SECONDS):
        assert run(metrics.push("two", counted(1))) == 1
        families, num_replicas = run(metrics.everywhere())
        assert (routed_by_teacher(families), num_replicas) == ({"ada": 6}, 1)
    assert set(metrics.latest) == {"two"}
