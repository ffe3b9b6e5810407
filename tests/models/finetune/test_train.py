"""Fine-tuning of all kinds, alone and on two workers: the same students from the same examples.

Each group of workers is started once and carries out all trainings of this file.
"""

import json
import socket
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from persyn_ray.models.finetune.export import merge_adapters
from persyn_ray.models.finetune.train import checkpoint_bytes
from persyn_ray.models.load import load_causal_lm, load_tokenizer, save_random
from persyn_ray.models.templates.end_of_turn import end_of_turn

pytestmark = pytest.mark.timeout(1800)
WORKER = Path(__file__).with_name("training_worker.py")
STAGES = (0, 1, 2, 3)
KINDS = ("full", "lora")
PACKED = (("full", 3), ("lora", 2))
EXAMPLES = {f"{number}+{number}?": "=" * (number % 7 + 1) + str(number) for number in range(22)}
SETTINGS: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 8,
    "micro_batch_size": 2,
    "learning_rate": 1e-2,
    "warmup_ratio": 0.0,
    "seed": 3,
    # Adam divides by the size of a gradient: one that is nothing but rounding, which differs by
    # processor and by packing, would make a whole step under the default of 1e-8.
    "arguments": {"adam_epsilon": 1e-6},
}
WATCHED = {"logging_steps": 1, "adam_beta2": 0.99, "adam_epsilon": 1e-6}
LORA = {"rank": 4, "lora_alpha": 8, "target_modules": "all-linear"}
STEPS_PER_EPOCH = 3  # 22 examples in batches of 8, the last of which is not full
Seen = dict[int, Counter[str]]


def settings(stage: int, kind: str, **changes: Any) -> dict[str, Any]:
    given = SETTINGS | {"deepspeed": f"zero{stage}"} | changes
    return given | {"lora": LORA, "max_steps": 2} if kind == "lora" else given


def trainings(out: Path, num_workers: int) -> list[dict[str, Any]]:
    """All that a group of workers carries out, in turn."""
    every = [
        {"name": f"{kind}-{stage}", "settings": settings(stage, kind)}
        for stage in STAGES
        for kind in KINDS
    ]
    every += [
        {"name": f"packed-{kind}-{stage}", "settings": settings(stage, kind, packing=True)}
        for kind, stage in PACKED
    ]
    watched = settings(2, "full", heldout_fraction=0.3, save_steps=2, deepspeed="zero2_offload")
    watched |= {"packing": True, "arguments": WATCHED}
    every.append({"name": "watched", "settings": watched})
    # So fast that it soon gets worse.
    best = settings(3, "full", heldout_fraction=0.3, eval_steps=1, keep="best", patience=2)
    every.append({"name": "best", "settings": best | {"learning_rate": 0.2, "epochs": 6}})
    whole = settings(3, "full", logits_at_once=0)
    every.append({"name": "all-logits", "settings": whole})
    by_file = settings(2, "full", deepspeed=str(deepspeed_file(out)))
    every.append({"name": "by-file", "settings": by_file})
    saved = settings(1, "full", save_steps=1)
    checkpoints = str(out / "saved")
    killed = {"name": "killed", "settings": saved, "save": checkpoints, "stop_at": 5}
    again = {"name": "resumed", "settings": saved, "resume": f"{checkpoints}/checkpoint-5"}
    unpartitioned = settings(0, "full", save_steps=1)
    shared = str(out.with_name("unpartitioned"))
    first = {"name": "first", "settings": unpartitioned, "save": shared, "stop_at": 4}
    other = {"name": "other", "settings": unpartitioned, "resume": f"{shared}/checkpoint-4"}
    moved = first if num_workers == 1 else other
    poisoned = {"name": "poisoned", "settings": settings(2, "full"), "poison": "7+7?"}
    return [one | {"examples": EXAMPLES} for one in (*every, killed, again, moved, poisoned)]


def deepspeed_file(folder: Path) -> Path:
    """A configuration of the user's."""
    path = folder / "deepspeed.json"
    zero = {"stage": 2, "allgather_bucket_size": 1_000}
    path.write_text(json.dumps({"zero_optimization": zero, "wall_clock_breakdown": False}))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_random("llama", tmp_path_factory.mktemp("base")))


def trained(model: str, out: Path, num_workers: int) -> Path:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {"model": model, "out": str(out), "num_workers": num_workers, "port": port}
    (out / "job.json").write_text(json.dumps(job | {"trainings": trainings(out, num_workers)}))
    command = [sys.executable, str(WORKER), str(out / "job.json")]
    logs = [(out / f"log-{rank}.txt").open("w") for rank in range(num_workers)]
    workers = [
        subprocess.Popen([*command, str(rank)], stdout=log, stderr=log)
        for rank, log in enumerate(logs)
    ]
    try:
        for worker, log in zip(workers, logs, strict=True):
            assert worker.wait(timeout=1700) == 0, Path(log.name).read_text()[-3000:]
    finally:
        for worker, log in zip(workers, logs, strict=True):
            worker.kill()
            worker.wait()
            log.close()
    return out


@pytest.fixture(scope="module")
def groups(model: str, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """What one worker and two workers made, by their number."""
    together = tmp_path_factory.mktemp("groups")
    folders = {number: together / str(number) for number in (1, 2)}
    for number, folder in folders.items():
        folder.mkdir()
        trained(model, folder, number)
    return folders


def notes(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("seen-*.json"))]


def seen(folder: Path) -> Seen:
    """The examples of each step, over all workers."""
    found: Seen = {}
    for worker in notes(folder):
        for step, texts in worker["steps"].items():
            found.setdefault(int(step), Counter()).update(texts)
    return found


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Of the adapters in a folder, or of the model that it loads as."""
    adapters = folder / "adapter_model.safetensors"
    if adapters.exists():
        return load_file(adapters)
    return dict(load_causal_lm(str(folder)).state_dict())


def largest_gap(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("num_workers", [1, 2])
def test_every_stage_makes_the_same_student_on_any_number_of_workers(
    groups: dict[int, Path], kind: str, stage: int, num_workers: int
) -> None:
    folder = groups[num_workers] / f"{kind}-{stage}" / "student"
    expected = weights(groups[1] / f"{kind}-0" / "student")
    assert largest_gap(weights(folder), expected) < 1e-4


@pytest.mark.parametrize(("kind", "stage"), PACKED)
@pytest.mark.parametrize("num_workers", [1, 2])
def test_packed_examples_make_the_same_student_in_the_same_steps(
    groups: dict[int, Path], kind: str, stage: int, num_workers: int
) -> None:
    packed = groups[num_workers] / f"packed-{kind}-{stage}"
    padded = groups[1] / f"{kind}-0"
    assert largest_gap(weights(packed / "student"), weights(padded / "student")) < 1e-4
    assert seen(packed) == seen(padded)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_share_of_the_examples_is_kept_to_measure_the_loss_on(
    groups: dict[int, Path], num_workers: int
) -> None:
    folder = groups[num_workers] / "watched"
    (losses, *_) = [note["losses"] for note in notes(folder)]
    evaluated = {entry["step"]: entry["eval_loss"] for entry in losses if "eval_loss" in entry}
    assert sorted(evaluated) == [2, 4]
    assert evaluated[4] < evaluated[2]
    (alone, *_) = [note["losses"] for note in notes(groups[1] / "watched")]
    expected = {entry["step"]: entry["eval_loss"] for entry in alone if "eval_loss" in entry}
    assert evaluated == pytest.approx(expected, abs=1e-4)
    assert [entry["step"] for entry in losses if "loss" in entry] == [1, 2, 3, 4]
    learned_from = {text for texts in seen(folder).values() for text in texts}
    assert 0 < len(set(EXAMPLES) - learned_from) < len(EXAMPLES) / 2


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize("name", ["all-logits", "by-file"])
def test_neither_all_logits_at_once_nor_a_file_for_deepspeed_changes_the_student(
    groups: dict[int, Path], name: str, num_workers: int
) -> None:
    ours = weights(groups[num_workers] / name / "student")
    assert largest_gap(ours, weights(groups[1] / "full-0" / "student")) < 1e-4


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_best_student_is_kept_and_training_ends_when_it_gets_no_better(
    groups: dict[int, Path], num_workers: int
) -> None:
    folder = groups[num_workers] / "best"
    (losses, *_) = [note["losses"] for note in notes(folder)]
    found = [(entry["step"], entry["eval_loss"]) for entry in losses if "eval_loss" in entry]
    lower = [step for step, loss in found if all(loss < of for at, of in found if at < step)]
    (kept, *_) = [note["kept"] for note in notes(folder)]
    assert kept == lower
    assert found[-1][0] == kept[-1] + 2  # patience
    assert found[-1][0] < 6 * STEPS_PER_EPOCH
    best, last = (weights(folder / name) for name in (f"best/{kept[-1]}", "student"))
    assert largest_gap(best, last) > 1e-2


def test_students_have_learned(groups: dict[int, Path], model: str) -> None:
    """What the stages agree on is not the model that they started from."""
    assert largest_gap(weights(groups[2] / "full-3" / "student"), weights(Path(model))) > 1e-2
    adapters = weights(groups[2] / "lora-3" / "student")
    assert max(float(w.abs().max()) for name, w in adapters.items() if "lora_B" in name) > 1e-3


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # by PEFT
@pytest.mark.parametrize("stage", [2, 3])
def test_adapters_are_merged_into_a_model_that_gives_what_they_gave(
    groups: dict[int, Path], model: str, tmp_path: Path, stage: int
) -> None:
    from peft import PeftModel

    tokenizer = load_tokenizer(model)
    adapters = groups[2] / f"lora-{stage}" / "student"
    load, end = partial(load_causal_lm, model), end_of_turn(tokenizer)
    merge_adapters(load, tokenizer, adapters, end, tmp_path)
    ids = torch.tensor([tokenizer("7+7?")["input_ids"]])
    with torch.inference_mode():
        merged = load_causal_lm(str(tmp_path))(ids).logits
        adapted = PeftModel.from_pretrained(load(), str(adapters)).eval()(ids).logits
        before = load()(ids).logits
    torch.testing.assert_close(merged, adapted, atol=1e-4, rtol=1e-4)
    assert float((merged - before).abs().max()) > 1e-2
    assert load_tokenizer(str(tmp_path)).chat_template == tokenizer.chat_template


@pytest.mark.parametrize("name", ["full-0", "full-2", "full-3"])
def test_one_and_two_workers_see_the_same_examples_in_every_step(
    groups: dict[int, Path], name: str
) -> None:
    one, two = (seen(groups[number] / name) for number in (1, 2))
    assert one == two
    assert sorted(one) == list(range(2 * STEPS_PER_EPOCH))
    assert {sum(texts.values()) for texts in one.values()} == {8, 6}


def test_each_epoch_sees_every_example_once_and_in_an_order_of_its_own(
    groups: dict[int, Path],
) -> None:
    steps = seen(groups[2] / "full-1")
    for epoch in (0, 1):
        of_epoch = [steps[epoch * STEPS_PER_EPOCH + place] for place in range(STEPS_PER_EPOCH)]
        assert sum(of_epoch, Counter()) == Counter(dict.fromkeys(EXAMPLES, 1))
    assert [steps[place] for place in range(3)] != [steps[place] for place in range(3, 6)]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_training_killed_in_its_second_epoch_goes_on_where_it_was(
    groups: dict[int, Path], num_workers: int
) -> None:
    out = groups[num_workers]
    assert all(note.get("killed") for note in notes(out / "killed"))
    before, after, whole = seen(out / "killed"), seen(out / "resumed"), seen(out / "full-1")
    assert (sorted(before), sorted(after)) == ([0, 1, 2, 3, 4], [5])
    assert before | after == whole
    gap = largest_gap(weights(out / "resumed" / "student"), weights(out / "full-1" / "student"))
    assert gap < 1e-6


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_speed_counts_the_steps_that_were_trained_over_all_workers(
    groups: dict[int, Path], num_workers: int
) -> None:
    def speed(name: str, number: int = num_workers) -> dict[str, float]:
        return notes(groups[number] / name)[0]["speed"]

    whole, resumed = speed("full-1"), speed("resumed")
    assert whole["seconds"] > 0
    assert whole["response_tokens"] < whole["tokens"] == speed("full-1", 1)["tokens"]
    assert 0 < resumed["tokens"] < whole["tokens"] / 3  # the last step of six
    assert speed("full-3")["flops"] == whole["flops"]  # partitioned weights count as whole ones
    assert 0 < speed("lora-3")["flops"] < whole["flops"]


def test_without_partitions_another_number_of_workers_goes_on(groups: dict[int, Path]) -> None:
    assert sorted(seen(groups[2] / "other")) == [4, 5]
    ours, theirs = (weights(groups[2] / name / "student") for name in ("other", "full-0"))
    assert largest_gap(ours, theirs) < 1e-4


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_room_of_a_checkpoint_is_forecast(
    groups: dict[int, Path], model: str, num_workers: int
) -> None:
    saved = groups[num_workers] / "saved" / "checkpoint-5"
    files = [*saved.rglob("*.pt"), *saved.rglob("*.safetensors")]
    measured = sum(file.stat().st_size for file in files)
    assert 0.8 < checkpoint_bytes(load_causal_lm(model)) / measured < 1.2


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_loss_that_is_no_number_ends_all_workers_and_names_step_and_examples(
    groups: dict[int, Path], num_workers: int
) -> None:
    folder = groups[num_workers] / "poisoned"
    step, texts = next((s, t) for s, t in seen(folder).items() if "7+7?" in t)
    (error,) = {note["error"] for note in notes(folder)}
    assert f"The loss of step {step + 1} is no number" in error
    named = error[error.index("on the examples ") + len("on the examples ") : error.index(". Look")]
    assert "7+7?" in named.split(", ")
    assert len(named.split(", ")) <= 2  # those of one micro-batch
    assert set(named.split(", ")) <= set(texts)
