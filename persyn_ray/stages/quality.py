"""Quality: prompts and responses in, one raw value per response out.

Judged is the answer behind the thinking, also where the student sees both; recorded scores alone
are found by the response as the student sees it. Values are stored as they are; scaling and the
weights of several qualities are applied later, on the driver. A response that was cut is scored
like any other.
"""

from collections.abc import Callable, Sequence

import pyarrow as pa

from persyn_ray.checks.code.predicted_output import predicts
from persyn_ray.checks.code.programs import Programs
from persyn_ray.checks.verifier import Verdict, Verifier, exact_match
from persyn_ray.data.response_text import judged_text
from persyn_ray.engines.base import Engine
from persyn_ray.errors import DataError
from persyn_ray.recipe.data import ResponsesConfig
from persyn_ray.recipe.own_code import PythonQualityConfig
from persyn_ray.recipe.scoring import (
    ExactAnswerConfig,
    ExactMatchConfig,
    InstructionsConfig,
    JudgeConfig,
    OutputPredictionConfig,
    RecordedScoresConfig,
    RewardModelConfig,
    Single,
    UnitTestsConfig,
)
from persyn_ray.stages.examples import paired
from persyn_ray.stages.judge import Graded, Judging, Row
from persyn_ray.stages.own_quality import OwnQuality
from persyn_ray.stages.recorded_scores import RecordedScores
from persyn_ray.storage.ledger import Account
from persyn_ray.storage.schemas import QUALITY, conform

Way = Callable[[Sequence[Row]], list[Graded]]
"""Rows with a response in, a verdict for each out, in order."""

UNREADABLE = "unreadable"
"""Outcome where a model's chat template cannot carry the response; `detail` says why."""
NO_RESPONSE: Graded = (Verdict("no_response", None), None)


class Quality:
    """One quality of responses: a check (1 or 0), a reward model's score, a recorded one,
    a judge's grade or what a function of one's own says.

    Args:
        section: what of a response is seen, and how thinking is marked.
        engine: of a judge, in place of the one that the recipe names.
        spending: where a judge's tokens are counted.
    """

    writes = QUALITY

    def __init__(
        self,
        how: Single,
        section: ResponsesConfig | None = None,
        engine: Engine | None = None,
        spending: Account | None = None,
    ) -> None:
        self.section = ResponsesConfig() if section is None else section  # pyright: ignore[reportCallIssue]
        self.way = way_of(how, section, engine, spending)

    def __call__(self, prompts: pa.Table, responses: pa.Table) -> pa.Table:
        rows = paired(prompts, responses, self.section)
        if not isinstance(self.way, RecordedScores):
            tags = self.section.think_tags
            rows = [row | {"response": judged_text(row["response"], tags)} for row in rows]
        answered = [row for row in rows if row["response"]]
        found = iter(self.way(answered) if answered else [])
        graded = [next(found) if row["response"] else NO_RESPONSE for row in rows]
        table = pa.Table.from_pylist(
            [
                {
                    "prompt_id": row["prompt_id"],
                    "teacher": row["teacher"],
                    "quality": verdict.quality,
                    "outcome": verdict.outcome,
                    "detail": detail,
                }
                for row, (verdict, detail) in zip(rows, graded, strict=True)
            ],
            schema=QUALITY,
        )
        return conform(table, QUALITY, "quality")

    @property
    def overlaps(self) -> bool:
        """Whether several threads may call at once: a judge's engine may work on all their rows."""
        return isinstance(self.way, Judging) and self.way.generate.engine.overlaps

    def close(self) -> None:
        """End a judge's engine, or the processes of a function."""
        if isinstance(self.way, Judging | OwnQuality):
            self.way.close()


def way_of(
    how: Single,
    section: ResponsesConfig | None,
    engine: Engine | None = None,
    spending: Account | None = None,
) -> Way:
    """What finds one kind of quality; models are loaded here, a judge's with its first rows."""
    match how:
        case ExactAnswerConfig():
            return _exact_answers(how)
        case ExactMatchConfig():
            return lambda rows: [
                (exact_match(row["response"], row["reference"], how.marker), None) for row in rows
            ]
        case InstructionsConfig():
            return _instructions(how)
        case UnitTestsConfig():
            return _unit_tests(how)
        case OutputPredictionConfig():
            return lambda rows: [
                (predicts(row["response"], row["reference"]), None) for row in rows
            ]
        case RewardModelConfig():
            return _reward_model(how)
        case RecordedScoresConfig():
            return RecordedScores(how, section)
        case JudgeConfig():
            return Judging(how, section, engine, spending)
        case PythonQualityConfig():
            return OwnQuality(how)


def _exact_answers(how: ExactAnswerConfig) -> Way:
    verifier = Verifier(
        timeout_seconds=how.timeout_seconds,
        num_processes=how.processes,
        memory_gib=how.memory_gib,
    )

    def check(rows: Sequence[Row]) -> list[Graded]:
        pairs = [(row["response"], row["reference"]) for row in rows]
        return [(verdict, None) for verdict in verifier.check(pairs)]

    return check


def _unit_tests(how: UnitTestsConfig) -> Way:
    programs = Programs(how.timeout_seconds, how.memory_gib, how.processes)
    return lambda rows: programs.check([(row["response"], row["reference"]) for row in rows])


def _instructions(how: InstructionsConfig) -> Way:
    from persyn_ray.checks.ifeval import follows

    return lambda rows: [
        (follows(row["response"], row["reference"], how.loose), None) for row in rows
    ]


def _reward_model(how: RewardModelConfig) -> Way:
    from persyn_ray.models.load import load_sequence_classifier, load_tokenizer, on_device
    from persyn_ray.models.reward_model import encode_conversation, longest, scores_of_rows

    source = how.model
    code = source.trust_remote_code
    model = on_device(load_sequence_classifier(source.name, source.dtype, source.revision, code))
    tokenizer = load_tokenizer(source.name, source.revision, source.chat_template, code)

    limit = longest(model, how.max_length)

    def encoded(row: Row) -> dict[str, list[int]] | str:
        try:
            return encode_conversation(tokenizer, row["messages"], row["response"], limit)
        except DataError as error:  # of this row: step prompts has tried the template
            return str(error)

    def score(rows: Sequence[Row]) -> list[Graded]:
        found = [encoded(row) for row in rows]
        readable = [place for place, one in enumerate(found) if not isinstance(one, str)]
        scores = scores_of_rows(
            model,
            [one for one in found if not isinstance(one, str)],
            how.tokens_per_batch,
            [f"prompt {rows[p]['prompt_id']} of teacher {rows[p]['teacher']}" for p in readable],
        )
        value_of = dict(zip(readable, scores, strict=True))
        return [
            (Verdict(UNREADABLE, None), one)
            if isinstance(one, str)
            else (Verdict("scored", value_of[place]), None)
            for place, one in enumerate(found)
        ]

    return score
