"""What verl makes of an export: `verl.yaml` by Hydra, the rows by its RLHFDataset.

Rows are taken as its agent loop takes them: the prompt as it is templated, and the model that
answers for the teacher of the row.
"""

import os
from typing import Any

from forms_of import read_forms
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from transformers import AutoTokenizer
from verl.experimental.teacher_loop.teacher_manager import AsyncTeacherLLMServerManager
from verl.trainer.ppo.reward import get_custom_reward_fn
from verl.utils.config import omega_conf_to_dataclass, validate_config
from verl.utils.dataset.rl_dataset import RLHFDataset


def read(form: str, model: str) -> dict[str, Any]:
    here = os.getcwd()
    given = [f"data.{name}_files={here}/train.parquet" for name in ("train", "val")]
    given.append(f"reward.custom_reward_function.path={here}/reward.py")
    with initialize_config_dir(here, version_base=None):
        config = compose("verl", overrides=[*given, "trainer.n_gpus_per_node=1"])
    validate_config(config, use_reference_policy=False, use_critic=False)
    distillation = omega_conf_to_dataclass(config.distillation)
    clients = dict.fromkeys(distillation.teacher_models)
    manager = AsyncTeacherLLMServerManager(config, clients)
    data = OmegaConf.create(OmegaConf.to_container(config.data, resolve=True))
    data.cache_dir = f"{here}/cache"
    data.filter_overlong_prompts = False  # leaves out prompts that the student's window cuts
    tokenizer = AutoTokenizer.from_pretrained(config.actor_rollout_ref.model.path)
    train = RLHFDataset(data.train_files, tokenizer, data)
    rows = [train[place] for place in range(len(train))]
    teachers = [manager._resolve_teacher_key(row[manager.teacher_key]) for row in rows]
    score = get_custom_reward_fn(config)
    models = distillation.teacher_models.items()
    return {
        "rows": [row["raw_prompt"] for row in rows],
        "teachers": teachers,
        "models": {name: [one.model_path, one.inference.load_format] for name, one in models},
        "reward": score(data_source="", solution_str="", ground_truth="", extra_info={}),
        "num_prepared": len(train),
    }


read_forms(read)
