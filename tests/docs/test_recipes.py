"""Every YAML block of the documents is a recipe, or sections that the recipe's schema takes."""

import pytest
import yaml

from .blocks import Block, blocks
from .plain_recipe import completed

BLOCKS = list(blocks("yaml"))


def test_blocks_are_found() -> None:
    assert len(BLOCKS) > 15
    assert any(block.where.startswith("README.md") for block in BLOCKS)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_it_parses_as_what_it_shows(block: Block) -> None:
    shown = yaml.safe_load(block.text)
    recipe = completed(shown, block.where)
    for name in shown:
        assert name in type(recipe).model_fields


def test_a_mistyped_key_would_be_noticed() -> None:
    with pytest.raises(ValueError, match=r"scoring\.alhpa"):
        completed({"scoring": {"alhpa": 0.4}}, "here")
