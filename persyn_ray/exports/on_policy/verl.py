"""On-policy distillation by verl: prompts with their teachers in, Parquet and a Hydra file out.

verl (0.9) takes each row's teacher from the column that `distillation.teacher_key` names and looks
for it among the `key` of `distillation.teacher_models`. The default entry `teacher_model` goes as
soon as there is another, so ours are called otherwise, also where there is one. An entry of its own
has none of the defaults: without `load_format: auto` its weights would be random.
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from persyn_ray.exports.form import Facts, RoutedRow, Rows, Written
from persyn_ray.exports.on_policy.prompts import RoutedPrompts, routed_prompts
from persyn_ray.exports.on_policy.teachers import ScoringTeacher, notes
from persyn_ray.exports.writing import write_parquet, write_yaml
from persyn_ray.storage.schemas import MESSAGES

PROMPTS = pa.schema(
    [
        pa.field("data_source", pa.string()),
        pa.field("prompt", MESSAGES),
        pa.field("ability", pa.string()),
        pa.field(
            "reward_model",
            pa.struct([pa.field("style", pa.string()), pa.field("ground_truth", pa.string())]),
        ),
        pa.field(
            "extra_info", pa.struct([pa.field("index", pa.int64()), pa.field("id", pa.string())])
        ),
        pa.field("teacher", pa.string()),
    ]
)
REWARD = '''"""The reward of a response: none, as the teacher's probabilities are learned from."""


def compute_score(data_source, solution_str, ground_truth, extra_info=None, **settings):
    return 0.0
'''
HOW = """verl asks the teacher of each row (`teacher_key`) to score the student's tokens:

```sh
python -m verl.trainer.main_ppo --config-path "$PWD" --config-name verl \\
  data.train_files="$PWD/train.parquet" data.val_files="$PWD/train.parquet" \\
  reward.custom_reward_function.path="$PWD/reward.py"
```

Teachers take {gpus} GPUs of their own (`distillation.n_gpus_per_node` x `nnodes`: exactly as many
as their replicas fill). Rewards are 0 and do not count (`use_task_rewards`); the references are in
`reward_model.ground_truth`, for a reward function of yours."""


def on_policy(rows: Rows, where: Path, facts: Facts) -> Written:
    """Parquet with a column `teacher`, the settings of the teachers, and a reward of 0."""
    prompts = routed_prompts(rows, "assigned", facts)
    found = (_row(number, row) for number, row in enumerate(prompts))
    num_rows = write_parquet(where / "train.parquet", found, PROMPTS)
    comment = "Settings of verl's PPO trainer; those that are not here are its own"
    write_yaml(where / "verl.yaml", _settings(prompts, facts), comment)
    (where / "reward.py").write_text(REWARD, encoding="utf-8")
    how = HOW.format(gpus=_num_gpus(prompts.teachers)) + notes(prompts.teachers, facts.student)
    return Written(("train.parquet", "verl.yaml", "reward.py"), num_rows, how, prompts.left_out)


def _row(number: int, row: RoutedRow) -> dict[str, object]:
    task = row["task"] or ""
    return {
        "data_source": task or "persyn",  # metrics are kept for each
        "prompt": row["messages"],
        "ability": task,
        "reward_model": {"style": "rule", "ground_truth": row["reference"] or ""},
        "extra_info": {"index": number, "id": row["id"]},
        "teacher": row["teacher"],
    }


def _settings(prompts: RoutedPrompts, facts: Facts) -> dict[str, object]:
    finetune, teachers = facts.finetune, prompts.teachers
    longest = max(teacher.config.sampling.max_tokens for teacher in teachers)
    return {
        "hydra": {"searchpath": ["pkg://verl.trainer.config"]},
        "defaults": ["ppo_trainer", "_self_"],
        "data": {
            "train_batch_size": finetune.batch_size,
            "max_prompt_length": finetune.max_length,
            "max_response_length": longest,
            "filter_overlong_prompts": True,
        },
        "algorithm": {"adv_estimator": "grpo"},
        "actor_rollout_ref": {
            "model": {"path": prompts.student.address},
            "actor": {
                "optim": {"lr": finetune.learning_rate},
                "ppo_mini_batch_size": finetune.batch_size,
                "use_dynamic_bsz": True,
                "ppo_max_token_len_per_gpu": finetune.max_length + longest,
            },
            "rollout": {
                "name": "vllm",
                "n": 1,
                "log_prob_use_dynamic_bsz": True,
                "log_prob_max_token_len_per_gpu": finetune.max_length + longest,
            },
        },
        "reward": {"custom_reward_function": {"name": "compute_score"}},
        "trainer": {"val_before_train": False, "test_freq": -1},
        "distillation": {
            "enabled": True,
            "teacher_key": "teacher",
            "nnodes": 1,
            "n_gpus_per_node": _num_gpus(teachers),
            "distillation_loss": {
                "loss_mode": "k1",
                "use_policy_gradient": True,
                "use_task_rewards": False,
            },
            "teacher_models": {
                f"teacher_{number}": _entry(teacher)
                for number, teacher in enumerate(teachers, start=1)
            },
        },
    }


def _num_gpus(teachers: Sequence[ScoringTeacher]) -> int:
    return sum(one.tensor_parallel * one.pipeline_parallel for one in teachers)


def _entry(teacher: ScoringTeacher) -> dict[str, object]:
    as_student = ("name", "dtype", "prompt_length", "response_length", "temperature")
    return {
        "_target_": "verl.workers.config.DistillationTeacherModelConfig",
        "key": teacher.name,
        "model_path": teacher.model.address,
        "num_replicas": 1,
        "inference": {
            "_target_": "verl.workers.config.RolloutConfig",
            **{name: f"${{oc.select:actor_rollout_ref.rollout.{name}}}" for name in as_student},
            "load_format": "auto",
            "tensor_model_parallel_size": teacher.tensor_parallel,
            "pipeline_model_parallel_size": teacher.pipeline_parallel,
        },
    }
