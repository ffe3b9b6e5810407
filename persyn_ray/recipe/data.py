"""The recipe's `prompts` and `responses`: prompts, their split, and what is kept."""

from typing import Annotated, Literal

from pydantic import Field

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
    """Column with a label for break-downs in the report."""
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
    shard_rows: int = Field(256, ge=1)
    """Prompts per shard: the unit of work and of resumption."""
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
