"""Fit the router and fine-tune the student with the transformers Trainer.

Both functions run the same alone or on every worker of a distributed group (the Trainer finds the
group in the environment). They read no tables and know nothing of what started them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from persyn_ray.models.chat import Example
from persyn_ray.models.collate import feature_collator, router_collator, sft_collator
from persyn_ray.models.router.frozen import FeatureRouter, with_features
from persyn_ray.models.router.losses import TARGETS
from persyn_ray.models.router.model import Router, pad_of, without_pooler
from persyn_ray.recipe.router import LoraConfig
from persyn_ray.recipe.router import RouterConfig as RouterSettings
from persyn_ray.recipe.training import FinetuneConfig

Row = dict[str, Any]


def fit_router(
    router: Router,
    tokenizer: PreTrainedTokenizerBase,
    fit_rows: Sequence[Row],
    heldout_rows: Sequence[Row],
    settings: RouterSettings,
    output: Path,
    *,
    num_workers: int = 1,
    callbacks: Sequence[TrainerCallback] = (),
) -> list[dict[str, float | None]]:
    """Fit the router on prompts grouped with all their pairs (Eq. 4), stopping early by hold-out
    loss.

    One forward pass of a prompt serves all its M(M-1)/2 pairs; with a frozen backbone it serves all
    epochs too, and every further fit on rows `with_features`. The router holds its best weights at
    the end, adapters merged in. Rows hold `input_ids` (T,) and what `settings.loss` is fitted to,
    see `losses.TARGETS`.

    Returns:
        The loss curve: dicts of step, train_loss and heldout_loss.
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
        router.backbone = _with_adapters(router.backbone, settings.lora)
        without_pooler(router)  # adapters have been put there too
    trainer = Trainer(
        model=model,
        args=_router_arguments(settings, output, num_workers, len(fit_rows)),
        data_collator=collator,
        train_dataset=fit_rows,  # pyright: ignore[reportArgumentType]
        eval_dataset=heldout_rows,  # pyright: ignore[reportArgumentType]
        callbacks=[EarlyStoppingCallback(early_stopping_patience=settings.patience), *callbacks],
    )
    trainer.train()
    if settings.lora is not None:
        router.backbone = router.backbone.merge_and_unload()  # pyright: ignore[reportCallIssue]
    return _loss_curve(trainer.state.log_history)


def finetune(
    load_model: Callable[[], PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    settings: FinetuneConfig,
    output: Path,
    *,
    num_workers: int = 1,
    resume: Path | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> tuple[Trainer, list[dict[str, float | None]]]:
    """Fine-tune a student on response tokens, with DeepSpeed at the recipe's ZeRO stage.

    Args:
        load_model: called after the arguments are built, as ZeRO-3 needs it.
        resume: a checkpoint folder to go on from.

    Returns:
        The trainer, which can export its model, and the loss curve.
    """
    set_seed(settings.seed)
    arguments = _finetune_arguments(settings, output, num_workers)
    model = load_model()
    if settings.lora is not None:
        model = _with_adapters(model, settings.lora, task_type="CAUSAL_LM")
    trainer = Trainer(
        model=model,
        args=arguments,
        data_collator=partial(_collate_examples, pad_id=pad_of(tokenizer)),
        # Rows are mappings with input_ids, because the Trainer groups them by length.
        train_dataset=[{"input_ids": e.ids, "example": e} for e in examples],  # pyright: ignore
        callbacks=list(callbacks),
    )
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    return trainer, _loss_curve(trainer.state.log_history)


def export(trainer: Trainer, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save the tuned student as a standard transformers folder; adapters are merged in.

    Every worker calls this: with ZeRO-3 the weights are gathered from all of them.
    """
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
        if trainer.is_world_process_zero():
            model.save_pretrained(str(folder))
    else:
        trainer.save_model(str(folder))
    if trainer.is_world_process_zero():
        tokenizer.save_pretrained(str(folder))


def deepspeed_config(zero_stage: int) -> Row:
    """DeepSpeed's configuration; "auto" is filled in from the TrainingArguments."""
    zero: Row = {"stage": zero_stage}
    if zero_stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    return {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": "auto"},
        "zero_optimization": zero,
        # torch's AdamW is used: DeepSpeed's own compiles C++ at the first start.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1 << 30,
    }


def _router_arguments(
    settings: RouterSettings, output: Path, num_workers: int, num_rows: int
) -> TrainingArguments:
    per_worker = max(1, settings.batch_size // num_workers)
    steps = max(1, num_rows // (per_worker * num_workers) // settings.evaluations_per_epoch)
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
        **_common(),
    )


def _finetune_arguments(
    settings: FinetuneConfig, output: Path, num_workers: int
) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(output),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup_ratio,
        weight_decay=settings.weight_decay,
        per_device_train_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=settings.batch_size
        // (settings.micro_batch_size * num_workers),
        gradient_checkpointing=settings.gradient_checkpointing,
        bf16=settings.dtype == "bfloat16",
        deepspeed=deepspeed_config(settings.zero_stage),
        # Batches of about equal length: with responses of 5 to 80 tokens a step took half the time.
        train_sampling_strategy="group_by_length",
        logging_strategy="steps",
        logging_steps=10,
        save_strategy="steps",
        save_steps=settings.save_steps,
        save_total_limit=1,
        seed=settings.seed,
        **_common(),
    )


def _common() -> Row:
    return {
        "use_cpu": not torch.cuda.is_available(),
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "log_level": "error",
    }


def _with_adapters(model: PreTrainedModel, lora: LoraConfig, task_type: str | None = None) -> Any:
    from peft import LoraConfig, get_peft_model

    adapters = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.lora_alpha,
        target_modules=lora.target_modules,
        task_type=task_type,
    )
    return get_peft_model(model, adapters)


def _collate_examples(rows: Sequence[Row], pad_id: int) -> dict[str, torch.Tensor]:
    return sft_collator([row["example"] for row in rows], pad_id)


def _loss_curve(history: Sequence[Row]) -> list[dict[str, float | None]]:
    """Steps with their training and hold-out loss, merged from the Trainer's log."""
    points: dict[int, dict[str, float | None]] = {}
    for entry in history:
        point = points.setdefault(
            entry["step"], {"step": entry["step"], "train_loss": None, "heldout_loss": None}
        )
        for key, name in (("loss", "train_loss"), ("eval_loss", "heldout_loss")):
            if key in entry:
                point[name] = float(entry[key])
    return [point for point in points.values() if point["train_loss"] or point["heldout_loss"]]
