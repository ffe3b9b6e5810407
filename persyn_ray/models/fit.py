"""Fits the router with the transformers Trainer: rows of token ids or features in, a curve out.

It runs the same alone or on every worker of a distributed group (the Trainer finds the group in the
environment). It reads no tables and knows nothing of what started it.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import torch
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from persyn_ray.models.collate import RouterRow, feature_collator, router_collator
from persyn_ray.models.router.frozen import FeatureRouter, with_features
from persyn_ray.models.router.losses import TARGETS
from persyn_ray.models.router.model import Router, pad_of, without_pooler
from persyn_ray.recipe.router import LoraConfig
from persyn_ray.recipe.router import RouterConfig as RouterSettings
from persyn_ray.storage.results import TrainingLoss


class _SharedArguments(TypedDict):
    """Arguments of every training."""

    use_cpu: bool
    report_to: list[str]
    disable_tqdm: bool
    remove_unused_columns: bool
    dataloader_pin_memory: bool
    log_level: str


def fit_router(
    router: Router,
    tokenizer: PreTrainedTokenizerBase,
    fit_rows: Sequence[RouterRow],
    heldout_rows: Sequence[RouterRow],
    settings: RouterSettings,
    output: Path,
    *,
    num_workers: int = 1,
    callbacks: Sequence[TrainerCallback] = (),
) -> list[TrainingLoss]:
    """Fit the router on prompts grouped with all their pairs (Eq. 4), stopping early by hold-out
    loss.

    One forward pass of a prompt serves all its M(M-1)/2 pairs; with a frozen backbone it serves all
    epochs too, and every further fit on rows `with_features`. The router holds its best weights at
    the end, adapters merged in. Rows hold `input_ids` (T,) and what `settings.loss` is fitted to,
    see `losses.TARGETS`.

    Returns:
        The loss curve.
    """
    set_seed(settings.seed)
    router.config.loss = settings.loss
    model: Any = router
    collator: Any = partial(router_collator, pad_id=pad_of(tokenizer))
    if settings.freeze_backbone:
        model, collator = FeatureRouter(router.head, settings.loss), feature_collator
        fit_rows = with_features(router, fit_rows, pad_of(tokenizer))
        heldout_rows = with_features(router, heldout_rows, pad_of(tokenizer))
    if settings.lora is not None:
        router.backbone = with_adapters(router.backbone, settings.lora)
        without_pooler(router)  # adapters have been put there too
    trainer = Trainer(
        model=model,
        args=_router_arguments(settings, output, num_workers, len(fit_rows)),
        data_collator=collator,
        train_dataset=fit_rows,  # pyright: ignore[reportArgumentType]
        eval_dataset=heldout_rows,  # pyright: ignore[reportArgumentType]
        callbacks=[EarlyStoppingCallback(early_stopping_patience=settings.patience), *callbacks],
    )
    trainer.remove_callback(PrinterCallback)  # the curve is returned
    trainer.train()
    if settings.lora is not None:
        router.backbone = router.backbone.merge_and_unload()  # pyright: ignore[reportCallIssue]
    return loss_curve(trainer.state.log_history)


def _router_arguments(
    settings: RouterSettings, output: Path, num_workers: int, num_rows: int
) -> TrainingArguments:
    per_worker = max(1, settings.batch_size // num_workers)
    steps = max(1, num_rows // (per_worker * num_workers) // settings.evaluations_per_epoch)
    given: dict[str, Any] = {**shared_arguments(), "report_to": list(settings.report_to)}
    return TrainingArguments(
        output_dir=str(output),
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=settings.warmup_ratio,
        weight_decay=settings.weight_decay,
        per_device_train_batch_size=per_worker,
        per_device_eval_batch_size=4 * per_worker,
        eval_strategy="steps",
        save_strategy="steps",
        logging_strategy="steps",
        eval_steps=steps,
        save_steps=steps,
        logging_steps=steps,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        save_total_limit=1,
        label_names=[TARGETS[settings.loss]],
        seed=settings.seed,
        **given,
    )


def shared_arguments() -> _SharedArguments:
    """What the arguments of the router's fit and of fine-tuning have in common."""
    return {
        "use_cpu": not torch.cuda.is_available(),
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "log_level": "error",
    }


def with_adapters(model: PreTrainedModel, lora: LoraConfig, task_type: str | None = None) -> Any:
    """A model whose adapters alone are trained."""
    from peft import LoraConfig, get_peft_model

    adapters = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.lora_alpha,
        target_modules=lora.target_modules,
        lora_dropout=lora.dropout,
        use_rslora=lora.rslora,
        task_type=task_type,
    )
    return get_peft_model(model, adapters)


def loss_curve(history: Sequence[Mapping[str, float]]) -> list[TrainingLoss]:
    """Steps with their training and hold-out loss, merged from the Trainer's log."""
    at_step: dict[int, dict[str, float]] = {}
    for entry in history:
        at_step.setdefault(int(entry["step"]), {}).update(entry)
    points = [
        TrainingLoss(step=step, train_loss=of.get("loss"), heldout_loss=of.get("eval_loss"))
        for step, of in at_step.items()
    ]
    return [point for point in points if point.train_loss or point.heldout_loss]
