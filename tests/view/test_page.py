"""The pages of `persyn view` in a real browser, over planted answers with hostile texts in them."""

import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import persyn_ray
from persyn_ray.report import drawing

from ..browsing import becomes, serving, watched_page
from . import scripted_view
from .scripted_view import ENDLESS, HOSTILE, TEACHERS, ScriptedRun, prompt_id, random_text

FOLDER = Path(persyn_ray.__path__[0]) / "view/page"
VIEWS = ("/", "/prompts", "/prompt?id=gsm-0000", "/teachers", "/dead-letters", "/run-report")
browsing = pytest.mark.browser


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[ScriptedRun, str]]:
    scripted = ScriptedRun()
    with serving(scripted.app()) as url:
        yield scripted, url


@pytest.fixture
def run(served: tuple[ScriptedRun, str]) -> ScriptedRun:
    """The scripted run as it was at first."""
    served[0].__init__()
    return served[0]


@pytest.fixture
def page(browser: Any, run: ScriptedRun, served: tuple[ScriptedRun, str]) -> Iterator[Any]:
    """A page of a fresh context that ends without complaints and asked nobody else."""
    with watched_page(browser, served[1], width=1440) as opened:
        yield opened
        assert "taken" not in opened.title().partition(" – ")[0]
        assert opened.locator("main img, main script, nav script").count() == 0


def text_of(page: Any, selector: str) -> str:
    return re.sub(r"\s+", " ", page.locator(selector).first.inner_text()).strip()


def query_of(page: Any) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def first_row(page: Any, text: str) -> None:
    page.locator("tbody tr").first.get_by_text(text, exact=False).first.wait_for()


def range_is(page: Any, words: str) -> None:
    page.locator(".range").get_by_text(words, exact=True).wait_for()


@browsing
def test_now_shows_steps_speed_cost_and_teachers_and_follows_the_run(
    page: Any, run: ScriptedRun
) -> None:
    page.clock.install()
    page.goto("/")
    page.wait_for_selector("tr.step.running")
    tiles = ["1 of 7", "5 min 22 s", "18.2 k tokens/s", "$0.42"]
    becomes(page, page.locator(".tile .value").all_inner_texts, tiles)
    assert "plan $2.40 · budget $5.00" in text_of(page, ".tiles")
    collect = text_of(page, "tr.step.running")
    assert collect.startswith("Collect running 240 of 500 5 min 12 s 5 min 38 s 18.2 k $0.42")
    assert text_of(page, "tr.step:has(.step-note)").startswith("Router k-NN on frozen embeddings")
    bar = page.locator("tr.step.running .track").bounding_box()
    filled = page.locator("tr.step.running .fill").bounding_box()
    assert filled["width"] == pytest.approx(bar["width"] * 0.48, abs=1.5)
    assert re.search(r"weak 24 0 9 37.5 % 0 24.7 k", text_of(page, "section:has(#at-work-title)"))
    run.rows_done = 400
    page.clock.run_for(2100)
    page.get_by_text("400 of 500").wait_for()
    run.fault = (503, "The run folder cannot be read just now.")
    page.clock.run_for(2100)
    page.get_by_role("alert").get_by_text("cannot be read just now").wait_for()
    assert page.get_by_text("400 of 500").is_visible()
    run.fault, run.state = None, "failed"
    advice = "The same command goes on."
    run.trouble = {"step": "collect", "error": f"No key.\n{HOSTILE}", "advice": advice}
    page.clock.run_for(2100)
    page.locator(".title-line .badge.down").wait_for()
    assert text_of(page, ".trouble p") == "Step collect failed. No key."
    page.locator(".trouble").get_by_text(advice).wait_for()
    becomes(page, page.locator("tr.step.failed").get_by_text("failed").count, 1)
    page.locator(".trouble summary").click()
    page.locator(".trouble pre").wait_for()
    assert HOSTILE in page.locator(".trouble pre").inner_text()
    num_asked = len(run.asked)
    page.clock.run_for(30_000)
    assert len(run.asked) == num_asked  # what has ended is not asked for again


@browsing
def test_prompts_are_searched_filtered_sorted_and_paged_in_the_address(
    page: Any, run: ScriptedRun
) -> None:
    page.goto("/prompts")
    first_row(page, "Anna buys 3 apples")
    assert text_of(page, ".range") == "1–50 of 120"
    page.keyboard.press("n")
    range_is(page, "51–100 of 120")
    page.keyboard.press("n")
    range_is(page, "101–120 of 120")
    assert query_of(page) == {"offset": ["100"]}
    page.go_back()
    range_is(page, "51–100 of 120")
    page.get_by_role("button", name="cut").click()
    page.get_by_role("button", name="unsure router").click()
    page.get_by_label("Any split").select_option("parallel")
    page.get_by_role("link", name="Margin").click()
    page.wait_for_url(re.compile("sort=-margin"))
    wanted = {"flag": ["cut", "unsure"], "split": ["parallel"], "sort": ["-margin"]}
    assert query_of(page) == wanted
    page.locator("th[aria-sort=descending]").wait_for()
    expected = sorted(
        (row for row in run.rows[:100] if {"cut", "unsure"} <= set(row["flags"])),
        key=lambda row: -row["margin"],
    )
    margins = [f"{row['margin']:.2f}" for row in expected]
    becomes(page, page.locator("td[data-name=Margin]").all_inner_texts, margins)
    page.reload()
    first_row(page, expected[0]["text"])
    assert page.get_by_role("button", name="cut").get_attribute("aria-pressed") == "true"
    page.get_by_role("link", name="Clear").click()
    first_row(page, "Anna")
    page.keyboard.press("/")
    page.keyboard.type("no such thing")
    page.get_by_text("No prompt fits “no such thing”.").wait_for()
    assert query_of(page) == {"search": ["no such thing"]}


@browsing
def test_a_stopped_search_a_slow_one_and_a_failed_one_are_said(page: Any, run: ScriptedRun) -> None:
    run.is_complete = False
    page.goto("/prompts?search=Add")
    note = "The search stopped at its time limit after 60 prompts"
    page.get_by_text(note).wait_for()
    assert text_of(page, ".range") == "1–50 of at least 116"
    asked = len(run.asked)
    with page.expect_response("**/api/prompts**"):
        page.get_by_role("button", name="Search on").click()
    assert len(run.asked) == asked + 1
    run.delay = 2.5
    page.keyboard.press("n")
    page.get_by_label("Loading").wait_for()
    range_is(page, "51–100 of at least 116")
    run.delay = 0.0
    page.goto("/prompts")
    page.get_by_text("The run is still being read after 60 prompts").wait_for()
    run.is_complete = True
    page.locator(".note").wait_for(state="detached")  # it asks again by itself
    range_is(page, "1–50 of 120")
    run.fault = (400, f"sort={HOSTILE} is no column.")
    page.goto("/prompts?sort=novelty")
    page.get_by_role("alert").get_by_text(f"sort={HOSTILE} is no column.").wait_for()
    run.fault = None
    page.get_by_role("button", name="Try again").click()
    first_row(page, min(run.rows, key=lambda row: row["novelty"])["text"])


@browsing
def test_one_walks_through_prompts_by_keyboard_alone(page: Any) -> None:
    page.goto("/prompts?split=parallel")
    first_row(page, "Anna")
    for key in ("j", "j", "k", "j"):
        page.keyboard.press(key)
    focused = page.locator("a.prompt-text:focus")
    assert HOSTILE in focused.inner_text()
    assert focused.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_selector(".response")
    assert query_of(page)["id"] == [prompt_id(1)]  # with a slash, a question mark and a hash in it
    for key, number in (("n", 2), ("n", 3), ("p", 2)):
        page.keyboard.press(key)
        page.get_by_text(prompt_id(number), exact=True).first.wait_for()
    page.keyboard.press("?")
    page.get_by_role("dialog").get_by_text("next prompt of the filter").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("u")
    first_row(page, "Anna")
    assert query_of(page) == {"split": ["parallel"]}
    page.go_back()
    page.wait_for_selector(".response")


@browsing
def test_responses_stand_side_by_side_with_their_figures_and_marks(page: Any) -> None:
    page.goto("/prompt?id=gsm-0000")
    page.wait_for_selector("math")
    boxes = [card.bounding_box() for card in page.locator(".response").all()]
    assert len(boxes) == 5
    assert len({round(box["y"]) for box in boxes[:3]}) == 1
    assert text_of(page, ".choice tbody tr") == (
        "Qwen2.5-7B-Instruct 52.0 % 0.900 ✓ correct −0.400 40 persyn"
    )
    graded = text_of(page, ".choice tbody tr:nth-child(4)")
    assert graded == "weak 8.0 % −0.600 0.731 −1.450 310"
    assert "ahead of Llama-3.1-8B-Instruct by a margin of 0.77" in text_of(page, ".why")
    decided = "Router: k-NN on frozen embeddings. router.kind: auto has chosen it: knn routes best"
    assert decided in text_of(page, ".why")
    best, looping = page.locator(".response").nth(0), page.locator(".response").nth(2)
    assert best.locator(".body mark.lowest").inner_text() == "which I computed"
    assert looping.locator("mark.loop").inner_text().startswith("And again")
    assert not best.get_by_text("Is 12 right?").is_visible()
    best.locator(".thinking summary").click()
    best.get_by_text("Is 12 right?").wait_for()  # written when opened
    assert best.locator(".thinking mark.lowest").inner_text() == "3 times 4 "
    assert best.locator("pre.code code").inner_text().startswith("def total(apples: int)")
    assert best.locator("strong").first.inner_text() == "Step 1."
    assert best.locator("td").nth(1).inner_text() == "4"
    assert "$5 and $6 are just money" in best.inner_text()
    assert "For 2*3*4 = 24 and 2**3**2 = 512 no sign is lost." in best.inner_text()
    becomes(page, best.locator("math mfrac").count, 1)
    page.locator(".response").nth(3).get_by_text("Parts of quality").click()
    page.locator(".response").nth(3).get_by_text("length penalty").first.wait_for()
    assert re.search(r"length penalty\s+−0.250", page.locator(".response").nth(3).inner_text())
    looping.get_by_role("button", name="Show all").click()
    assert looping.locator(".body").bounding_box()["height"] > 600
    page.keyboard.press("s")
    page.wait_for_selector(".text.source")
    assert best.locator(".source").inner_text() == scripted_view.MATHEMATICS
    assert best.locator(".body mark.lowest").inner_text() == "which I computed"
    assert query_of(page)["text"] == ["source"]


@browsing
def test_among_equal_rewards_none_is_called_the_best(page: Any, run: ScriptedRun) -> None:
    page.goto("/prompt?id=gsm-0000")
    page.locator(".response .badge").get_by_text("best reward").wait_for()
    run.is_tied = True
    page.reload()
    page.locator(".response").nth(4).wait_for()
    assert page.locator(".response .badge").get_by_text("assigned").count() == 1
    assert page.locator(".response .badge").get_by_text("best reward").count() == 0


@browsing
def test_hostile_text_is_only_text(page: Any) -> None:
    page.goto(f"/prompt?id=gsm-0000&search={HOSTILE}&task={HOSTILE}".replace("#", "%23"))
    page.wait_for_selector(".response")
    hostile = page.locator(".response").nth(1)
    assert HOSTILE in hostile.inner_text()
    assert "pay \\u202e100 dollars\\u202c \\x1b[31mred\\x1b[0m \\x00 end" in hostile.inner_text()
    endless = page.locator(".response").nth(3)
    assert ENDLESS in endless.inner_text().replace("\n", "")
    assert f"The endpoint refused: {HOSTILE}" in page.locator(".response").nth(4).inner_text()
    for bad in ("javascript:alert(1)", "https://elsewhere.invalid/x.png"):
        latex = f"$\\href{{{bad}}}{{x}} \\includegraphics{{{bad}}}$"
        script = """async (text) => {
            const { markdown } = await import('/static/parts/markdown.js');
            const { MarkedText } = await import('/static/parts/marks.js');
            const at = document.querySelector('main').appendChild(document.createElement('div'));
            markdown(new MarkedText(text), at);
            await new Promise((done) => setTimeout(done, 300));
            return [at.querySelectorAll('a, img, [href], [src]').length, at.textContent];
        }"""
        num, text = page.evaluate(script, f"[link]({bad}) ![image]({bad}) {latex}")
        assert num == 0
        assert f"[link]({bad}) ![image]({bad})" in text


@browsing
def test_formatting_loses_no_word_and_takes_no_long_time(page: Any) -> None:
    page.goto("/dead-letters")
    page.wait_for_selector(".reason")
    script = """async (texts) => {
        const { markdown } = await import('/static/parts/markdown.js');
        const { MarkedText } = await import('/static/parts/marks.js');
        return texts.map((text) => {
            const at = document.createElement('div'), start = performance.now();
            const mark = { start: 5, end: Math.floor(text.length / 2), name: 'lowest', title: '' };
            markdown(new MarkedText(text, [mark]), at);
            return [at.textContent, performance.now() - start];
        });
    }"""
    texts = [random_text(Random(seed)) for seed in range(300)]
    for text, (shown, _) in zip(texts, page.evaluate(script, texts), strict=True):
        assert re.findall(r"word\d+q", shown) == re.findall(r"word\d+q", text), text
    slow = ["`" * 60_000, "$a" * 40_000, "**a " * 30_000, "|" * 60_000, "- " * 40_000]
    for text, (shown, milliseconds) in zip(slow, page.evaluate(script, slow), strict=True):
        assert milliseconds < 30_000, text[:4]  # unbounded patterns take minutes
        assert len(shown) > len(text) / 2, text[:4]


@browsing
def test_a_point_of_the_plot_opens_its_prompt_by_mouse_and_keyboard(page: Any) -> None:
    page.goto("/teachers")
    plot = page.get_by_role("application")
    plot.wait_for()
    becomes(page, page.locator("circle").count, 400)
    persyn = page.get_by_role("img", name=re.compile("^persyn: Qwen2.5-7B-Instruct 41.0 %"))
    widths = [part.bounding_box()["width"] for part in persyn.locator("span").all()]
    assert widths[0] / sum(widths) == pytest.approx(0.41, abs=0.01)
    colour = page.locator("circle").first.get_attribute("fill")
    assert colour == drawing.TEACHER_COLOURS[TEACHERS.index(scripted_view.points()[0]["teacher"])]
    assert page.locator("table.agreement tbody tr").first.inner_text().split()[-3:] == [
        "0.80",
        "0.70",
        "0.60",
    ]
    page.get_by_role("button", name="weak").click()
    becomes(page, page.locator("circle:visible").count, 300)
    plot.focus()
    page.keyboard.press("ArrowRight")
    lowest = min(
        (one for one in scripted_view.points() if one["teacher"] != "weak"),
        key=lambda one: one["learnability"],
    )
    page.get_by_text(f"prompt {lowest['prompt_id']}").wait_for()
    page.keyboard.press("Enter")
    page.wait_for_selector(".response")
    assert query_of(page)["id"] == [lowest["prompt_id"]]


@browsing
def test_dead_letters_and_the_report(page: Any, run: ScriptedRun) -> None:
    page.goto("/dead-letters")
    page.get_by_role("heading", name="timeout").wait_for()
    assert "33 rows could not be carried through" in text_of(page, "main")
    assert text_of(page, ".reason .many") == "31 93.9 %"
    page.get_by_role("link", name=prompt_id(1)).click()
    page.wait_for_selector(".response")
    run.dead = []
    page.keyboard.press("4")
    page.get_by_text("No row has failed.").wait_for()
    page.keyboard.press("5")
    page.frame_locator("iframe").get_by_role("heading", name="The run's report").wait_for()
    run.has_report = False
    page.goto("/run-report")
    page.get_by_text("persyn report RUN").wait_for()


@browsing
def test_every_view_fits_a_phone_and_both_themes(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for path in VIEWS:
        page.goto(path)
        page.wait_for_selector("main h1")
        page.wait_for_load_state("networkidle")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, path
        assert page.locator("nav a[aria-current=page]").count() == 1, path
    backgrounds = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        backgrounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert backgrounds == ["rgb(246, 247, 248)", "rgb(18, 21, 24)"]
    page.get_by_role("button", name="Theme: system").click()
    page.reload()
    page.get_by_role("button", name="Theme: light").wait_for()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == backgrounds[0]


def test_teacher_colours_are_those_of_the_report() -> None:
    text = (FOLDER / "parts/teacher_names.js").read_text(encoding="utf-8")
    (line,) = re.findall(r"const COLOURS = \[(.+)\]", text)
    assert tuple(re.findall(r"#\w{6}", line)) == drawing.TEACHER_COLOURS
    assert f'OTHERS = "{drawing.OTHERS}"' in text


def test_the_pages_hold_nothing_that_their_policy_forbids_and_name_no_other_host() -> None:
    own = [path for path in FOLDER.rglob("*.*") if "vendor" not in path.parts]
    assert len(own) > 20
    for path in own:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
        assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) == [], path
        assert len(text.splitlines()) <= 300, path
    index = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", index)
    for name in re.findall(r'(?:href|src)="/static/([^"]+)"', index):
        assert (FOLDER / name).is_file(), name
