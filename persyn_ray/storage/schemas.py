"""The Arrow schemas of every table, and `conform`, which holds a table to one of them.

Tables live on disk as Parquet, in shards of some hundred prompts; a prompt's rows are in the shard
of the same number in every table, so no step needs a distributed join. Rows meet by `prompt_id` (a
hash of the prompt's content) and `teacher`, never by position. Columns are non-null unless marked
`nullable`.
"""

import pyarrow as pa

from persyn_ray.errors import DataError


def _field(name: str, kind: pa.DataType, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable)


def _named(name: str, value: str) -> pa.DataType:
    """A list of named numbers."""
    return pa.list_(pa.struct([pa.field(name, pa.string()), pa.field(value, pa.float64())]))


MESSAGES = pa.list_(pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())]))

PROMPTS = pa.schema(
    [
        _field("prompt_id", pa.string()),
        _field("messages", MESSAGES),
        _field("reference", pa.string(), nullable=True),  # the right answer, where one is known
        _field("task", pa.string(), nullable=True),  # a label for break-downs in the report
        _field("source", pa.string()),
        _field("split", pa.string()),  # parallel | routed | heldout
    ]
)

RESPONSES = pa.schema(
    [
        _field("prompt_id", pa.string()),
        _field("teacher", pa.string()),
        _field("response", pa.string(), nullable=True),  # null where there is none
        _field("finish_reason", pa.string()),  # see engines/base.py
        _field("num_prompt_tokens", pa.int32()),
        _field("num_tokens", pa.int32()),  # tokens the teacher wrote
        _field("error", pa.string(), nullable=True),
    ]
)

LEARNABILITY = pa.schema(  # measures of method/learnability.py, as they are defined there
    [
        _field("prompt_id", pa.string()),
        _field("teacher", pa.string()),
        _field("log_likelihood", pa.float64(), nullable=True),  # mean, nats per token, <= 0
        _field("local_log_likelihood", pa.float64(), nullable=True),  # null unless asked for
        _field("lowest_window", pa.float64(), nullable=True),
        # where it lies in the stored response, in characters; null where that is not known
        _field("lowest_start", pa.int32(), nullable=True),
        _field("lowest_end", pa.int32(), nullable=True),
        _field("rank_surprisal", pa.float64(), nullable=True),
        _field("entropy", pa.float64(), nullable=True),  # null from backend vllm
        _field("num_tokens", pa.int32()),  # response tokens scored, in the student's tokens
        _field("is_truncated", pa.bool_()),  # the student's context ended before the response
        # scored, or why not: no_response, too_long, unreadable (no chat template can carry it)
        _field("outcome", pa.string()),
        _field("detail", pa.string(), nullable=True),  # what the template does to it
    ]
)

QUALITY = pa.schema(
    [
        _field("prompt_id", pa.string()),
        _field("teacher", pa.string()),
        _field("quality", pa.float64(), nullable=True),  # on its own scale
        # correct | wrong | no_answer | timed_out | crashed (checks), scored (a model's value),
        # ungraded (a judge's reply without a readable grade), judge_failed, no_response,
        # unknown, failed, timed_out, crashed (a function of one's own),
        # unreadable (no chat template can carry the response)
        _field("outcome", pa.string()),
        _field("detail", pa.string(), nullable=True),  # end of the judge's reply, or what failed
    ]
)

RESPONSE_HASH = _field("response_hash", pa.string())


def filed(scores: pa.Schema) -> pa.Schema:
    """LEARNABILITY or QUALITY as they are stored: with the hash of the response of each score."""
    return scores.append(RESPONSE_HASH)


ASSIGNMENT = pa.schema(
    [
        _field("prompt_id", pa.string()),
        _field("teacher", pa.string()),
        _field("margin", pa.float64(), nullable=True),  # to the runner-up, in the method's own unit
    ]
)

NOVELTY = pa.schema(
    [
        _field("prompt_id", pa.string()),
        _field("distance", pa.float64()),  # see method/novelty.py
        _field("is_novel", pa.bool_()),
    ]
)

EXAMPLES = pa.schema(
    [
        _field("prompt_id", pa.string()),
        _field("teacher", pa.string()),  # extra:NAME of a row of another data set
        _field("messages", MESSAGES),  # ends with the assistant
    ]
)

CONTAMINATED = pa.schema(  # examples left out as they overlap with a problem of evaluation
    [
        _field("prompt_id", pa.string()),
        _field("teacher", pa.string()),  # or the data set, as in EXAMPLES
        _field("place", pa.string()),  # prompt | response
        _field("problem_id", pa.string()),
        _field("words", pa.string()),  # that both share
    ]
)

TOKENS = pa.schema(  # an example as fine-tuning reads it
    [
        _field("prompt_id", pa.string()),
        _field("ids", pa.list_(pa.int32())),
        _field("num_prompt_tokens", pa.int32()),
    ]
)

ROUTED = pa.schema(  # one response (or one prompt that waits for it) with all that is known of it
    [
        _field("id", pa.string()),  # of prompt, teacher and response, the same in every run
        _field("prompt_id", pa.string()),
        _field("split", pa.string()),  # assigned | train | parallel | heldout
        _field("messages", MESSAGES),  # ends with the response, where the row has one
        _field("teacher", pa.string(), nullable=True),  # null: none is assigned (heldout)
        _field("model", pa.string(), nullable=True),  # null: the engine names none
        _field("revision", pa.string(), nullable=True),
        _field("sampling_fingerprint", pa.string(), nullable=True),
        _field("template_fingerprint", pa.string(), nullable=True),
        _field("finish_reason", pa.string(), nullable=True),
        _field("num_prompt_tokens", pa.int32(), nullable=True),
        _field("num_tokens", pa.int32(), nullable=True),  # tokens the teacher wrote
        _field("quality", pa.float64(), nullable=True),  # as in REWARDS; null: not measured
        _field("quality_parts", _named("name", "value"), nullable=True),  # each on its own scale
        _field("learnability", pa.float64(), nullable=True),
        _field("reward", pa.float64(), nullable=True),
        # of every candidate, by the router's logits: exp(o_m) over the sum of exp(o_j)
        _field("router_probabilities", _named("teacher", "probability"), nullable=True),
        _field("margin", pa.float64(), nullable=True),  # as in ASSIGNMENT, of its teacher alone
        _field("novelty", pa.float64(), nullable=True),  # distance, see method/novelty.py
        _field("is_novel", pa.bool_(), nullable=True),
        _field("task", pa.string(), nullable=True),
        _field("source", pa.string()),
        _field("reference", pa.string(), nullable=True),
    ]
)

EVALUATIONS = pa.schema(
    [
        _field("prompt_id", pa.string()),
        _field("student", pa.string()),  # "before" or the method whose data it was tuned on
        _field("response", pa.string(), nullable=True),
        _field("finish_reason", pa.string()),
        _field("outcome", pa.string()),
        _field("correct", pa.float64(), nullable=True),  # 1, 0 or unknown
    ]
)

DEAD_LETTERS = pa.schema(
    [
        _field("step", pa.string()),
        _field("prompt_id", pa.string(), nullable=True),
        _field("teacher", pa.string(), nullable=True),
        _field("reason", pa.string()),
        _field("detail", pa.string(), nullable=True),
    ]
)


def rewards_schema(teachers: tuple[str, ...]) -> pa.Schema:
    """REWARDS: both raw signals and the reward of Eq. 2, one value per teacher in pool order."""
    values = pa.list_(pa.float64(), len(teachers))
    names = ("learnability", "quality", "rewards")
    return _of_pool([_field(name, values) for name in names], teachers)


def logits_schema(teachers: tuple[str, ...]) -> pa.Schema:
    """LOGITS: the router's coefficients, and whether each teacher can take the prompt."""
    logits = _field("logits", pa.list_(pa.float64(), len(teachers)))
    candidates = _field("candidates", pa.list_(pa.bool_(), len(teachers)))
    return _of_pool([logits, candidates], teachers)


def embeddings_schema(width: int) -> pa.Schema:
    """EMBEDDINGS: what the router's backbone made of each prompt before it was fitted."""
    embedding = _field("embedding", pa.list_(pa.float32(), width))
    return pa.schema([_field("prompt_id", pa.string()), embedding])


def _of_pool(fields: list[pa.Field], teachers: tuple[str, ...]) -> pa.Schema:
    """The pool's names travel in the schema metadata: positions without names mean nothing."""
    return pa.schema(
        [_field("prompt_id", pa.string()), *fields], metadata={"teachers": "\x1f".join(teachers)}
    )


def conform(table: pa.Table, schema: pa.Schema, where: str) -> pa.Table:
    """Return `table` with exactly the columns, order and types of `schema`, or say what is wrong.

    Raises:
        DataError: a column is missing, cannot be cast, or holds nulls where none are allowed.
    """
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise DataError(f"{where}: columns {missing} are missing; found {table.column_names}.")
    try:
        table = table.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
        raise DataError(f"{where}: the table does not fit its schema: {error}") from error
    for field in schema:
        if not field.nullable and table[field.name].null_count:
            raise DataError(
                f"{where}: column {field.name!r} holds {table[field.name].null_count} nulls."
            )
    return table.replace_schema_metadata(schema.metadata)
