"""The pages over the viewer and a run that was carried out: one shows what the other sends."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage.layout import RunLayout
from persyn_ray.view.app import create_app

from ..browsing import PATIENCE_MS, becomes, serving

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def url(
    finished: tuple[Recipe, RunLayout], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The viewer of a copy of the finished run without a report: other tests may write one."""
    copy = tmp_path_factory.mktemp("viewed") / "run"
    shutil.copytree(finished[1].root.address, copy, ignore=shutil.ignore_patterns("report.html"))
    with serving(create_app(str(copy))) as address:
        yield address


def test_every_view_shows_a_finished_run(
    browser: Any, url: str, finished: tuple[Recipe, RunLayout]
) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, base_url=url)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))

    page.goto("/")
    page.locator("tr.step.done").nth(8).wait_for()
    becomes(page, page.locator(".title-line .badge").inner_text, "finished")

    page.keyboard.press("2")
    page.locator(".range").get_by_text("1–24 of 24").wait_for()
    page.get_by_label("Any split").select_option("parallel")
    page.locator(".range").get_by_text("1–12 of 12").wait_for()
    page.get_by_role("link", name="Best reward").click()
    page.locator("th[aria-sort=descending]").wait_for()
    rewards = page.locator("td[data-name='Best reward']").all_inner_texts()
    assert [float(one.replace("−", "-")) for one in rewards] == sorted(
        (float(one.replace("−", "-")) for one in rewards), reverse=True
    )
    assigned = page.locator("tbody tr td.who").first.inner_text()
    page.locator("a.prompt-text").first.click()

    page.locator(".response").nth(2).wait_for()
    assert page.locator("tr.assigned th").inner_text().strip() == assigned
    assert assigned in page.locator(".why").inner_text()
    stored = {
        (row["prompt_id"], teacher.name): row["response"]
        for teacher in finished[0].teachers
        for _, table in finished[1].responses(teacher).tables()
        for row in table.to_pylist()
    }
    prompt = page.evaluate("new URLSearchParams(location.search).get('id')")
    page.keyboard.press("s")
    page.wait_for_selector(".text.source")
    for card in page.locator(".response").all():
        name = card.locator("h2").inner_text().strip()
        assert card.locator(".body .source").inner_text() == stored[prompt, name]
    num_marked = 0
    for one in page.request.get(f"/api/prompts/{prompt}").json()["responses"]:
        card = page.get_by_label(f"Response of {one['teacher']}", exact=True)
        span = one["lowest_span"]
        marks = card.locator("mark.lowest").all_inner_texts()
        assert marks == ([] if span is None else [one["text"][slice(*span)]])
        num_marked += len(marks)
        assert card.get_by_role("button", name="least likely −").count() == len(marks)
    assert num_marked > 0
    page.keyboard.press("n")
    page.wait_for_function("id => !location.search.includes(id)", arg=prompt)
    page.wait_for_selector(".response")

    page.keyboard.press("3")
    page.wait_for_selector("circle")
    page.keyboard.press("4")
    page.get_by_role("heading", name="Dead letters").wait_for()
    page.keyboard.press("5")
    page.get_by_text("persyn report RUN").wait_for()  # none was written for this run
    assert complaints == []
    context.close()
