"""Request and response bodies of the endpoint (pydantic), as its OpenAPI document shows them."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from persyn_ray.models.chat import Message
from persyn_ray.serving.error_response import Refusal

READ_AS = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
"""The router reads these roles; results of tools are left out."""

OF_TEXT = {"type", "text", "refusal", "cache_control", "annotations"}
"""Fields of a part of text, by OpenAI's form and by others'."""

Name = Annotated[str, Field(max_length=256)]
Names = Annotated[list[Name], Field(max_length=1024, fail_fast=True)]
# A list ends at its first fault: a hundred thousand of them would take the replica minutes to tell.


def _closed(schema: JsonDict) -> None:
    schema["additionalProperties"] = False


class Strict(BaseModel):
    """Strict about its keys, so that a typing error is seen."""

    model_config = ConfigDict(use_attribute_docstrings=True, json_schema_extra=_closed)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        """As `extra="forbid"`, without a complaint for each of very many keys."""
        if isinstance(given, dict):
            unknown = [key for key in given if key not in cls.model_fields]
            if unknown:
                shown = ", ".join(repr(str(key)[:40]) for key in unknown[:5])
                raise ValueError(f"unknown fields: {shown}; known are {sorted(cls.model_fields)}")
        return given


class MessagePart(BaseModel):
    """A part of a message; only text is read."""

    type: str | None = "text"
    text: str | None = None


class Turn(BaseModel):
    """One message of a conversation, in OpenAI's form; what else it holds is not read."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[MessagePart], Field(max_length=1024, fail_fast=True)] | None = (
        None
    )

    @property
    def text(self) -> str:
        """Its text parts, one below the other."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content or [] if part.text)


Conversation = Annotated[list[Turn], Field(min_length=1, max_length=1024, fail_fast=True)]


class Wish(Strict):
    """What a request may say about the choice."""

    allowed: Names | None = None
    """Only these teachers may be chosen."""
    excluded: Names | None = None
    """These may not."""
    price_weight: float | None = Field(default=None, ge=0, le=1e9, allow_inf_nan=False)
    """Logits that a dollar per million response tokens takes off a teacher's score."""
    task: Name | None = None
    """The prompts' label (`prompts.task_column`), for a router whose kind goes by tasks; a prompt
    without one, or of a task that the parallel set has not, gets what is best over all of them."""


class RouteRequest(Wish):
    """Prompts to find teachers for: exactly one of `prompt`, `messages` and `prompts`."""

    prompt: str | None = None
    messages: Conversation | None = None
    prompts: Annotated[list[str | Conversation], Field(min_length=1, fail_fast=True)] | None = None

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        given = [n for n in ("prompt", "messages", "prompts") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of prompt, messages and prompts (given: {given or 'none'})"
            )
        return self

    @property
    def num_prompts(self) -> int:
        """How many prompts there are."""
        return 1 if self.prompts is None else len(self.prompts)

    @property
    def conversations(self) -> list[list[Message]]:
        """Each prompt as a conversation."""
        if self.prompts is not None:
            return [conversation(prompt) for prompt in self.prompts]
        return [conversation(self.prompt if self.messages is None else self.messages)]


def conversation(prompt: str | list[Turn] | None) -> list[Message]:
    """A prompt as the router reads it.

    Raises:
        Refusal: 422 for a conversation in which nothing is said.
    """
    if prompt is None or isinstance(prompt, str):
        return [{"role": "user", "content": prompt or ""}]
    turns: list[Message] = [
        {"role": READ_AS[turn.role], "content": turn.text}
        for turn in prompt
        if turn.role in READ_AS
    ]
    if not turns:
        raise Refusal(422, f"A conversation has no message of {sorted(READ_AS)}: nothing to read.")
    return turns


def require_text(messages: Any) -> None:
    """Refuse chats with anything but text in them; of parts only what is known is sent on.

    Raises:
        Refusal: 422, with the place.
    """
    for number, turn in enumerate(messages):
        parts = turn.get("content")
        for part in parts if isinstance(parts, list) else ():
            if part.get("type", "text") not in (None, "text", "refusal") or part.keys() - OF_TEXT:
                raise Refusal(
                    422,
                    f"messages.{number}.content holds a part that is no text: only text goes on to "
                    "teachers, in parts with `type` and `text`.",
                )


def without_nulls(messages: Any) -> list[dict[str, object]]:
    """Turns and their parts without fields that say nothing, as tables of mixed forms have them;
    a turn's content stays, for an answer that calls tools has none.
    """
    return [
        {
            name: [_given(part) for part in value] if isinstance(value, list) else value
            for name, value in turn.items()
            if value is not None or name == "content"
        }
        for turn in messages
    ]


def _given(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    return {name: value for name, value in part.items() if value is not None}


class ChatRequest(BaseModel):
    """OpenAI's chat completion; all but `persyn` and nulls goes on to the teacher as it is."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    model: Name
    """`persyn`, or a teacher's name to ask it without routing."""
    messages: Conversation
    stream: bool | None = None
    persyn: Wish | None = None
    """What may be chosen; not sent on."""


class Route(BaseModel):
    """Who should answer a prompt."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    teacher: str
    runner_up: str | None
    margin: float | None
    """Score of the teacher minus that of the runner-up."""
    scores: dict[str, float]
    """The router's logits minus `price_weight` times the price, of all teachers."""
    probabilities: dict[str, float] | None
    """Softmax of the scores over the candidates: the chance to be the best of them, by Luce's
    choice axiom. Null for a router that was fitted by regression."""
    is_novel: bool | None
    """Whether the prompt is unlike all that the router was fitted on; null if it cannot tell."""
    distance: float | None
    """Cosine distance to the parallel set, 0 to 2."""
    fallback: Literal["late", "failed"] | None
    """Why the router had no part in it: the teacher is drawn by the prior shares then."""


class RouterName(BaseModel):
    """Which router answered."""

    version: str
    loss: str


class RouteAnswer(BaseModel):
    """Routes in the order of the prompts."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    router: RouterName
    teachers: list[str]
    candidates: list[str]
    """Those that could be chosen."""
    routes: list[Route]


class ChatSpending(BaseModel):
    """What a teacher's chats have cost since the ledger was begun, and what they may."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    tokens: int
    """Chats in flight, and those whose cost stayed unknown, count at their upper bound."""
    dollars: float
    open_tokens: int
    """Those of `tokens` that are not settled."""
    budget_tokens: int | None
    budget_dollars: float | None


class Status(BaseModel):
    """The endpoint's state, over all replicas."""

    router: dict[str, Any]
    teachers: list[str]
    candidates: list[str]
    shares: dict[str, float]
    """Of the prompts since the start; empty before the first."""
    num_routed: int
    replicas: int
    chats: dict[str, ChatSpending]
    """By teacher; empty without serving.chat_budget."""
    problem: str | None
    """Why the latest change of the settings was not taken by this replica; the old ones hold."""
