"""What does a router's training cost when pairs are grouped by prompt, and what does one more
teacher cost?

    python benchmarks/router_fit.py [--quick]

19 teachers with planted rewards on 2,500 prompts, the lab's student as backbone. Two ways to take
the same optimiser steps on the same batches of prompts:

- ours: each prompt passes through the backbone once and serves all its 171 pairs;
- pairwise: one row, and one pass, per prompt and pair (the form of Prompt-to-Leaderboard), in
  chunks of rows whose gradients add up to one step.

`passes_ratio` counts prompts through the backbone over the batches timed, `wall_ratio` compares
their seconds (forward, backward and AdamW in float32), `max_loss_gap` is the largest gap of losses
or of gradients' elements in float64. A whole pairwise epoch takes half an hour here, so both are
timed on its first `batches_timed` batches; ours is timed on a whole epoch too.

Then, on features of the frozen backbone: the learning curve, all its fits together in
`curve_seconds`, and a teacher that joins by a column fitted on 200 prompts, against a full refit.
"""

import argparse
import copy
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from publishing import ROOT, publish

BACKBONE = str(ROOT / "persyn_ray" / "lab" / "assets" / "student")
GOALS = {"passes_ratio": 100.0, "wall_ratio": 50.0, "max_loss_gap": 1e-6}
TEACHERS = tuple(f"teacher-{number:02d}" for number in range(19))
NEW = TEACHERS[0]
ROWS_AT_ONCE = 256
SEED = 0
SIZES = {
    "prompts": 2500,
    "batch_size": 32,
    "batches_timed": 2,
    "batches_checked": 1,
    "heldout": 500,
    "probe": 200,
}
QUICK = {
    "prompts": 300,
    "batch_size": 4,
    "batches_timed": 2,
    "batches_checked": 1,
    "heldout": 100,
    "probe": 60,
}
CURVE = (100, 250, 500, 1000, 2500)
HEAD = {"epochs": 20, "learning_rate": 2e-2, "batch_size": 32, "patience": 20}

Row = dict[str, Any]
Way = Callable[[Any, Sequence[Row]], float]


def planted(num_prompts: int, tokenizer: Any) -> tuple[list[Row], np.ndarray]:
    """Rows of planted prompts, and all teachers' rewards."""
    from persyn_ray.method.planted import specialists
    from persyn_ray.method.preferences import preferences
    from persyn_ray.models.router.model import encode_router_prompts

    world = specialists(8, TEACHERS, seed=SEED)
    prompts = world.prompts(num_prompts)
    conversations = [[{"role": "user", "content": prompt.text}] for prompt in prompts]
    ids = encode_router_prompts(tokenizer, conversations, 256)  # pyright: ignore
    rewards_PM = world.rewards(list(range(num_prompts)))
    wins_PMM = preferences(rewards_PM)
    rows = [{"input_ids": row, "wins": wins} for row, wins in zip(ids, wins_PMM, strict=True)]
    return rows, rewards_PM


def grouped(router: Any, batch: Sequence[Row]) -> float:
    """Our gradients of a batch: one pass per prompt. Returns the loss."""
    from persyn_ray.models.collate import router_collator

    loss = router(**router_collator(batch, pad_id=0)).loss
    loss.backward()
    return float(loss.detach())


def pairwise(router: Any, batch: Sequence[Row]) -> float:
    """The same gradients with a pass for each prompt and pair. Returns the loss."""
    import torch
    from torch.nn.functional import softplus

    from persyn_ray.models.collate import pad_right

    rows = [
        (row["input_ids"], *((i, j) if row["wins"][i, j] else (j, i)))
        for row in batch
        for i, j in combinations(range(len(TEACHERS)), 2)
        if row["wins"][i, j] != row["wins"][j, i]
    ]
    total = 0.0
    for start in range(0, len(rows), ROWS_AT_ONCE):
        ids, winners, losers = zip(*rows[start : start + ROWS_AT_ONCE], strict=True)
        logits_RM = router(*pad_right(ids, 0)).logits
        places = torch.arange(len(ids))
        margins_R = logits_RM[places, list(winners)] - logits_RM[places, list(losers)]
        loss = softplus(-margins_R).sum() / len(rows)
        loss.backward()
        total += float(loss.detach())
    return total


def largest_gap(router: Any, batches: Sequence[Sequence[Row]]) -> float:
    """Largest gap between the two ways' losses and gradients, in float64."""
    router = copy.deepcopy(router).double()
    gap = 0.0
    for batch in batches:
        losses: list[float] = []
        slopes: list[list[Any]] = []
        for way in (grouped, pairwise):
            router.zero_grad()
            losses.append(way(router, batch))
            slopes.append([p.grad.clone() for p in router.parameters() if p.grad is not None])
        gap = max(gap, abs(losses[0] - losses[1]))
        gaps = [float((a - b).abs().max()) for a, b in zip(*slopes, strict=True)]
        gap = max(gap, *gaps)
    return gap


def timed(way: Way, router: Any, batches: Sequence[Sequence[Row]]) -> tuple[float, int]:
    """Seconds of the optimiser steps over some batches, and prompts through the backbone."""
    import torch

    router = copy.deepcopy(router).train()
    optimiser = torch.optim.AdamW(router.parameters(), lr=1e-4)
    passes = 0

    def count(_module: Any, _args: Any, inputs: Any) -> None:
        nonlocal passes
        passes += len(inputs["input_ids"])

    way(router, batches[0][:2])  # the first pass allocates
    router.backbone.register_forward_pre_hook(count, with_kwargs=True)
    started = time.perf_counter()
    for batch in batches:
        optimiser.zero_grad()
        way(router, batch)
        optimiser.step()
    return time.perf_counter() - started, passes


def costs(router: Any, rows: Sequence[Row], sizes: dict[str, int]) -> Row:
    """Both ways on the same batches."""
    size = sizes["batch_size"]
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    few = batches[: sizes["batches_timed"]]
    seconds: dict[str, list[float]] = {"ours": [], "pairwise": []}
    passes: dict[str, int] = {}
    timed(grouped, router, batches[:2])  # the first passes of a process are slow
    for name, way in (("ours", grouped), ("pairwise", pairwise), ("ours", grouped)):
        taken, passes[name] = timed(way, router, few)
        seconds[name].append(taken)
        print(f"  {name}: {taken:.2f} s for {len(few)} batches", file=sys.stderr)
    epoch, _ = timed(grouped, router, batches)
    ours, pairs = (sum(seconds[name]) / len(seconds[name]) for name in ("ours", "pairwise"))
    return {
        "passes_ratio": passes["pairwise"] / passes["ours"],
        "wall_ratio": pairs / ours,
        "max_loss_gap": largest_gap(router, batches[: sizes["batches_checked"]]),
        "batches_timed": len(few),
        "seconds": seconds,
        "our_epoch_seconds": epoch,
    }


def fitted(router: Any, tokenizer: Any, rows: list[Row], out: list[Row]) -> np.ndarray:
    """Hold-out logits of a new head on stored features, fitted by the package; it is left in."""
    import torch

    from persyn_ray.models.fit import fit_router
    from persyn_ray.models.router.frozen import feature_logits
    from persyn_ray.models.router.head import fresh_head
    from persyn_ray.recipe.router import RouterConfig as Settings

    given = HEAD | {"backbone": {"name": BACKBONE}, "freeze_backbone": True, "seed": SEED}
    settings = Settings.model_validate(given)
    num_teachers = len(rows[0]["wins"])
    router.head = fresh_head(router.backbone, num_teachers, SEED)
    with tempfile.TemporaryDirectory() as scratch:
        fit_router(router, tokenizer, rows, out, settings, Path(scratch))
    return feature_logits(router.head, torch.stack([row["features"] for row in out]))


def frozen(router: Any, tokenizer: Any, rows: list[Row], rewards_PM: Any, sizes: Any) -> Row:
    """The learning curve on stored features, and a column against a full refit."""
    from persyn_ray.method.new_teacher import new_column
    from persyn_ray.models.router.frozen import with_features

    started, num_fit = time.perf_counter(), sizes["prompts"]
    rows = with_features(router, rows, 0)
    embedded = time.perf_counter() - started
    fit, out = rows[:num_fit], rows[num_fit:]
    out_PM = rewards_PM[num_fit:]
    curve: Row = {}
    whole_PM = np.empty(0)
    for size in [size for size in CURVE if size < num_fit] + [num_fit]:
        whole_PM = fitted(router, tokenizer, fit[:size], out)
        curve[str(size)] = quality(whole_PM, out_PM)
    curve_seconds = time.perf_counter() - started
    # The same without the first teacher, which then joins.
    fewer = [row | {"wins": row["wins"][1:, 1:]} for row in rows]
    started = time.perf_counter()
    old_PM = fitted(router, tokenizer, fewer[:num_fit], fewer[num_fit:])
    refit_seconds = time.perf_counter() - started
    weights_MD, biases_M = (p.detach().double().numpy() for p in router.head.parameters())
    features_PD = np.array([row["features"].double().numpy() for row in rows])
    probe = slice(0, sizes["probe"])
    started = time.perf_counter()
    column = new_column(
        features_PD[probe],
        weights_MD,
        biases_M,
        rewards_PM[probe, 1:],
        rewards_PM[probe, 0],
        np.arange(sizes["probe"]) % 5,
    )
    column_seconds = time.perf_counter() - started
    new_P = features_PD[num_fit:] @ column.weight_D + column.bias
    without_PM = np.column_stack([np.full(len(new_P), np.nan), old_PM])
    return {
        "learning_curve": curve,
        "embedding_seconds": embedded,
        "curve_seconds": curve_seconds,
        "new_teacher": {
            "probe": sizes["probe"],
            "is_best_on": float((out_PM.argmax(axis=1) == 0).mean()),
            "without": quality(without_PM, out_PM),
            "by_column": quality(np.column_stack([new_P, old_PM]), out_PM),
            "full_refit": quality(whole_PM, out_PM),
            "column_seconds": column_seconds,
            "refit_seconds": refit_seconds,
            "l2": column.l2,
            "temperature": column.temperature,
        },
    }


def quality(logits_PM: np.ndarray, rewards_PM: np.ndarray) -> Row:
    """Hit@1 and regret on the held-out prompts with 95 % intervals, and the new teacher's share."""
    from dataclasses import asdict

    from persyn_ray.method.allocation import assign, shares, tie_breaks
    from persyn_ray.method.metrics import hit_at_k, regret
    from persyn_ray.statistics.intervals import bootstrap_mean

    ids = [str(number) for number in range(len(logits_PM))]
    teacher_P, _ = assign(logits_PM, tie_breaks(ids, TEACHERS, SEED))
    return {
        "hit_at_1": asdict(bootstrap_mean(hit_at_k(logits_PM, rewards_PM, 1), SEED)),
        "regret": asdict(bootstrap_mean(regret(rewards_PM, teacher_P), SEED)),
        f"share_of_{NEW}": float(shares(teacher_P, len(TEACHERS))[0]),
    }


def measure(is_quick: bool) -> Row:
    """Everything, one thing at a time."""
    import torch

    from persyn_ray.models.load import load_tokenizer
    from persyn_ray.models.router.model import build_router

    torch.set_num_threads(os.cpu_count() or 1)
    sizes = QUICK if is_quick else SIZES
    tokenizer = load_tokenizer(BACKBONE)
    rows, rewards_PM = planted(sizes["prompts"] + sizes["heldout"], tokenizer)
    router = build_router(BACKBONE, TEACHERS, seed=SEED)
    figures = costs(router, rows[: sizes["prompts"]], sizes)
    return {
        "name": "router_fit",
        "figures": figures | frozen(router, tokenizer, rows, rewards_PM, sizes),
        "goals": GOALS,
        "hardware": {"cpu_cores": os.cpu_count(), "machine": platform.machine(), "gpus": 0},
        "versions": {
            name: version(name) for name in ("persyn-ray", "torch", "transformers", "scipy")
        },
        "seed": SEED,
        "config": {
            "backbone": "the lab's student (3 layers of width 96), float32",
            "teachers": len(TEACHERS),
            "rows_at_once": ROWS_AT_ONCE,
            "head": HEAD,
            "new_teacher": NEW,
            "quick": is_quick,
            **sizes,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small, and not written to a file")
    options = parser.parse_args()
    publish(measure(options.quick), options.quick)


if __name__ == "__main__":
    main()
