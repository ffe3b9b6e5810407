"""The recipe's `finetune` and `evaluate`: how the student is trained and what it is measured on."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from persyn_ray.recipe.base import Section
from persyn_ray.recipe.engines import SETTINGS
from persyn_ray.recipe.router import LoraConfig, Tracker
from persyn_ray.recipe.scoring import EvaluateCheck
from persyn_ray.recipe.teachers import TeacherResourcesConfig

OWN_ARGUMENTS = frozenset(
    {
        "output_dir",
        "num_train_epochs",
        "max_steps",
        "learning_rate",
        "lr_scheduler_type",
        "warmup_steps",
        "warmup_ratio",
        "weight_decay",
        "per_device_train_batch_size",
        "per_device_eval_batch_size",
        "gradient_accumulation_steps",
        "gradient_checkpointing",
        "activation_checkpointing",
        "bf16",
        "fp16",
        "deepspeed",
        "save_strategy",
        "save_steps",
        "eval_strategy",
        "eval_steps",
        "logging_nan_inf_filter",
        "report_to",
        "seed",
        "data_seed",
        "remove_unused_columns",
        "use_cpu",
        "group_by_length",
        "train_sampling_strategy",
        "load_best_model_at_end",
        "packing",
    }
)
"""Arguments of the Trainer that follow from the recipe or from how steps resume."""

DEEPSPEED_PRESETS: dict[str, tuple[int, bool]] = {
    "zero0": (0, False),
    "zero1": (1, False),
    "zero2": (2, False),
    "zero2_offload": (2, True),
    "zero3": (3, False),
    "zero3_offload": (3, True),
}
"""ZeRO stage of each, and whether it uses the host's memory."""

ADAPTED_FROM = 14
"""Billions of parameters, rounded, from which on `lora: auto` trains adapters: the paper's rule."""


class FinetuneConfig(Section):
    """Fine-tuning of the student on response tokens. The paper's settings are not known."""

    epochs: float = Field(2, gt=0)
    max_steps: int | None = Field(None, ge=1)
    """Stop after so many optimiser steps."""
    learning_rate: float = Field(1e-5, gt=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    batch_size: int = Field(32, ge=1)
    """Examples per optimiser step, over all workers and accumulation."""
    micro_batch_size: int = Field(4, ge=1)
    """Examples per worker and forward pass."""
    max_length: int = Field(4096, ge=2)
    """Tokens of an example, prompt and response."""
    too_long: Literal["drop", "truncate", "raise"] = "drop"
    """Longer examples are left out, or cut at the end, either counted by teacher; or an error."""
    packing: bool = False
    """Read the examples of a micro-batch as one sequence without padding, each apart. The same
    steps and gradients; faster where lengths differ, but for very small models."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of training."""
    deepspeed: str = "zero2"
    """What is partitioned over the workers: zero0, zero1, zero2, zero2_offload, zero3,
    zero3_offload (with the optimiser's state, and in zero3 the weights, in the host's memory), or
    the path of a DeepSpeed configuration in JSON, which may not set what the recipe sets. One
    worker in float32 trains the same student without the copies of zero1 and zero2."""
    gradient_checkpointing: bool = False
    """Compute activations anew in the backward pass instead of keeping them."""
    logits_at_once: int = Field(1024, ge=0)
    """Response tokens whose logits are held at once; 0 holds those of a whole micro-batch. The
    same loss and gradients."""
    lora: LoraConfig | Literal["auto"] | None = "auto"
    """Train adapters in place of the weights; auto does so from 14B parameters on (the paper's
    rule), null never."""
    save_steps: int = Field(200, ge=1)
    """Optimiser steps between checkpoints to resume from."""
    heldout_fraction: float = Field(0.0, ge=0, lt=1)
    """Share of the examples that are kept from training, to measure the loss on."""
    eval_steps: int | None = Field(None, ge=1)
    """Optimiser steps between measurements of that loss; `save_steps` by default. The last step is
    always measured."""
    keep: Literal["last", "best"] = "last"
    """Which student is exported: that of the last step, or that of the least loss so measured."""
    patience: int | None = Field(None, ge=1)
    """Measurements without a lower loss before training stops; by default it does not."""
    report_to: tuple[Tracker, ...] = ()
    """Trackers beside the JSON lines in RUN/logs/finetune; each has its package. In a run on disk
    they write there too, unless their environment variables (TENSORBOARD_LOGGING_DIR, WANDB_DIR,
    MLFLOW_TRACKING_URI) say else. Execution only."""
    arguments: dict[str, Any] = Field(default={})
    """Further arguments of transformers' TrainingArguments, such as `optim` or `adam_beta2`."""
    seed: int = 0

    @model_validator(mode="after")
    def _fits_together(self) -> "FinetuneConfig":
        if self.deepspeed not in DEEPSPEED_PRESETS and not self.deepspeed.endswith(".json"):
            raise ValueError(
                f"deepspeed {self.deepspeed!r} is none of {', '.join(DEEPSPEED_PRESETS)}, nor the "
                "path of a .json file"
            )
        if not self.heldout_fraction and (self.keep == "best" or self.patience is not None):
            asked = "keep: best" if self.keep == "best" else f"patience: {self.patience}"
            raise ValueError(f"{asked} needs examples to measure the loss on: set heldout_fraction")
        taken = sorted(OWN_ARGUMENTS & self.arguments.keys())
        if taken:
            raise ValueError(
                f"arguments {taken} are set by the recipe's own settings; see `persyn schema` for "
                "finetune"
            )
        return self

    def adapters(self, num_parameters: float) -> LoraConfig | None:
        """The adapters that a student of so many parameters is trained with, if with any."""
        if self.lora != "auto":
            return self.lora
        is_large = round(num_parameters / 1e9) >= ADAPTED_FROM
        return LoraConfig() if is_large else None  # pyright: ignore[reportCallIssue]


class EvaluateTransformersConfig(Section):
    """Students decoded by transformers, in the actors of `resources.evaluate`."""

    kind: Literal["transformers"] = "transformers"


class EvaluateVllmConfig(Section):
    """Students decoded by vLLM; each has engines of its own, scheduled as a teacher's are."""

    kind: Literal["vllm"]
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Number format in which the student answers."""
    max_model_len: int | None = Field(default=None, ge=1)
    """Longest problem + answer; the model's own context by default."""
    quantization: str | None = None
    """vLLM's name of the method, such as `fp8`."""
    arguments: dict[str, Any] = Field(default={})
    """Any further argument of vLLM's engine that shapes answers."""
    resources: TeacherResourcesConfig = TeacherResourcesConfig()
    """GPUs, tensor parallelism and number of each student's engines. Execution only."""

    @model_validator(mode="after")
    def _settings_are_settings(self) -> "EvaluateVllmConfig":
        taken = sorted(SETTINGS & self.arguments.keys())
        if taken:
            raise ValueError(f"arguments {taken} have settings of their own")
        return self


EvaluateEngine = Annotated[
    EvaluateTransformersConfig | EvaluateVllmConfig, Field(discriminator="kind")
]


class LmEvalConfig(Section):
    """Tasks of the Language Model Evaluation Harness, by its own code (package `lm_eval`, which
    `pip install 'persyn-ray[lm-eval]'` brings). Each student is an actor of `resources.evaluate`.
    Results and samples lie in RUN/lm_eval/STUDENT."""

    tasks: tuple[str, ...] = Field(min_length=1)
    """Names of tasks or groups of the harness, or files of tasks (`*.yaml`)."""
    include_path: str | None = None
    """Folder with files of further tasks."""
    num_fewshot: int | None = Field(None, ge=0)
    """Examples before each question; as many as the task says by default."""
    apply_chat_template: bool = True
    """Ask through the student's chat template, as it was tuned."""
    system_instruction: str | None = None
    """System message of every question."""
    limit: int | None = Field(None, ge=1)
    """Questions of each task."""
    backend: Literal["hf", "vllm"] = "hf"
    """What the harness runs students by: transformers or vLLM, in the student's own dtype. With
    thinking switched on in `student.template_kwargs` vLLM wants `arguments: {think_end_token: ...}`
    as well."""
    arguments: dict[str, Any] = Field(default={})
    """Further arguments of the harness's model, such as `max_length` (hf) or `max_model_len`
    (vllm). vLLM works on all GPUs of `resources.evaluate.gpus` as tensor parallel, unless they say
    otherwise."""
    generation: dict[str, Any] = Field(default={})
    """Arguments of generation in place of the tasks' own (`gen_kwargs` of the harness)."""


class EvaluateConfig(Section):
    """Held-out problems with checkable answers, and tasks of the evaluation harness."""

    path: str | tuple[str, ...] | None = None
    """File of held-out problems (columns as in `prompts`); otherwise `prompts.num_heldout`."""
    limit: int | None = Field(None, ge=1)
    """Decode at most so many of the held-out problems."""
    engine: EvaluateEngine = EvaluateTransformersConfig()
    """What the students are run by; the teachers have engines of their own."""
    max_tokens: int = Field(256, ge=1)
    temperature: float = Field(0.0, ge=0)
    """0 is greedy."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus sampling."""
    seed: int = 0
    """Seed of the draws."""
    batch_size: int = Field(64, ge=1)
    """Problems decoded together by engine transformers."""
    check: EvaluateCheck | None = None
    """How answers are checked; by default as `scoring.quality`, when that is an exact check. A
    function of one's own (kind python) gives 0 to 1, or null where it does not know."""
    lm_eval: LmEvalConfig | None = None
    """Tasks of the evaluation harness, beside the held-out problems or without any."""
