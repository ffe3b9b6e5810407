"""The recipe's `router`: its kind, and backbone, loss and training settings of the fitted one."""

from typing import Literal

from pydantic import Field, model_validator

from persyn_ray.recipe.base import ModelConfig, Section

Kind = Literal["fitted", "auto", "constant", "per_task", "knn", "linear", "stacked"]
Candidate = Literal["constant", "per_task", "knn", "linear", "stacked", "fitted_head", "fine_tuned"]
CANDIDATES: tuple[Candidate, ...] = (
    "constant",
    "per_task",
    "knn",
    "linear",
    "stacked",
    "fitted_head",
)
Tracker = Literal["tensorboard", "wandb", "mlflow"]


class LoraConfig(Section):
    """Low-rank adapters in place of full fine-tuning (the paper: from 14B on)."""

    rank: int = Field(16, ge=1)
    lora_alpha: int = Field(32, ge=1)
    target_modules: str = "all-linear"
    dropout: float = Field(0.0, ge=0, lt=1)
    rslora: bool = False
    """Scale adapters by the root of their rank (arXiv 2312.03732)."""


class RouterConfig(Section):
    """The router. Training settings are ours: the paper's are not known."""

    kind: Kind = "fitted"
    """What chooses teachers: the fitted router (the paper), or a simpler predictor of rewards:
    the best teacher of all (`constant`), of each task (`per_task`), of near prompts (`knn`), a
    ridge regression on embedding and task (`linear`), or these three weighted (`stacked`). `auto`
    compares them by nested cross-validation on the parallel set and takes `per_task` (`stacked`
    without labels) unless the best of the others is clearly better; record and report say why."""
    candidates: tuple[Candidate, ...] = CANDIDATES
    """Kinds that `auto` compares, beside `constant`: those above, a `fitted_head` on the frozen
    backbone, and `fine_tuned`, the whole backbone. The last takes six fits in place of one, five
    of them for its cross-validated reward, and is compared only where it is named."""
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
    report_to: tuple[Tracker, ...] = ()
    """Trackers beside the JSON lines in RUN/logs/router; as `finetune.report_to`."""
    seed: int = 0

    @model_validator(mode="after")
    def _settings_fit_the_kind(self) -> "RouterConfig":
        if self.kind == "fitted":
            return self
        given = [name for name in ("extend", "transfer") if getattr(self, name)]
        if self.lora is not None and (self.kind != "auto" or "fine_tuned" not in self.candidates):
            given.append("lora")
        if given:
            raise ValueError(
                f"{given} are settings of a fitted router, and kind is {self.kind!r}: remove them, "
                "or set kind: fitted" + (" or name fine_tuned in candidates" * ("lora" in given))
            )
        return self

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
