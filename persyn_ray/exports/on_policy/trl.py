"""On-policy distillation by TRL: a file of prompts and a configuration for each teacher out.

TRL's trainers (1.16) know one teacher each, so the student goes from one to the next. GKD compares
whole distributions and needs outputs of one width; GOLD crosses tokenizers by its ULD loss. Both
read conversations with a response at their end, which is replaced by the student's own where
`lmbda` is 1, and stop at one that fills `max_length`: as in fine-tuning, longer examples are left
out and counted. DistillationTrainer reads prompts alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from persyn_ray.errors import ConfigError
from persyn_ray.exports.form import Facts, RoutedRow, Rows, Written
from persyn_ray.exports.on_policy.prompts import RoutedPrompts, routed_prompts
from persyn_ray.exports.on_policy.teachers import (
    ReadModel,
    ScoringTeacher,
    notes,
    why_not,
    why_unread,
)
from persyn_ray.exports.settings import SCHEDULES, accumulation
from persyn_ray.exports.writing import write_parquet, write_yaml
from persyn_ray.models.chat import Message, encode_prompt
from persyn_ray.recipe.teachers import TeacherConfig
from persyn_ray.recipe.training import FinetuneConfig
from persyn_ray.storage.schemas import MESSAGES

Settings = dict[str, object]
SettingsOf = Callable[[RoutedPrompts, ScoringTeacher, FinetuneConfig], Settings]
CONVERSATIONS = pa.schema([pa.field("messages", MESSAGES), pa.field("id", pa.string())])
PROMPTS = pa.schema([pa.field("prompt", MESSAGES), pa.field("id", pa.string())])
COMMAND = "distillation.yaml"
TRAIN = """One teacher after the other; each goes on with the student that the one before has left:

```python
import yaml
from datasets import load_dataset
from transformers import AutoTokenizer
from trl.experimental.{module} import {name}Config, {name}Trainer

student = {student!r}
tokenizer = AutoTokenizer.from_pretrained(student)
for teacher in {teachers!r}:
    settings = yaml.safe_load(open(f"{{teacher}}/{module}.yaml"))
    rows = load_dataset("parquet", data_files=f"{{teacher}}/train.parquet", split="train")
    trainer = {name}Trainer(
        student,
        settings["teacher_model_name_or_path"],
        args={name}Config(**settings),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    trainer.train()
    student = settings["output_dir"]
    trainer.save_model(student)
```"""
COMMANDS = """One teacher after the other; each goes on with the student that the one before has
left (`model_name_or_path` in its distillation.yaml):

```sh
{commands}
```"""


def generalized(rows: Rows, where: Path, facts: Facts) -> Written:
    """Conversations by teacher, and the settings of TRL's GKDTrainer."""
    prompts = routed_prompts(rows, "train", facts, _why_not_gkd)
    names = [teacher.name for teacher in prompts.teachers]
    how = TRAIN.format(module="gkd", name="GKD", student=prompts.student.address, teachers=names)
    return _write(prompts, where, facts, "gkd.yaml", _of_gkd, how)


def across_tokenizers(rows: Rows, where: Path, facts: Facts) -> Written:
    """Conversations by teacher, and the settings of TRL's GOLDTrainer; any known tokenizer goes."""
    prompts = routed_prompts(rows, "train", facts, _why_not_gold)
    names = [teacher.name for teacher in prompts.teachers]
    how = TRAIN.format(module="gold", name="GOLD", student=prompts.student.address, teachers=names)
    return _write(prompts, where, facts, "gold.yaml", _of_gold, how)


def distillation(rows: Rows, where: Path, facts: Facts) -> Written:
    """Prompts by teacher, and the arguments of `trl distillation`."""
    prompts = routed_prompts(rows, "assigned", facts, _why_not_gkd)
    commands = [f"trl distillation --config {one.name}/{COMMAND}" for one in prompts.teachers]
    how = COMMANDS.format(commands="\n".join(commands))
    return _write(prompts, where, facts, COMMAND, _of_distillation, how)


def _write(
    prompts: RoutedPrompts,
    where: Path,
    facts: Facts,
    settings_file: str,
    settings_of: SettingsOf,
    how: str,
) -> Written:
    key, schema = ("prompt", PROMPTS) if settings_file == COMMAND else ("messages", CONVERSATIONS)
    files, num_rows, long = [], 0, _Long(prompts.student, facts.finetune.max_length)
    for teacher in prompts.teachers:
        rows = prompts.of(teacher) if key == "prompt" else long.left_out_of(prompts.of(teacher))
        found = ({key: row["messages"], "id": row["id"]} for row in rows)
        num_rows += write_parquet(where / teacher.name / "train.parquet", found, schema)
        settings = settings_of(prompts, teacher, facts.finetune)
        comment = f"Settings for the prompts of teacher {teacher.name}"
        write_yaml(where / teacher.name / settings_file, _known(settings), comment)
        files += [f"{teacher.name}/train.parquet", f"{teacher.name}/{settings_file}"]
    left_out = {**prompts.left_out, **({long.reason: long.number} if long.number else {})}
    return Written(tuple(files), num_rows, how + notes((), facts.student), left_out)


@dataclass
class _Long:
    """Leaves out rows that the student's window does not hold, and counts them."""

    student: ReadModel
    max_length: int
    number: int = 0

    @property
    def reason(self) -> str:
        return f"longer than {self.max_length:,} tokens (finetune.max_length)"

    def left_out_of(self, rows: Iterator[RoutedRow]) -> Iterator[RoutedRow]:
        tokenizer = self.student.tokenizer
        for row in rows:
            said = [Message(role=one["role"], content=one["content"]) for one in row["messages"]]
            ids = encode_prompt(tokenizer, said, False, escape=False)
            if len(ids) <= self.max_length:
                yield row
            else:
                self.number += 1


def _known(settings: Settings) -> Settings:
    return {name: value for name, value in settings.items() if value is not None}


def _training(finetune: FinetuneConfig, teacher: ScoringTeacher) -> Settings:
    return {
        "output_dir": f"student-{teacher.name}",
        "num_train_epochs": finetune.epochs,
        "max_steps": finetune.max_steps,
        "learning_rate": finetune.learning_rate,
        "lr_scheduler_type": SCHEDULES[finetune.schedule],
        "weight_decay": finetune.weight_decay,
        "per_device_train_batch_size": finetune.micro_batch_size,
        "gradient_accumulation_steps": accumulation(finetune),
        "gradient_checkpointing": finetune.gradient_checkpointing,
        "bf16": finetune.dtype == "bfloat16",
        "seed": finetune.seed,
        "teacher_model_name_or_path": teacher.model.address,
    }


def _on_policy(prompts: RoutedPrompts) -> Settings:
    revision = prompts.student.config.revision
    return {
        "lmbda": 1.0,
        "model_init_kwargs": None if revision is None else {"revision": revision},
    }


def _of_gkd(prompts: RoutedPrompts, teacher: ScoringTeacher, finetune: FinetuneConfig) -> Settings:
    pinned = None if teacher.revision is None else {"revision": teacher.revision, "dtype": "auto"}
    return (
        _training(finetune, teacher)
        | _on_policy(prompts)
        | {
            "max_length": finetune.max_length,
            "max_new_tokens": teacher.config.sampling.max_tokens,
            "teacher_model_init_kwargs": pinned,
        }
    )


def _of_gold(prompts: RoutedPrompts, teacher: ScoringTeacher, finetune: FinetuneConfig) -> Settings:
    student, model = prompts.student, teacher.model
    is_alike = model.reads_tokens_of(student) and model.num_logits == student.num_logits
    crossing = {
        "use_uld_loss": True,
        "use_extended_uld": student.is_byte_level and model.is_byte_level,
        "teacher_tokenizer_name_or_path": model.address,
    }
    return (
        _training(finetune, teacher)
        | _on_policy(prompts)
        | {"teacher_model_revision": teacher.revision}
        # Of this window GOLD keeps max_completion_length free, whatever is left for the prompt.
        | {"max_length": finetune.max_length + teacher.config.sampling.max_tokens}
        | {"max_completion_length": teacher.config.sampling.max_tokens}
        | ({} if is_alike else crossing)
    )


def _of_distillation(
    prompts: RoutedPrompts, teacher: ScoringTeacher, finetune: FinetuneConfig
) -> Settings:
    before = prompts.teachers[: prompts.teachers.index(teacher)]
    student, revision = prompts.student.address, prompts.student.config.revision
    return _training(finetune, teacher) | {
        "model_name_or_path": f"student-{before[-1].name}" if before else student,
        "model_revision": None if before else revision,
        "teacher_model_revision": teacher.revision,
        "datasets": [{"path": "parquet", "data_files": f"{teacher.name}/train.parquet"}],
        "max_completion_length": teacher.config.sampling.max_tokens,
    }


def _why_not_gkd(teacher: TeacherConfig, model: ReadModel | None, student: ReadModel) -> str | None:
    """Whole distributions are compared, so both models need outputs of one width."""
    reason = why_not(teacher, model, student)
    if reason is not None or model is None:
        return reason
    try:
        widths = model.num_logits, student.num_logits
    except ConfigError as error:
        return f"the model of teacher {teacher.name} cannot be read: {str(error).splitlines()[0]}"
    if widths[0] == widths[1]:
        return None
    return (
        f"teacher {teacher.name} has {widths[0]:,} logits and the student {widths[1]:,}, which TRL "
        "compares one by one (trl-gold does not)"
    )


def _why_not_gold(
    teacher: TeacherConfig, model: ReadModel | None, _student: ReadModel
) -> str | None:
    return why_unread(teacher, model)
