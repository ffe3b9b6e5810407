"""Fitting the router: whole, its head alone on stored features, or with adapters."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainingArguments

from persyn_ray.method.preferences import preferences
from persyn_ray.models.chat import Message
from persyn_ray.models.collate import router_collator
from persyn_ray.models.fit import fit_router
from persyn_ray.models.load import load_tokenizer
from persyn_ray.models.router.model import (
    Router,
    build_router,
    encode_router_prompts,
    router_logits,
)
from persyn_ray.recipe.router import RouterConfig as Settings
from persyn_ray.storage.results import TrainingLoss

POOL = ("letters", "both", "digits")
TEXTS = [
    ("ab" * (number % 4 + 1) if number % 2 else "12" * (number % 3 + 1)) + str(number)
    for number in range(40)
]
PROMPTS = [[Message(role="user", content=text)] for text in TEXTS]
REWARDS_PM = np.array([[1.0, 0.6, 0.0] if number % 2 else [0.0, 0.6, 1.0] for number in range(40)])
BEST_P = REWARDS_PM.argmax(axis=1)
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module", autouse=True)
def _nothing_old_to_collect() -> Iterator[None]:
    gc.freeze()  # every training begins with a collection of the whole heap, half a second
    yield
    gc.unfreeze()


def rows_of(folder: str) -> Rows:
    """Rows for any loss; every tenth prompt has a teacher without a reward."""
    rewards_PM = REWARDS_PM.copy()
    rewards_PM[::10, 1] = np.nan
    ids = encode_router_prompts(load_tokenizer(folder), PROMPTS, 64)
    wins_PMM = preferences(rewards_PM)
    return [
        {"input_ids": row, "wins": wins_MM, "rewards": rewards_M}
        for row, wins_MM, rewards_M in zip(ids, wins_PMM, rewards_PM, strict=True)
    ]


def settings(**changes: Any) -> Settings:
    given = {"backbone": {"name": "x"}, "batch_size": 8, "learning_rate": 2e-2, "patience": 9}
    return Settings.model_validate(given | changes)


def fitted(
    folder: str, output: Path, rows: Rows | None = None, **changes: Any
) -> tuple[Router, list[TrainingLoss]]:
    """A router fitted on the first 32 prompts, and its loss curve."""
    rows = rows_of(folder) if rows is None else rows
    router, chosen = build_router(folder, POOL), settings(**changes)
    curve = fit_router(router, load_tokenizer(folder), rows[:32], rows[32:], chosen, output)
    return router, curve


def weights(router: Router) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in router.backbone.named_parameters()}


@pytest.mark.parametrize("loss", ["bradley_terry", "plackett_luce", "regression"])
def test_every_loss_finds_the_best_teacher(tmp_path: Path, llama_folder: str, loss: str) -> None:
    rows = rows_of(llama_folder)
    for row in rows:  # nothing is there but what this loss is fitted to
        del row["wins" if loss == "regression" else "rewards"]
    router, curve = fitted(llama_folder, tmp_path, rows, loss=loss, epochs=4)
    assert router.config.loss == loss
    losses = [point.heldout_loss for point in curve]
    assert losses[-1] < 0.5 * losses[0]  # pyright: ignore[reportOperatorIssue]
    found = router_logits(router, load_tokenizer(llama_folder), PROMPTS).argmax(axis=1)
    assert (found == BEST_P).mean() > 0.9


@pytest.mark.parametrize(("kind", "loss"), [("llama", "bradley_terry"), ("bert", "regression")])
def test_stored_features_give_the_fit_that_embeds_every_time(
    tmp_path: Path, llama_folder: str, bert_folder: str, kind: str, loss: str
) -> None:
    folder = llama_folder if kind == "llama" else bert_folder
    rows = rows_of(folder)
    stored, _ = fitted(folder, tmp_path / "a", freeze_backbone=True, loss=loss, epochs=3)
    again = build_router(folder, POOL)
    again.config.loss = loss
    again.backbone.requires_grad_(False)
    again.backbone.train = lambda mode=True: again.backbone  # no dropout in what is not fitted
    chosen = settings()
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "b"),
        num_train_epochs=3,
        learning_rate=chosen.learning_rate,
        warmup_steps=chosen.warmup_ratio,
        per_device_train_batch_size=8,
        weight_decay=0.0,
        seed=chosen.seed,
        save_strategy="no",
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    torch.manual_seed(chosen.seed)
    Trainer(
        model=again,
        args=arguments,
        data_collator=lambda batch: router_collator(batch, pad_id=0),
        train_dataset=rows[:32],  # pyright: ignore[reportArgumentType]
    ).train()
    torch.testing.assert_close(stored.head.weight, again.head.weight, atol=1e-5, rtol=0)
    torch.testing.assert_close(stored.head.bias, again.head.bias, atol=1e-5, rtol=0)
    assert not torch.equal(stored.head.weight, build_router(folder, POOL).head.weight)


def test_a_frozen_backbone_embeds_each_prompt_once(tmp_path: Path, llama_folder: str) -> None:
    router, rows, before = build_router(llama_folder, POOL), rows_of(llama_folder), 0
    kept = weights(router)
    seen: list[int] = []
    router.backbone.register_forward_pre_hook(
        lambda _module, _args, inputs: seen.append(len(inputs["input_ids"])), with_kwargs=True
    )
    tokenizer, chosen = load_tokenizer(llama_folder), settings(freeze_backbone=True, epochs=5)
    for _ in range(2):
        fit_router(router, tokenizer, rows[:32], rows[32:], chosen, tmp_path)
        assert sum(seen) - before == 40
        before = sum(seen)
    assert all(torch.equal(value, kept[name]) for name, value in weights(router).items())


# peft asks transformers for a property under its old name.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_adapters_change_the_backbone_by_low_rank_and_are_merged(
    tmp_path: Path, llama_folder: str, bert_folder: str, kind: str
) -> None:
    folder = llama_folder if kind == "llama" else bert_folder
    before = weights(build_router(folder, POOL))
    router, _ = fitted(folder, tmp_path, lora={"rank": 2}, epochs=3)
    after = weights(router)
    assert after.keys() == before.keys()
    ranks = {
        name: int(torch.linalg.matrix_rank(after[name] - before[name], atol=1e-4))
        for name in before
        if not torch.equal(after[name], before[name])
    }
    assert len(ranks) >= 4
    assert set(ranks.values()) <= {1, 2}
    assert not any("embed" in name or "norm" in name.lower() for name in ranks)
    found = router_logits(router, load_tokenizer(folder), PROMPTS).argmax(axis=1)
    assert (found == BEST_P).mean() > 0.9
