"""All rows with all columns as `datasets.load_from_disk` reads them, a split each."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from persyn_ray.errors import ConfigError
from persyn_ray.exports.form import Facts, RoutedRow, Rows, Written, records
from persyn_ray.shards.provenance import Split
from persyn_ray.storage.schemas import ROUTED

SPLITS: tuple[Split, ...] = ("train", "parallel", "heldout")
FOLDER = "dataset"
HOW = """```python
from datasets import load_from_disk

splits = load_from_disk("dataset")
print(splits["train"][0]["messages"])
```"""


def on_disk(rows: Rows, where: Path, facts: Facts) -> Written:
    """A DatasetDict of the splits that have rows.

    Raises:
        ConfigError: the package `datasets` is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise ConfigError("--to datasets needs the package `datasets`: pip install it.") from error
    features = datasets.Features.from_arrow_schema(ROUTED)
    found = {}
    for split in SPLITS:
        if any(True for _ in islice(records(rows, split), 1)):
            found[split] = datasets.Dataset.from_generator(
                _Rows(rows), features=features, gen_kwargs={"split": split}, cache_dir=str(where)
            )
    datasets.DatasetDict(found).save_to_disk(str(where / FOLDER))
    files = sorted(path for path in (where / FOLDER).rglob("*") if path.is_file())
    names = tuple(path.relative_to(where).as_posix() for path in files)
    return Written(names, sum(len(one) for one in found.values()), HOW)


class _Rows:
    """The rows of a split as a generator's function."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __call__(self, split: Split) -> Iterator[RoutedRow]:
        return records(self.rows, split)
