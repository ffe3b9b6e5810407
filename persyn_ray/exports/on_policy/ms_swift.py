"""On-policy distillation by ms-swift's GKD: prompts in, Parquet with tags and YAML out.

ms-swift (4.6) routes each row by a column of the data (`teacher_tag_key`) to the server whose
`tags` hold its value. The column reaches the trainer with `remove_unused_columns: false` alone. A
column `dataset` would be overwritten and `prompt_id` is a name of its own: neither is written.
"""

import json
from pathlib import Path
from shlex import quote

import pyarrow as pa

from persyn_ray.exports.columns import DATA
from persyn_ray.exports.form import Facts, Rows, Written
from persyn_ray.exports.on_policy.prompts import RoutedPrompts, routed_prompts
from persyn_ray.exports.on_policy.teachers import notes
from persyn_ray.exports.settings import accumulation
from persyn_ray.exports.writing import write_parquet, write_yaml
from persyn_ray.recipe.router import LoraConfig
from persyn_ray.storage.schemas import MESSAGES

TAGGED = pa.schema(
    [
        pa.field("messages", MESSAGES),
        *(pa.field(name, pa.string()) for name in ("teacher_tag", "id")),
    ]
)
TOP_K = 64
PORT = 8000
HOW = """A server for each teacher, then the student's training:

```sh
{servers}
swift rlhf gkd.yaml
```

`teacher_model_server` in gkd.yaml holds the servers' addresses: a host of each teacher's name,
where neither the recipe's endpoint nor `--teacher-url` said another."""


def on_policy(rows: Rows, where: Path, facts: Facts) -> Written:
    """Conversations without a response, each with the `teacher_tag` of its teacher."""
    prompts = routed_prompts(rows, "assigned", facts)
    found = (
        {"messages": row["messages"], "teacher_tag": row["teacher"], "id": row["id"]}
        for row in prompts
    )
    num_rows = write_parquet(where / DATA, found, TAGGED)
    comment = "Arguments of `swift rlhf`; those that are not here are its own"
    write_yaml(where / "gkd.yaml", _arguments(prompts, facts), comment)
    return Written(
        (DATA, "gkd.yaml"),
        num_rows,
        _how(prompts) + notes((), facts.student),
        prompts.left_out,
    )


def _how(prompts: RoutedPrompts) -> str:
    servers = [
        f"swift deploy --use_hf true --model {quote(one.model.address)} --infer_backend vllm "
        f"--port {PORT} --max_logprobs {TOP_K}"
        + (f" --model_revision {one.revision}" if one.revision else "")
        + f"  # {one.name}: {one.url(PORT)}"
        for one in prompts.teachers
    ]
    return HOW.format(servers="\n".join(servers))


def _arguments(prompts: RoutedPrompts, facts: Facts) -> dict[str, object]:
    finetune, student = facts.finetune, facts.student
    servers = [{"url": one.url(PORT), "tags": [one.name]} for one in prompts.teachers]
    arguments = {
        "rlhf_type": "gkd",
        "model": prompts.student.address,
        "model_revision": student.revision,
        "use_hf": True,
        "dataset": [DATA],
        "split_dataset_ratio": 0,
        "teacher_model_server": json.dumps(servers),
        "teacher_tag_key": "teacher_tag",
        "remove_unused_columns": False,
        "gkd_logits_topk": TOP_K,
        "lmbda": 1.0,
        "beta": 1.0,
        "use_vllm": True,
        "vllm_mode": "colocate",
        "tuner_type": "lora" if isinstance(finetune.lora, LoraConfig) else "full",
        "torch_dtype": finetune.dtype,
        "num_train_epochs": finetune.epochs,
        "learning_rate": finetune.learning_rate,
        "per_device_train_batch_size": finetune.micro_batch_size,
        "gradient_accumulation_steps": accumulation(finetune),
        "max_length": finetune.max_length,
        "max_completion_length": max(
            teacher.config.sampling.max_tokens for teacher in prompts.teachers
        ),
        "output_dir": "student",
    }
    return {name: value for name, value in arguments.items() if value is not None}
