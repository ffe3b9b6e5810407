"""One saved router for all tests here."""

import pytest

from .saved_router import save_random_router


@pytest.fixture(scope="session")
def router(random_llama: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_random_router(random_llama, tmp_path_factory.mktemp("routers"))
