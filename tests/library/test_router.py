"""Routers from Python: fitted on arrays and tables, saved as what commands and endpoint read."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import persyn_ray as persyn
from persyn_ray.serving.messages import Wish
from persyn_ray.serving.router_model import ENDLESS, RouterModel
from persyn_ray.serving.router_source import settings_of

TEACHERS = ("ada", "bert", "cleo")
PROMPTS = [
    ("ab" * (number % 4 + 1) if number % 2 else "12" * (number % 3 + 1)) + str(number)
    for number in range(60)
]
REWARDS_PM = np.array([[1.0, 0.6, 0.0] if number % 2 else [0.0, 0.6, 1.0] for number in range(60)])
NEW = ["abab77", "1212", "abababab3", "121212"]


def settings(folder: str, **more: Any) -> persyn.RouterConfig:
    given = {"epochs": 20, "learning_rate": 3e-2, "freeze_backbone": True, "patience": 20}
    return persyn.RouterConfig.model_validate({"backbone": {"name": folder}} | given | more)


@pytest.fixture(scope="module")
def fitted(random_llama: str) -> persyn.Router:
    return persyn.fit_router(
        PROMPTS, REWARDS_PM, teachers=TEACHERS, settings=settings(random_llama)
    )


def test_it_learns_who_is_best_on_which_prompts(fitted: persyn.Router) -> None:
    routes = fitted.route(PROMPTS)
    best = [TEACHERS[place] for place in REWARDS_PM.argmax(axis=1)]
    hits = np.mean([one == other for one, other in zip(routes.teachers, best, strict=True)])
    assert hits > 0.85  # half of it by chance
    np.testing.assert_allclose(routes.probabilities.sum(axis=1), 1.0)
    for chances, teacher, margin in zip(
        routes.probabilities, routes.teachers, routes.margins, strict=True
    ):
        assert routes.pool[int(chances.argmax())] == teacher
        first, second = np.sort(chances)[::-1][:2]
        assert margin == pytest.approx(np.log(first / second), abs=1e-6)
    assert fitted.fit is not None
    assert fitted.fit.loss_curve


def test_a_saved_router_routes_alike_for_the_library_the_commands_and_the_endpoint(
    fitted: persyn.Router, tmp_path: Path
) -> None:
    from persyn_ray.serving.routes import Policy, choose, keys

    fitted.save(tmp_path / "mine")
    here = fitted.route(NEW)
    again = persyn.Router.load(tmp_path / "mine").route(NEW)
    np.testing.assert_allclose(again.probabilities, here.probabilities, atol=1e-6)
    assert again.teachers == here.teachers == persyn.route(tmp_path / "mine", NEW).teachers
    assert again.distances is not None
    np.testing.assert_allclose(again.distances, here.distances, atol=1e-5)

    address, serving = settings_of(str(tmp_path / "mine"))
    model = RouterModel(address)
    talks = [[{"role": "user", "content": text}] for text in NEW]
    scores = model.score(model.read(talks, ENDLESS), 512)
    policy = Policy(model.teachers, frozenset(serving.masked), {}, model.prior)
    candidates_M = policy.candidates(Wish())
    served = choose(policy, keys(talks), scores.logits_PM, candidates_M, scores.distances, True)
    assert tuple(route.teacher for route in served) == here.teachers
    np.testing.assert_allclose(
        [[route.probabilities[name] for name in here.pool] for route in served],
        here.probabilities,
        atol=1e-6,
    )


def test_tables_give_the_names_and_columns_the_prompts(random_llama: str) -> None:
    columns = dict(zip(TEACHERS, REWARDS_PM.T, strict=True))
    quick = settings(random_llama, epochs=1)
    wanted = persyn.fit_router(PROMPTS, REWARDS_PM, teachers=TEACHERS, settings=quick).route(NEW)
    table = pa.table(columns)
    by_arrow = persyn.fit_router(pa.array(PROMPTS), table, settings=quick)
    assert by_arrow.teachers == TEACHERS
    np.testing.assert_array_equal(by_arrow.route(pa.array(NEW)).probabilities, wanted.probabilities)
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"prompt": PROMPTS} | columns)
    by_pandas = persyn.fit_router(frame["prompt"], frame[list(TEACHERS)], settings=quick)
    found = by_pandas.route(pandas.Series(NEW))
    np.testing.assert_array_equal(found.probabilities, wanted.probabilities)
    written = found.to_arrow()
    assert written["teacher"].to_pylist() == list(wanted.teachers)
    assert written["probabilities"][0].as_py()["bert"] == pytest.approx(wanted.probabilities[0, 1])


def test_nobody_excluded_gets_anything(fitted: persyn.Router) -> None:
    routes = fitted.route(NEW, excluded=["ada"])
    assert "ada" not in routes.teachers
    assert (routes.probabilities[:, 0] == 0).all()
    with pytest.raises(persyn.ConfigError, match="knows no teacher"):
        fitted.route(NEW, excluded=["dora"])
    with pytest.raises(persyn.ConfigError, match="Every teacher"):
        fitted.route(NEW, excluded=TEACHERS)


def test_unknown_rewards_make_no_pair_and_a_regression_fits_rewards(random_llama: str) -> None:
    holes_PM = REWARDS_PM.copy()
    holes_PM[::3, 1] = np.nan
    config = settings(random_llama, loss="regression", learning_rate=5e-2)
    routes = persyn.fit_router(PROMPTS, holes_PM, teachers=TEACHERS, settings=config).route(PROMPTS)
    best = REWARDS_PM.argmax(axis=1)
    assert (
        np.mean([one == TEACHERS[of] for one, of in zip(routes.teachers, best, strict=True)]) > 0.8
    )


def test_what_does_not_fit_together_is_refused(random_llama: str) -> None:
    config = settings(random_llama)
    for prompts, rewards, teachers, why in (
        (PROMPTS[:5], REWARDS_PM, TEACHERS, "5 prompts and rewards of 60"),
        (PROMPTS, REWARDS_PM, ("ada",), r"shape \(60, 3\) for the teachers"),
        (PROMPTS, REWARDS_PM, None, "needs `teachers`"),
        (PROMPTS, np.ones((60, 3)), TEACHERS, "one teacher's reward is above"),
        (PROMPTS, np.where(REWARDS_PM > 0, REWARDS_PM, np.inf), TEACHERS, "infinite"),
        (PROMPTS, [["x"] * 3] * 60, TEACHERS, "must be numbers"),
    ):
        with pytest.raises(persyn.DataError, match=why):
            persyn.fit_router(prompts, rewards, teachers=teachers, settings=config)
    with pytest.raises(persyn.ConfigError, match="either backbone"):
        persyn.fit_router(PROMPTS, REWARDS_PM, teachers=TEACHERS)
    with pytest.raises(persyn.ConfigError, match=r"router\.transfer needs"):
        persyn.fit_router(
            PROMPTS, REWARDS_PM, teachers=TEACHERS, settings=settings(random_llama, transfer=True)
        )


def test_a_folder_of_something_else_is_not_written_over(
    fitted: persyn.Router, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(persyn.ConfigError, match="no router"):
        fitted.save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(persyn.ConfigError, match="no router"):
        persyn.Router.load(tmp_path)
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(persyn.ConfigError, match="no router"):
        fitted.save(model)
    assert (model / "config.json").exists()
    fitted.save(tmp_path / "mine")
    fitted.save(tmp_path / "mine")  # a router in the place of a router
    assert persyn.Router.load(tmp_path / "mine").teachers == TEACHERS
