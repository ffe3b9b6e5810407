"""All forms that `persyn export` writes, in the order in which they are listed."""

from persyn_ray.errors import ConfigError
from persyn_ray.exports import axolotl, jsonl, llamafactory, ms_swift, on_disk, torchtune, trl
from persyn_ray.exports.form import Form
from persyn_ray.exports.on_policy import miles, nemo_rl, verl
from persyn_ray.exports.on_policy import ms_swift as ms_swift_on_policy
from persyn_ray.exports.on_policy import trl as trl_on_policy
from persyn_ray.exports.routing import assignment, router
from persyn_ray.storage.results import (
    RewardsResult,
    RouteResult,
    RouterResult,
    SynthesizeResult,
)

_EXAMPLES, _REWARDS = SynthesizeResult.step, RewardsResult.step
_ROUTES, _ROUTER = RouteResult.step, RouterResult.step

FORMS: tuple[Form, ...] = (
    # Supervised fine-tuning
    Form("trl", "TRL's SFTTrainer: prompt and completion", _EXAMPLES, trl.prompt_completion),
    Form("trl-messages", "TRL's SFTTrainer: conversations", _EXAMPLES, trl.messages),
    Form("llamafactory", "LLaMA-Factory SFT: ShareGPT", _EXAMPLES, llamafactory.sft),
    Form("axolotl", "axolotl SFT: chat_template", _EXAMPLES, axolotl.sft),
    Form("ms-swift", "ms-swift SFT", _EXAMPLES, ms_swift.sft),
    Form("torchtune", "torchtune's chat_dataset", _EXAMPLES, torchtune.sft),
    Form("nemo-rl", "NeMo-RL SFT: openai_format", _EXAMPLES, jsonl.nemo_rl_sft),
    Form("jsonl", "anything that reads JSON Lines of messages", _EXAMPLES, jsonl.chat),
    Form("datasets", "datasets.load_from_disk: all columns", _EXAMPLES, on_disk.on_disk),
    # Preferences, from the parallel set
    Form("trl-dpo", "TRL's DPOTrainer", _REWARDS, trl.dpo),
    Form("trl-kto", "TRL's KTOTrainer", _REWARDS, trl.kto),
    Form("llamafactory-dpo", "LLaMA-Factory DPO", _REWARDS, llamafactory.dpo),
    Form("llamafactory-kto", "LLaMA-Factory KTO", _REWARDS, llamafactory.kto),
    Form("axolotl-dpo", "axolotl DPO", _REWARDS, axolotl.dpo),
    Form("ms-swift-dpo", "ms-swift DPO", _REWARDS, ms_swift.dpo),
    Form("ms-swift-kto", "ms-swift KTO", _REWARDS, ms_swift.kto),
    Form("torchtune-dpo", "torchtune's preference_dataset", _REWARDS, torchtune.dpo),
    Form("nemo-rl-dpo", "NeMo-RL DPO: PreferenceDataset", _REWARDS, jsonl.nemo_rl_dpo),
    # On-policy distillation: the routed teacher scores the student's own tokens
    Form("verl", "verl, on-policy distillation", _ROUTES, verl.on_policy),
    Form("ms-swift-gkd", "ms-swift GKD", _ROUTES, ms_swift_on_policy.on_policy),
    Form("miles", "miles, on-policy distillation", _ROUTES, miles.miles),
    Form("slime", "slime, on-policy distillation", _ROUTES, miles.slime),
    Form("nemo-rl-mopd", "NeMo-RL MOPD", _ROUTES, nemo_rl.on_policy),
    Form("trl-gkd", "TRL's GKDTrainer, by teacher", _EXAMPLES, trl_on_policy.generalized),
    Form("trl-gold", "TRL's GOLDTrainer, by teacher", _EXAMPLES, trl_on_policy.across_tokenizers),
    Form("trl-distillation", "trl distillation, by teacher", _ROUTES, trl_on_policy.distillation),
    # What was routed, and what routes
    Form("assignment", "any reader of tables", _ROUTES, assignment.assignment),
    Form("router", "transformers, without this package", _ROUTER, router.plain_router),
)


def form_named(name: str) -> Form:
    """The form of a name.

    Raises:
        ConfigError: there is none; names all that there are.
    """
    for form in FORMS:
        if form.name == name:
            return form
    names = "\n".join(f"  {form.name:<20} {form.tool}" for form in FORMS)
    raise ConfigError(f"--to {name!r} is no form of export; the forms are\n{names}")
