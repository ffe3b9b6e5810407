"""The recipe's `prompts`, `responses` and `dataset`: prompts, their split, and what is kept."""

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from persyn_ray.recipe.base import Section

Tag = Annotated[str, Field(min_length=1)]


class PromptsConfig(Section):
    """Where the prompts come from and how they are split."""

    path: str | tuple[str, ...]
    """Paths or globs of parquet, jsonl, json, csv or tsv files (any fsspec address), `hub:NAME` or
    `package:...`."""
    config: str | None = None
    """Configuration name of a hub data set."""
    split: str = "train"
    """Split of a hub data set."""
    revision: str | None = None
    """Revision of a hub data set (a branch, a tag or a commit); the newest by default."""
    column: str = "prompt"
    """Column with the text, or with a conversation (a list of messages in OpenAI's or ShareGPT's
    form, up to its last user turn). `instruction` takes a column `input` along, as in Alpaca."""
    reference_column: str | None = None
    """Column with the right answer; needed by exact_answer and exact_match."""
    task_column: str | None = None
    """Column with a label: for break-downs in the report, and for routers and methods that go by
    tasks."""
    system_prompt: str | None = None
    """System message put before plain-text prompts."""
    template: str = "{prompt}"
    """How plain text becomes the user message."""
    limit: int | None = Field(None, ge=1)
    """Take at most so many prompts (after de-duplication, by seeded draw)."""
    num_parallel: int = Field(2500, ge=1)
    """Size of the parallel set, which all teachers answer (the paper: 2.5K)."""
    num_heldout: int = Field(0, ge=0)
    """Prompts set aside for evaluation, when `evaluate.path` names no file of its own."""
    shard_rows: int = Field(50_000, ge=1)
    """Most rows of one file of a table. Only the number of files hangs on it: what is worked on
    together, and what is done again after a kill, does not."""
    seed: int = 0
    """Seed of the split."""


class ResponsesConfig(Section):
    """What becomes of responses between teacher and student."""

    store: str | None = None
    """Folder or fsspec address that runs share; by default each run keeps its own responses."""
    incomplete: Literal["drop", "next_best", "keep"] = "drop"
    """A response that was cut, that goes round in circles or failed: count it and leave it out, ask
    the next-best teacher, or (cut ones) train on it all the same."""
    thinking: Literal["keep", "strip"] = "keep"
    """Whether the student sees text between the think tags; learnability is that
    of what training sees, quality that of what follows the thinking."""
    think_tags: tuple[Tag, Tag] = ("<think>", "</think>")
    """How thinking begins and ends."""
    loop_repeats: int | None = Field(8, ge=2)
    """A passage repeated so often in a row, at least 200 characters in all, is a loop."""


Column = Literal[
    "id",
    "prompt_id",
    "split",
    "messages",
    "teacher",
    "model",
    "revision",
    "sampling_fingerprint",
    "template_fingerprint",
    "finish_reason",
    "num_prompt_tokens",
    "num_tokens",
    "quality",
    "quality_parts",
    "learnability",
    "reward",
    "router_probabilities",
    "margin",
    "novelty",
    "is_novel",
    "task",
    "source",
    "reference",
]
COLUMNS: tuple[Column, ...] = get_args(Column)


class ExtraDataConfig(Section):
    """Examples from files of one's own, which every student learns from beside the responses."""

    path: str | tuple[str, ...]
    """Paths or globs of parquet, jsonl, json, csv or tsv files (any fsspec address)."""
    name: str = Field("", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$")
    """What records and reports call it; by default the first file's name without its ending."""
    prompt_column: str = "prompt"
    """Column with the text of the prompt, or with a whole conversation."""
    response_column: str | None = "response"
    """Column with the response; null takes the last turn of the conversation in `prompt_column`."""
    ratio: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Rows to take for each example of the student's own data: 0.5 adds half as many again."""
    rows: int | None = Field(None, ge=1)
    """Rows to take. With neither `ratio` nor `rows` all are; never one of them twice."""
    licence: str | None = None
    """Told in the student's model card."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        path = data.get("path") if isinstance(data, dict) else None
        first = path[0] if isinstance(path, list | tuple) and path else path
        if not isinstance(first, str) or data.get("name"):
            return data
        stem = re.sub(r"[^A-Za-z0-9]+", "-", first.rstrip("/").rsplit("/", 1)[-1].split(".")[0])
        return data | {"name": stem.strip("-") or "extra"}

    @model_validator(mode="after")
    def _one_amount(self) -> "ExtraDataConfig":
        if self.ratio is not None and self.rows is not None:
            raise ValueError(f"ratio is {self.ratio:g} and rows {self.rows}: give one of them")
        return self


class DatasetConfig(Section):
    """What students learn from, and what the folder `dataset/` holds. `columns` and `splits` are
    never part of a run's identity: a change is carried out by the next `persyn run` or
    `persyn report`, and nothing is written or trained anew for it. All others are of step
    synthesize."""

    columns: tuple[Column, ...] = COLUMNS
    """Columns of every row, all by default; they stand in the order of that default."""
    splits: tuple[Literal["train", "parallel", "heldout"], ...] = ("train",)
    """`train`: each prompt with its teacher's response. `parallel`: the parallel set with all
    teachers' responses and rewards. `heldout`: prompts kept for evaluation, without a response."""
    parallel: Literal["routed", "best", "left_out"] = "routed"
    """What students learn from the parallel set: the response of the teacher that their method
    chooses, the response with the best reward (whatever the method: it is paid for), or nothing."""
    drop: tuple[Literal["wrong", "cut"], ...] = ()
    """Responses that no student learns from: those that the check of `scoring.quality` finds wrong
    (routed ones are checked for it; an unknown verdict drops nothing), and those that their token
    limit cut, where `responses.incomplete` keeps them."""
    decontaminate: int | None = Field(13, ge=3)
    """Leave out examples whose prompt or response shares so many words in a row with a problem of
    evaluation. Words that more than ten examples share are phrases and count for nothing; a shorter
    problem is looked for as a whole. Null compares whole prompts alone."""
    extra: tuple[ExtraDataConfig, ...] = ()
    """Further data sets for the students. They are not part of the folder `dataset/`."""

    @field_validator("extra")
    @classmethod
    def _named_apart(cls, extra: tuple[ExtraDataConfig, ...]) -> tuple[ExtraDataConfig, ...]:
        names = [one.name for one in extra]
        if len(set(names)) < len(names):
            raise ValueError(f"data sets have the names {names}; give each a `name` of its own")
        return extra

    @field_validator("columns")
    @classmethod
    def _keeps_messages(cls, columns: tuple[Column, ...]) -> tuple[Column, ...]:
        if "messages" not in columns:
            raise ValueError(f"columns must hold messages; found {list(columns)}")
        return tuple(name for name in COLUMNS if name in columns)

    @field_validator("splits")
    @classmethod
    def _has_splits(cls, splits: tuple[str, ...]) -> tuple[str, ...]:
        if not splits:
            raise ValueError("splits must name train, parallel or heldout")
        return tuple(dict.fromkeys(splits))
