"""What all sections of a recipe share: strict, frozen models, and how a model is named."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A part of the recipe: frozen, and strict about its keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        protected_namespaces=(),
        hide_input_in_errors=True,  # it may be a key
    )


class ModelConfig(Section):
    """A model by name."""

    name: str
    """Hub name, folder, `package:IMPORT_NAME/path` in a package, or `random:llama`."""
    revision: str | None = None
    """Hub revision; part of the model's identity."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the weights."""
    chat_template: str | None = None
    """Jinja chat template in place of the tokenizer's own."""
    trust_remote_code: bool = False
    """Run code that comes with the model."""


class StudentConfig(ModelConfig):
    """The model that is tuned."""

    template_kwargs: dict[str, Any] = Field(default={})
    """Passed to the chat template wherever the student reads: scoring, fine-tuning, evaluation."""

    @property
    def model(self) -> ModelConfig:
        """The student as any other model."""
        return ModelConfig(**self.model_dump(exclude={"template_kwargs"}))
