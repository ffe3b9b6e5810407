"""Nodes that do not share the run folder are refused before a training."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from persyn_ray.errors import StepError
from persyn_ray.runtime.train.shared_storage import MARK_FILE, _reads, require_shared
from persyn_ray.storage.folder import Folder

NODES = {"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.0.0.3"}


class Nodes:
    """Nodes of which some see the folder: what each is asked is really looked up there."""

    def __init__(self, *blind: str) -> None:
        self.blind, self.num_asked = blind, 0

    def __call__(self, nodes: Sequence[str], path: Path, mark: str) -> list[bool]:
        self.num_asked += 1
        elsewhere = path.with_name("elsewhere")  # a disk of their own
        return [_reads(elsewhere if node in self.blind else path, mark) for node in nodes]


def test_nodes_that_see_the_folder_may_train_and_no_mark_is_left(tmp_path: Path) -> None:
    nodes = Nodes()
    require_shared(Folder.absolute(str(tmp_path)), NODES, nodes)
    assert nodes.num_asked == 1
    assert not list(tmp_path.iterdir())


def test_nodes_that_do_not_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        StepError, match=r"2 of 3 nodes .* do not see .*10\.0\.0\.1, 10\.0\.0\.3\. "
    ):
        require_shared(Folder.absolute(str(tmp_path)), NODES, Nodes("a", "c"))
    assert not list(tmp_path.iterdir())


def test_a_mark_of_an_earlier_training_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("an older mark")
    with pytest.raises(StepError, match="1 of 3 nodes"):
        require_shared(Folder.absolute(str(tmp_path)), NODES, Nodes("b"))


def test_one_node_and_an_object_store_are_not_asked(tmp_path: Path) -> None:
    nodes = Nodes("a", "b", "c")
    require_shared(Folder.absolute(str(tmp_path)), {"a": "10.0.0.1"}, nodes)
    require_shared(Folder.absolute("memory://bucket/run"), NODES, nodes)
    assert nodes.num_asked == 0
    assert MARK_FILE not in {path.name for path in tmp_path.iterdir()}
