"""One execution of Ray Data whose results are rows, and which another thread may end.

Ray Data waits for as long as it takes until an actor that was lost with its node finds a place
again; a pool that stood there alone would wait for ever. So the driver watches, and ends what
cannot go on.
"""

from collections.abc import Iterator
from typing import Any, cast

import pyarrow as pa
import ray.data


class Execution:
    """Rows of a data set as they come, until it is exhausted or `end` is called.

    Where `end` comes before the first row is asked for, it must be called again.
    """

    def __init__(self, results: ray.data.Dataset) -> None:
        self.results = results
        self.is_ended = False
        self._executor: Any = None
        create = results._create_executor

        def created() -> Any:
            self._executor = create()
            return self._executor

        # A data set shows its executor only after its first result, and that may never come.
        results._create_executor = created  # pyright: ignore[reportAttributeAccessIssue]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every result as soon as it is there.

        Raises:
            RayError: Ray could not go on, and nobody had ended it.
        """
        try:
            for batch in self.results.iter_batches(
                batch_size=None, batch_format="pyarrow", prefetch_batches=0
            ):
                yield from cast(pa.Table, batch).to_pylist()
        except Exception:
            if not self.is_ended:
                raise
        finally:
            self.end()

    def end(self) -> None:
        """Stop all that runs, its actors included; more than once does no harm."""
        self.is_ended = True
        if self._executor is not None:
            self._executor.shutdown(force=True)
