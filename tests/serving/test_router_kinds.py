"""A router that goes by tasks, behind the endpoint: with a label, without one, and in a batch."""

import numpy as np
import pytest

from persyn_ray.client.http import RouterClient
from persyn_ray.method.predictors.fit import Predictor
from persyn_ray.method.predictors.interactions import TaskTable
from persyn_ray.method.predictors.task_means import TaskMeans
from persyn_ray.serving.forward_pass import Pass, Passes
from persyn_ray.serving.metrics import Counts
from persyn_ray.serving.router_model import ENDLESS, RouterModel

from .asking import TEACHERS, LocalService, ask
from .chatting import CHAT, upstream


@pytest.fixture(scope="module")
def by_task(random_llama: str, tmp_path_factory: pytest.TempPathFactory) -> RouterModel:
    """bert is the best of all, ada for mathematics, cleo for code."""
    from persyn_ray.models.load import load_tokenizer
    from persyn_ray.models.router.model import build_router, save_router

    router, tokenizer = build_router(random_llama, TEACHERS), load_tokenizer(random_llama)
    teacher_M = np.array([0.0, 1.0, 0.5])
    rows_KM = np.array([[3.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
    table = TaskTable(TaskMeans(("math", "code"), teacher_M, rows_KM))
    router.predictor = Predictor("per_task", teacher_M, ((1.0, table),), "2 tasks")
    folder = tmp_path_factory.mktemp("by_task") / "router"
    save_router(router, tokenizer, folder, {"kind": "per_task", "max_length": 64})
    return RouterModel(str(folder))


def test_the_label_of_a_request_decides_and_without_one_the_best_of_all(
    by_task: RouterModel,
) -> None:
    service = LocalService(by_task)
    wanted = {"math": "ada", "code": "cleo", "poetry": "bert", None: "bert"}
    for task, teacher in wanted.items():
        body = {"prompts": ["Add 1 and 2.", "Sort."]} | ({} if task is None else {"task": task})
        answer = ask(service, "POST", "/v1/route", body).json()
        assert [route["teacher"] for route in answer["routes"]] == [teacher, teacher]
        for route in answer["routes"]:
            assert sum(route["probabilities"].values()) == pytest.approx(1.0)
    body = {"prompt": "Add.", "task": "math", "excluded": ["ada"]}
    (route,) = ask(service, "POST", "/v1/route", body).json()["routes"]
    assert route["teacher"] == "bert"
    assert ask(service, "POST", "/v1/route", {"prompt": "x", "task": 7}).status_code == 422
    assert ask(service, "GET", "/v1/status").json()["router"]["kind"] == "per_task"


def test_a_chat_may_say_its_task(by_task: RouterModel, teacher) -> None:
    service = LocalService(by_task, upstreams={name: upstream(teacher) for name in TEACHERS})
    body = CHAT | {"persyn": {"task": "code"}}
    answer = ask(service, "POST", "/v1/chat/completions", body)
    assert answer.status_code == 200
    assert answer.headers["x-persyn-teacher"] == "cleo"
    assert "persyn" not in teacher.asked[-1]


def test_requests_of_several_tasks_share_a_pass(by_task: RouterModel) -> None:
    rows = by_task.read([[{"role": "user", "content": "Add."}]] * 2, ENDLESS)
    passes = [Pass(by_task, rows, "code"), Pass(by_task, rows[:1]), Pass(by_task, rows, "math")]
    found = [one.logits_PM.argmax(axis=1).tolist() for one in Passes(512, Counts())(passes) if one]
    assert found == [[2, 2], [1], [0, 0]]


def test_the_client_sends_the_label(by_task: RouterModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from persyn_ray.client import http

    sent: list[bytes] = []

    def asked(self: RouterClient, method: str, path: str, body: bytes | None = None):
        sent.append(body or b"")
        return ask(LocalService(by_task), method, path, body)

    monkeypatch.setattr(http.RouterClient, "_ask", asked)
    with RouterClient("http://127.0.0.1:9", "key") as client:
        assert [route.teacher for route in client.route(["Add.", "Sort."], task="math")] == [
            "ada",
            "ada",
        ]
        assert [route.teacher for route in client.route("Add.")] == ["bert"]
    assert b'"task":"math"' in sent[0]
    assert b"task" not in sent[1]
