"""CITATION.cff names this software in its version, and the paper of the method."""

import yaml

from persyn_ray import __version__

from .blocks import ROOT


def test_it_is_true() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert cited["type"] == "software"
    assert cited["version"] == __version__
    (paper,) = cited["references"]
    assert "2510.10925" in paper["url"]
    assert paper["authors"]
    assert paper["title"]
