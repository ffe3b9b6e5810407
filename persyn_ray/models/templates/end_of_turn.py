"""Finds the token that ends a model's turn, and sets it where decoders look for it.

A base model's tokenizer ends texts with another token than its chat template ends turns with. A
student learns the latter, so whatever decodes it has to stop there: our engines by `end_of_turn`,
all others by the generation config and tokenizer that `set_end_of_turn` prepares for saving.
"""

from collections.abc import Mapping
from typing import Any

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.models.chat import encode_example
from persyn_ray.models.names import loaded_name
from persyn_ray.models.sanitize import control_id
from persyn_ray.models.templates.check import CONVERSATIONS, RESPONSES


def end_of_turn(
    tokenizer: PreTrainedTokenizerBase,
    token: str | None = None,
    template_kwargs: Mapping[str, Any] | None = None,
) -> int:
    """Id of `token`, or by default of what the chat template writes after a response.

    Where the template writes nothing there, it is the tokenizer's end of text: the very token that
    `encode_example` ends a response with.

    Raises:
        ConfigError: there is no such control token, or the template ends no conversation.
    """
    if token is not None:
        return control_id(tokenizer, token, "end_of_turn")
    for messages in CONVERSATIONS:
        for response in RESPONSES:
            try:
                return encode_example(tokenizer, messages, response, template_kwargs).ids[-1]
            except DataError:
                continue  # another conversation may be to the template's liking
    raise ConfigError(
        f"The chat template of {loaded_name(tokenizer)} ends no conversation with a control token: "
        "set `end_of_turn`, or another `chat_template` on the model."
    )


def set_end_of_turn(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, end_id: int
) -> None:
    """Make a model and its tokenizer end at `end_id` wherever they are loaded from what they save.

    Tokens that ended a text before still do: none of them is ever part of a response.
    """
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end_id)
    generation: Any = model.generation_config
    if generation is None:
        generation = GenerationConfig.from_model_config(model.config)
    before = _ids(generation.eos_token_id) + _ids(getattr(model.config, "eos_token_id", None))
    generation.eos_token_id = list(dict.fromkeys([end_id, *before]))
    model.generation_config = generation
    model.config.eos_token_id = end_id


def _ids(given: Any) -> list[int]:
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]
