"""Fine-tunes a student on response tokens with DeepSpeed: token ids in, a trained model out.

The same alone or on every worker of a distributed group, which must be there before the call. It
reads no tables and knows nothing of what started it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.loss.loss_utils import ForCausalLMLoss

from persyn_ray.errors import ConfigError, StepError
from persyn_ray.models.collate import sft_collator
from persyn_ray.models.finetune.chunked_loss import (
    can_be_chunked,
    chunked_head,
    summed_loss,
    with_places,
)
from persyn_ray.models.finetune.order import GlobalBatches
from persyn_ray.models.finetune.packed import packed_collator, packed_loss, packing_of
from persyn_ray.models.finetune.partitioning import DeepspeedConfig, deepspeed_config, preset_for
from persyn_ray.models.finetune.speed import whole_size
from persyn_ray.models.finetune.student_trainer import StudentTrainer
from persyn_ray.models.finetune.token_table import TokenTable
from persyn_ray.models.finetune.validation import FollowLoss
from persyn_ray.models.fit import loss_curve, shared_arguments, with_adapters
from persyn_ray.models.router.model import pad_of
from persyn_ray.recipe.training import FinetuneConfig
from persyn_ray.storage.results import TrainingLoss

# Of a trained weight: its float32 original and AdamW's two averages.
BYTES_OF_TRAINED_WEIGHT = 12


def finetune(
    load_model: Callable[[], PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    examples: TokenTable,
    settings: FinetuneConfig,
    output: Path,
    *,
    num_workers: int = 1,
    resume: Path | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    deepspeed: DeepspeedConfig | None = None,
    keep_best: Callable[[Trainer, int], None] | None = None,
) -> tuple[StudentTrainer, list[TrainingLoss]]:
    """Fine-tune a student, with DeepSpeed as the recipe partitions it.

    Args:
        load_model: called after the arguments are built, as ZeRO-3 needs it.
        examples: those to learn from; errors tell their names.
        resume: a checkpoint folder to go on from.
        deepspeed: its configuration; by default what the settings name, read here.
        keep_best: with `keep: best`, called on all workers when the student has the least loss so
            far on the examples that are kept from training, and told the step.

    Returns:
        The trainer, whose model (that of the last step) `export.py` saves, and the loss curve.

    Raises:
        ConfigError: `packing` is asked for, and the model cannot read packs.
        StepError: a token is none of the model's, or the loss of a step is no number.
    """
    if deepspeed is None:
        preset = preset_for(settings.deepspeed, num_workers, settings.dtype)
        deepspeed = deepspeed_config(preset, torch.cuda.is_available())
    arguments = _arguments(settings, output, num_workers, deepspeed)
    _join_group()
    set_seed(settings.seed)
    model = load_model()
    _require_known_tokens(model, examples)
    is_chunked = settings.logits_at_once > 0 and can_be_chunked(model)
    trainer = _trainer(model, tokenizer, examples, arguments, settings, is_chunked, callbacks)
    if trainer.eval_dataset is not None:
        keep = partial(keep_best, trainer) if settings.keep == "best" and keep_best else None
        trainer.add_callback(FollowLoss(settings.patience, keep))
    with _forward_of(model, settings, is_chunked):
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    trainer.measure_speed(model)
    return trainer, loss_curve(trainer.state.log_history)


def _trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: TokenTable,
    arguments: TrainingArguments,
    settings: FinetuneConfig,
    is_chunked: bool,
    callbacks: Sequence[TrainerCallback],
) -> StudentTrainer:
    """The Trainer of all weights or of adapters, on the examples without those kept from it."""
    heldout: TokenTable | None = None
    if settings.heldout_fraction:
        examples, heldout = examples.parted(settings.heldout_fraction, settings.seed)
    collate, loss = _reading(settings.packing, is_chunked, pad_of(tokenizer))
    lora = settings.adapters(num_parameters(model))
    return StudentTrainer(
        GlobalBatches(examples.lengths, settings.batch_size, settings.seed),
        examples,
        model=with_adapters(model, lora, task_type="CAUSAL_LM") if lora else model,
        args=arguments,
        data_collator=collate,
        train_dataset=examples,
        eval_dataset=heldout,
        compute_loss_func=loss,
        callbacks=callbacks,
    )


@contextmanager
def _forward_of(
    model: PreTrainedModel, settings: FinetuneConfig, is_chunked: bool
) -> Iterator[None]:
    """Within it the model reads packs and computes logits in chunks, where it is to."""
    with ExitStack() as within:
        if settings.packing:
            within.enter_context(packing_of(model))
        if is_chunked:
            within.enter_context(chunked_head(model, settings.logits_at_once))
        yield


def num_parameters(model: "PreTrainedModel") -> int:
    """Weights of a model, whole ones where ZeRO-3 partitions them."""
    return sum(whole_size(weight) for weight in model.parameters())


def _reading(is_packed: bool, is_chunked: bool, pad_id: int) -> tuple[Any, Any]:
    """How examples become a micro-batch, and what makes a loss of what the model gives for it."""
    collate: Any = packed_collator if is_packed else partial(sft_collator, pad_id=pad_id)
    if is_chunked:
        return with_places(collate), summed_loss
    return collate, packed_loss if is_packed else _response_loss


def _require_known_tokens(model: PreTrainedModel, examples: TokenTable) -> None:
    """Refuse tokens that the model has no embedding for, before they end a step on a GPU."""
    embedding: Any = model.get_input_embeddings()
    size, found = int(embedding.num_embeddings), examples.largest_token()
    if found is not None and found[1] >= size:
        name, token = found
        raise StepError(
            f"The example of prompt {name} holds token {token}, and {model.name_or_path} has "
            f"embeddings for {size:,} tokens, 0 to {size - 1:,}: its tokenizer is another model's, "
            "or has had tokens added. Name a `student` whose embeddings were resized to its "
            "tokenizer, or one with its own tokenizer."
        )


def _response_loss(
    outputs: Any, labels: Tensor, num_items_in_batch: Tensor | None = None
) -> Tensor:
    """Mean over the response tokens of the global batch, whatever the model makes of its own."""
    logits_BTV = outputs["logits"]
    return ForCausalLMLoss(
        logits_BTV, labels, logits_BTV.shape[-1], num_items_in_batch=num_items_in_batch
    )


def checkpoint_bytes(model: "PreTrainedModel") -> int:
    """Bytes of a checkpoint: training state, and the weights as DeepSpeed and transformers keep
    them."""
    total = 0
    for weight in model.parameters():
        num = whole_size(weight)
        if weight.requires_grad:
            total += num * (BYTES_OF_TRAINED_WEIGHT + 2 * weight.element_size())
    return total


def _join_group() -> None:
    """Tell DeepSpeed of the group: ZeRO-3 reads its size while the model is built."""
    if torch.distributed.is_initialized():
        import deepspeed

        deepspeed.init_distributed(dist_backend=torch.distributed.get_backend(), verbose=False)


def _arguments(
    settings: FinetuneConfig, output: Path, num_workers: int, deepspeed: DeepspeedConfig
) -> TrainingArguments:
    given: dict[str, Any] = shared_arguments() | {"logging_steps": 10} | settings.arguments
    if settings.heldout_fraction:
        given |= {
            "eval_strategy": "steps",
            "eval_steps": settings.eval_steps or settings.save_steps,
        }
    given |= {"report_to": list(settings.report_to), "deepspeed": deepspeed}
    try:
        return _training_arguments(settings, output, num_workers, given)
    except TypeError as error:
        raise ConfigError(
            f"finetune.arguments: {error}. See transformers' documentation."
        ) from error


def _training_arguments(
    settings: FinetuneConfig, output: Path, num_workers: int, given: Mapping[str, Any]
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
        activation_checkpointing=settings.gradient_checkpointing,
        bf16=settings.dtype == "bfloat16",
        per_device_eval_batch_size=settings.micro_batch_size,
        logging_strategy="steps",
        logging_nan_inf_filter=False,  # such a loss ends the training
        save_strategy="steps",
        save_steps=settings.save_steps,
        seed=settings.seed,
        **given,
    )
