"""Imports parallel responses in the forms of other tools: their files in; those that recipes read
out. What each form is: `generated.py`, `batch.py` and `rollouts.py`.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from persyn_ray.data.files.rows import expand, rows_of
from persyn_ray.data.importers.batch import Batch
from persyn_ray.data.importers.converting import Reader, convert
from persyn_ray.data.importers.generated import curator_entry, datatrove_entry, distilabel_entry
from persyn_ray.data.importers.rollouts import (
    SCORE,
    gym_entry,
    nemo_rl_entry,
    verl_entry,
)
from persyn_ray.data.importers.writing import Imported
from persyn_ray.errors import ConfigError

Form = Literal["distilabel", "curator", "datatrove", "openai-batch", "verl", "nemo-rl", "nemo-gym"]
FORMS: tuple[Form, ...] = get_args(Form)
WITHOUT_MODEL = ("datatrove", "verl", "nemo-rl")
"""Forms whose files do not say who wrote."""
GRADED = ("verl", "nemo-rl", "nemo-gym")
FILES = "SOURCES"


def import_form(
    paths: Sequence[str], out: Path, form: str, teacher_name: str | None = None
) -> Imported:
    """Convert files of another tool.

    Args:
        teacher_name: who wrote, for forms whose files do not say it; stands in for the model that a
            batch or NeMo Gym names. Where it is None that model is the teacher.

    Raises:
        ConfigError: the form is unknown or needs a teacher, a path names no file, or `out` is there
            already.
        DataError: a file is damaged, or there is no response at all.
    """
    if form not in FORMS:
        raise ConfigError(f"--form is {form!r}; known are {', '.join(FORMS)}.")
    if form in WITHOUT_MODEL and not teacher_name:
        raise ConfigError(f"Files of {form} do not say which model wrote: set --teacher-name.")
    if teacher_name and form in ("distilabel", "curator"):
        raise ConfigError(f"Rows of {form} name their model: leave --teacher-name out.")
    files = expand(paths, FILES)
    if form == "openai-batch":
        batch = Batch(files, teacher_name)
        return convert(batch.results(), batch.entry, out, (), False, files[0])
    rows = ((file, number, row) for file in files for number, row in rows_of(file))
    scores = (SCORE,) if form in GRADED else ()
    return convert(rows, _reader(form, teacher_name), out, scores, form == "verl", files[0])


def _reader(form: str, teacher: str | None) -> Reader:
    match form:
        case "distilabel":
            return distilabel_entry
        case "curator":
            return curator_entry
        case "datatrove":
            return partial(datatrove_entry, teacher=teacher or "")
        case "verl":
            return partial(verl_entry, teacher=teacher or "")
        case "nemo-rl":
            return partial(nemo_rl_entry, teacher=teacher or "")
        case _:
            return partial(gym_entry, teacher=teacher)
