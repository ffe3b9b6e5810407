"""How the endpoint's router reads prompts, and what it says of itself."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.serving.error_response import Refusal
from persyn_ray.serving.route_requests import spans
from persyn_ray.serving.router_model import RouterModel
from persyn_ray.stages.route import RoutePrompts

from .asking import TEACHERS


def conversations(*texts: str):
    return [[{"role": "user", "content": text}] for text in texts]


def test_scores_are_those_of_the_offline_stage(model: RouterModel, router_folder: Path):
    texts = ["Add 1 and 2.", "Spell cat.", "word " * 300]
    rows = model.read(conversations(*texts), 10_000)
    scores = model.score(rows, 16384)
    teachers = tuple(TeacherConfig(name=n, engine={"kind": "scripted"}) for n in TEACHERS)  # type: ignore
    stage = RoutePrompts(router_folder, teachers, model.max_length)
    import pyarrow as pa

    prompts = pa.table(
        {
            "prompt_id": ["a", "b", "c"],
            "messages": conversations(*texts),
            "reference": pa.array([None] * 3, pa.string()),
            "task": pa.array([None] * 3, pa.string()),
        }
    )
    logits, novelty = stage(prompts)
    assert np.allclose(scores.logits_PM, np.array(logits["logits"].to_pylist()), atol=1e-4)
    assert scores.distances is not None
    assert [novel for _, novel in scores.distances] == novelty["is_novel"].to_pylist()


def test_a_long_prompt_keeps_its_end(model: RouterModel):
    (row,) = model.read(conversations("start " + "word " * 200 + "end"), 10_000)
    assert len(row) == model.max_length
    (short,) = model.read(conversations("end"), 10_000)
    assert row[-3:] == short[-3:]


def test_too_long_a_prompt_is_refused_by_its_number(model: RouterModel):
    with pytest.raises(Refusal, match=r"Prompt 1 has \d+ tokens; serving.max_prompt_tokens is 50"):
        model.read(conversations("short", "word " * 120), 50)


def test_a_refusal_of_the_template_tells_no_path_of_the_server(router_folder: Path, tmp_path: Path):
    copied = shutil.copytree(router_folder, tmp_path / "copied")
    (copied / "chat_template.jinja").write_text("{{ raise_exception('Not to me') }}")
    with pytest.raises(Refusal, match="Not to me") as refused:
        RouterModel(str(copied)).read(conversations("Hi"), 50)
    assert "/" not in str(refused.value)


def test_the_version_is_of_the_content(model: RouterModel, router_folder: Path, tmp_path: Path):
    copied = shutil.copytree(router_folder, tmp_path / "copied")
    assert RouterModel(str(copied)).version == model.version
    (copied / "fit.json").write_text("{}")
    assert RouterModel(str(copied)).version == model.version
    (copied / "novelty.npz").unlink()
    bare = RouterModel(str(copied))
    assert bare.version != model.version
    assert bare.score(bare.read(conversations("a"), 99), 128).distances is None


def test_prompts_are_put_into_passes_of_so_many_tokens():
    rows = [[0] * size for size in (3, 3, 3, 9, 1)]
    assert list(spans(rows, 6)) == [(0, 2), (2, 3), (3, 4), (4, 5)]
    assert list(spans(rows[:1], 1)) == [(0, 1)]
