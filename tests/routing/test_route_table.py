"""A table routed in this process: what the router says itself, every row and column, again after
an end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.models.router.model import load_router, router_logits
from persyn_ray.recipe.recipe import Recipe
from persyn_ray.routing.assemble import Routed, assemble
from persyn_ray.routing.limits import limits_of
from persyn_ray.routing.parts import TableJob, claim
from persyn_ray.routing.run import Asked, Prepared, prepare
from persyn_ray.routing.score import ScoreParts
from persyn_ray.routing.split import SplitTable
from persyn_ray.serving.router_model import content_of
from persyn_ray.storage.layout import RunLayout

from .saved_router import TEACHERS, texts

Row = dict[str, Any]
UNREADABLE = {
    "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}],
    "id": 1,
}


WORKING = """
import sys
from persyn_ray.routing.parts import TableJob, claim
from persyn_ray.routing.run import Asked, prepare
from persyn_ray.routing.score import ScoreParts
from persyn_ray.routing.split import SplitTable
from persyn_ray.serving.router_model import content_of

prepared = prepare(sys.argv[1], [sys.argv[2]], sys.argv[3], Asked())
job = TableJob(**{**vars(prepared.job), "rows": 2})
claim(job, content_of(job.router))
score = ScoreParts(job)
for number, unit in enumerate(SplitTable(job)({"shard": "0"})):
    score(unit)
    print(unit["shard"], flush=True)
    if number == 50:
        sys.stdin.read()  # however late it is killed, half is left
"""


def carry_out(prepared: Prepared, rows: int = 8) -> Routed:
    """The steps of `route_table` without Ray."""
    job = TableJob(**{**vars(prepared.job), "rows": rows})
    claim(job, content_of(job.router))
    score = ScoreParts(job)
    for number in range(len(job.files)):
        for unit in SplitTable(job)({"shard": str(number)}):
            score(unit)
    return assemble(job, prepared.rule, prepared.out, prepared.prefix)


def own_logits(router: str, conversations: list[list[Row]]) -> np.ndarray:
    model, tokenizer = load_router(router)
    return router_logits(model, tokenizer, conversations, max_length=64)  # pyright: ignore


def test_every_row_gets_the_teacher_that_the_router_says(router: str, tmp_path: Path) -> None:
    asked = texts(30)
    table = pa.table(
        {"prompt": asked, "weight": pa.array(range(30), pa.int16()), "tag": ["x"] * 30}
    )
    pq.write_table(table, tmp_path / "t.parquet")
    out = str(tmp_path / "deep" / "out.parquet")
    counts = carry_out(prepare(router, [str(tmp_path / "t.parquet")], out, Asked()))
    routed = pq.read_table(out)
    assert routed.select(table.column_names).equals(table)
    logits_PM = own_logits(router, [[{"role": "user", "content": text}] for text in asked])
    assert routed["teacher"].to_pylist() == [TEACHERS[m] for m in logits_PM.argmax(axis=1)]
    ordered_PM = np.sort(logits_PM, axis=1)
    margins = ordered_PM[:, -1] - ordered_PM[:, -2]
    assert routed["margin"].to_numpy() == pytest.approx(margins, abs=1e-4)
    scores = routed["scores"].to_pylist()
    for row, logits_M in zip(scores, logits_PM, strict=True):
        chances = 1 / (1 + np.exp(logits_M[None, :] - logits_M[:, None]))
        means = (chances.sum(axis=1) - 0.5) / 2
        assert [row[name] for name in TEACHERS] == pytest.approx(means.tolist(), abs=1e-4)
    assert routed["is_novel"].null_count == 0
    assert counts.num_rows == sum(counts.prompts.values()) == 30
    assert counts.num_novel == sum(routed["is_novel"].to_pylist())


def test_rows_that_are_no_prompts_keep_their_place_and_say_why(router: str, tmp_path: Path) -> None:
    rows: list[Row] = [
        {"messages": [{"role": "user", "content": "Add 1 and 2?"}], "id": 0},
        UNREADABLE,
        {"messages": [{"from": "human", "value": "Add 2?"}, {"from": "gpt", "value": "2"}]},
        {"messages": "  ", "id": "three"},
    ]
    path, out = tmp_path / "t.jsonl", tmp_path / "out.parquet"
    path.write_text("\n".join([*map(json.dumps, rows), "{damaged"]))
    counts = carry_out(prepare(router, [str(path)], str(out), Asked()))
    routed = pq.read_table(out).to_pylist()
    assert [row["teacher"] is not None for row in routed] == [True, False, True, False, False]
    reasons = [row["refused"] and row["refused"].partition(":")[0] for row in routed]
    assert reasons == [None, "not_text", None, "no_text", "unreadable_row"]
    assert [row["id"] and json.loads(row["id"]) for row in routed] == [0, 1, None, "three", None]
    assert counts.refused == {"not_text": 1, "no_text": 1, "unreadable_row": 1}
    assert "image" in str(counts.first_refused)
    plain = own_logits(router, [[{"role": "user", "content": "Add 2?"}]])
    assert routed[2]["teacher"] == TEACHERS[plain[0].argmax()]


def test_types_that_change_between_parts_are_joined(router: str, tmp_path: Path) -> None:
    path, out = tmp_path / "t.jsonl", tmp_path / "out.parquet"
    rows = [{"prompt": text, "n": None, "m": 1, "k": 1} for text in texts(8)]
    rows += [{"prompt": text, "n": 3, "m": 1.5, "k": "x"} for text in texts(8)]
    path.write_text("\n".join(map(json.dumps, rows)))
    carry_out(prepare(router, [str(path)], str(out), Asked()))
    routed = pq.read_table(out)
    assert routed["n"].to_pylist() == [None] * 8 + [3] * 8
    assert routed["m"].to_pylist() == [1.0] * 8 + [1.5] * 8
    assert [json.loads(text) for text in routed["k"].to_pylist()] == [1] * 8 + ["x"] * 8


def test_several_files_are_one_table_in_their_order(router: str, tmp_path: Path) -> None:
    asked = texts(25)
    pq.write_table(pa.table({"question": asked[:11]}), tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("question\n" + "\n".join(asked[11:]) + "\n")
    sources = [str(tmp_path / "a.parquet"), str(tmp_path / "b.csv")]
    carry_out(prepare(router, sources, str(tmp_path / "out.parquet"), Asked()))
    assert pq.read_table(tmp_path / "out.parquet")["question"].to_pylist() == asked


def test_what_is_scored_is_not_scored_again_and_limits_may_change(
    router: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"prompt": texts(30)}), tmp_path / "t.parquet")
    source, out = [str(tmp_path / "t.parquet")], str(tmp_path / "out.parquet")
    limits = limits_of([f"{name}=5" for name in TEACHERS], None)
    with pytest.raises(ConfigError, match="--capacity"):
        carry_out(prepare(router, source, out, Asked(limits=limits)))
    assert not (tmp_path / "out.parquet").exists()

    def never(*_: object) -> None:
        raise AssertionError("scored again")

    monkeypatch.setattr(ScoreParts, "_scored", never)
    counts = carry_out(prepare(router, source, out, Asked(limits=limits_of(["large=7"], 0.2))))
    assert counts.prompts["large"] <= 7
    assert min(counts.prompts[name] for name in TEACHERS) >= 6
    taken = pq.read_table(out)["teacher"].to_pylist()
    assert {name: taken.count(name) for name in TEACHERS} == counts.prompts


def test_parts_of_another_table_are_refused(router: str, tmp_path: Path) -> None:
    path, out = tmp_path / "t.parquet", str(tmp_path / "out.parquet")
    pq.write_table(pa.table({"prompt": texts(9)}), path)
    job = prepare(router, [str(path)], out, Asked()).job
    claim(job, content_of(job.router))
    claim(job, content_of(job.router))  # the same goes on
    pq.write_table(pa.table({"prompt": texts(10)}), path)
    with pytest.raises(ConfigError, match=r"another files.*remove"):
        claim(job, content_of(job.router))
    other = prepare(router, [str(path)], out, Asked(template="Say: {prompt}")).job
    with pytest.raises(ConfigError, match="template"):
        claim(other, content_of(job.router))


def test_a_run_says_how_its_router_was_asked(
    finished: tuple[Recipe, RunLayout], tmp_path: Path
) -> None:
    recipe, run = finished
    (tmp_path / "t.csv").write_text("prompt,answer\nAdd 1 and 2?,3\n")
    prepared = prepare(
        run.root.address, [str(tmp_path / "t.csv")], str(tmp_path / "o.parquet"), Asked()
    )
    assert prepared.rule.teachers == recipe.pool.names
    assert prepared.job.prompts.template == recipe.prompts.template
    carry_out(prepared)
    (row,) = pq.read_table(tmp_path / "o.parquet").to_pylist()
    assert row["answer"] == "3"
    assert row["teacher"] in recipe.pool.names


@pytest.mark.parametrize(
    ("columns", "asked", "told"),
    [
        ({"prompt": ["x"], "teacher": ["y"]}, Asked(), "--prefix"),
        ({"text": ["x"]}, Asked(), r"none of.*--column"),
        ({"prompt": ["x"], "messages": ["y"]}, Asked(), r"several.*--column"),
        ({"promt": ["x"]}, Asked(column="prompt"), r"'promt' is nearest.*--column"),
        ({"prompt": ["x"]}, Asked(template="no place"), "{prompt}"),
        ({"prompt": ["x"]}, Asked(masked=("nobody",)), "no teacher"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    router: str, tmp_path: Path, columns: Row, asked: Asked, told: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(ConfigError, match=told):
        prepare(router, [str(tmp_path / "t.parquet")], str(tmp_path / "out.parquet"), asked)
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_places_that_cannot_be_written_or_read_are_refused(router: str, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"prompt": ["x"]}), path)
    with pytest.raises(ConfigError, match=r"\.parquet"):
        prepare(router, [str(path)], str(tmp_path / "out.csv"), Asked())
    with pytest.raises(ConfigError, match="there already"):
        prepare(router, [str(path)], str(path), Asked())
    with pytest.raises(ConfigError, match="no router"):
        prepare(str(tmp_path), [str(path)], str(tmp_path / "out.parquet"), Asked())
    with pytest.raises(ConfigError, match="TABLE"):
        prepare(router, [str(tmp_path / "absent.parquet")], str(tmp_path / "o.parquet"), Asked())


def test_a_key_that_no_row_has_is_told_at_the_end_of_the_file(router: str, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"promt": "x"}\n')
    asked = Asked(column="prompt")
    prepared = prepare(router, [str(tmp_path / "t.jsonl")], str(tmp_path / "o.parquet"), asked)
    with pytest.raises(ConfigError, match=r"'promt' is nearest.*--column"):
        carry_out(prepared)


def test_after_a_kill_the_rest_is_done_and_the_table_is_the_same(
    router: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": text}) for text in texts(200)))
    whole, broken = str(tmp_path / "whole.parquet"), str(tmp_path / "broken.parquet")
    carry_out(prepare(router, [str(path)], whole, Asked()), rows=2)
    command = [sys.executable, "-c", WORKING, router, str(path), broken]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None
    for _ in range(7):
        process.stdout.readline()
    time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    scores = tmp_path / "broken.parquet.parts" / "scores"
    done = {one.name: one.stat().st_mtime_ns for one in scores.glob("0*.parquet")}
    assert 7 <= len(done) < 100
    assert not Path(broken).exists()
    carry_out(prepare(router, [str(path)], broken, Asked()), rows=2)
    assert {name: (scores / name).stat().st_mtime_ns for name in done} == done
    first, second = pq.read_table(whole), pq.read_table(broken)
    assert second["teacher"].to_pylist() == first["teacher"].to_pylist()
    assert second["margin"].to_numpy() == pytest.approx(first["margin"].to_numpy(), abs=1e-5)
