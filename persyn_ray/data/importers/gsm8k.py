"""Build the table of six real systems' answers to GSM8K from its two public sources.

- `example_model_solutions.jsonl` of github.com/openai/grade-school-math (MIT): four fine-tuned
models;
- `gsm8k_responses.csv` of github.com/lm-sys/RouteLLM (Apache-2.0): Mixtral-8x7B-Instruct and GPT-4.

One row per question and teacher: question, answer, teacher, response, is_correct (as published).
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from persyn_ray.data.files.rows import BadRow, Row, rows_of
from persyn_ray.errors import ConfigError, DataError

FINE_TUNED = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
CHAT = ("mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview")


def write_gsm8k_parallel(solutions: Path, responses: Path, out: Path) -> int:
    """Write the Parquet table; returns its number of rows.

    Raises:
        ConfigError: a source file is missing, or there is a file where the table should go.
        DataError: a source has other columns than expected.
    """
    for path in (solutions, responses):
        if not path.is_file():
            raise ConfigError(f"No file at {path}: fetch it from its repository first.")
    if out.exists():
        raise ConfigError(f"{out} is there already: remove it, or choose another name.")
    try:
        chats = {row["prompt"].strip(): row for row in _published(responses)}
        rows = [row for problem in _published(solutions) for row in _rows(problem, chats)]
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"The sources lack a column or hold something else in it ({error}); were they taken as "
            "published?"
        ) from error
    pq.write_table(pa.Table.from_pylist(rows), out)
    return len(rows)


def _published(source: Path) -> Iterator[Row]:
    """All rows of a file, of which none may be damaged."""
    for number, row in rows_of(str(source)):
        if isinstance(row, BadRow):
            raise DataError(f"{source}, row {number}: {row.detail}.")
        yield row


def _rows(problem: Row, chats: dict[str, dict[str, str]]) -> Iterator[dict[str, object]]:
    question = problem["question"]
    answer = problem["ground_truth"].rsplit("A: ", 1)[-1].strip().replace(",", "")
    common = {"question": question, "answer": answer}
    for name in FINE_TUNED:
        solution = problem[name]
        yield {
            **common,
            "teacher": name,
            "response": solution["solution"],
            "is_correct": solution["is_correct"],
        }
    for name in CHAT if question.strip() in chats else ():
        chat = chats[question.strip()]
        yield {
            **common,
            "teacher": name,
            "response": chat[f"{name}_response"].strip(),
            "is_correct": chat[name] == "True",
        }
