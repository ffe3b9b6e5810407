"""What torchtune makes of an export.

dataset.yaml is instantiated as its recipes do, with a tokenizer that keeps what it is given.
"""

from typing import Any

from forms_of import read_forms
from omegaconf import OmegaConf
from torchtune import config


class Tokenizer:
    """Takes messages as torchtune's own tokenizers do; a token a message."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __call__(self, sample: dict[str, Any], inference: bool = False) -> dict[str, Any]:
        tokens, mask = self.tokenize_messages(sample.pop("messages"))
        return sample | {"tokens": tokens, "mask": mask}

    def tokenize_messages(self, messages: list[Any]) -> tuple[list[int], list[bool]]:
        self.seen.append([{"role": one.role, "content": one.text_content} for one in messages])
        return list(range(len(messages))), [one.masked for one in messages]


def read(form: str, model: str) -> dict[str, Any]:
    tokenizer = Tokenizer()
    train = config.instantiate(OmegaConf.load("dataset.yaml").dataset, tokenizer=tokenizer)
    rows = []
    for place in range(len(train)):
        tokenizer.seen.clear()
        _ = train[place]
        rows.append(list(tokenizer.seen) if form.endswith("dpo") else tokenizer.seen[0])
    return {"rows": rows, "num_prepared": len(train)}


read_forms(read)
