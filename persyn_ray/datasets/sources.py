"""Where the routed data lies: a run folder or a folder of a data set in; parquet files out."""

import re

from persyn_ray.errors import ConfigError
from persyn_ray.storage.folder import Folder
from persyn_ray.storage.layout import RunLayout

_NAME = re.compile(r"(.+?)-\d{5,}(?:-of-\d{5,})?\.parquet")


def files_of(source: str, split: str = "train") -> list[str]:
    """Addresses of a split's files, in the order of its rows.

    Args:
        source: a run folder, its `dataset/`, or a copy of that; any fsspec address.

    Raises:
        ConfigError: there is no data set, or no such split.
    """
    root = Folder.absolute(source)
    folders = (RunLayout(root).dataset / "data", root / "data", root)
    splits: dict[str, list[str]] = {}
    for folder in folders:
        for name in folder.names(".parquet"):
            if found := _NAME.fullmatch(name):
                splits.setdefault(found[1], []).append(f"{folder.address}/{name}")
        if splits:
            break
    if not splits:
        raise ConfigError(
            f"{source} holds no data set: name a run whose step synthesize is done, or a folder "
            "with data/train-00000.parquet."
        )
    if split not in splits:
        raise ConfigError(
            f"{source} has no split {split!r}; it has {sorted(splits)}. Further ones are written "
            "with the recipe's dataset settings."
        )
    return splits[split]
