"""Checks prompts against the chat templates of all models that read them.

Student, router and reward models are tried on every prompt in step prompts, before a teacher is
paid for it: what one of them cannot read would be worth nothing later.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from persyn_ray.errors import ConfigError, DataError
from persyn_ray.recipe.base import ModelConfig, StudentConfig
from persyn_ray.recipe.comparison import EMBEDDED, CompareConfig
from persyn_ray.recipe.router import RouterConfig
from persyn_ray.recipe.scoring import RewardModelConfig, ScoringConfig, SeveralConfig
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


def readers_of(
    student: StudentConfig, router: RouterConfig, compare: CompareConfig, scoring: ScoringConfig
) -> list[Reader]:
    """Everyone who reads the prompts; loads tokenizers and no weights.

    Raises:
        ConfigError: a model is not there, or has no chat template where it needs one.
    """
    makers = makers_of(student, router, compare, scoring)
    return [_made(setting, make) for setting, make in makers.items()]


def makers_of(
    student: StudentConfig, router: RouterConfig, compare: CompareConfig, scoring: ScoringConfig
) -> dict[str, Callable[[], Reader]]:
    """What makes each reader, by the setting that names its model; loads nothing yet."""
    makers: dict[str, Callable[[], Reader]] = {"student": partial(_student, student)}
    if router.extend is not None:
        makers["router.extend"] = partial(_extended, router.extend, router.max_length)
    if _reads_by_backbone(router, compare):
        makers["router.backbone"] = partial(_backbone, router.backbone, router.max_length)
    for number, part in enumerate(parts_of(scoring)):
        if isinstance(part.quality, RewardModelConfig):
            is_one_of_several = isinstance(scoring.quality, SeveralConfig)
            place = f".parts.{number}.quality" if is_one_of_several else ""
            setting = f"scoring.quality{place}.model"
            makers[setting] = partial(_reward_model, setting, part.quality)
    return makers


def _made(setting: str, make: Callable[[], Reader]) -> Reader:
    try:
        return make()
    except ConfigError as error:
        raise ConfigError(f"{setting}: {error}") from error


def reading_settings(
    student: StudentConfig, router: RouterConfig, compare: CompareConfig
) -> Settings:
    """What a recipe says about student and router that decides which prompts they can read."""
    of_router: Settings = {}
    if router.extend is not None:
        of_router["extend"] = router.extend
    if _reads_by_backbone(router, compare):
        of_router["backbone"] = reading_identity(router.backbone)
    return {"student": reading_identity(student), "router": of_router}


def _reads_by_backbone(router: RouterConfig, compare: CompareConfig) -> bool:
    """Whether the router is fitted from the backbone, or a method reads its embeddings."""
    return router.extend is None or bool(set(EMBEDDED) & set(compare.methods))


def reading_identity(model: ModelConfig) -> Settings:
    """What a recipe says about a model that decides which conversations it can read."""
    return model.model_dump(mode="json", exclude={"dtype"})


def _student(student: StudentConfig) -> Reader:
    from persyn_ray.models.load import load_tokenizer
    from persyn_ray.models.templates.check import readability_check, require_sound_template
    from persyn_ray.models.templates.end_of_turn import end_of_turn

    tokenizer = load_tokenizer(
        student.name, student.revision, student.chat_template, student.trust_remote_code
    )
    kwargs = student.template_kwargs
    require_sound_template(tokenizer, kwargs)
    end_of_turn(tokenizer, student.end_of_turn, kwargs)  # refused here, before a teacher is paid
    return Reader("student", student.name, readability_check(tokenizer, kwargs))


def _backbone(backbone: ModelConfig, max_length: int) -> Reader:
    from persyn_ray.models.load import load_tokenizer

    tokenizer = load_tokenizer(backbone.name, backbone.revision, backbone.chat_template)
    return _router("router.backbone", backbone.name, tokenizer, max_length)


def _extended(address: str, max_length: int) -> Reader:
    return _router("router.extend", address, _router_tokenizer(address), max_length)


def _router(setting: str, name: str, tokenizer: Any, max_length: int) -> Reader:
    from persyn_ray.models.chat import render_conversation
    from persyn_ray.models.router.model import encode_router_prompts
    from persyn_ray.models.templates.shapes import check_by_roles

    def encode(messages: Messages) -> object:
        return encode_router_prompts(tokenizer, [messages], max_length)

    def prompt(messages: Messages) -> str:
        return render_conversation(tokenizer, messages, True, None)

    check = partial(_why, encode)
    if tokenizer.chat_template:
        check = check_by_roles(tokenizer, check, (prompt,))
    return Reader(setting, name, check)


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
    conversations: Iterable[Messages], readers: Sequence[Reader], where: str
) -> dict[int, str]:
    """Why each prompt that someone cannot read is refused, by its place; the others are not named.

    Raises:
        ConfigError: no prompt is left.
    """
    found: dict[int, str] = {}
    num_prompts = 0
    for place, messages in enumerate(conversations):
        num_prompts += 1
        for reader in readers:
            why = reader.why_unreadable(messages)
            if why is not None:
                found[place] = f"{reader.setting} {reader.model!r} cannot read it: {why}"
                break
    if found and len(found) == num_prompts:
        reasons = list(dict.fromkeys(found.values()))
        raise ConfigError(
            f"Of {len(found)} prompts in {where} not one can be read by all of "
            f"{[reader.setting for reader in readers]}. The first one: {reasons[0]}"
        )
    return found
