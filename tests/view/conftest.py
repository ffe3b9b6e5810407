"""A viewer over run folders of the planted world."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage.layout import RunLayout
from persyn_ray.view.app import create_app

from ..s3_server import s3, server

__all__ = ["s3", "server"]
Get = Callable[..., Any]


def client_of(address: str) -> TestClient:
    return TestClient(create_app(address), base_url="http://localhost")


def getter(address: str) -> Get:
    """Asks an address of a run's viewer, with query parameters; a list is given as repeated."""
    client = client_of(address)

    def get(where: str, status: int = 200, **query: Any) -> Any:
        answer = client.get(where, params=query)
        assert answer.status_code == status, answer.text
        return answer.json()

    return get


@pytest.fixture
def seen(finished: tuple[Recipe, RunLayout]) -> Get:
    """The viewer of a finished run."""
    return getter(finished[1].root.address)
