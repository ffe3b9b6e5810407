"""Kinds of routers from Python: planted worlds in which one of them is right, and odd data."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import persyn_ray as persyn

TEACHERS = ("ada", "bert", "cleo")
NUM = 150
SIMPLE = ["constant", "per_task", "knn", "linear", "stacked"]


def texts(number: int = NUM) -> list[str]:
    """Two sorts of prompts that any encoder tells apart, in turn."""
    return [
        f"{'zebra ' * 6}{place}" if place % 2 else f"{'12 + 7 = ' * 6}{place}"
        for place in range(number)
    ]


def labels(number: int = NUM) -> list[str | None]:
    """Labels that have nothing to do with the texts."""
    return [f"task {place % 3}" for place in range(number)]


def rewards(best: Any, gap: float = 0.6, number: int = NUM) -> np.ndarray:
    """Rewards of which `best` says for each place who is at home; bert leads a little anywhere."""
    noise = np.random.default_rng(0).normal(0, 0.3, (number, 3))
    home = np.eye(3)[[best(place) for place in range(number)]]
    return 0.5 + gap * home + np.array([0.0, 0.1, 0.0]) + noise


def settings(folder: str, **more: Any) -> persyn.RouterConfig:
    given = {"backbone": {"name": folder}, "kind": "auto", "candidates": SIMPLE}
    return persyn.RouterConfig.model_validate(given | more)


def fitted(folder: str, rewards_PM: np.ndarray, **more: Any) -> persyn.Router:
    number = len(rewards_PM)
    return persyn.fit_router(
        texts(number),
        rewards_PM,
        teachers=TEACHERS,
        tasks=more.pop("tasks", labels(number)),
        settings=settings(folder, **more),
    )


@pytest.fixture(scope="module")
def by_task(random_llama: str) -> persyn.Router:
    return fitted(random_llama, rewards(lambda place: place % 3))


def test_where_tasks_decide_a_table_is_used_and_knows_unseen_tasks_from_seen(
    by_task: persyn.Router,
) -> None:
    assert by_task.kind == "per_task"
    asked = texts(6)
    assert by_task.route(asked, tasks=labels(6)).teachers == (*TEACHERS, *TEACHERS)
    for unknown in (None, [None] * 6, ["never seen"] * 6):
        assert set(by_task.route(asked, tasks=unknown).teachers) == {"bert"}
    assert by_task.fit is not None
    compared = by_task.fit.compared
    assert compared is not None
    assert "per_task" in compared.why
    assert {one.kind for one in compared.kinds if one.gain is None} == {"fitted_head", "fine_tuned"}
    (table,) = [one for one in compared.kinds if one.kind == "per_task"]
    assert table.low is not None
    assert table.low > 0.2


def test_where_texts_decide_and_labels_do_not_a_rule_on_embeddings_is_used(
    random_llama: str,
) -> None:
    router = fitted(random_llama, rewards(lambda place: 2 * (place % 2)))
    assert router.kind in ("knn", "linear", "stacked")
    found = router.route(texts(20), tasks=labels(20)).teachers
    assert found == ("ada", "cleo") * 10
    knn = fitted(random_llama, rewards(lambda place: 2 * (place % 2)), kind="knn")
    assert knn.kind == "knn"
    assert knn.route(texts(20)).teachers == found


def test_where_nothing_beats_the_constant_it_is_used_and_the_record_says_so(
    random_llama: str,
) -> None:
    router = fitted(random_llama, rewards(lambda place: 1, gap=0.2))
    assert router.kind == "constant"
    assert set(router.route(texts(9), tasks=labels(9)).teachers) == {"bert"}
    assert router.fit is not None
    assert router.fit.compared is not None
    assert "no other kind routes better" in router.fit.compared.why


def test_probabilities_are_calibrated_shares_whatever_the_kind(random_llama: str) -> None:
    rewards_PM = rewards(lambda place: place % 3)
    for kind in SIMPLE:
        routes = fitted(random_llama, rewards_PM, kind=kind).route(texts(9), tasks=labels(9))
        np.testing.assert_allclose(routes.probabilities.sum(axis=1), 1.0)
        assert ((routes.probabilities >= 0) & (routes.probabilities <= 1)).all()
        assert (routes.margins > 0).all()
        assert routes.is_novel is not None
    # Of two teachers one of whom wins nine times of ten, it is given about that chance.
    two_PM = np.where(np.arange(NUM)[:, None] % 10 == 0, [0.0, 1.0], [1.0, 0.0])
    router = persyn.fit_router(
        texts(), two_PM, teachers=("ada", "bert"), settings=settings(random_llama, kind="constant")
    )
    assert router.route(["any"]).probabilities[0, 0] == pytest.approx(0.9, abs=0.04)


def test_a_saved_router_of_another_kind_routes_alike(
    by_task: persyn.Router, tmp_path: Path
) -> None:
    by_task.save(tmp_path / "mine")
    again = persyn.Router.load(tmp_path / "mine")
    here = by_task.route(texts(6), tasks=labels(6))
    there = persyn.route(tmp_path / "mine", texts(6), tasks=labels(6))
    assert again.kind == "per_task"
    assert there.teachers == here.teachers
    np.testing.assert_allclose(there.probabilities, here.probabilities, atol=1e-9)
    assert json.loads((tmp_path / "mine/fit.json").read_text())["kind"] == "per_task"
    (tmp_path / "mine/predictor.npz").write_bytes(b"torn")
    with pytest.raises(persyn.DataError, match="is no predictor"):
        persyn.Router.load(tmp_path / "mine")


def test_the_version_changes_with_the_predictor(by_task: persyn.Router, tmp_path: Path) -> None:
    from persyn_ray.serving.router_model import RouterModel

    by_task.save(tmp_path / "one")
    version = RouterModel(str(tmp_path / "one")).version
    path = tmp_path / "one/predictor.npz"
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(path, **(arrays | {"temperature": np.array(2.0)}))
    assert RouterModel(str(tmp_path / "one")).version != version


def test_networks_are_compared_on_the_same_folds_and_used_where_they_are_better(
    random_llama: str,
) -> None:
    head = {"candidates": ["fitted_head"], "epochs": 10, "patience": 10}
    router = fitted(random_llama, rewards(lambda place: 2 * (place % 2)), **head)
    assert router.kind == "fitted_head"
    assert router.fit is not None
    assert router.fit.loss_curve
    assert router.route(texts(20)).teachers == ("ada", "cleo") * 10
    assert router.fit.compared is not None
    gains = {one.kind: one.gain for one in router.fit.compared.kinds}
    assert gains["fitted_head"] is not None
    assert gains["fitted_head"] > 0.1
    assert gains["knn"] is None


def test_a_whole_backbone_is_fitted_only_where_it_is_named(random_llama: str) -> None:
    rewards_PM = rewards(lambda place: 2 * (place % 2), number=60)
    whole = {"candidates": ["fine_tuned"], "epochs": 1, "learning_rate": 1e-3}
    router = fitted(random_llama, rewards_PM, **whole)
    assert router.fit is not None
    assert router.fit.compared is not None
    told = {one.kind: one for one in router.fit.compared.kinds}
    assert told["fine_tuned"].gain is not None
    assert "not in router.candidates" in told["fitted_head"].told


def test_five_prompts_one_task_and_ties_get_the_constant(random_llama: str) -> None:
    few = fitted(random_llama, rewards(lambda place: place % 3, number=5))
    assert few.kind == "constant"
    assert few.fit is not None
    assert few.fit.compared is not None
    assert "too few" in few.fit.compared.why
    heads = {"candidates": ["per_task", "fitted_head"]}
    tied = fitted(random_llama, np.full((60, 3), 0.5), **heads)
    assert tied.kind == "constant"
    np.testing.assert_allclose(tied.route(["any"]).probabilities, 1 / 3)
    assert tied.fit is not None
    assert tied.fit.compared is not None
    assert {one.kind: one.told for one in tied.fit.compared.kinds}["fitted_head"] == (
        "not compared: no reward is above another"
    )
    single = fitted(random_llama, rewards(lambda place: 1, number=60), tasks=["only"] * 60)
    assert single.fit is not None
    assert single.fit.compared is not None
    told = {one.kind: one.told for one in single.fit.compared.kinds}
    assert "prompts.task_column" in told["per_task"]
    with pytest.raises(persyn.ConfigError, match=r"router\.kind is 'per_task'.*task_column"):
        fitted(random_llama, rewards(lambda place: 1), kind="per_task", tasks=["only"] * NUM)


def test_a_teacher_that_is_missing_everywhere_is_never_chosen(random_llama: str) -> None:
    rewards_PM = rewards(lambda place: place % 3)
    rewards_PM[:, 1] = np.nan
    rewards_PM[::4, 0] = np.nan
    for kind in ("auto", "constant", "stacked"):
        router = fitted(random_llama, rewards_PM, kind=kind)
        routes = router.route(texts(9), tasks=labels(9))
        assert "bert" not in routes.teachers
        assert (routes.probabilities[:, 1] < 1e-6).all()


def test_labels_that_do_not_fit_are_refused(by_task: persyn.Router) -> None:
    with pytest.raises(persyn.DataError, match="3 prompts and 2 `tasks`"):
        by_task.route(texts(3), tasks=labels(2))
