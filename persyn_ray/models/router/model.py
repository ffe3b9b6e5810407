"""The router pi: a prompt becomes one logit per teacher, o = pi(x) (Eq. 3).

    P(teacher i beats teacher j on x) = sigmoid(o_i - o_j)

A pretrained backbone without its language-model head, one pooled hidden state per prompt, one
linear head without a hidden layer. Decoders pool the last token of the templated prompt, encoders
the mean over tokens. A saved router is a standard model folder whose configuration carries backbone
and pool; it loads without the original backbone. Fitting happens elsewhere, and what is done with
the pooled states alone is in `frozen`.

A router of another kind (`router.kind`) has a predictor of rewards in place of the head, which
reads the pooled state of the unfitted backbone and the prompt's task; it lies beside the model.
Axes: B prompts of a batch, P prompts, T tokens, D hidden, M teachers.
"""

import copy
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.method.predictors.fit import Predictor
from persyn_ray.method.predictors.saved import load_predictor, save_predictor
from persyn_ray.models.chat import Message, encode_prompt
from persyn_ray.models.collate import batches_by_tokens, pad_right
from persyn_ray.models.load import load_backbone
from persyn_ray.models.router.head import apply_head, fresh_head, pool_states
from persyn_ray.models.router.losses import Loss
from persyn_ray.models.sanitize import escape_special_tokens
from persyn_ray.recipe.pool import TeacherPool

Pooling = Literal["auto", "last", "mean"]
PREDICTOR_FILE = "predictor.npz"
"""In a router's folder; there is none where the head gives the logits."""
TOKENS_PER_CPU_PASS = 512
"""A CPU gains nothing from larger passes, and loses by padding and by what leaves its caches: 128
prompts of 49 tokens on average take 3.5 times as long in passes of 16,384."""


class RouterModelConfig(PreTrainedConfig):
    """What a router is built from: the backbone's configuration, the pooling and the pool."""

    model_type = "persyn_router"

    def __init__(
        self,
        backbone_config: Mapping[str, Any] | None = None,
        pooling: str = "last",
        teachers: Sequence[str] = (),
        loss: Loss = "bradley_terry",
        extra: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.backbone_config = dict(backbone_config or {})
        self.pooling = pooling
        self.teachers = list(teachers)
        self.loss = loss
        self.extra = dict(extra or {})
        if teachers:
            settings["id2label"] = dict(enumerate(teachers))
            settings["label2id"] = {name: number for number, name in enumerate(teachers)}
        super().__init__(**settings)


class Router(PreTrainedModel):
    """Backbone, pooling and one linear head."""

    config_class = RouterModelConfig
    base_model_prefix = "backbone"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    predictor: Predictor | None = None
    """Gives the logits in place of the head."""

    def __init__(self, config: RouterModelConfig) -> None:
        super().__init__(config)
        settings = dict(config.backbone_config)
        backbone_config = AutoConfig.for_model(settings.pop("model_type"), **settings)
        self.backbone = AutoModel.from_config(backbone_config)
        self.head = nn.Linear(backbone_config.get_text_config().hidden_size, len(config.teachers))
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        wins: Tensor | None = None,
        rewards: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Logits (B, M), and the configured loss where its target is given: `wins` (B, M, M), or
        `rewards` (B, M) for a regression.
        """
        features_BD = self.pooled(input_ids, attention_mask)
        return apply_head(self.head, features_BD, self.config.loss, wins, rewards)

    def pooled(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """One hidden state per prompt, (B, D): what the head reads."""
        mask_BT = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        hidden_BTD = self.backbone(
            input_ids=input_ids, attention_mask=mask_BT, **self._positions(mask_BT)
        ).last_hidden_state
        return pool_states(hidden_BTD, mask_BT, self.config.pooling)

    def _positions(self, mask_BT: Tensor) -> dict[str, Tensor]:
        # Decoders count positions from the first column; padding on the left would shift the
        # prompt.
        if self.config.pooling != "last" or bool(mask_BT[:, 0].all()):
            return {}
        return {"position_ids": (mask_BT.long().cumsum(-1) - 1).clamp(min=0)}


def build_router(
    backbone_name: str,
    teachers: Sequence[str],
    pooling: Pooling = "auto",
    dtype: str = "float32",
    seed: int = 0,
    revision: str | None = None,
) -> Router:
    """A router with a pretrained backbone and a fresh head."""
    pool = TeacherPool(tuple(teachers))
    backbone = load_backbone(backbone_name, dtype, revision)
    if pooling == "auto":
        pooling = "last" if is_decoder(backbone.config) else "mean"
    config = RouterModelConfig(_portable(backbone.config), pooling, pool.names, dtype=dtype)
    with torch.device("meta"):
        router = Router(config)
    router.backbone = backbone
    router.head = fresh_head(backbone, len(pool), seed)
    return without_pooler(router)


def _portable(config: PreTrainedConfig) -> dict[str, Any]:
    # The path is this machine's; the number format is the router's to say.
    left_out = ("_name_or_path", "dtype")
    return {key: value for key, value in config.to_dict().items() if key not in left_out}


def is_decoder(config: PreTrainedConfig) -> bool:
    """Whether a token sees only what stands before it, so that the last one has read it all."""
    # Encoders such as BERT are listed as causal too, for use as decoders.
    return config.model_type in CAUSAL and config.model_type not in MASKED


def encode_router_prompts(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Sequence[Message]],
    max_length: int,
) -> list[list[int]]:
    """Token ids of each prompt as the router reads it; longer ones lose their beginning.

    With a chat template the prompt ends where the assistant would begin, so that the last token has
    read all of it; without one the router reads the plain text of the user's turns.
    """
    if tokenizer.chat_template:
        return [encode_prompt(tokenizer, messages)[-max_length:] for messages in conversations]
    left = copy.copy(tokenizer)
    left.truncation_side = "left"
    limit = min(max_length, tokenizer.model_max_length)
    rows = _encode_plain(left, conversations, limit)
    for number, row in enumerate(rows):
        if not row:
            raise DataError(
                f"Prompt {number} has no text from the user: the router cannot read it."
            )
    return rows


def router_logits(
    router: Router,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Sequence[Message]],
    tokens_per_batch: int = 8192,
    max_length: int = 1024,
) -> NDArray[np.float64]:
    """Logits (P, M) of the head, in the order of prompts and pool.

    Raises:
        DataError: a logit is not finite.
    """
    if not conversations:
        return np.empty((0, len(router.config.teachers)))
    rows = encode_router_prompts(tokenizer, conversations, max_length)

    def logits(input_ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        return router(input_ids_BT, mask_BT).logits

    logits_PM = over_batches(router, logits, rows, pad_of(tokenizer), tokens_per_batch)
    return finite_logits(logits_PM, router.dtype)


def finite_logits(logits_PM: Tensor, dtype: torch.dtype) -> NDArray[np.float64]:
    """Logits (P, M) as numbers.

    Raises:
        DataError: one is not finite.
    """
    broken = torch.nonzero(~logits_PM.isfinite().all(dim=1)).flatten().tolist()
    if broken:
        raise DataError(f"The router's logits for prompt {broken[0]} are not finite in {dtype}.")
    return logits_PM.double().cpu().numpy()


def pad_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that pads; any will do, for it is masked."""
    pad = tokenizer.pad_token_id
    return pad if isinstance(pad, int) else 0


def over_batches(
    router: Router,
    forward: Callable[[Tensor, Tensor], Tensor],
    rows: Sequence[Sequence[int]],
    pad_id: int,
    tokens_per_batch: int,
) -> Tensor:
    """What passes of the router in eval mode give for each row of token ids, in their order; on
    the CPU, without gradients.
    """
    router.eval()
    if router.device.type == "cpu":
        tokens_per_batch = min(tokens_per_batch, TOKENS_PER_CPU_PASS)
    order: list[int] = []
    parts: list[Tensor] = []
    for numbers in batches_by_tokens([len(row) for row in rows], tokens_per_batch):
        input_ids_BT, mask_BT = pad_right([rows[number] for number in numbers], pad_id)
        # Not inference mode: a head may be fitted on what comes out.
        with torch.no_grad():
            parts.append(forward(input_ids_BT.to(router.device), mask_BT.to(router.device)).cpu())
        order += numbers
    return torch.cat(parts)[torch.tensor(order).argsort()]


def save_router(
    router: Router,
    tokenizer: PreTrainedTokenizerBase,
    folder: str | Path,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a standard model folder, under a temporary name first; `extra` goes into its config."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    router.config.extra = dict(extra or {})
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        router.save_pretrained(part)
        tokenizer.save_pretrained(part)
        if router.predictor is not None:
            save_predictor(router.predictor, part / PREDICTOR_FILE)
        part.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def load_router(
    folder: str | Path, teachers: Sequence[str] | None = None
) -> tuple[Router, PreTrainedTokenizerBase]:
    """A saved router, in eval mode, and its tokenizer.

    Raises:
        ConfigError: the folder holds no router.
        DataError: its predictor cannot be read.
        PoolMismatchError: the router was fitted for other teachers than those given.
    """
    config = _router_config(folder)
    if teachers is not None:
        TeacherPool(tuple(teachers)).require(tuple(config.teachers), f"The router in {folder}")
    router = without_pooler(Router.from_pretrained(str(folder)))
    if (Path(folder) / PREDICTOR_FILE).exists():
        router.predictor = load_predictor(Path(folder) / PREDICTOR_FILE)
    return router.eval(), load_router_tokenizer(folder)


def load_router_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a saved router, without its weights.

    Raises:
        ConfigError: the folder holds no router.
    """
    # Told the configuration, the loader need not look up a model type that only this package knows.
    return AutoTokenizer.from_pretrained(str(folder), config=_router_config(folder))


def _router_config(folder: str | Path) -> RouterModelConfig:
    path = Path(folder) / "config.json"
    if not path.is_file() or f'"{RouterModelConfig.model_type}"' not in path.read_text("utf-8"):
        raise ConfigError(
            f"{folder} holds no router: name a folder that the router step has written."
        )
    return RouterModelConfig.from_pretrained(str(folder))


def without_pooler(router: Router) -> Router:
    """The router, told that an encoder's own pooling layer is not fitted: the router does not use
    it, and distributed training would wait for its gradients.
    """
    pooler = getattr(router.backbone, "pooler", None)
    if isinstance(pooler, nn.Module):
        pooler.requires_grad_(False)
    return router


def _encode_plain(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Sequence[Message]],
    max_length: int,
) -> list[list[int]]:
    """All at once: a call costs more than a short text."""
    if not conversations:
        return []
    texts = [
        "\n\n".join(message["content"] for message in messages if message["role"] == "user")
        for messages in conversations
    ]
    escaped = [escape_special_tokens(tokenizer, text) for text in texts]
    return tokenizer(escaped, truncation=True, max_length=max_length)["input_ids"]
