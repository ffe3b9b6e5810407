"""One Ray of this machine for all tests here that do not start their own."""

from collections.abc import Iterator

import pytest

from persyn_ray.runtime.session import Cluster, session


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with session() as started:
        yield started
