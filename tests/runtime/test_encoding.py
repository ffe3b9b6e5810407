"""Examples encoded by several workers of a training run: each once, and errors told to all."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from persyn_ray.errors import StepError
from persyn_ray.models.load import load_tokenizer
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.runtime.train import encoding
from persyn_ray.runtime.train.encoding import Encoded, encode_together
from persyn_ray.storage.layout import PERSYN, run_of
from persyn_ray.storage.schemas import EXAMPLES

Workers = Callable[..., list[Encoded]]
WORLD = 3


@pytest.fixture
def workers(
    make_recipe: Callable[..., Recipe],
    random_llama: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Workers:
    """Encode these responses on three workers, which are threads here."""
    rank, together = threading.local(), threading.Barrier(WORLD)
    context = SimpleNamespace(get_world_rank=lambda: rank.value, get_world_size=lambda: WORLD)
    monkeypatch.setattr(encoding.ray.train, "get_context", lambda: context)
    monkeypatch.setattr(encoding, "barrier", lambda: together.wait(timeout=600))

    def carry_out(responses: list[str], **changes: Any) -> list[Encoded]:
        of_finetune = {f"finetune.{name}": value for name, value in changes.items()}
        recipe = make_recipe({"student.name": random_llama} | of_finetune)
        run = run_of(recipe)
        for number, part in enumerate((responses[:4], responses[4:])):
            rows = [row(4 * number + place, text) for place, text in enumerate(part)]
            table = pa.Table.from_pylist(rows, schema=EXAMPLES)
            run.examples(PERSYN).write_table(f"{number}.parquet", table)

        def work(number: int) -> Encoded:
            rank.value = number
            scratch = tmp_path / f"worker-{number}"
            scratch.mkdir(exist_ok=True)
            tokenizer = load_tokenizer(random_llama)
            return encode_together(run, recipe.student, recipe.finetune, PERSYN, tokenizer, scratch)

        with ThreadPoolExecutor(WORLD) as threads:
            return list(threads.map(work, range(WORLD)))

    return carry_out


def row(number: int, response: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": response}]
    teacher = "ab"[number % 2]
    return {"prompt_id": f"p{number}", "teacher": teacher, "messages": messages}


def test_every_worker_maps_every_example_once(workers: Workers) -> None:
    found = workers([f"answer {number}" for number in range(8)])
    for one in found:
        assert sorted(one.table["prompt_id"].to_pylist()) == [f"p{number}" for number in range(8)]
        assert one.table.equals(found[0].table)


def test_what_is_left_out_is_counted_over_all_workers(workers: Workers) -> None:
    long = "x" * 300
    found = workers(["one", long, "two", long, "three", "four", long, "five"], max_length=60)
    for one in found:
        assert one.table.num_rows == 5
        assert one.left_out.too_long == {"a": 1, "b": 2}


def test_what_one_worker_meets_is_told_to_all(workers: Workers) -> None:
    responses = ["one"] * 7 + ["x" * 300]
    with pytest.raises(StepError, match="response of b to prompt p7"):
        workers(responses, max_length=60, too_long="raise")


def test_fewer_examples_than_workers_are_enough(workers: Workers) -> None:
    assert [one.table.num_rows for one in workers(["one"])] == [1, 1, 1]
