"""The recipe's `router`: backbone, loss and training settings of the fitted router."""

from typing import Literal

from pydantic import Field, model_validator

from persyn_ray.recipe.base import ModelConfig, Section


class LoraConfig(Section):
    """Low-rank adapters in place of full fine-tuning (the paper: from 14B on)."""

    rank: int = Field(16, ge=1)
    lora_alpha: int = Field(32, ge=1)
    target_modules: str = "all-linear"


class RouterConfig(Section):
    """The router. Training settings are ours: the paper's are not known."""

    backbone: ModelConfig
    pooling: Literal["auto", "last", "mean"] = "auto"
    """last token for decoders, mean for encoders."""
    loss: Literal["bradley_terry", "plackett_luce", "regression"] = "bradley_terry"
    """What is fitted: each pair of teachers (the paper), the whole ranking, or the rewards."""
    ties: Literal["drop", "half"] = "drop"
    """Equal rewards make no pair, or half a win each (regression fits them as they are)."""
    heldout_fraction: float = Field(0.15, gt=0, lt=1)
    """Share of the parallel set kept for early stopping and the router's figures, by prompt."""
    epochs: float = Field(3, gt=0)
    learning_rate: float = Field(1e-5, gt=0)
    batch_size: int = Field(32, ge=1)
    warmup_ratio: float = Field(0.05, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    max_length: int = Field(1024, ge=1)
    patience: int = Field(3, ge=1)
    """Evaluations without a better hold-out loss before the fit stops."""
    evaluations_per_epoch: int = Field(1, ge=1)
    freeze_backbone: bool = False
    """Fit the head alone: every prompt is embedded once for all fits and epochs. A head by itself
    wants a far higher `learning_rate`, about 1e-2."""
    lora: LoraConfig | None = None
    """Fit adapters of the backbone in place of its weights; they are merged into the router."""
    learning_curve: tuple[int, ...] = ()
    """Numbers of parallel prompts at which the router is also fitted, for the learning curve."""
    transfer: bool = False
    """Also fit a router without each task (`prompts.task_column`) and one on each task alone."""
    extend: str | None = None
    """Folder or fsspec address of a router (RUN/router of another run) fitted for some of these
    teachers. Its backbone and columns stay as they are; the others get columns of their own, fitted
    on the prompts where their rewards are known. `backbone` is then not loaded."""
    seed: int = 0

    @model_validator(mode="after")
    def _settings_fit_together(self) -> "RouterConfig":
        if self.lora is not None and self.freeze_backbone:
            raise ValueError("lora adapts the backbone that freeze_backbone keeps: set one of them")
        without_effect = {
            "learning_curve": self.learning_curve,
            "transfer": self.transfer,
            "lora": self.lora,
        }
        given = [name for name, value in without_effect.items() if value]
        if self.extend is not None and given:
            raise ValueError(f"extend fits columns alone: remove {given} from router")
        return self
