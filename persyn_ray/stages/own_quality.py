"""Qualities of one's own: rows with a response in, verdicts by a function that a recipe names out.

The function is called with rows (see `QualityRow`) and the recipe's settings, in this process or in
processes of its own that can be killed.
"""

from collections.abc import Sequence
from functools import partial

from persyn_ray.checks.own_function import QualityRow, Scored, called, row_by_row, stretches
from persyn_ray.checks.own_processes import OwnProcesses
from persyn_ray.recipe.own_code import PythonQualityConfig, load_code
from persyn_ray.stages.judge import Row

SETTING = "scoring.quality.function"


class OwnQuality:
    """One function, loaded when this is made.

    Raises:
        ConfigError: there is no such function.
    """

    def __init__(self, how: PythonQualityConfig) -> None:
        self.how = how
        self.processes: OwnProcesses | None = None
        if how.processes:
            self.processes = OwnProcesses(
                how.function, how.source, how.settings, how.processes, how.timeout_seconds
            )
        else:
            self.function = load_code(how.function, how.source, SETTING)

    def __call__(self, rows: Sequence[Row]) -> list[Scored]:
        """Verdicts of rows, in order; the reason beside those that are unknown."""
        given = [_given(row) for row in rows]
        if self.processes is not None:
            return self.processes(given, self.how.rows_per_call)
        call = partial(called, self.function, self.how.settings)
        parts = stretches(given, self.how.rows_per_call)
        return [scored for part in parts for scored in row_by_row(call, part)]

    def close(self) -> None:
        """End its processes."""
        if self.processes is not None:
            self.processes.close()


def _given(row: Row) -> QualityRow:
    return {
        "prompt_id": row["prompt_id"],
        "teacher": row["teacher"],
        "messages": row["messages"],
        "response": row["response"],
        "reference": row["reference"],
        "task": row["task"],
    }
