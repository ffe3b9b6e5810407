"""What a beginner mistypes is answered with what is right."""

from pathlib import Path
from typing import get_args

import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.recipe.gpus import GPUS, GpuName
from persyn_ray.recipe.recipe import load_recipe

RECIPE = """
run: r
student: s
teachers:
  - {name: a, engine: {kind: vllm, model: big}, sampling: {max_tokens: 9}}
  - {name: b, engine: {kind: transformers, model: small}}
prompts: {path: p.jsonl, reference_column: a}
scoring:
  quality:
    kind: several
    parts:
      - {name: right, quality: {kind: exact_answer}}
      - {name: liked, quality: {kind: judge, engine: {kind: openai, model: m}}}
router: {backbone: s}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.mark.parametrize(
    ("override", "right"),
    [
        ("scoring.alfa=0.3", "alpha"),
        ("promts={}", "prompts"),
        ("prompts.referenceColumn=a", "reference_column"),
        ("teachers.a.sampling.max_token=3", "max_tokens"),
        ("teachers.a.engine.max_model_length=3", "max_model_len"),
        ("teachers.b.engine.batchsize=3", "batch_size"),
        ("teachers.a.engine.model.type=float16", "dtype"),
        ("scoring.quality.parts.1.quality.rubrik=x", "rubric"),
        ("scoring.quality.parts.1.quality.engine.baseurl=x", "base_url"),
        ("scoring.quality.parts.0.qualty=x", "quality"),
        ("alpha=0.3", "scoring.alpha"),
        ("prompts.max_steps=3", "finetune.max_steps"),
        ("router.pooling=lst", "last"),
        ("router.loss=bradley-terry", "bradley_terry"),
        ("teachers.a.engine.kind=vlm", "vllm"),
        ("scoring.quality.parts.0.quality.kind=exact-answer", "exact_answer"),
        ("compare.methods=[best-constant]", "best_constant"),
        ("hardware.gpu=RTX 4090", "rtx-4090"),
        ("hardware.gpu=a100", "a100-40"),
    ],
)
def test_the_nearest_right_word_is_named(path: Path, override: str, right: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_recipe(path, (override,))
    (line,) = str(refused.value).splitlines()[1:]
    assert line.endswith(f"Did you mean {right}?")


def test_a_key_like_no_other_is_answered_with_the_keys_that_there_are(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no such key\. The keys here: column, config"):
        load_recipe(path, ("prompts.zzz=1",))


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (
            "teachers.a.engine={kind: gpt4}",
            r"teachers\.0\.engine: kind is 'gpt4'; it must be one of 'transformers', 'vllm', ",
        ),
        ("teachers.a.engine={model: m}", r"teachers\.0\.engine: kind is missing"),
        ("teachers.b.name=a", r"teachers: Teacher names must differ; .*\['a'\]"),
        ("teachers=[]", r"teachers: The pool has no teachers: name at least one"),
        ("prompts.num_parallel=many", r"num_parallel: Input should be a valid integer.*'many'"),
    ],
)
def test_a_wrong_value_is_told_in_plain_words(path: Path, override: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        load_recipe(path, (override,))
    assert not any(word in str(refused.value) for word in ("Value error", "tag", "discriminator"))


def test_what_may_be_a_key_is_not_repeated(path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load_recipe(path, ("scoring.quality.parts.1.quality.engine.api_key=hidden12",))
    assert "api_key_env" in str(refused.value)
    assert "hidden12" not in str(refused.value)


def test_a_named_gpu_sets_what_the_plan_goes_by_but_for_what_is_given(path: Path) -> None:
    plain = load_recipe(path, ("hardware.gpu=h100",)).hardware
    default = load_recipe(path).hardware
    assert plain.model_copy(update={"gpu": None}) == default
    given = ("hardware.gpu=rtx-4090", "hardware.gpu_tflops=100")
    hardware = load_recipe(path, given).hardware
    assert (hardware.gpu_memory_gib, hardware.gpu_bandwidth_gb) == (24, 1008)
    assert hardware.gpu_tflops == 100


def test_every_gpu_that_a_recipe_may_name_has_figures() -> None:
    assert sorted(GPUS) == sorted(get_args(GpuName))
    for figures in GPUS.values():  # of any GPU that holds a model: none is off by a unit
        assert 16 <= figures.memory_gib <= 512
        assert 100 <= figures.bandwidth_gb <= 20_000
        assert 50 <= figures.tflops <= 5_000
