"""Our fine-tuning of a job's examples, on one worker: losses by step and seconds of its steps."""

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from sft_parts.job import given


def main(job: dict[str, Any]) -> None:
    import deepspeed.ops
    import torch

    from persyn_ray.models.chat import Example
    from persyn_ray.models.finetune.token_table import TokenTable
    from persyn_ray.models.finetune.train import finetune
    from persyn_ray.models.load import load_causal_lm, load_tokenizer
    from persyn_ray.recipe.training import FinetuneConfig

    # As on a worker of Ray Train: no operator is built, and the group is there before anything.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    os.environ.update(
        {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(20_000 + os.getpid() % 9_000)}
    )
    os.environ.update({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"})
    torch.distributed.init_process_group("gloo")
    tokenizer = load_tokenizer(job["model"])
    examples = {str(number): Example(*row) for number, row in enumerate(job["rows"])}
    trainer, losses = finetune(
        partial(load_causal_lm, job["model"]),
        tokenizer,
        TokenTable.of(examples, tokenizer.pad_token_id),  # pyright: ignore[reportArgumentType]
        FinetuneConfig.model_validate(job["settings"]),
        Path("fit"),
    )
    speed = trainer.speed
    assert speed is not None
    found = {"seconds": speed.seconds, "losses": [one.train_loss for one in losses]}
    print(json.dumps(found | {"response_tokens": speed.response_tokens}))


if __name__ == "__main__":
    main(given(sys.argv))
