"""The `router` section: settings that would have no effect together are refused."""

from typing import Any

import pytest
from pydantic import ValidationError

from persyn_ray.recipe.router import RouterConfig

BACKBONE = {"backbone": {"name": "x"}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lora": {}, "freeze_backbone": True}, "set one of them"),
        ({"extend": "runs/x/router", "learning_curve": [9]}, r"remove \['learning_curve'\]"),
        ({"extend": "runs/x/router", "transfer": True, "lora": {}}, r"remove \['transfer', 'lora'"),
        ({"loss": "hinge"}, "bradley_terry"),
        ({"lora": {"rank": 0}}, "rank"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        RouterConfig.model_validate(BACKBONE | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": "plackett_luce", "lora": {"rank": 4}},
        {"extend": "runs/x/router", "freeze_backbone": True},
        {"learning_curve": [9], "transfer": True, "freeze_backbone": True},
    ],
)
def test_what_goes_together_is_kept(changes: dict[str, Any]) -> None:
    router = RouterConfig.model_validate(BACKBONE | changes)
    assert RouterConfig.model_validate(router.model_dump(mode="json")) == router
    assert router.loss == changes.get("loss", "bradley_terry")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"kind": "auto", "transfer": True}, "transfer"),
        ({"kind": "knn", "extend": "runs/before/router"}, "extend"),
        ({"kind": "auto", "lora": {}}, "fine_tuned"),
        ({"kind": "forest"}, "forest|Input should be"),
    ],
)
def test_settings_of_a_fitted_router_do_not_go_with_other_kinds(given: Any, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        RouterConfig.model_validate({"backbone": {"name": "random:llama"}} | given)


def test_auto_may_fine_tune_with_adapters_where_that_is_a_candidate() -> None:
    given = {"kind": "auto", "lora": {}, "candidates": ["knn", "fine_tuned"]}
    config = RouterConfig.model_validate({"backbone": {"name": "random:llama"}} | given)
    assert config.candidates == ("knn", "fine_tuned")
    assert "fine_tuned" not in RouterConfig.model_validate({"backbone": {"name": "x"}}).candidates
