"""Saves a trained student: a trainer in, folders out that load in transformers, PEFT and vLLM.

A student trained whole is saved as it is. Of adapters only the adapters are saved, which every
worker takes part in; they are merged afterwards in one process, with weights that nobody has
partitioned.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from persyn_ray.models.templates.end_of_turn import set_end_of_turn


def save_student(
    trainer: Trainer, tokenizer: PreTrainedTokenizerBase, end_id: int, folder: Path
) -> None:
    """Save the whole student, or its adapters where it has such; it ends its turns with `end_id`.

    Every worker calls this: with ZeRO-3 the weights are gathered from all of them.
    """
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    if hasattr(model, "peft_config"):
        _save_adapters(model, folder, trainer.is_world_process_zero())
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end_id)
    else:
        set_end_of_turn(model, tokenizer, end_id)
        trainer.save_model(str(folder))
    if trainer.is_world_process_zero():
        tokenizer.save_pretrained(str(folder))


def _save_adapters(model: Any, folder: Path, is_first: bool) -> None:
    import deepspeed

    trained = [weights for weights in model.parameters() if weights.requires_grad]
    with deepspeed.zero.GatheredParameters(trained):
        if is_first:
            # The vocabulary stays as it is; "auto" would ask the hub whether it did.
            model.save_pretrained(str(folder), save_embedding_layers=False)


def merge_adapters(
    load_model: Callable[[], PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    adapters: Path,
    end_id: int,
    folder: Path,
) -> None:
    """Merge adapters into the model that they were trained on, and save it as one."""
    from peft import PeftModel

    adapted: Any = PeftModel.from_pretrained(load_model(), str(adapters))
    model = adapted.merge_and_unload()
    set_end_of_turn(model, tokenizer, end_id)
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
