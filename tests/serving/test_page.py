"""The page in a real browser, served with the policy it has to live with."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route

import persyn_ray.serving
from persyn_ray.client.http import RouterClient

from ..browsing import becomes, serving, watched_page
from . import asking

pytestmark = pytest.mark.browser

PAGE = Path(persyn_ray.serving.__path__[0]) / "page.html"
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
KEY = "pk-" + "k" * 43
HOSTILE = "<img src=x onerror=\"document.title='taken'\">"
LONG = "meta-llama/Llama-3.1-405B-Instruct-with-a-name-that-does-not-end-" + "x" * 60
TEACHERS = ["small", "large", HOSTILE, LONG, "retired"]
ROUTE = {
    "teacher": "large",
    "runner_up": HOSTILE,
    "margin": 0.75,
    "scores": {"small": -1.2, "large": 1.5, HOSTILE: 0.75, LONG: -0.004, "retired": 0.9},
    "probabilities": {"small": 0.039, "large": 0.577, HOSTILE: 0.273, LONG: 0.111},
    "is_novel": False,
    "distance": 0.2,
    "fallback": None,
}
LATE = {
    "teacher": "small",
    "runner_up": None,
    "margin": None,
    "scores": {},
    "probabilities": {"small": 0.5, "large": 0.25, HOSTILE: 0.25, LONG: 0.0},
    "is_novel": None,
    "distance": None,
    "fallback": "late",
}


class Endpoint:
    """Answers as the test says, and notes what it was asked."""

    def __init__(self) -> None:
        self.route: dict[str, Any] = ROUTE
        self.fault: Response | None = None
        self.delay = 0.0
        self.asked: list[dict[str, Any]] = []
        self.status_times: list[float] = []
        self.num_routed = 0

    def page(self, request: Request) -> Response:
        return HTMLResponse(PAGE.read_text(), headers={"Content-Security-Policy": POLICY})

    async def post(self, request: Request) -> Response:
        self.asked.append(await request.json())
        refused = self._refusal(request)
        if refused:
            return refused
        self.num_routed += 1
        answer = {"teachers": TEACHERS, "candidates": TEACHERS[:-1], "routes": [self.route]}
        return JSONResponse({"router": {"version": "9f2c41d07ab3"}} | answer)

    def status(self, request: Request) -> Response:
        self.status_times.append(time.monotonic())
        return self._refusal(request) or JSONResponse(
            {
                "router": {"version": "9f2c41d07ab3", "loss": "bradley_terry"},
                "teachers": TEACHERS,
                "candidates": TEACHERS[:-1],
                "shares": {"small": 0.125, "large": 0.5, HOSTILE: 0.25, LONG: 0.125, "retired": 0},
                "num_routed": self.num_routed,
                "replicas": 3,
            }
        )

    def _refusal(self, request: Request) -> Response | None:
        time.sleep(self.delay)
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return failure(401, "no such key")
        return self.fault

    def app(self) -> Starlette:
        inner = Starlette(
            routes=[
                Route("/", self.page),
                Route("/v1/route", self.post, methods=["POST"]),
                Route("/v1/status", self.status),
            ]
        )
        return Starlette(routes=[Mount("/below/a/prefix", inner), Mount("/", inner)])


def failure(status: int, message: str, **headers: str) -> Response:
    error = {"message": message, "type": "scripted", "code": status}
    return JSONResponse({"error": error}, status, headers)


@pytest.fixture
def served() -> Iterator[tuple[Endpoint, str]]:
    endpoint = Endpoint()
    with serving(endpoint.app()) as url:
        yield endpoint, url


@pytest.fixture
def endpoint(served: tuple[Endpoint, str]) -> Endpoint:
    return served[0]


@pytest.fixture
def page(browser: Any, endpoint: Endpoint, served: tuple[Endpoint, str]) -> Iterator[Any]:
    """An open page that must end without complaints, other than of the answers it was given, and
    without a request to elsewhere."""
    with watched_page(browser, served[1], width=1280) as opened:
        opened.goto(served[1])
        yield opened
        assert opened.title() == "PerSyn router"
        assert opened.query_selector("img") is None


def ask(page: Any, prompt: str = "Sort 3 1 2", key: str = KEY) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_label("Prompt").fill(prompt)
    page.get_by_role("button", name="Choose a teacher").click()


def seen(page: Any, selector: str) -> str:
    return re.sub(r"\s+", " ", page.inner_text(selector)).strip()


def rows(page: Any, selector: str) -> list[tuple[str, str]]:
    """Name and numbers of each bar, from top to bottom."""
    items = page.query_selector_all(f"{selector} .bars li")
    words = [
        (item.query_selector(".name").inner_text(), item.query_selector(".number").inner_text())
        for item in items
    ]
    return [(name, re.sub(r"\s+", " ", number)) for name, number in words]


def test_a_choice_is_shown_with_all_scores_best_first(page: Any, endpoint: Endpoint) -> None:
    ask(page)
    page.wait_for_selector("#choice .teacher")
    assert seen(page, "#choice") == f"large margin 0.75 over {HOSTILE} like the parallel set"
    assert rows(page, "#scores") == [
        ("large chosen", "1.50 57.7 %"),
        ("retired cannot be chosen", "0.90 –"),
        (HOSTILE, "0.75 27.3 %"),
        (LONG, "0.00 11.1 %"),
        ("small", "−1.20 3.9 %"),
    ]
    assert "9f2c41d07ab3" in seen(page, "#scores")
    assert endpoint.asked == [{"prompt": "Sort 3 1 2"}]


def test_bars_grow_from_zero_to_either_side(page: Any, endpoint: Endpoint) -> None:
    ask(page)
    page.wait_for_selector("#choice .teacher")
    tracks = [t.bounding_box() for t in page.query_selector_all("#scores .track")]
    fills = [t.bounding_box() for t in page.query_selector_all("#scores .fill")]
    zero = tracks[0]["x"] + tracks[0]["width"] * 1.2 / 2.7
    for (score, fill), track in zip(
        zip((1.5, 0.9, 0.75), fills, strict=False), tracks, strict=False
    ):
        assert fill["x"] == pytest.approx(zero, abs=1.5)
        assert fill["width"] == pytest.approx(track["width"] * score / 2.7, abs=1.5)
    assert fills[4]["x"] == pytest.approx(tracks[4]["x"], abs=1.5)
    assert fills[4]["x"] + fills[4]["width"] == pytest.approx(zero, abs=1.5)


def test_ctrl_enter_asks_and_the_weight_is_sent(page: Any, endpoint: Endpoint) -> None:
    page.get_by_label("API key").fill(KEY)
    page.get_by_label("Price weight").fill("0,5")
    page.get_by_label("Prompt").fill(HOSTILE)
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#choice .teacher")
    assert endpoint.asked == [{"prompt": HOSTILE, "price_weight": 0.5}]


def test_the_keyboard_reaches_everything_in_its_order(page: Any) -> None:
    page.get_by_label("Prompt").focus()
    reached = []
    for _ in range(5):
        reached.append(page.evaluate("document.activeElement.id"))
        page.keyboard.press("Tab")
    assert reached == ["prompt", "key", "forget", "weight", "send"]


def test_a_novel_prompt_is_called_so(page: Any, endpoint: Endpoint) -> None:
    endpoint.route = ROUTE | {"is_novel": True, "teacher": HOSTILE}
    ask(page)
    page.wait_for_selector("#choice .teacher")
    assert seen(page, "#choice .teacher") == HOSTILE
    assert "unlike the parallel set" in seen(page, "#choice")


def test_a_fallback_shows_prior_shares(page: Any, endpoint: Endpoint) -> None:
    endpoint.route = LATE
    ask(page)
    page.wait_for_selector("#choice .teacher")
    assert "fallback (late)" in seen(page, "#choice")
    assert "margin" not in seen(page, "#choice")
    assert "Prior shares" in seen(page, "#scores")
    assert rows(page, "#scores") == [
        ("small chosen", "50.0 %"),
        ("large", "25.0 %"),
        (HOSTILE, "25.0 %"),
        (LONG, "0.0 %"),
        ("retired cannot be chosen", "–"),
    ]


def test_a_router_without_probabilities(page: Any, endpoint: Endpoint) -> None:
    endpoint.route = ROUTE | {"probabilities": None, "is_novel": None, "runner_up": None}
    ask(page)
    page.wait_for_selector("#choice .teacher")
    assert rows(page, "#scores")[0] == ("large chosen", "1.50")
    assert seen(page, "#choice") == "large margin 0.75"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (failure(401, "no"), "The key is missing or wrong."),
        (failure(413, "at most 4 MiB."), "too long for this endpoint. at most 4 MiB."),
        (failure(422, f"unknown {HOSTILE}"), f"This does not fit: unknown {HOSTILE}"),
        (failure(429, "x", **{"Retry-After": "1"}), "Too many requests.*again in 1 second\\."),
        (failure(503, "x", **{"Retry-After": "30"}), "not ready.*again in 30 seconds\\."),
        (failure(504, "x"), "took too long"),
        (failure(502, HOSTILE), f"The endpoint answered 502. {HOSTILE}"),
        (HTMLResponse("<h1>busy</h1>", 500), "The endpoint answered 500"),
        (HTMLResponse("<h1>hello</h1>"), "answer cannot be read"),
        (JSONResponse({"routes": []}), "answer cannot be read"),
    ],
)
def test_errors_are_words(page: Any, endpoint: Endpoint, fault: Response, words: str) -> None:
    endpoint.fault = fault
    ask(page)
    alert = page.get_by_role("alert")
    alert.wait_for()
    pattern = words if "\\" in words else re.escape(words)
    assert re.search(pattern, alert.inner_text())
    becomes(page, page.get_by_role("button", name="Choose a teacher").is_enabled, True)
    endpoint.fault = None
    ask(page)
    page.wait_for_selector("#choice .teacher")
    alert.wait_for(state="hidden")


def test_a_lost_connection_is_said_and_the_prompt_kept(page: Any, endpoint: Endpoint) -> None:
    ask(page)
    page.wait_for_selector("#choice .teacher")
    page.route("**/v1/*", lambda route: route.abort("connectionrefused"))
    ask(page, "precious")
    page.get_by_role("alert").wait_for()
    assert "No connection to the endpoint" in page.get_by_role("alert").inner_text()
    assert page.get_by_label("Prompt").input_value() == "precious"
    assert seen(page, "#result") == "Choice The chosen teacher and the scores of all appear here."


@pytest.mark.parametrize(
    ("prompt", "key", "weight", "words"),
    [
        (" \n", KEY, "", "Type a prompt first"),
        ("a", "", "", "A key is needed"),
        ("a", "schlüssel – falsch", "", "characters that no key has"),
        ("a", KEY, "-1", "0 or more"),
        ("a", KEY, "cheap", "0 or more"),
    ],
)
def test_what_cannot_be_asked_is_not_sent(
    page: Any, endpoint: Endpoint, prompt: str, key: str, weight: str, words: str
) -> None:
    page.get_by_label("Price weight").fill(weight)
    ask(page, prompt, key)
    assert words in page.get_by_role("alert").inner_text()
    assert endpoint.asked == []


def test_one_question_at_a_time(page: Any, endpoint: Endpoint) -> None:
    page.get_by_label("API key").fill(KEY)
    page.get_by_label("Prompt").fill("a")
    endpoint.delay = 1.5
    for _ in range(3):
        page.keyboard.press("Control+Enter")
    page.wait_for_selector("#choice .teacher")
    assert len(endpoint.asked) == 1


def test_shares_are_fetched_again_while_the_page_is_seen(page: Any, endpoint: Endpoint) -> None:
    assert seen(page, "#status") == "Shares since start A key is needed to see them."
    page.clock.install()
    page.get_by_label("API key").fill(KEY)
    page.clock.run_for(500)
    page.wait_for_selector("#facts span")
    assert seen(page, "#status") == "Shares since start No prompt has been routed yet."
    assert seen(page, "#facts") == "router 9f2c41d07ab3 bradley terry loss 3 replicas"
    endpoint.num_routed = 1204
    page.clock.run_for(5100)
    page.wait_for_selector("#shares li")
    assert seen(page, "#routed") == "1,204 prompts routed"
    assert rows(page, "#shares") == [
        ("large", "50.0 %"),
        (HOSTILE, "25.0 %"),
        ("small", "12.5 %"),
        (LONG, "12.5 %"),
        ("retired cannot be chosen", "0.0 %"),
    ]
    track = page.query_selector("#shares .track").bounding_box()
    fill = page.query_selector("#shares .fill").bounding_box()
    assert fill["width"] == pytest.approx(track["width"] / 2, abs=1.5)
    endpoint.fault = failure(503, "loading")
    page.clock.run_for(5100)
    page.wait_for_selector("#status-trouble:visible")
    assert len(rows(page, "#shares")) == 5
    endpoint.fault = None
    page.clock.run_for(5100)
    page.wait_for_selector("#status-trouble", state="hidden")


def test_nothing_is_fetched_while_the_page_is_hidden(page: Any, endpoint: Endpoint) -> None:
    page.clock.install()
    hide = """is => { Object.defineProperty(document, 'hidden', {value: is, configurable: true});
                      document.dispatchEvent(new Event('visibilitychange')); }"""
    page.get_by_label("API key").fill(KEY)
    page.clock.run_for(500)
    page.wait_for_selector("#facts span")
    page.evaluate(hide, True)
    num_asked = len(endpoint.status_times)
    page.clock.run_for(60_000)
    assert len(endpoint.status_times) == num_asked
    with page.expect_response("**/v1/status"):
        page.evaluate(hide, False)


def test_a_refused_key_is_not_tried_again_and_again(page: Any, endpoint: Endpoint) -> None:
    page.clock.install()
    page.get_by_label("API key").fill("pk-wrong")
    page.clock.run_for(500)
    page.wait_for_selector("#status-trouble:has-text('missing or wrong')")
    num_asked = len(endpoint.status_times)
    page.clock.run_for(60_000)
    assert len(endpoint.status_times) == num_asked


def test_the_key_lives_in_the_tab_alone(page: Any, served: tuple[Endpoint, str]) -> None:
    ask(page)
    page.wait_for_selector("#choice .teacher")
    assert KEY not in page.content()
    page.reload()
    assert page.get_by_label("API key").input_value() == KEY
    kept = page.evaluate("[JSON.stringify(localStorage), document.cookie, location.href]")
    assert kept == ["{}", "", served[1] + "/"]
    page.get_by_role("button", name="Forget").click()
    assert page.evaluate("JSON.stringify(sessionStorage)") == "{}"
    assert "A key is needed" in seen(page, "#status")


@pytest.mark.parametrize("path", ["/below/a/prefix/", "/below/a/prefix"])
def test_below_a_prefix(page: Any, served: tuple[Endpoint, str], path: str) -> None:
    def unredirected(route: Any) -> None:
        """As from a proxy that serves the page without a slash at the end."""
        headers = {"Content-Security-Policy": POLICY, "Content-Type": "text/html"}
        route.fulfill(body=PAGE.read_text(), headers=headers)

    page.route(served[1] + "/below/a/prefix", unredirected)
    page.goto(served[1] + path)
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    ask(page)
    page.wait_for_selector("#choice .teacher")
    assert set(urls) <= {f"{served[1]}/below/a/prefix/v1/{name}" for name in ("route", "status")}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
def test_it_fits_the_screen(
    page: Any, endpoint: Endpoint, tmp_path: Path, width: int, scheme: str
) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    ask(page)
    page.wait_for_selector("#choice .teacher")
    page.wait_for_selector("#shares li")
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for node in page.query_selector_all("button, input, textarea, .number, .name, .marks li"):
        box = node.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    assert json.loads(page.evaluate(CONTRASTS)) == []


CONTRASTS = """() => {
  // Text of less than 4.5 to 1 against the first background below it that is not clear.
  const parts = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const below = node => {
    for (; node; node = node.parentElement) {
      const colour = parts(getComputedStyle(node).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const node of document.querySelectorAll('body *')) {
    const hasText = [...node.childNodes].some(c => c.nodeType === 3 && c.data.trim());
    if (!hasText || !node.offsetParent || node.tagName === 'SCRIPT') continue;
    const [a, b] = [light(parts(getComputedStyle(node).color)), light(below(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${node.textContent.slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return JSON.stringify(poor);
}"""


def test_page_and_client_of_a_real_router_agree(browser: Any, make_service: Any) -> None:
    service = make_service(masked=["bert"], prices={"ada": 1.0, "cleo": 9.0})
    prompt, weight = "What is 3 plus 4?", 0.125
    with serving(service.transport().app) as url:
        with RouterClient(url, asking.KEY) as client:
            chat = [{"role": "user", "content": prompt}]
            text, other = client.route([prompt, chat], price_weight=weight)
            status = client.status()
        # To the last digit only where both stood in one batch.
        assert (text.teacher, text.router) == (other.teacher, other.router)
        assert text.scores == pytest.approx(other.scores, abs=1e-4)
        assert status["num_routed"] == 2
        page = browser.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(url)
        page.get_by_label("Price weight").fill(str(weight))
        ask(page, prompt, asking.KEY)
        page.wait_for_selector("#choice .teacher")
        page.wait_for_selector("#shares li")
        assert seen(page, "#choice .teacher") == text.teacher
        best_first = sorted(text.scores, key=lambda name: -text.scores[name])
        assert [name.split()[0] for name, _ in rows(page, "#scores")] == best_first
        assert ("bert cannot be chosen", "0.0 %") in rows(page, "#shares")
        assert text.router in seen(page, "#facts")
        becomes(
            page, lambda: seen(page, "#routed"), "3 prompts routed"
        )  # it may have been asked before
        assert complaints == []
        page.close()


def test_the_file_stands_alone() -> None:
    text = PAGE.read_text()
    assert not re.search(r"(?:src|href)=\"(?!data:,\")|@import|url\(|https?:|//cdn", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text)
    assert text.isascii()  # so that no locale reads it otherwise
