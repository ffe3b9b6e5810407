"""What all sections of a recipe share: strict, frozen models, and how a model is named."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from persyn_ray.recipe.reading.short_forms import long_model, or_text


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
    """A model by name; the name alone will do."""

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

    @model_validator(mode="before")
    @classmethod
    def _or_its_name(cls, data: Any) -> Any:
        return long_model(data)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return or_text(core_schema, handler)


class StudentConfig(ModelConfig):
    """The model that is tuned."""

    template_kwargs: dict[str, Any] = Field(default={})
    """Passed to the chat template wherever the student reads: scoring, fine-tuning, evaluation."""
    end_of_turn: str | None = None
    """Control token that ends the student's turn in training, evaluation and its exported files; by
    default what the chat template writes after a response."""

    @property
    def model(self) -> ModelConfig:
        """The student as any other model."""
        return ModelConfig(**self.model_dump(exclude={"template_kwargs", "end_of_turn"}))
