"""`persyn view` as a process: it says where it listens, answers there and ends on Ctrl-C."""

import json
import socket
import urllib.request
from pathlib import Path

import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.view.server import listening, url_of

from ..viewing import viewer
from . import planting


def test_the_command_shows_a_run_until_it_is_interrupted(tmp_path: Path) -> None:
    run = planting.planted(str(tmp_path / "run"), [{"id": "x", "text": "y"}])
    with (
        viewer(["view", run.root.address, "--no-open"]) as address,
        urllib.request.urlopen(f"{address}api/prompts", timeout=300) as reply,
    ):
        assert json.load(reply)["rows"][0]["text"] == "y"


def test_a_taken_port_is_refused_and_the_usual_one_has_a_substitute() -> None:
    with listening("127.0.0.1", 0) as first, listening("127.0.0.1", 0) as second:
        ports = [one.getsockname()[1] for one in (first, second)]
        assert ports[0] != ports[1]
        assert url_of("127.0.0.1", second) == f"http://127.0.0.1:{ports[1]}/"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigError, match=f"Cannot listen on 127.0.0.1:{port}"),
            listening("127.0.0.1", port),
        ):
            pass
