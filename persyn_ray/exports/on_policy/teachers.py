"""Teachers that score the student's own tokens: which model each is, and whether it reads them.

On-policy distillation hands the ids of the student's tokens to a teacher and takes its
probabilities of them. So a teacher needs the same tokens under the same ids. What a recipe does not
say (a recorded answer, a name at an endpoint) is not guessed: `--teacher-model` says it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from persyn_ray.errors import ConfigError
from persyn_ray.models.load import load_config, load_tokenizer, resolve
from persyn_ray.recipe.base import ModelConfig, StudentConfig
from persyn_ray.recipe.engines import OpenAIEngineConfig, TransformersEngineConfig, VllmEngineConfig
from persyn_ray.recipe.teachers import TeacherConfig


@dataclass(frozen=True)
class ReadModel:
    """A model that tokens are scored by; its files are read when they are asked for."""

    config: ModelConfig

    @cached_property
    def address(self) -> str:
        """Its hub name or its folder, as other tools take it."""
        return resolve(self.config.name)

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        given = self.config
        return load_tokenizer(
            given.name, given.revision, given.chat_template, given.trust_remote_code
        )

    @cached_property
    def vocabulary(self) -> Mapping[str, int]:
        """Its tokens and their ids."""
        return self.tokenizer.get_vocab()

    @cached_property
    def is_byte_level(self) -> bool:
        """Whether its tokens are pieces of bytes, as those of GPT-2 and its like."""
        backend = self.tokenizer.backend_tokenizer
        return "ByteLevel" in f"{backend.pre_tokenizer!r} {backend.decoder!r}"

    @cached_property
    def num_logits(self) -> int:
        """Width of its output: often more than it has tokens."""
        given = self.config
        config: Any = load_config(given.name, given.revision, given.trust_remote_code)
        return int(config.get_text_config().vocab_size)

    def reads_tokens_of(self, other: "ReadModel") -> bool:
        """Whether the same token stands under every id."""
        return self.vocabulary == other.vocabulary


@dataclass(frozen=True)
class ScoringTeacher:
    """A teacher with rows, as on-policy forms name it."""

    config: TeacherConfig
    model: ReadModel
    given_url: str | None

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def revision(self) -> str | None:
        return self.model.config.revision

    @property
    def tensor_parallel(self) -> int:
        resources = self.config.resources
        return 1 if resources is None else resources.tensor_parallel

    @property
    def pipeline_parallel(self) -> int:
        resources = self.config.resources
        return 1 if resources is None else resources.pipeline_parallel

    def url(self, port: int, path: str = "") -> str:
        """Address of its server: as given, or at its endpoint, or a host of the teacher's name."""
        engine = self.config.engine
        url = self.given_url
        if url is None and isinstance(engine, OpenAIEngineConfig):
            url = engine.base_url.rstrip("/").removesuffix("/v1")
        url = (url or f"http://{self.name}:{port}").rstrip("/")
        return url if not path or url.endswith(path) else url + path


def model_of(teacher: TeacherConfig, given: Mapping[str, str]) -> ReadModel | None:
    """The model of a teacher; None where neither the recipe nor the user says which it is."""
    if teacher.name in given:
        return ReadModel(ModelConfig(name=given[teacher.name]))
    if isinstance(teacher.engine, TransformersEngineConfig | VllmEngineConfig):
        return ReadModel(teacher.engine.model)
    return None


def why_not(teacher: TeacherConfig, model: ReadModel | None, student: ReadModel) -> str | None:
    """Why a teacher cannot score the student's tokens; None where it can."""
    unread = why_unread(teacher, model)
    if unread is not None or model is None:
        return unread
    if not model.reads_tokens_of(student):
        return f"teacher {teacher.name} has another tokenizer than the student"
    return None


def why_unread(teacher: TeacherConfig, model: ReadModel | None) -> str | None:
    """Why a teacher's tokenizer is not known; None where it is."""
    name = teacher.name
    if model is None:
        return (
            f"the tokenizer of teacher {name} is unknown, since its engine {teacher.engine.kind} "
            f"names no model (--teacher-model {name}=MODEL says which it is)"
        )
    try:
        _ = model.vocabulary
    except ConfigError as error:
        return f"the tokenizer of teacher {name} cannot be read: {str(error).splitlines()[0]}"
    return None


def notes(unpinned: Sequence[ScoringTeacher], student: StudentConfig) -> str:
    """What a tool is not told by its files, as Markdown: revisions of models that it takes without
    one, and a chat template of the recipe's own; empty where there is none of either.
    """
    said = []
    pinned = [f"{one.name} ({one.revision})" for one in unpinned if one.revision is not None]
    if pinned:
        said.append(
            f"The recipe pins a revision of {', '.join(pinned)}, and this tool takes none: load "
            "the model from a folder that holds it."
        )
    if student.chat_template is not None:
        said.append(
            "The recipe gives the student a chat template of its own: give it to this tool too."
        )
    return "".join(f"\n\n{one}" for one in said)
