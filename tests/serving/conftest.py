"""A fitted router on disk, and the endpoint over it."""

import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.serving.router_model import RouterModel

from .asking import TEACHERS, LocalService
from .chatting import Teacher

MakeService = Callable[..., LocalService]


@pytest.fixture(scope="session")
def router_folder(random_llama: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from persyn_ray.method.novelty import Novelty
    from persyn_ray.models.load import load_tokenizer
    from persyn_ray.models.router.frozen import prompt_features
    from persyn_ray.models.router.model import build_router, save_router

    folder = tmp_path_factory.mktemp("fitted") / "router"
    router, tokenizer = build_router(random_llama, TEACHERS, seed=3), load_tokenizer(random_llama)
    router.head.weight.data *= 100.0  # so that prompts differ
    prior = {"ada": 0.5, "bert": 0.3, "cleo": 0.2}
    save_router(router, tokenizer, folder, {"max_length": 64, "prior": prior})
    seen = [[{"role": "user", "content": f"What is {n} plus {n + 1}?"}] for n in range(20)]
    Novelty.fit(prompt_features(router, tokenizer, seen).numpy()).save(folder / "novelty.npz")
    return folder


@pytest.fixture(scope="session")
def model(router_folder: Path) -> RouterModel:
    return RouterModel(str(router_folder))


@pytest.fixture
def make_service(model: RouterModel) -> MakeService:
    """A service over the router; settings by name."""
    return lambda **given: LocalService(model, **given)


@pytest.fixture
def teacher() -> Iterator[Any]:
    class Own(Teacher):
        asked: list[dict[str, Any]] = []  # noqa: RUF012 (of this test alone)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    Own.address = f"http://127.0.0.1:{server.server_port}/v1"  # type: ignore[attr-defined]
    yield Own
    server.shutdown()
    thread.join()
    server.server_close()
