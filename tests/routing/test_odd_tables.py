"""Tables as people have them: odd columns, empty files, huge and missing prompts, kills."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from persyn_ray.cli.main import app
from persyn_ray.cli.route import _show
from persyn_ray.errors import ConfigError
from persyn_ray.routing.assemble import Routed, assemble
from persyn_ray.routing.limits import limits_of
from persyn_ray.routing.parts import TableJob, claim
from persyn_ray.routing.run import Asked, prepare, resources_of
from persyn_ray.routing.score import ScoreParts
from persyn_ray.routing.split import SplitTable
from persyn_ray.runtime.session import Cluster
from persyn_ray.serving.router_model import content_of

from .saved_router import TEACHERS, texts
from .test_route_table import carry_out, own_logits

Rows = list[dict[str, Any]]
RouteRows = Callable[..., Rows]


@pytest.fixture
def route(router: str, tmp_path: Path) -> RouteRows:
    """Routes files, two rows a part; the rows of the table that is written."""

    def carried(*sources: str | Path, **asked: Any) -> Rows:
        out = str(tmp_path / "out.parquet")
        carry_out(prepare(router, list(map(str, sources)), out, Asked(**asked)), rows=2)
        return pq.read_table(out).to_pylist()

    return carried


def jsonl(path: Path, rows: Rows) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def best(router: str, *asked: str) -> list[str]:
    logits_PM = own_logits(router, [[{"role": "user", "content": text}] for text in asked])
    return [TEACHERS[m] for m in logits_PM.argmax(axis=1)]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_csv_of_a_spreadsheet_is_routed_by_its_texts(
    route: RouteRows, router: str, tmp_path: Path, name: str
) -> None:
    mark = "," if name.endswith("csv") else "\t"
    lines = [("id", "prompt"), ("007", '"Add 1,\r\nthen ""2""?"'), ("8", "Größe?"), ("9", "")]
    content = "".join(mark.join(line) + "\r\n" for line in lines)
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content.encode())
    rows = route(tmp_path / name)
    assert [row["id"] for row in rows] == ["007", "8", "9"]
    assert [row["prompt"] for row in rows[:2]] == ['Add 1,\r\nthen "2"?', "Größe?"]
    assert [row["teacher"] for row in rows] == [
        *best(router, *(r["prompt"] for r in rows[:2])),
        None,
    ]
    assert rows[2]["refused"].startswith("no_text")


def test_json_lines_with_a_byte_order_mark_and_crlf(route: RouteRows, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "a?"}\r\n{"prompt": "b?"}\r\n')
    rows = route(path)
    assert [row["prompt"] for row in rows] == ["a?", "b?"]
    assert all(row["teacher"] in TEACHERS for row in rows)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (2**60 + 1, 0.5),  # no double holds the first
        ([2**60 + 1], [0.5]),
        ({}, {"a": 1}),
        ([{}], []),
        ({"a": {"b": {}}}, None),
        (2**70, 1),
        ({"a": 1}, {"a": "x"}),
        (True, 1),
    ],
)
def test_values_of_any_shape_come_out_as_they_went_in(
    route: RouteRows, tmp_path: Path, first: Any, second: Any
) -> None:
    values = [first, first, second, second]
    rows = [{"prompt": text, "meta": one} for text, one in zip(texts(4), values, strict=True)]
    routed = route(jsonl(tmp_path / "t.jsonl", rows))
    assert [row["meta"] and json.loads(row["meta"]) for row in routed] == values
    assert [row["prompt"] for row in routed] == texts(4)


def test_types_of_parquet_stay_even_unusual_ones(route: RouteRows, tmp_path: Path) -> None:
    table = pa.table(
        {
            "prompt": pa.array(["a?", None, "c?"]).dictionary_encode(),
            "when": pa.array([1, 2, None], pa.timestamp("us", tz="UTC")),
            "raw": pa.array([b"\xff\x00", None, b""], pa.binary()),
            "price": pa.array([None, 1, 2], pa.decimal128(9, 2)),
            "Größe, in %": [1.5, None, float("inf")],
            "": ["nameless", "", None],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    rows = route(tmp_path / "t.parquet")
    own = pq.read_table(tmp_path / "out.parquet").select(table.column_names)
    assert own.to_pylist() == table.to_pylist()
    kinds = [own.schema.field(place).type for place in range(1, 6)]
    assert kinds == [table.schema.field(place).type for place in range(1, 6)]
    assert [row["teacher"] is None for row in rows] == [False, True, False]
    assert rows[1]["prompt_id"] is None
    assert rows[1]["scores"] is None


def test_files_without_rows_take_nothing_along(route: RouteRows, tmp_path: Path) -> None:
    nothing = pa.table({"prompt": pa.array([], pa.string()), "id": pa.array([], pa.int32())})
    pq.write_table(nothing, tmp_path / "1.parquet")
    (tmp_path / "0.jsonl").write_text("\n")
    (tmp_path / "2.csv").write_text("prompt,id\n")
    full = jsonl(tmp_path / "3.jsonl", [{"prompt": "a?", "id": 3}])
    rows = route(*(tmp_path / name for name in ("0.jsonl", "1.parquet", "2.csv")), full)
    assert [(row["prompt"], row["id"]) for row in rows] == [("a?", 3)]


@pytest.mark.parametrize("limits", [(["large=1"], None), ((), 0.2), ((), None)])
def test_a_table_without_rows_keeps_its_columns(
    route: RouteRows, tmp_path: Path, limits: tuple[list[str], float | None]
) -> None:
    nothing = pa.table({"prompt": pa.array([], pa.string()), "id": pa.array([], pa.int32())})
    pq.write_table(nothing, tmp_path / "t.parquet")
    assert route(tmp_path / "t.parquet", limits=limits_of(*limits)) == []
    schema = pq.read_schema(tmp_path / "out.parquet")
    assert schema.field("id").type == pa.int32()
    assert schema.names[:2] == ["prompt", "id"]
    assert "teacher" in schema.names


def test_two_columns_of_one_name_are_refused_at_once(router: str, tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array(["a?"])] * 3, ["prompt", "id", "id"])
    pq.write_table(twice, tmp_path / "t.parquet")
    with pytest.raises(ConfigError, match=r"several columns named \['id'\]"):
        prepare(router, [str(tmp_path / "t.parquet")], str(tmp_path / "o.parquet"), Asked())


def test_a_prefix_makes_room_and_may_clash_itself(route: RouteRows, tmp_path: Path) -> None:
    rows = [{"prompt": "a?", "teacher": "mine", "new_margin": 1}]
    path = jsonl(tmp_path / "t.jsonl", rows)
    with pytest.raises(ConfigError, match=r"\['teacher'\]"):
        route(path)
    with pytest.raises(ConfigError, match=r"\['new_margin'\]"):
        route(path, prefix="new_")
    (row,) = route(path, prefix="r.")
    assert row["teacher"] == "mine"
    assert row["r.teacher"] in TEACHERS


def test_a_column_that_clashes_in_a_late_file_is_told_before_work(
    router: str, tmp_path: Path
) -> None:
    paths = [
        jsonl(tmp_path / "a.jsonl", [{"prompt": "a?"}]),
        jsonl(tmp_path / "b.jsonl", [{"prompt": "b?", "is_novel": True}]),
    ]
    with pytest.raises(ConfigError, match="is_novel"):
        prepare(router, list(map(str, paths)), str(tmp_path / "o.parquet"), Asked())
    assert not (tmp_path / "o.parquet.parts").exists()


def test_conversations_texts_and_huge_prompts_are_read_by_their_end(
    route: RouteRows, router: str, tmp_path: Path
) -> None:
    huge = "Add 4 and 4? " * 20_000
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Add 1 and 2?"},
        {"role": "assistant", "content": "3"},
        {"role": "user", "content": "And 5 more?"},
    ]
    rows = [{"prompt": huge}, {"prompt": talk}, {"prompt": json.dumps(talk)}, {"prompt": 7}]
    routed = route(jsonl(tmp_path / "t.jsonl", rows))
    logits_PM = own_logits(router, [[{"role": "user", "content": huge}], talk])
    expected = [TEACHERS[m] for m in logits_PM.argmax(axis=1)]
    assert [row["teacher"] for row in routed[:2]] == expected
    ordered_PM = np.sort(logits_PM, axis=1)
    margins = [row["margin"] for row in routed[:2]]
    assert margins == pytest.approx((ordered_PM[:, 2] - ordered_PM[:, 1]).tolist(), abs=1e-4)
    assert routed[3]["teacher"] is None
    assert routed[3]["refused"].startswith("wrong_type")


def test_without_gives_nothing_to_a_teacher_nor_any_score(
    route: RouteRows, router: str, tmp_path: Path
) -> None:
    path = jsonl(tmp_path / "t.jsonl", [{"prompt": text} for text in texts(12)])
    rows = route(path, masked=("large", "small"))
    assert {row["teacher"] for row in rows} == {"org/middle"}
    assert {row["scores"]["large"] for row in rows} == {None}
    assert {row["margin"] for row in rows} == {None}  # nobody else to be ahead of
    with pytest.raises(ConfigError, match="left out"):
        prepare(router, [str(path)], str(tmp_path / "o.parquet"), Asked(masked=TEACHERS))


def test_shares_count_readable_rows_alone(route: RouteRows, tmp_path: Path) -> None:
    rows = [{"prompt": text} for text in texts(15)] + [{"prompt": None}] * 15
    routed = route(jsonl(tmp_path / "t.jsonl", rows), limits=limits_of((), 1 / 3))
    counts = Counter(row["teacher"] for row in routed)
    assert counts == dict.fromkeys(TEACHERS, 5) | {None: 15}


@pytest.mark.parametrize(
    ("capacity", "share", "told"),
    [
        (["small=1", "org/middle=1", "large=1"], None, "--capacity"),
        (["small=2"], 0.3, "--min-share"),
    ],
)
def test_limits_that_cannot_be_kept_write_nothing_and_lose_nothing(
    route: RouteRows, tmp_path: Path, capacity: list[str], share: float | None, told: str
) -> None:
    path = jsonl(tmp_path / "t.jsonl", [{"prompt": text} for text in texts(12)])
    with pytest.raises(ConfigError, match=told):
        route(path, limits=limits_of(capacity, share))
    assert not (tmp_path / "out.parquet").exists()
    assert len(list((tmp_path / "out.parquet.parts" / "scores").glob("0*.parquet"))) == 6
    assert len(route(path)) == 12


class Killed(Exception):
    """Stands in for the end of a process."""


def test_an_end_between_any_two_files_changes_nothing(router: str, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "t.jsonl", [{"prompt": text} for text in texts(7)])
    limits = Asked(limits=limits_of(["large=2"], None))
    whole = tmp_path / "whole.parquet"
    carry_out(prepare(router, [str(path)], str(whole), limits), rows=2)
    prepared = prepare(router, [str(path)], str(tmp_path / "out.parquet"), limits)
    job = TableJob(**{**vars(prepared.job), "rows": 2})
    score = ScoreParts(job)
    claim(job, content_of(router))
    steps = [
        step for unit in SplitTable(job)({"shard": "0"}) for step in [lambda unit=unit: score(unit)]
    ]
    kept = tmp_path / "kept"
    shutil.copytree(job.work.local_path, kept)  # split, nothing scored
    (kept / "whole" / "00000.json").unlink()
    for scored in range(len(steps) + 1):
        shutil.rmtree(job.work.local_path)
        shutil.copytree(kept, job.work.local_path)
        for step in steps[:scored]:
            step()
        if scored < len(steps):  # prompts come last: a part without them is made anew
            (Path(job.work.local_path) / "prompts" / job.part(0, 3)).unlink()
        claim(job, content_of(router))
        for unit in SplitTable(job)({"shard": "0"}):
            score(unit)
        assemble(job, prepared.rule, prepared.out, "")
        assert pq.read_table(prepared.out).equals(pq.read_table(whole))
        Path(prepared.out).unlink()


def test_a_table_that_cannot_be_assembled_leaves_no_file(
    router: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = jsonl(tmp_path / "t.jsonl", [{"prompt": text} for text in texts(4)])
    prepared = prepare(router, [str(path)], str(tmp_path / "out.parquet"), Asked())

    def killed(*_: object) -> None:
        raise Killed

    monkeypatch.setattr("persyn_ray.routing.assemble.choose", killed)
    with pytest.raises(Killed):
        carry_out(prepared)
    left = {one.name for one in tmp_path.iterdir()}
    assert left == {"t.jsonl", "out.parquet.parts"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["no-*.csv", "-o", "o.parquet"], "no-*.csv"),
        (["t.jsonl", "-o", "there.parquet"], "there already"),
        (["t.jsonl", "-o", "o.jsonl"], "must end in .parquet"),
        (["t.jsonl", "-o", "o.parquet", "--capacity", "large"], "TEACHER=N"),
        (["t.jsonl", "-o", "o.parquet", "--capacity", "nobody=3"], "nobody"),
        (["t.jsonl", "-o", "o.parquet", *["--capacity", "large=3"] * 2], "twice"),
        (["t.jsonl", "-o", "o.parquet", "--min-share", "0.5"], "--min-share"),
        (["t.jsonl", "-o", "o.parquet", "--min-share", "nan"], "--min-share"),
        (["t.jsonl", "-o", "o.parquet", "--template", "x"], "{prompt}"),
        (
            ["t.jsonl", "-o", "o.parquet", *(f"--without={name}" for name in TEACHERS)],
            "Every teacher",
        ),
    ],
)
def test_the_command_refuses_before_a_cluster_is_started(
    router: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], told: str
) -> None:
    from persyn_ray.runtime import session

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "session", lambda *_: pytest.fail("a cluster was started"))
    jsonl(tmp_path / "t.jsonl", [{"prompt": "a?"}])
    (tmp_path / "there.parquet").write_bytes(b"mine")
    result = CliRunner().invoke(app, ["route", router, *options])
    assert isinstance(result.exception, ConfigError)
    assert told in str(result.exception)
    assert (tmp_path / "there.parquet").read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 2


def test_the_command_tells_what_became_of_rows(capsys: pytest.CaptureFixture[str]) -> None:
    routed = Routed(5, Counter(a=3), Counter(no_text=2), "no_text: [bold]it[/bold] is empty", 1)
    _show(["a", "b[red]"], routed, "out.parquet")
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "a 3 100.0%" in told
    assert "b[red] 0 0.0%" in told
    assert "Wrote 5 rows to out.parquet. 1 are unlike the parallel set." in told
    assert "no_text 2; the first: no_text: [bold]it[/bold] is empty" in told


@pytest.mark.parametrize(
    ("gpus", "asked", "pool"),
    [
        (0, (None, None, None), (1, 4, 0)),  # all CPUs of one node
        (0, (4, None, None), (4, 2, 0)),
        (2, (None, None, None), (2, 1, 1)),
        (2, (None, None, 0.5), (4, 1, 0.5)),
        (2, (2, 3.0, 0.0), (2, 3, 0)),
    ],
)
def test_a_pool_takes_what_there_is(
    gpus: int, asked: tuple[Any, Any, Any], pool: tuple[int, float, float]
) -> None:
    found = resources_of(Cluster(8, gpus, 64, 4, gpus), *asked)
    assert (found.actors, found.cpus, found.gpus) == pool


@pytest.mark.parametrize("asked", [(9, None, None), (1, 9.0, None), (1, None, 1.0)])
def test_a_pool_that_does_not_fit_is_refused(asked: tuple[Any, Any, Any]) -> None:
    with pytest.raises(ConfigError, match=r"do not fit.*--workers, --cpus or --gpus"):
        resources_of(Cluster(8, 0, 64, 8, 0), *asked)
