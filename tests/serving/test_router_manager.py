"""How the router in service is swapped, and its keys with it."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.serving.batch_scorer import BatchScorer
from persyn_ray.serving.metrics import Counts
from persyn_ray.serving.middleware.key_reloader import KeyReloader
from persyn_ray.serving.router_manager import RouterManager
from persyn_ray.serving.router_source import parse_serving

DIGESTS = {name: hashlib.sha256(f"key-{name}".encode()).hexdigest() for name in ("ann", "bob")}
Manager = tuple[RouterManager, KeyReloader]


def in_service(
    router: Path, do: Callable[[RouterManager, KeyReloader], Awaitable[None]], **fixed: Any
) -> Manager:
    """The manager after its first router and what is done then, in one event loop."""

    async def serve() -> Manager:
        settings, keys = parse_serving(fixed, "the tests"), KeyReloader({})
        manager = RouterManager(settings, keys, BatchScorer(settings, Counts()).warm_up)
        assert manager.state is None
        assert keys.owner("key-ann") is None
        await manager.load(change(router, keys={"ann": DIGESTS["ann"]}))
        await do(manager, keys)
        return manager, keys

    return asyncio.run(serve())


def change(router: Path, content: str = "first", **policy: Any) -> dict[str, Any]:
    return {"router": str(router), "content": content} | policy


def test_a_change_of_settings_keeps_the_model_and_brings_its_keys(router_folder: Path) -> None:
    models: list[Any] = []

    async def mask(manager: RouterManager, keys: KeyReloader) -> None:
        models.append(manager.state and manager.state.model)
        assert keys.owner("key-ann") == "ann"
        await manager.reload(
            change(router_folder, masked=["ada"], keys={"bob": DIGESTS["bob"]}, max_prompts=1)
        )

    manager, keys = in_service(router_folder, mask, max_prompts=7)
    assert manager.state is not None
    assert manager.state.model is models[0]
    assert manager.state.policy.masked == {"ada"}
    assert manager.settings.max_prompts == 7  # no setting of a policy
    assert (keys.owner("key-ann"), keys.owner("key-bob")) == (None, "bob")
    assert manager.problem is None


def test_a_router_fitted_again_in_its_place_is_loaded_anew(router_folder: Path) -> None:
    models: list[Any] = []

    async def refit(manager: RouterManager, _: KeyReloader) -> None:
        models.append(manager.state and manager.state.model)
        await manager.reload(change(router_folder, "second", keys=DIGESTS))

    manager, _ = in_service(router_folder, refit)
    assert manager.state is not None
    assert manager.state.model is not models[0]


def test_a_change_that_fails_is_told_until_one_goes_well(
    router_folder: Path, tmp_path: Path
) -> None:
    async def fail_and_recover(manager: RouterManager, keys: KeyReloader) -> None:
        state = manager.state
        await manager.reload(change(tmp_path, keys=DIGESTS))
        assert manager.state is state
        assert keys.owner("key-bob") is None
        assert manager.problem is not None
        assert manager.problem.startswith("The present router stays: ConfigError: ")
        await manager.reload(change(router_folder, masked=["nobody"], keys=DIGESTS))
        assert "'nobody'" in manager.problem
        await manager.reload(change(router_folder, keys=DIGESTS))

    manager, keys = in_service(router_folder, fail_and_recover)
    assert manager.problem is None
    assert keys.owner("key-bob") == "bob"


def test_the_latest_of_several_changes_holds(router_folder: Path, tmp_path: Path) -> None:
    async def change_thrice(manager: RouterManager, _: KeyReloader) -> None:
        masked = [change(router_folder, masked=[name], keys=DIGESTS) for name in ("ada", "bert")]
        changes = [masked[0], change(tmp_path, keys=DIGESTS), masked[1]]
        await asyncio.gather(*map(manager.reload, changes))

    manager, _ = in_service(router_folder, change_thrice)
    assert manager.state is not None
    assert manager.state.policy.masked == {"bert"}
    assert manager.problem is None


def test_the_first_router_must_load(tmp_path: Path) -> None:
    async def nothing(_: RouterManager, __: KeyReloader) -> None: ...

    with pytest.raises(ConfigError, match="holds no router"):
        in_service(tmp_path, nothing)


def test_a_key_taken_out_of_the_file_is_let_in_no_longer(
    router_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_text(f"bob:{DIGESTS['bob']}\n")

    async def edit(manager: RouterManager, keys: KeyReloader) -> None:
        assert keys.owner("key-bob") == "bob"
        file.write_text("bob\n")
        await keys.reload()
        assert keys.owner("key-bob") == "bob"
        assert manager.problem is not None
        assert manager.problem.startswith(f"The present keys stay: File {file}")
        file.write_text("")
        await keys.reload()

    manager, keys = in_service(router_folder, edit, keys_file=str(file))
    assert (keys.owner("key-ann"), keys.owner("key-bob")) == ("ann", None)
    assert manager.problem is None
