"""Runs on S3, against a local S3 server: the same answers as of the same run on the disk."""

from pathlib import Path
from typing import Any

import pytest

from persyn_ray.recipe.recipe import Recipe
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout
from persyn_ray.view import viewed

from ..s3_server import BUCKET
from .conftest import getter

ASKED = (
    "/api/prompts?sort=prompt",
    "/api/prompts?flag=all_wrong",
    "/api/teachers",
    "/api/dead-letters",
)
Finished = tuple[Recipe, RunLayout]


@pytest.fixture
def remote(s3: Any, finished: Finished) -> str:
    """A copy of the finished run on S3; its recipe still names the folder it was made in."""
    address = f"s3://{BUCKET}/runs/copy"
    Folder.absolute(address).upload(Path(finished[1].root.address))
    return address


def test_every_view_of_a_run_on_s3_is_that_of_the_run_on_the_disk(
    remote: str, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewed, "FRESH_SECONDS_REMOTE", 0.0)
    there, here = getter(remote), getter(finished[1].root.address)
    first = there("/api/prompts")
    assert first["rows"] == here("/api/prompts")["rows"]
    assert first["total"] == 24
    own = {"name": None, "address": None}
    assert there("/api/run") | own == here("/api/run") | own
    for address in ASKED:
        assert there(address) == here(address), address
    prompt = f"/api/prompts/{first['rows'][0]['prompt_id']}"
    assert there(prompt) == here(prompt)
    assert there("/api/now")["steps"] == here("/api/now")["steps"]


def test_looking_writes_nothing(remote: str, s3: Any) -> None:
    def stamps() -> dict[str, Any]:
        found = s3.list_objects_v2(Bucket=BUCKET)
        return {one["Key"]: one["LastModified"] for one in found["Contents"]}

    before, get = stamps(), getter(remote)
    for address in ("/api/run", "/api/now", *ASKED):
        get(address)
    assert stamps() == before
