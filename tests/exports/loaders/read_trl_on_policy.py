"""What TRL's trainers of on-policy distillation make of an export.

trl-gkd and trl-gold run the code of the README, with a step of few tokens for each teacher;
trl-distillation is read as `trl distillation --config` reads it.
"""

import glob
import re
from typing import Any

import yaml
from datasets import load_dataset
from forms_of import read_forms

QUICK = {
    "max_steps": 1,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 1,
    "report_to": "none",
    "use_cpu": True,
    "save_strategy": "no",
}


def read(form: str, model: str) -> dict[str, Any]:
    if form == "trl-distillation":
        return arguments()
    for path in glob.glob("*/*.yaml"):
        with open(path) as file:
            settings = yaml.safe_load(file)
        new_tokens = "max_new_tokens" if form == "trl-gkd" else "max_completion_length"
        with open(path, "w") as file:
            yaml.safe_dump(settings | QUICK | {new_tokens: 8}, file)
    with open("README.md") as file:
        (code,) = re.findall(r"```python\n(.*?)```", file.read(), re.S)
    losses: list[float] = []
    code = code.replace("trainer.train()", "losses.append(trainer.train().training_loss)")
    names: dict[str, Any] = {"losses": losses}
    exec(code, names)
    return rows_by_teacher("messages") | {"losses": losses, "student": names["student"]}


def rows_by_teacher(column: str) -> dict[str, Any]:
    rows, teachers = [], []
    for path in sorted(glob.glob("*/train.parquet")):
        train = load_dataset("parquet", data_files=path, split="train")
        rows += list(train[column])
        teachers += [path.split("/")[0]] * len(train)
    return {"rows": rows, "teachers": teachers, "num_prepared": len(rows)}


def arguments() -> dict[str, Any]:
    from trl import (
        DatasetMixtureConfig,
        DistillationConfig,
        ModelConfig,
        ScriptArguments,
        TrlParser,
        get_dataset,
    )

    parts = (ScriptArguments, DistillationConfig, ModelConfig, DatasetMixtureConfig)
    rows: list[Any] = []
    teachers: list[str] = []
    models: dict[str, str] = {}
    for path in sorted(glob.glob("*/distillation.yaml")):
        name = path.split("/")[0]
        given = ["--config", path, "--use_cpu", "true"]
        _, training, student, data = TrlParser(parts).parse_args_and_config(given)
        train = get_dataset(data)["train"]
        rows += list(train["prompt"])
        teachers += [name] * len(train)
        models[name] = training.teacher_model_name_or_path
        assert student.model_name_or_path
    return {"rows": rows, "teachers": teachers, "models": models, "num_prepared": len(rows)}


read_forms(read)
