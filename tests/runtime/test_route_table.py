"""`persyn route` on a Ray of this machine: two workers, several files, failures as messages."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer.testing import CliRunner

from persyn_ray.cli.main import app
from persyn_ray.errors import ConfigError, StepError
from persyn_ray.models.router.model import load_router, router_logits
from persyn_ray.recipe.resources import StepResourcesConfig
from persyn_ray.routing import parts
from persyn_ray.routing.parts import TableJob
from persyn_ray.routing.run import Asked, Prepared, prepare, resources_of, route_table
from persyn_ray.runtime.session import Cluster

from ..routing.saved_router import TEACHERS, save_random_router, texts

pytestmark = pytest.mark.ray
TWO = StepResourcesConfig(actors=2, cpus=1)


@pytest.fixture(scope="module")
def router(random_llama: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_random_router(random_llama, tmp_path_factory.mktemp("routers"))


def in_parts_of(prepared: Prepared, rows: int) -> Prepared:
    job = TableJob(**{**vars(prepared.job), "rows": rows})
    return Prepared(job, prepared.rule, prepared.out, prepared.prefix)


def test_two_workers_route_a_table_from_the_command_line(
    cluster: Cluster, router: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "ROWS", 16)
    asked = texts(90)
    pq.write_table(pa.table({"prompt": asked[:50], "id": range(50)}), tmp_path / "a.parquet")
    rest = [{"prompt": text, "id": 50 + number} for number, text in enumerate(asked[50:])]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, rest)))
    monkeypatch.chdir(tmp_path)
    command = ["route", router, "a.parquet", "b.jsonl", "-o", "out.parquet", "--workers", "2"]
    done = CliRunner().invoke(app, [*command, "--capacity", "large=9", "--prefix", "p_"])
    assert done.exit_code == 0, done.output
    assert "90 rows" in done.output
    routed = pq.read_table("out.parquet")
    assert routed["prompt"].to_pylist() == asked
    assert routed["id"].to_pylist() == list(range(90))
    chosen = routed["p_teacher"].to_pylist()
    assert chosen.count("large") <= 9
    model, tokenizer = load_router(router)
    logits_PM = router_logits(
        model, tokenizer, [[{"role": "user", "content": one}] for one in asked], max_length=64
    )
    best = [TEACHERS[m] for m in logits_PM.argmax(axis=1)]
    assert all(was == now for was, now in zip(best, chosen, strict=True) if was != "large")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.parquet",
        "b.jsonl",
        "out.parquet",
    ]


def test_what_goes_wrong_is_one_message_and_what_is_done_stays(
    cluster: Cluster, router: str, tmp_path: Path
) -> None:
    (tmp_path / "t.jsonl").write_text('{"promt": "x"}\n')
    pq.write_table(pa.table({"prompt": texts(12)}), tmp_path / "t.parquet")
    sources = [str(tmp_path / "t.parquet"), str(tmp_path / "t.jsonl")]
    prepared = prepare(router, sources, str(tmp_path / "out.parquet"), Asked())
    with pytest.raises(StepError, match=r"^Routing failed\. .*'promt' is nearest.*--column\.$"):
        route_table(in_parts_of(prepared, 4), TWO, Console(quiet=True))
    assert not (tmp_path / "out.parquet").exists()


def test_more_than_there_is_is_refused_with_the_numbers() -> None:
    small = Cluster(2, 0, 8, 2, 0)
    assert resources_of(small, None, None, None).actors == 1
    assert resources_of(small, 2, None, None).cpus == 1
    with pytest.raises(ConfigError, match="3 workers with 1 CPUs"):
        resources_of(small, 3, 1, None)
    with pytest.raises(ConfigError, match="GPUs"):
        resources_of(small, 1, 1, 1)
    gpus = resources_of(Cluster(16, 4, 8, 8, 2), None, None, None)
    assert (gpus.actors, gpus.gpus) == (4, 1)
