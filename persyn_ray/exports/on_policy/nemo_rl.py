"""Multi-teacher on-policy distillation (MOPD) by NeMo-RL: prompts in, NeMo Gym rows and YAML out.

NeMo-RL (0.8) takes a row's teacher from the name of its NeMo Gym agent. So each teacher gets an
agent of its own name, all over the same resources server; `strict_agent_name_match` stops a run
whose rows name an agent without a teacher. The server's reward is not learned from. `_override_`
keeps teachers and environments of the recipe underneath from being merged in.
"""

from collections.abc import Sequence
from pathlib import Path

from persyn_ray.exports.form import Facts, RoutedRow, Rows, Written
from persyn_ray.exports.on_policy.prompts import RoutedPrompts, routed_prompts
from persyn_ray.exports.on_policy.teachers import ScoringTeacher, notes
from persyn_ray.exports.writing import write_jsonl, write_yaml

SERVER = "string_match"
AGENTS = "responses_api_agents"
MODEL_CONFIG = "responses_api_models/vllm_model/configs/vllm_model_for_training.yaml"
SERVER_CONFIG = f"resources_servers/{SERVER}/configs/{SERVER}.yaml"
DEFAULTS = {"num_nodes": 1, "gpus_per_node": 8, "precision": "bf16", "micro_batch_size": 1}
HOW = """mopd.yaml holds what the routed teachers change; the rest is a MOPD recipe of your NeMo-RL
checkout, which `defaults` names (here its reference of three nodes):

```sh
cp mopd.yaml train.jsonl NEMO_RL/ && cd NEMO_RL
uv run examples/nemo_gym/run_grpo_nemo_gym.py --config mopd.yaml
```

Each teacher has a NeMo Gym agent of its name over the resources server `string_match`, whose reward
is not learned from, and a node of its own beside those of the policy and its generation:
`cluster.num_nodes` is {nodes}. Where several teachers' prompts need tools, name other agents in
`env.nemo_gym` under the same names."""


def on_policy(rows: Rows, where: Path, facts: Facts) -> Written:
    """Rows with `agent_ref`, and the teachers by the names of agents."""
    prompts = routed_prompts(rows, "assigned", facts)
    num_rows = write_jsonl(where / "train.jsonl", map(_row, prompts))
    write_yaml(
        where / "mopd.yaml",
        _settings(prompts, facts),
        "What the routed teachers change in a MOPD recipe",
    )
    how = HOW.format(nodes=_num_nodes(prompts.teachers)) + notes(prompts.teachers, facts.student)
    return Written(("train.jsonl", "mopd.yaml"), num_rows, how, prompts.left_out)


def _row(row: RoutedRow) -> dict[str, object]:
    return {
        "responses_create_params": {"input": row["messages"]},
        "agent_ref": {"type": AGENTS, "name": row["teacher"]},
        "expected_answer": row["reference"] or "",
        "id": row["id"],
    }


def _settings(prompts: RoutedPrompts, facts: Facts) -> dict[str, object]:
    teachers = prompts.teachers
    data = {"dataset_name": "NemoGymDataset", "data_path": "train.jsonl"}
    agents = {teacher.name: _agent() for teacher in teachers}
    return {
        "defaults": "examples/configs/recipes/llm/mopd-qwen3-1.7b-3n8g-megatron-pack.yaml",
        "grpo": {
            "async_grpo": {"enabled": True},
            "adv_estimator": {"name": "opd"},
            "seq_logprob_error_threshold": 2.0,
        },
        "policy": {
            "model_name": prompts.student.address,
            "max_total_sequence_length": facts.finetune.max_length,
        },
        "data": {"train": data, "validation": dict(data)},
        "env": {
            "_override_": True,
            "should_use_nemo_gym": True,
            "nemo_gym": {"config_paths": [MODEL_CONFIG, SERVER_CONFIG], **agents},
        },
        "cluster": {"num_nodes": _num_nodes(teachers)},
        "on_policy_distillation": {
            "_override_": True,
            "enabled": True,
            "teacher_model_by_agent_name": {one.name: one.model.address for one in teachers},
            "strict_agent_name_match": True,
            "non_colocated_teachers": {
                "enabled": True,
                "default_teacher_cfg": DEFAULTS,
                "teacher_overrides": {
                    one.name: {
                        "tensor_model_parallel_size": one.tensor_parallel,
                        "pipeline_model_parallel_size": one.pipeline_parallel,
                    }
                    for one in teachers
                },
            },
        },
    }


def _num_nodes(teachers: Sequence[ScoringTeacher]) -> int:
    """One of the policy, one of its generation, and one of each model that teaches."""
    return 2 + len({one.model.address for one in teachers})


def _agent() -> dict[str, object]:
    return {
        AGENTS: {
            "simple_agent": {
                "entrypoint": "app.py",
                "resources_server": {"type": "resources_servers", "name": SERVER},
                "model_server": {"type": "responses_api_models", "name": "policy_model"},
            }
        }
    }
