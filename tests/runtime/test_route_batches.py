import pytest
import ray
import ray.data

from persyn_ray.client.http import RouteBatches
from persyn_ray.runtime.session import Cluster

from ..client.router_server import KEY, VERSION, Fault, RouterServer, checksum

pytestmark = pytest.mark.ray


def test_a_data_set_is_routed_through_an_endpoint(cluster: Cluster) -> None:
    rows = [{"id": number, "prompt": f"prompt {number}"} for number in range(30)]
    rows[7]["prompt"] = None
    with RouterServer(Fault(503), Fault(0), Fault(429, headers={"Retry-After": "1"})) as server:
        settings = {"base_url": server.url, "api_key": KEY, "batch_prompts": 4}
        data = ray.data.from_items(rows).map_batches(
            RouteBatches, fn_constructor_kwargs=settings, batch_size=10, concurrency=1
        )
        routed = sorted(data.take_all(), key=lambda row: row["id"])
    assert [row["prompt"] for row in routed] == [row["prompt"] for row in rows]
    for row in routed:
        is_odd = checksum(row["prompt"]) % 2
        expected = None if row["prompt"] is None else "small" if is_odd else "large"
        assert row["teacher"] == expected
        assert row["router"] == (expected and VERSION)
        assert row["fallback"] is None
