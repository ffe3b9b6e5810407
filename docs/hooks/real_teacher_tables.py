"""Tables of routing among real teachers: real_evidence.json in, Markdown out."""

from markdown_tables import Rows, interval, result, table

REAL = {
    "mmlu_pro": "MMLU-Pro",
    "reasoning_gym": "reasoning-gym",
    "faithful_cot": "Faithful-COT",
    "crux": "CRUXEval",
}


PROMPTS_OF = {
    "rewards": "",
    "signals": ", prompts scored anew",
    "embedded": ", {num:,} prompts embedded",
}
"""Which prompts of a table the parts of real_evidence.py are about."""


def real(columns: tuple[str, ...]) -> str:
    """Routing by simple predictors on public tables of real teachers, over ten splits."""
    figures = result("real_evidence")["figures"]
    rows: Rows = []
    for part, of_table in figures.items():
        kind, _, name = part.partition("_")
        if kind not in PROMPTS_OF or "signals" not in of_table:
            continue
        if kind == "embedded" and "k-NN" not in columns:  # shown for its k-NN
            continue
        for signal, of in of_table["signals"].items():
            if kind == "signals" and signal == "correct":
                continue
            told = REAL[name] + PROMPTS_OF[kind].format(num=of_table["num_prompts"])
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


def transfer() -> str:
    """What a k-NN gains over the best constant where it is used on other data than its own."""
    part = result("real_evidence")["figures"]["transfer"]
    rows: Rows = []
    for pair, of in part.items():
        fitted, _, used = pair.partition(" to ")
        if used:
            gain = interval(of, 3, "+")
            rows.append((fitted, used, _mean(of["constant"]), gain, _share(of["novel_share"])))
    subjects = [of for pair, of in part.items() if pair.startswith("mmlu_pro without ")]
    gains, novel = ([of[key] for of in subjects] for key in ("mean", "novel_share"))
    rows.append(
        (
            "MMLU-Pro without a subject",
            f"the subject ({len(subjects)} in turn)",
            _mean(sum(of["constant"] for of in subjects) / len(subjects)),
            f"{sum(gains) / len(gains):+.3f}; from {min(gains):+.3f} to {max(gains):+.3f}",
            _share(sum(novel) / len(novel)),
        )
    )
    head = (
        "fitted on",
        "used on",
        "best constant of the former",
        "k-NN minus it",
        "unlike prompts",
    )
    return table(head, rows)


def sizes() -> str:
    """Size of a teacher against how likely its responses are under the student."""
    rows: Rows = []
    for name, of in result("real_evidence")["figures"]["sizes"]["domains"].items():
        cells = [REAL[name], f"{of['num_prompts']:,}", str(len(of["billions"]))]
        for key in ("nats_per_tenfold_size", "nats_per_tenfold_size_less_length"):
            cells += [interval(of[key], 3, "+", "slope"), f"{of[key]['p_value']:.2f}"]
        rows.append(tuple(cells))
    head = (
        *("table", "prompts", "teachers", "nats per tenfold size", "p over teachers"),
        *("the same less length", "p over teachers"),
    )
    return table(head, rows)
