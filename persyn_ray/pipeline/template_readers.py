"""Checks prompts against the chat templates of all models that read them.

Student, router and reward models are tried on every prompt in step prompts, before a teacher is
paid for it: what one of them cannot read would be worth nothing later.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.recipe.base import ModelConfig
from persyn_ray.recipe.comparison import EMBEDDED
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.recipe.scoring import RewardModelConfig, SeveralConfig
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import parts_of
from persyn_ray.storage.records import Settings

WEIGHTS = (".safetensors", ".bin", ".pt")
Messages = Sequence[Any]


@dataclass(frozen=True)
class Reader:
    """One model, by the setting that names it."""

    setting: str
    model: str
    why_unreadable: Callable[[Messages], str | None]
    """Why it cannot read a conversation, in a sentence; None if it can."""


def readers_of(recipe: Recipe) -> list[Reader]:
    """Everyone who reads the prompts; loads tokenizers and no weights.

    Raises:
        ConfigError: a model is not there, or has no chat template where it needs one.
    """
    makers: dict[str, Callable[[], Reader]] = {"student": partial(_student, recipe)}
    if recipe.router.extend is not None:
        makers["router.extend"] = partial(_extended, recipe)
    if _reads_by_backbone(recipe):
        makers["router.backbone"] = partial(_backbone, recipe)
    for number, part in enumerate(parts_of(recipe.scoring)):
        if isinstance(part.quality, RewardModelConfig):
            setting = _setting_of_part(recipe, number)
            makers[setting] = partial(_reward_model, setting, part.quality)
    return [_made(setting, make) for setting, make in makers.items()]


def _made(setting: str, make: Callable[[], Reader]) -> Reader:
    try:
        return make()
    except ConfigError as error:
        raise ConfigError(f"{setting}: {error}") from error


def reading_settings(recipe: Recipe) -> Settings:
    """What a recipe says about student and router that decides which prompts they can read."""
    found: Settings = {"student": reading_identity(recipe.student)}
    router: Settings = {}
    if recipe.router.extend is not None:
        router["extend"] = recipe.router.extend
    if _reads_by_backbone(recipe):
        router["backbone"] = reading_identity(recipe.router.backbone)
    return found | {"router": router}


def _reads_by_backbone(recipe: Recipe) -> bool:
    """Whether the router is fitted from the backbone, or a method reads its embeddings."""
    return recipe.router.extend is None or bool(set(EMBEDDED) & set(recipe.compare.methods))


def reading_identity(model: ModelConfig) -> Settings:
    """What a recipe says about a model that decides which conversations it can read."""
    return model.model_dump(mode="json", exclude={"dtype"})


def _student(recipe: Recipe) -> Reader:
    from persyn_ray.models.load import load_tokenizer
    from persyn_ray.models.template_check import require_sound_template, why_unreadable

    student = recipe.student
    tokenizer = load_tokenizer(
        student.name, student.revision, student.chat_template, student.trust_remote_code
    )
    kwargs = student.template_kwargs
    require_sound_template(tokenizer, kwargs)
    reads = partial(why_unreadable, tokenizer, template_kwargs=kwargs)
    return Reader("student", student.name, reads)


def _backbone(recipe: Recipe) -> Reader:
    from persyn_ray.models.load import load_tokenizer

    backbone = recipe.router.backbone
    tokenizer = load_tokenizer(backbone.name, backbone.revision, backbone.chat_template)
    return _router("router.backbone", backbone.name, tokenizer, recipe.router.max_length)


def _extended(recipe: Recipe) -> Reader:
    address = str(recipe.router.extend)
    tokenizer = _router_tokenizer(address)
    return _router("router.extend", address, tokenizer, recipe.router.max_length)


def _router(setting: str, name: str, tokenizer: Any, max_length: int) -> Reader:
    from persyn_ray.models.router.model import encode_router_prompts

    def encode(messages: Messages) -> object:
        return encode_router_prompts(tokenizer, [messages], max_length)

    return Reader(setting, name, partial(_why, encode))


def _router_tokenizer(address: str) -> Any:
    """The tokenizer of the router to extend; of a remote one only small files are fetched."""
    from persyn_ray.models.router.model import load_router_tokenizer

    folder = Folder.absolute(address)
    if folder.is_local:
        return load_router_tokenizer(folder.local_path)
    with TemporaryDirectory() as scratch:
        for name in folder.names():
            if not name.endswith(WEIGHTS):
                (Path(scratch) / name).write_bytes(folder.read_bytes(name))
        return load_router_tokenizer(scratch)


def _setting_of_part(recipe: Recipe, number: int) -> str:
    if isinstance(recipe.scoring.quality, SeveralConfig):
        return f"scoring.quality.parts.{number}.quality.model"
    return "scoring.quality.model"


def _reward_model(setting: str, how: RewardModelConfig) -> Reader:
    from persyn_ray.models.chat import STAND_IN
    from persyn_ray.models.load import load_tokenizer
    from persyn_ray.models.reward_model import encode_conversation

    source = how.model
    tokenizer = load_tokenizer(
        source.name, source.revision, source.chat_template, source.trust_remote_code
    )

    def encode(messages: Messages) -> object:
        return encode_conversation(tokenizer, messages, STAND_IN, how.max_length)

    return Reader(setting, source.name, partial(_why, encode))


def _why(encode: Callable[[Messages], object], messages: Messages) -> str | None:
    try:
        encode(messages)
    except DataError as error:
        return str(error)
    return None


def refusals(
    conversations: Sequence[Messages], readers: Sequence[Reader], where: str
) -> dict[int, str]:
    """Why each prompt that someone cannot read is refused, by its place; the others are not named.

    Raises:
        ConfigError: no prompt is left.
    """
    found: dict[int, str] = {}
    for place, messages in enumerate(conversations):
        for reader in readers:
            why = reader.why_unreadable(messages)
            if why is not None:
                found[place] = f"{reader.setting} {reader.model!r} cannot read it: {why}"
                break
    if conversations and len(found) == len(conversations):
        reasons = list(dict.fromkeys(found.values()))
        raise ConfigError(
            f"Of {len(found)} prompts in {where} not one can be read by all of "
            f"{[reader.setting for reader in readers]}. The first one: {reasons[0]}"
        )
    return found
