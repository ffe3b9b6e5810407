"""The Trainer of students: examples in our order in, steps, measurements and refusals out."""

from typing import Any

import torch
from torch import Tensor
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from persyn_ray.errors import StepError
from persyn_ray.models.collate import IGNORED
from persyn_ray.models.finetune.order import GlobalBatches
from persyn_ray.models.finetune.speed import SpeedMeter
from persyn_ray.models.finetune.token_table import TokenTable
from persyn_ray.storage.results import TrainingSpeed


class _SetEpoch(TrainerCallback):
    """Tells the order which epoch begins: the Trainer's own way does not reach it on resumption."""

    def __init__(self, order: GlobalBatches) -> None:
        self._order = order

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._order.epoch = state.global_step // self._order.steps_per_epoch


class StudentTrainer(Trainer):
    """The Trainer with our order, a loss over all held-out tokens, and an end to training that has
    lost its numbers."""

    speed: TrainingSpeed | None = None
    """Of the steps that it has trained."""

    def __init__(self, order: GlobalBatches, examples: TokenTable, **settings: Any) -> None:
        self._meter = SpeedMeter()
        settings["callbacks"] = [_SetEpoch(order), self._meter, *settings["callbacks"]]
        super().__init__(**settings)
        self._order, self._examples = order, examples
        self._losses: list[Tensor] = []

    def measure_speed(self, model: PreTrainedModel) -> None:
        """Set `speed` by the steps so far and the arithmetic of this model."""
        self.speed = self._meter.speed(self._order, self._examples, model)

    def _get_train_sampler(self, train_dataset: Any = None) -> GlobalBatches:
        return self._order

    def _get_eval_sampler(self, eval_dataset: Any) -> GlobalBatches:
        # Whole batches for every worker: what fills up the last one adds no loss.
        together = self.args.per_device_eval_batch_size * self.args.world_size
        return GlobalBatches(eval_dataset.lengths, together, seed=0)

    def evaluate(self, *given: Any, **settings: Any) -> dict[str, float]:
        """Measure the loss on the examples kept from training; every worker calls this.

        It is the mean over all their response tokens, the same for any number of workers.
        """
        loss_of: Any = self.compute_loss_func
        model: Any = self.model_wrapped
        model.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        one = torch.ones((), device=self.args.device)
        with torch.no_grad():
            for batch in self.get_eval_dataloader():
                inputs: Any = self._prepare_inputs(batch)
                labels = inputs.pop("labels")
                sums[0] += loss_of(model(**inputs), labels, num_items_in_batch=one)
                sums[1] += (labels[..., 1:] != IGNORED).sum()
        if self.args.world_size > 1:
            torch.distributed.all_reduce(sums)
        metrics = {"eval_loss": float(sums[0] / sums[1].clamp(min=1))}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def training_step(self, *given: Any, **settings: Any) -> Tensor:
        """One micro-batch; after the last of a step all workers know whether one went wrong."""
        loss = super().training_step(*given, **settings)
        self._losses.append(loss.detach())
        if self.accelerator.sync_gradients:
            self._require_numbers(torch.stack(self._losses))
            self._losses = []
        return loss

    def _require_numbers(self, losses_A: Tensor) -> None:
        """Refuse a step in which the loss of a micro-batch, of A on each worker, is no number."""
        num_workers, rank = self.args.world_size, self.args.process_index
        last = len(losses_A) * num_workers
        # Micro-batches are dealt out to the workers in turn.
        numbers_A = torch.arange(len(losses_A), device=losses_A.device) * num_workers + rank
        first = torch.where(losses_A.isfinite(), last, numbers_A).min()
        if num_workers > 1:
            torch.distributed.all_reduce(first, torch.distributed.ReduceOp.MIN)
        if first < last:
            step, size = self.state.global_step, self.args.per_device_train_batch_size
            batch = self._order.examples_of(step)[int(first) * size :][:size]
            names = [self._examples.name(int(n)) for n in batch if n != self._order.blank]
            raise StepError(
                f"The loss of step {step + 1} is no number (NaN or infinite), first on the "
                f"examples {', '.join(names)}. Look at these, or set a lower "
                "finetune.learning_rate, more finetune.warmup_ratio, or finetune.dtype float32."
            )
