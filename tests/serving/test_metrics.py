"""Counters of several replicas add up to one Prometheus text."""

from prometheus_client.parser import text_string_to_metric_families

from persyn_ray.serving.metrics import Counts, merged, prometheus_text, routed_by_teacher


def values(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def counted(ada: int, seconds: float) -> Counts:
    counts = Counts()
    counts.request("/v1/route", 200, seconds)
    counts.batch(3, 40, seconds)
    counts.routed("ada", ada)
    counts.fallback("late", 1)
    return counts


def test_replicas_are_summed_label_by_label():
    one, two = counted(2, 0.003), counted(5, 0.3)
    two.routed("bert", 1)
    found = values(prometheus_text(merged([one.snapshot(), two.snapshot()]), 2))
    assert found["persyn_routed_total", (("teacher", "ada"),)] == 7
    assert found["persyn_routed_total", (("teacher", "bert"),)] == 1
    assert found["persyn_requests_total", (("path", "/v1/route"), ("status", "200"))] == 2
    assert found["persyn_batch_prompts_sum", ()] == 6
    assert found["persyn_request_seconds_bucket", (("le", "0.005"), ("path", "/v1/route"))] == 1
    assert found["persyn_request_seconds_bucket", (("le", "+Inf"), ("path", "/v1/route"))] == 2
    assert found["persyn_replicas", ()] == 2


def test_one_replica_alone_is_its_own_sum():
    counts = counted(2, 0.1)
    assert values(prometheus_text(merged([counts.snapshot()]), 1)) == values(
        prometheus_text(counts.snapshot(), 1)
    )


def test_prompts_by_teacher():
    assert routed_by_teacher(counted(4, 0.1).snapshot()) == {"ada": 4}
    assert routed_by_teacher([]) == {}
