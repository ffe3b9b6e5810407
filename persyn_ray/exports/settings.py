"""The recipe's settings of fine-tuning, as far as several trainers write them alike."""

from persyn_ray.recipe.training import FinetuneConfig

SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
"""Names of `finetune.schedule` in transformers; the recipe's constant one warms up as well."""


def accumulation(finetune: FinetuneConfig) -> int:
    """Passes of one worker to an optimiser step."""
    return max(1, finetune.batch_size // finetune.micro_batch_size)
