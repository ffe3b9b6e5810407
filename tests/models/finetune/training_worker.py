"""Trains tiny students as one worker of a group: `python training_worker.py JOB.json RANK`.

JOB.json holds `num_workers`, `port`, `model`, and `trainings`: a list of settings of `finetune`
with `name`, `examples` (texts and answers), and where asked for `save` (a folder for checkpoints),
`resume` (a checkpoint), `stop_at` (a step after which the training ends), `kill_at` (one in the
midst of which the worker is killed) and `poison` (a text on which the loss is no number). What each
saw and made lies in OUT/name.
"""

import json
import os
import re
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

PROMPT = re.compile(r"user\n(.+?)\nassistant")


class Killed(BaseException):
    """What ends a training in the midst of it."""


def main(job: dict[str, Any], rank: int) -> None:
    import deepspeed.ops
    import torch

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    torch.set_num_threads(1)
    # As Ray Train does: the group is there before anything else.
    torch.distributed.init_process_group("gloo", rank=rank, world_size=job["num_workers"])
    for training in job["trainings"]:
        train(job, training, rank)
        torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def train(job: dict[str, Any], training: dict[str, Any], rank: int) -> None:
    from persyn_ray.errors import StepError
    from persyn_ray.models.chat import encode_example
    from persyn_ray.models.finetune.export import save_student
    from persyn_ray.models.finetune.partitioning import deepspeed_config
    from persyn_ray.models.finetune.token_table import TokenTable
    from persyn_ray.models.finetune.train import finetune
    from persyn_ray.models.load import load_causal_lm, load_tokenizer
    from persyn_ray.models.templates.end_of_turn import end_of_turn
    from persyn_ray.recipe.training import FinetuneConfig

    out = Path(job["out"]) / training["name"]
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(job["model"])
    examples = {
        text: encode_example(tokenizer, [{"role": "user", "content": text}], answer)
        for text, answer in training["examples"].items()
    }
    notes = out / f"seen-{rank}.json"
    seen = Seen(tokenizer, training, notes)
    settings = FinetuneConfig.model_validate(training["settings"])
    made: dict[str, Any] = {}
    kept: list[int] = []

    def keep(trainer: Any, step: int) -> None:
        kept.append(step)
        save_student(trainer, tokenizer, end_of_turn(tokenizer), out / "best" / str(step))

    try:
        trainer, _ = finetune(
            partial(seen.watched, partial(load_causal_lm, job["model"])),
            tokenizer,
            TokenTable.of(examples, tokenizer.pad_token_id),
            settings,
            Path(training.get("save", out / "checkpoints")),
            num_workers=job["num_workers"],
            resume=Path(training["resume"]) if "resume" in training else None,
            callbacks=[seen.callback()],
            # As it stands: one worker would not partition by itself.
            deepspeed=deepspeed_config(settings.deepspeed, has_gpus=False),
            keep_best=keep,
        )
        assert trainer.speed is not None
        speed = trainer.speed.model_dump()
        made = {"losses": trainer.state.log_history, "kept": kept, "speed": speed}
        save_student(trainer, tokenizer, end_of_turn(tokenizer), out / "student")
    except Killed:
        made = {"killed": True}
    except StepError as error:
        made = {"error": str(error)}
    notes.write_text(json.dumps({"steps": seen.steps, **made}))


class Seen:
    """Notes what the model reads, step by step, and interferes where it is told to."""

    def __init__(self, tokenizer: Any, training: dict[str, Any], notes: Path) -> None:
        self.tokenizer, self.notes = tokenizer, notes
        keys = ("stop_at", "kill_at", "poison")
        self.stop_at, self.kill_at, self.poison = (training.get(key) for key in keys)
        self.steps: dict[int, list[str]] = {}
        self.step = 0

    def watched(self, load: Any) -> Any:
        """The model, whose every forward pass notes its rows."""
        model = load()
        model.register_forward_pre_hook(self.note, with_kwargs=True)
        model.register_forward_hook(self.spoil, with_kwargs=True)
        return model

    def note(self, model: Any, args: Any, kwargs: Any) -> None:
        if model.training:
            self.steps.setdefault(self.step, []).extend(self.texts(kwargs["input_ids"]))
            if self.step == self.kill_at:
                self.notes.write_text(json.dumps({"steps": self.steps}))
                os.kill(os.getpid(), signal.SIGKILL)

    def texts(self, ids_BT: Any) -> list[str]:
        """The prompts in a batch, or in a pack, where every one begins as the first does."""
        rows = self.tokenizer.batch_decode(ids_BT, skip_special_tokens=True)
        return [text for row in rows for text in PROMPT.findall(row)]

    def spoil(self, model: Any, args: Any, kwargs: Any, output: Any) -> Any:
        if self.poison in self.texts(kwargs["input_ids"]):
            name = "total" if "total" in output else "logits"
            output[name] = output[name] * float("nan")
        return output

    def callback(self) -> Any:
        from transformers import TrainerCallback

        seen = self

        class Follow(TrainerCallback):
            def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                seen.step = state.global_step

            def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if state.global_step == seen.stop_at:
                    raise Killed

        return Follow()


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text())
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(given["port"])}
    whole = {
        "WORLD_SIZE": str(given["num_workers"]),
        "RANK": sys.argv[2],
        "LOCAL_RANK": sys.argv[2],
    }
    os.environ.update({"DS_ACCELERATOR": "cpu"} | place | whole)
    main(given, int(sys.argv[2]))
