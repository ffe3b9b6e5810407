"""Writes an imported table of parallel responses as the files that recipes read.

    FOLDER/prompts.parquet             question, and answer where one is known
    FOLDER/responses/TEACHER.parquet   question, teacher, response, and a column for each score
    FOLDER/further/TEACHER.parquet     the same, and `sample` (1, 2, …): a teacher's other responses

Rows are written as they come, a stretch at a time; what is remembered is 100 bytes a response. Of
several responses of a teacher to prompts that read the same (`cells.text_key`) the first is what
recipes read; the others are kept beside it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from persyn_ray.data.cells import text_key
from persyn_ray.data.files.rows import Row

BUFFERED = 1_000  # rows of a table between two writes
LONGEST_NAME = 100
"""Letters of a teacher's name in that of its file."""


@dataclass
class Imported:
    """What an import has written, and what it could not use."""

    num_prompts: int = 0
    num_responses: dict[str, int] = field(default_factory=dict)
    """By teacher."""
    num_further: int = 0
    """Further responses of a teacher to a prompt that has one; in `further/`."""
    num_unreadable: int = 0
    """Rows that are damaged or hold no prompt, responses that are no text, scores that are no
    numbers; left out."""
    first_unreadable: str | None = None
    """Where the first of them stands, and what is wrong with it."""

    def leave_out(self, why: str) -> None:
        """Count what cannot be used."""
        self.num_unreadable += 1
        self.first_unreadable = self.first_unreadable or why


class Response(NamedTuple):
    """One teacher's response, if it has one, and its scores."""

    teacher: str
    text: str | None
    scores: tuple[float | None, ...] = ()


class Entry(NamedTuple):
    """What one row says about one prompt."""

    prompt: str
    answer: str | None
    responses: list[Response]
    faults: list[str]
    """What else the row holds that cannot be used, and why."""


class Tables:
    """The growing tables of an import."""

    def __init__(self, folder: Path, scores: Sequence[str], with_answers: bool) -> None:
        self.imported = Imported()
        self._folder, self._seen = folder, dict[bytes, int]()
        prompt = pa.field("question", pa.string())
        answers = [pa.field("answer", pa.string())] if with_answers else []
        self._scores = tuple(scores)
        self._columns = pa.schema(
            [prompt, pa.field("teacher", pa.string()), pa.field("response", pa.string())]
            + [pa.field(name, pa.float64()) for name in scores]
        )
        self._prompts = _Writer(folder / "prompts.parquet", pa.schema([prompt, *answers]))
        self._writers: dict[str, tuple[_Writer, Path]] = {}
        self._further: dict[str, _Writer] = {}

    def add(self, entry: Entry) -> None:
        """Take in what is new of an entry."""
        if not self._times_seen(entry.prompt):
            self.imported.num_prompts += 1
            self._prompts.add({"question": entry.prompt, "answer": entry.answer})
        for response in entry.responses:
            if response.text is not None:
                self._take(entry.prompt, response)

    def _take(self, prompt: str, response: Response) -> None:
        row = {
            "question": prompt,
            "teacher": response.teacher,
            "response": response.text,
            **dict(zip(self._scores, response.scores, strict=True)),
        }
        sample = self._times_seen(prompt, response.teacher)
        writer = self._writer(response.teacher)
        if sample:
            self.imported.num_further += 1
            self._further_writer(response.teacher).add(row | {"sample": sample})
            return
        writer.add(row)
        counts = self.imported.num_responses
        counts[response.teacher] = counts.get(response.teacher, 0) + 1

    def close(self) -> Imported:
        """Write what is left, and end the files."""
        responses = (writer for writer, _ in self._writers.values())
        for writer in (self._prompts, *responses, *self._further.values()):
            writer.close()
        return self.imported

    def _times_seen(self, prompt: str, teacher: str = "") -> int:
        """How often before."""
        text = f"{teacher}\0{text_key(prompt)}"  # by which recorded responses are found
        key = blake2b(text.encode(), digest_size=16).digest()
        times = self._seen.get(key, 0)
        self._seen[key] = times + 1
        return times

    def _writer(self, teacher: str) -> "_Writer":
        if teacher not in self._writers:
            path = self._folder / "responses" / f"{file_name(teacher)}.parquet"
            if path.exists():  # of another teacher; in capitals perhaps, where those are the same
                digest = blake2b(teacher.encode(), digest_size=8).hexdigest()
                path = path.with_name(f"{file_name(teacher)}-{digest}.parquet")
            path.parent.mkdir(exist_ok=True)
            self._writers[teacher] = _Writer(path, self._columns), path
        return self._writers[teacher][0]

    def _further_writer(self, teacher: str) -> "_Writer":
        """Its file has the name of the first responses'."""
        if teacher not in self._further:
            path = self._folder / "further" / self._writers[teacher][1].name
            path.parent.mkdir(exist_ok=True)
            columns = self._columns.append(pa.field("sample", pa.int64()))
            self._further[teacher] = _Writer(path, columns)
        return self._further[teacher]


class _Writer:
    """A Parquet file that grows; opened at once, so that its name is taken."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._file, self._rows = pq.ParquetWriter(path, schema), list[Row]()

    def add(self, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) == BUFFERED:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        self._file.write_table(pa.Table.from_pylist(self._rows, schema=self._file.schema))
        self._rows.clear()


def file_name(teacher: str) -> str:
    """A teacher's name as a file and as a recipe can have it: `org/model` becomes `org-model`."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", teacher).lstrip("._-")[:LONGEST_NAME] or "teacher"
