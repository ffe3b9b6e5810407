"""Train the lab's models and write its prompts: the only training loop outside Ray Train.

Everything is seeded and counted in steps, so one machine makes the same world twice. The table
MODELS says what each model has read: which families, in which style, and whether only easy items.
Responses alone carry loss. Prompts of the shipped sets are never trained on here.
"""

import argparse
import json
import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from persyn_ray.lab import tasks
from persyn_ray.lab.tasks import EASY, STYLES, TASKS, Problem
from persyn_ray.lab.tokenizer import ASSISTANT, END, PAD, USER, VOCABULARY, build_tokenizer

ASSETS = Path(__file__).parent / "assets"
NUM_PROMPTS, NUM_HELDOUT = 3000, 600
MAX_NEW_TOKENS = 96  # the longest long-winded solution has 82 characters


@dataclass(frozen=True)
class Course:
    """One part of what a model reads: families in a style, drawn with a weight."""

    families: tuple[str, ...]
    style: str
    weight: float = 1.0
    easy: bool = False


@dataclass(frozen=True)
class ModelSpec:
    """One model of the world: its size, what it reads and for how long."""

    name: str
    courses: tuple[Course, ...]
    hidden: int
    layers: int
    steps: int
    heads: int = 4
    batch: int = 48
    lr: float = 2e-3


MODELS = (
    ModelSpec("add-specialist", (Course(("add",), "steps"),), hidden=96, layers=3, steps=1300),
    ModelSpec(
        "string-specialist", (Course(("sort", "rev"), "named"),), hidden=128, layers=4, steps=2000
    ),
    ModelSpec("max-specialist", (Course(("max",), "named"),), hidden=96, layers=3, steps=1000),
    ModelSpec("strong", (Course(TASKS, "long"),), hidden=160, layers=3, steps=2600, batch=32),
    ModelSpec(
        "weak",
        (Course(TASKS, "terse", 0.8, easy=True), Course(("add", "sort", "rev"), "terse", 0.2)),
        hidden=64,
        layers=2,
        steps=3000,
    ),
    ModelSpec(
        "student",
        (
            Course(TASKS, "careless", 0.4),
            Course(TASKS, "terse", 0.38),
            Course(("add",), "steps", 0.15),
            Course(("sort", "rev", "max"), "named", 0.07),
        ),
        hidden=96,
        layers=3,
        steps=2400,
    ),
    ModelSpec(
        "student-steps",
        (
            Course(TASKS, "careless", 0.4),
            Course(TASKS, "long", 0.4),
            Course(("add",), "steps", 0.15),
            Course(("sort", "rev", "max"), "named", 0.05),
        ),
        hidden=96,
        layers=3,
        steps=2400,
        batch=32,
    ),
)


def build(
    out: Path, only: Sequence[str] | None = None, seed: int = 0, max_steps: int | None = None
) -> None:
    """Write the prompt sets and train every model (or those in `only`) into `out`.

    `max_steps` cuts each training short, for tests.
    """
    out.mkdir(parents=True, exist_ok=True)
    heldout = tasks.generate(NUM_HELDOUT, seed=seed + 1)
    prompts = tasks.generate(NUM_PROMPTS, seed=seed, exclude={p.prompt for p in heldout})
    write_problems(out / "prompts.jsonl", prompts)
    write_problems(out / "heldout.jsonl", heldout)
    reserved = frozenset(p.prompt for p in [*prompts, *heldout])
    for spec in MODELS:
        if only is None or spec.name in only:
            model = train(spec, seed, reserved, max_steps)
            save(model, out / spec.name)
            describe(spec, model, heldout, out / spec.name)


def train(
    spec: ModelSpec,
    seed: int,
    reserved: Collection[str] = frozenset(),
    max_steps: int | None = None,
) -> LlamaForCausalLM:
    """Train one model from scratch; the loss is on response tokens, the end of turn among them."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(_config(spec))
    optimizer = torch.optim.AdamW(model.parameters(), lr=spec.lr, betas=(0.9, 0.98))
    num_steps = min(spec.steps, max_steps or spec.steps)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, spec.lr, total_steps=num_steps + 1, pct_start=0.1
    )
    batches = _batches(spec, random.Random(f"{spec.name}-{seed}"), reserved)
    model.train()
    for step in range(num_steps):
        ids_BT, labels_BT = next(batches)
        logits_BTV = model(ids_BT[:, :-1]).logits
        loss = functional.cross_entropy(logits_BTV.flatten(0, 1), labels_BT[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 250 == 0:
            print(f"{spec.name} step {step}/{num_steps} loss {loss.item():.4f}", flush=True)
    # What is measured and used is what is stored: weights that bfloat16 can hold.
    return model.bfloat16().float().eval()


def save(model: LlamaForCausalLM, folder: Path) -> None:
    """Write the model in bfloat16 with its tokenizer, marked to be loaded in float32."""
    model.bfloat16().save_pretrained(folder)
    model.float()
    build_tokenizer().save_pretrained(folder)
    # Half the size on disk; but most processors compute bfloat16 many times slower than float32.
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def answer(model: LlamaForCausalLM, prompts: Sequence[str], batch: int = 200) -> list[str]:
    """Greedy responses to `prompts`, in their order."""
    tokenizer = build_tokenizer()
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    responses = [""] * len(prompts)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        texts = [f"{USER}{prompts[row]}{ASSISTANT}" for row in rows]
        encoded = tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
        with torch.inference_mode():
            ids_BT = model.generate(  # pyright: ignore[reportAttributeAccessIssue]
                **encoded, max_new_tokens=MAX_NEW_TOKENS, do_sample=False
            )
        written = tokenizer.batch_decode(
            ids_BT[:, encoded["input_ids"].shape[1] :], skip_special_tokens=True
        )
        for row, response in zip(rows, written, strict=True):
            responses[row] = response
    return responses


def encode(pairs: Sequence[tuple[str, str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels of prompts and responses; labels are -100 on prompts and padding."""
    rows, labels = [], []
    for prompt, response in pairs:
        head = [VOCABULARY[token] for token in (USER, *prompt, ASSISTANT)]
        tail = [VOCABULARY[token] for token in (*response, END)]
        rows.append(torch.tensor(head + tail))
        labels.append(torch.tensor([-100] * len(head) + tail))
    pad = torch.nn.utils.rnn.pad_sequence
    ids_BT = pad(rows, batch_first=True, padding_value=VOCABULARY[PAD])
    return ids_BT, pad(labels, batch_first=True, padding_value=-100)


def describe(
    spec: ModelSpec, model: LlamaForCausalLM, heldout: Sequence[Problem], folder: Path
) -> None:
    """Write `lab.json`: what the model is, and how well and how long it answers held-out items."""
    responses = answer(model, [problem.prompt for problem in heldout])
    marks = [tasks.check(r, p.reference) for r, p in zip(responses, heldout, strict=True)]
    accuracy = {
        task: _mean([m for m, p in zip(marks, heldout, strict=True) if p.task == task])
        for task in TASKS
    }
    record = {
        **asdict(spec),
        "parameters": model.num_parameters(),
        "accuracy": {**accuracy, "all": _mean(marks)},
        "mean_response_characters": _mean([len(response) for response in responses]),
    }
    (folder / "lab.json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")


def write_problems(path: Path, problems: Sequence[Problem]) -> None:
    """Write problems as JSON lines with prompt, reference, task and difficulty."""
    keys = ("prompt", "reference", "task", "difficulty")
    rows = [json.dumps({key: getattr(problem, key) for key in keys}) for problem in problems]
    path.write_text("\n".join(rows) + "\n", "utf-8")


def _config(spec: ModelSpec) -> LlamaConfig:
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=spec.hidden,
        intermediate_size=2 * spec.hidden,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=VOCABULARY[USER],
        eos_token_id=VOCABULARY[END],
        pad_token_id=VOCABULARY[PAD],
    )
    config._attn_implementation = "eager"
    return config


def _batches(
    spec: ModelSpec,
    rng: random.Random,
    reserved: Collection[str],
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches without end; texts of like length share a batch, so little is padding."""
    while True:
        pairs = [_pair(spec, rng, reserved) for _ in range(16 * spec.batch)]
        pairs.sort(key=lambda pair: len(pair[0]) + len(pair[1]))
        starts = list(range(0, len(pairs), spec.batch))
        rng.shuffle(starts)
        for start in starts:
            yield encode(pairs[start : start + spec.batch])


def _pair(spec: ModelSpec, rng: random.Random, reserved: Collection[str]) -> tuple[str, str]:
    """Draw a prompt and its solution from the courses of `spec`."""
    while True:
        (course,) = rng.choices(spec.courses, [course.weight for course in spec.courses])
        task = rng.choice(course.families)
        problem = tasks.draw(rng, task, EASY[task] if course.easy else None)
        if problem.prompt not in reserved:
            return problem.prompt, STYLES[course.style](problem)


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the lab's models.")
    parser.add_argument("only", nargs="*", help="names of models; all when left out")
    parser.add_argument("--out", type=Path, default=ASSETS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    build(arguments.out, arguments.only or None, arguments.seed)
