"""The shipped checkpoints answer, are small, and their making is seeded."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from persyn_ray.lab import tasks
from persyn_ray.lab.build import ASSETS, MODELS, ModelSpec, answer, build, train
from persyn_ray.lab.tasks import EASY

SPECS = {spec.name: spec for spec in MODELS}
TEACHERS = [name for name in SPECS if not name.startswith("student")]


@pytest.mark.parametrize("name", list(SPECS))
def test_a_checkpoint_loads_whole_and_in_float32(name: str):
    model = AutoModelForCausalLM.from_pretrained(ASSETS / name)
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / name)
    assert model.dtype == torch.float32
    assert model.config.vocab_size == len(tokenizer)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id


@pytest.mark.parametrize("name", list(SPECS))
def test_a_checkpoint_was_made_by_the_table(name: str):
    record = json.loads((ASSETS / name / "lab.json").read_text())
    spec = json.loads(json.dumps(asdict(SPECS[name])))
    assert {key: record[key] for key in spec} == spec


@pytest.mark.parametrize("name", TEACHERS)
def test_a_teacher_is_right_on_easy_items_of_its_families(name: str):
    model = AutoModelForCausalLM.from_pretrained(ASSETS / name)
    assert isinstance(model, LlamaForCausalLM)
    families = {family for course in SPECS[name].courses for family in course.families}
    problems = [
        problem
        for problem in tasks.generate(100, seed=11)
        if problem.task in families and problem.difficulty <= EASY[problem.task]
    ]
    responses = answer(model, [problem.prompt for problem in problems])
    right = [tasks.check(r, p.reference) for r, p in zip(responses, problems, strict=True)]
    assert sum(right) >= 0.7 * len(right)


def test_all_assets_together_are_small():
    files = [path for path in ASSETS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12e6
    assert all(path.stat().st_size <= 2e6 for path in files)


def test_training_is_seeded():
    spec = ModelSpec("tiny", SPECS["weak"].courses, hidden=16, layers=1, steps=3, heads=2, batch=4)
    first, again, other = train(spec, seed=0), train(spec, seed=0), train(spec, seed=1)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)


def test_building_writes_the_shipped_prompts_and_a_whole_model(tmp_path: Path):
    build(tmp_path, only=["weak"], max_steps=2)
    for name in ("prompts.jsonl", "heldout.jsonl"):
        assert (tmp_path / name).read_bytes() == (ASSETS / name).read_bytes()
    shipped = {path.name for path in (ASSETS / "weak").iterdir()}
    assert {path.name for path in (tmp_path / "weak").iterdir()} == shipped
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["weak"]
