"""What axolotl makes of an export.

Its own functions read and check the YAML, read the data, and tokenise what is trained on.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import datasets
import yaml
from axolotl.cli.config import load_cfg
from axolotl.common.datasets import load_datasets, load_preference_datasets
from axolotl.loaders import load_tokenizer
from axolotl.utils.data.shared import load_dataset_with_config
from forms_of import read_forms


def here(method: Callable[..., Any]) -> Callable[..., Any]:
    """The same without worker processes: forked beside running threads, they hang at times."""

    @wraps(method)
    def call(*arguments: Any, num_proc: int | None = None, **settings: Any) -> Any:
        return method(*arguments, **settings)

    return call


for name in ("map", "filter", "save_to_disk"):
    setattr(datasets.Dataset, name, here(getattr(datasets.Dataset, name)))


def said(row: dict[str, Any]) -> Any:
    messages = [{name: turn[name] for name in ("role", "content")} for turn in row["messages"]]
    if "chosen" not in row:
        return messages
    return [[*messages, row["chosen"]], [*messages, row["rejected"]]]


def read(form: str, model: str) -> dict[str, Any]:
    with open("train.yaml") as file:
        settings = yaml.safe_load(file)
    with open("here.yaml", "w") as file:
        yaml.safe_dump(settings | {"base_model": model}, file)
    cfg = load_cfg("here.yaml")
    raw = load_dataset_with_config(cfg.datasets[0], use_auth_token=False)
    rows = [said(row) for row in raw]
    if cfg.rl:
        return {"rows": rows, "num_prepared": len(load_preference_datasets(cfg=cfg).train_dataset)}
    train = load_datasets(cfg=cfg).train_dataset
    tokenizer = load_tokenizer(cfg)
    labels = [[label for label in row["labels"] if label >= 0] for row in train]
    trained = [tokenizer.decode(row) for row in labels]
    return {"rows": rows, "num_prepared": len(train), "trained": trained}


read_forms(read)
