"""Tables of measured figures in README.md and docs/: benchmarks/results/*.json in, Markdown out.

    python docs/hooks/result_tables.py     # rewrites what stands between the marks

The marks are <!-- table NAME --> and <!-- end of table -->.

A test holds that the committed tables are those of the committed results.
"""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from student_table import student_tables
from view_table import view_table

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
MARKED = re.compile(r"(<!-- table (\w+) -->\n)(.*?)(<!-- end of table -->)", re.S)

Rows = list[tuple[str, ...]]

METHODS = {
    "before": "before fine-tuning",
    "random": "random teacher per prompt",
    "strong": "strong teacher",
    "mix": "mix, strong : weak 1 : 4",
    "best_constant": "best constant teacher",
    "family_strong": "strongest of the student's family",
    "car": "CAR, β = 1",
    "quality_only": "selected by quality alone †",
    "learnability_only": "selected by learnability alone †",
    "task_constant": "best teacher of each task",
    "linear_probe": "linear probe on frozen embeddings",
    "knn": "k-NN on frozen embeddings",
    "stacked": "stacked predictor on frozen embeddings",
    "persyn": "**PerSyn**",
    "oracle": "oracle †",
}
SHORT = (
    "before",
    "random",
    "strong",
    "best_constant",
    "learnability_only",
    "knn",
    "persyn",
    "oracle",
)


def result(name: str) -> Any:
    """One committed result."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def table(head: tuple[str, ...], rows: Rows) -> str:
    """A Markdown table: the first column to the left, numbers to the right."""
    lines = [head, ("---", *("---:" for _ in head[1:])), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines) + "\n"


def interval(of: dict[str, Any], digits: int = 2, sign: str = "", key: str = "mean") -> str:
    """A figure with its 95 % interval."""
    form = f"{sign}.{digits}f"
    low, high = format(of["low"], form), format(of["high"], form)
    return f"{of[key]:{form}} ({low} to {high})".replace(" ", "\N{NO-BREAK SPACE}")


def evidence(methods: tuple[str, ...]) -> str:
    """Students of ten seeds of the lab, and PerSyn's difference from each."""
    main = result("evidence")["experiments"]["main"]
    rows: Rows = []
    for name in (one for one in methods if one in main["accuracy"]):
        right, difference = main["correct_share"].get(name), main["difference"].get(name)
        rows.append(
            (
                METHODS[name],
                "–" if right is None else f"{right:.2f}",
                interval(main["accuracy"][name], 3),
                "–" if difference is None else interval(difference, 3, "+"),
                _p_value(difference, main["p_after_holm"].get(name)),
            )
        )
    head = ("data from", "share right", "student accuracy", "PerSyn minus it", "p")
    return table(head, rows)


def evidence_second() -> str:
    """What methods choose in the lab's second world; students where they were tuned."""
    experiments = result("evidence_second")["experiments"]
    routing, main = experiments["routing"], experiments.get("main", {})
    accuracy, differences = main.get("accuracy", {}), main.get("difference", {})
    known = routing["correct_share"].keys() | accuracy.keys()
    rows: Rows = []
    for name in (one for one in METHODS if one in known):
        right = routing["right_by_length"].get(name)
        cells = [METHODS[name], "–", "–", "–", "–", "–", "–"]
        if right is not None:
            cells[1] = f"{right['short']:.2f}, {right['long']:.2f}"
            cells[2] = f"{routing['mean_log_likelihood'][name]:.2f}"
            cells[3] = f"{routing['like_the_oracle'][name]['mean']:.2f}"
        if name in accuracy:
            cells[4] = interval(accuracy[name], 3)
        if name in differences:
            cells[5] = interval(differences[name], 3, "+")
            cells[6] = _p_value(differences[name], main["p_after_holm"].get(name))
        rows.append(tuple(cells))
    head = (
        "data from",
        "right: short, long",
        "log-likelihood",
        "best teacher",
        "student accuracy",
        "PerSyn minus it",
        "p",
    )
    width = len(head) if accuracy else 4
    return table(head[:width], [row[:width] for row in rows])


def _p_value(difference: dict[str, Any] | None, after_holm: float | None) -> str:
    if after_holm is not None:
        return f"{after_holm:.3f} ‡"
    if difference is None:
        return "–"
    p = difference["p_value"]
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def quickstart() -> str:
    """One seed of the lab, as `jobs/quickstart.yaml` runs it."""
    figures = result("quickstart")["figures"]
    students, routed = figures["student_accuracy"], figures["routed_reward"]
    rows = []
    for name in (one for one in METHODS if one in students or one in routed):
        share = students.get(name, {}).get("correct_share")
        measured = (
            interval(of[name], key="value") if name in of else "–" for of in (routed, students)
        )
        label = METHODS[name].removesuffix(" †")
        rows.append((label, f"{share:.2f}" if share else "–", *measured))
    return table(("data from", "share right", "routed reward (held out)", "student accuracy"), rows)


REAL = {
    "mmlu_pro": "MMLU-Pro",
    "reasoning_gym": "reasoning-gym",
    "faithful_cot": "Faithful-COT",
    "crux": "CRUXEval",
}


def real(columns: tuple[str, ...]) -> str:
    """Routing by simple predictors on public tables of real teachers, over ten splits."""
    figures = result("real_evidence")["figures"]
    rows: Rows = []
    for part, of_table in figures.items():
        kind, _, name = part.partition("_")
        if kind not in ("rewards", "signals") or "signals" not in of_table:
            continue
        for signal, of in of_table["signals"].items():
            if kind == "signals" and signal == "correct":
                continue
            told = REAL[name] + (", prompts scored anew" if kind == "signals" else "")
            cells = {
                "table": told,
                "teachers": str(len(of_table["teachers"])),
                "goes by": "correctness" if signal == "correct" else "reward, alpha 0.4",
                "auto minus best constant": interval(of["minus"]["auto_minus_constant"], 3, "+"),
                "gap closed": _share(of["gap_closed"].get("auto")),
            } | {
                head: _mean(of["means"].get(method))
                for head, method in {
                    "best constant": "constant",
                    "best per task": "per_task",
                    "k-NN": "knn",
                    "stacked": "stacked",
                    "auto": "auto",
                    "oracle": "oracle",
                }.items()
            }
            rows.append(tuple(cells[column] for column in columns))
    return table(columns, rows)


def _mean(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def prefill() -> str:
    """Shares of the gap to the oracle closed with features of the student's prefill."""
    part = result("real_evidence")["figures"]["prefill"]
    kinds = ("knn", "prefill", "per_task", "prefill, task", "stacked", "stacked, prefill")
    rows: Rows = []
    for name, of in part["tables"].items():
        known, _, signal = name.partition(", ")
        told = REAL[known] + (f", {signal}" if signal else "")
        shares = [_share(of["gap_closed"][kind]) for kind in kinds]
        difference = interval(of["minus"]["prefill_minus_knn"], 3, "+")
        rows.append((told, f"{of['num_prompts']:,}", *shares, difference))
    head = (
        *("table", "prompts", "k-NN", "prefill", "best per task", "prefill and task"),
        *("stacked", "stacked with prefill", "prefill minus k-NN"),
    )
    return table(head, rows)


def screening() -> str:
    """How often `persyn screen` was right, by the size of the probe."""
    part = result("real_evidence")["figures"]["screening"]
    rows: Rows = [
        (
            name.removeprefix("probe_"),
            str(of["num_pools"]),
            *(str(of[key]) for key in ("screen_right", "cannot_say", "false_yes", "false_no")),
            f"{of['right_of_clear']} of {of['num_clear']}",
            str(of["sign_right"]),
        )
        for name, of in part.items()
        if name.startswith("probe_")
    ]
    head = (
        *("prompts of the probe", "pools", "right", "cannot say", "false yes", "false no"),
        *("right where the truth is clear", "expected gain on the right side"),
    )
    return table(head, rows)


def systems() -> str:
    """What the parts of the system were measured to do."""
    rows = [*scoring_rows(), *engine_rows(), *other_rows(), *endpoint_rows()]
    return table(("measured", "figure"), rows)


def scoring_rows() -> Rows:
    """Likelihoods of recorded responses, of two sets, under a student."""
    figures = result("scoring")["figures"]
    both = [figures[name] for name in ("gsm8k", "alpaca_eval")]
    peak = figures["peak_memory_mib"]
    return [
        (
            "scoring: response tokens a second (GSM8K, AlpacaEval)",
            ", ".join(str(one["tokens_per_second"]["ours"]) for one in both),
        ),
        (
            "scoring over the bare model without its head",
            ", ".join(f"{one['over_bound']:.2f}" for one in both),
        ),
        (
            "scoring over the usual padded loop",
            ", ".join(f"{one['over_padded_loop']:.1f}" for one in both),
        ),
        (
            "scoring over vLLM's `prompt_logprobs`",
            ", ".join(f"{one['over_vllm']:.1f}" for one in both),
        ),
        (
            "scoring: peak memory above the model, responses of 256 and of 4,096 tokens",
            f"{peak['256']} MiB, {peak['4096']} MiB",
        ),
    ]


def engine_rows() -> Rows:
    """Teachers: one engine, many of them, and how many responses are asked for."""
    names = ("generation", "streaming", "waves", "savings")
    generation, streaming, waves, savings = (result(name)["figures"] for name in names)
    return [
        (
            "one vLLM engine behind our actor over the engine alone (tokens a second)",
            f"{generation['engine_ratio']:.2f}",
        ),
        ("the same over `ray.data.llm`", f"{generation['over_ray_data_llm']:.2f}"),
        (
            "streaming to 19 simulated teachers: slots filled, of those that can be",
            f"{streaming['slots_filled']:.2f}",
        ),
        (
            "waves of 19 teachers on 8 to 64 GPUs: worst end over the linear bound (simulated)",
            f"{waves['makespan_over_bound']:.3f}",
        ),
        (
            "route-then-generate: share of generate-then-select's responses, of its tokens",
            f"{savings['responses_share']:.3f}, {savings['tokens_share']:.3f}",
        ),
    ]


def other_rows() -> Rows:
    """The router's fit, limits, checks of answers, and routing a table."""
    names = ("router_fit", "constrained", "verify", "route_table")
    fit, limits, verify, routed = (result(name)["figures"] for name in names)
    million, exports = limits["million"], result("exports")
    large = exports["large_run"]
    return [
        (
            "router fit: passes over a pass for each pair of 19 teachers",
            f"1 : {fit['passes_ratio']:.0f}",
        ),
        (
            "limits: a million prompts, 19 teachers, three limits",
            f"{million['seconds']:.0f} s, {million['peak_gib']:.1f} GiB",
        ),
        (
            "answers checked a second and core; misjudged of planted ones",
            f"{verify['checks_per_second_per_core']:.0f}; "
            f"{verify['misjudged']} of {verify['planted']:,}",
        ),
        (
            "`persyn route`: rows a second, two workers",
            f"{routed['rows_per_second']['route']:,.0f}",
        ),
        (
            "`persyn export`: forms that their tools' own loaders accepted, texts unchanged",
            f"{exports['accepted']} of {exports['num_forms']}",
        ),
        (
            "the same for a million rows",
            f"{large['rows_per_second']:,} rows a second, {large['peak_mib']} MiB",
        ),
    ]


def endpoint_rows() -> Rows:
    """The router's endpoint."""
    figures = result("endpoint")["figures"]
    ours, default = (_point(figures, way, 64) for way in ("haproxy", "default"))
    light, soak = figures["latency"]["light"], figures["soak"]
    return [
        (
            "endpoint, 64 requests at once: answers a second; by Ray Serve's default path",
            f"{ours:.1f}; {default:.1f}",
        ),
        (
            "the same with a tiny backbone",
            f"{light['haproxy']['per_second']:.0f}; {light['default']['per_second']:.1f}",
        ),
        (
            "endpoint: requests of 256 prompts, over the bare forward (prompts a second)",
            f"{figures['many_over_bare']:.2f}",
        ),
        (
            "endpoint, ten minutes with a replica killed every 30 s: answers, wrong, 429",
            f"{soak['client']['ended']:,}, {soak['wrong_answers']}, "
            f"{soak['client']['attempts']['429']}",
        ),
    ]


def _point(endpoint: dict[str, Any], way: str, concurrency: int) -> float:
    points = endpoint["latency"]["ways"][way]["points"]
    return next(point["per_second"] for point in points if point["concurrency"] == concurrency)


TABLES: dict[str, Callable[[], str]] = {
    "evidence": partial(evidence, tuple(METHODS)),
    "evidence_short": partial(evidence, SHORT),
    "evidence_second": evidence_second,
    "quickstart": quickstart,
    "real": partial(
        real,
        (
            *("table", "teachers", "goes by", "best constant", "best per task", "k-NN", "stacked"),
            *("auto", "oracle", "auto minus best constant", "gap closed"),
        ),
    ),
    "real_short": partial(
        real,
        (
            *("table", "goes by", "best constant", "best per task", "auto", "oracle"),
            "auto minus best constant",
        ),
    ),
    "prefill": prefill,
    "screening": screening,
    "student": lambda: "\n".join(table(*one) for one in student_tables(result("sft"))),
    "systems": systems,
    "view": lambda: table(*view_table(result("view"))),
}


def filled(text: str) -> str:
    """A page with its tables made anew."""
    return MARKED.sub(lambda part: part[1] + "\n" + TABLES[part[2]]() + "\n" + part[4], text)


def pages() -> list[Path]:
    """Pages that may hold tables of results."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


if __name__ == "__main__":
    for page in pages():
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
