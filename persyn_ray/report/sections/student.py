"""Section student: accuracy of the student before fine-tuning and after it, by method.

In report.json:

    student       metric, num_problems, before: Estimate,
                  methods {method: {value, low, high, num, num_examples, correct_share}},
                  differences {method or "before": Estimate} (PerSyn minus it, by problem),
                  by_task {method or "before": {task: value}},
                  answers {method or "before": {num, cut_share, looped_share (repetition without
                  end), mean_words, longest_words, distinct_1, distinct_2}}
    lm_eval       students [method or "before"],
                  tasks {task: {metric: {method or "before": {value, stderr}}}}, as the evaluation
                  harness names them
"""

from typing import TypedDict

from matplotlib.figure import Figure

from persyn_ray.report import drawing
from persyn_ray.report.drawing import INK, WIDTH
from persyn_ray.report.estimate import Bounded, Estimate, verdict
from persyn_ray.report.methods import SIMPLER, comparison_sentences, label, ordered
from persyn_ray.report.numbers import count, estimate, number

NOT_MEASURED = {
    "student": "no student answered held-out prompts (<code>prompts.num_heldout</code> or "
    "<code>evaluate.path</code>).",
}
"""Why a part may be missing, in HTML."""


class StudentMethod(Estimate):
    num_examples: int | None
    correct_share: float | None


class AnswerForm(TypedDict):
    num: int | None
    cut_share: float | None
    looped_share: float | None
    mean_words: float | None
    longest_words: int | None
    distinct_1: float | None
    distinct_2: float | None


class Benchmark(TypedDict):
    value: float | None
    stderr: float | None


class LmEval(TypedDict):
    students: list[str]
    tasks: dict[str, dict[str, dict[str, Benchmark]]]


class Student(TypedDict):
    metric: str | None
    num_problems: int | None
    before: Estimate | None
    methods: dict[str, StudentMethod]
    differences: dict[str, Estimate]
    by_task: dict[str, dict[str, float | None]]
    answers: dict[str, AnswerForm]


def draw_student(student: Student | None) -> Figure | None:
    """Student accuracy before fine-tuning and after it by method, with 95 % intervals."""
    if student is None:
        return None
    found = {**({"before": student["before"]} if student["before"] else {}), **student["methods"]}
    names = [name for name in ordered(found) if found[name]["value"] is not None]
    if not names:
        return None
    figure = Figure(figsize=(WIDTH, drawing.rows_height(len(names), 0.4)))
    axes = figure.subplots()
    for row, name in enumerate(names):
        estimate = found[name]
        axes.barh(row, estimate["value"], height=0.62, color=drawing.method_colour(name))
        end = max(estimate["value"], estimate["high"] or 0)
        if estimate["low"] is not None and estimate["high"] is not None:
            axes.plot([estimate["low"], estimate["high"]], [row, row], color=INK, linewidth=1.3)
        weight = "bold" if name == "persyn" else "normal"
        drawing.after(axes, end, row, number(estimate["value"]), fontweight=weight)
    drawing.label_methods(axes, [label(name) for name in names], label("persyn"))
    drawing.value_grid(axes)
    axes.set_xlabel(student["metric"] or "accuracy")
    axes.set_xlim(0, min(1.12, 1.18 * axes.dataLim.x1))
    return figure


def student_difference(student: Student | None, method: str) -> Bounded | None:
    """Student accuracy of PerSyn minus a method: paired, or bounded by separate intervals."""
    if student is None or method == "persyn" or "persyn" not in student["methods"]:
        return None
    if student["differences"]:
        return student["differences"].get(method)
    other = student["before"] if method == "before" else student["methods"].get(method)
    return _bounded_difference(student["methods"]["persyn"], other)


def _bounded_difference(first: Bounded, second: Bounded | None) -> Bounded | None:
    if second is None or first["value"] is None or second["value"] is None:
        return None
    lows, highs = (first["low"], second["low"]), (first["high"], second["high"])
    value = first["value"] - second["value"]
    if lows[0] is None or lows[1] is None or highs[0] is None or highs[1] is None:
        return {"value": value, "low": None, "high": None}
    return {"value": value, "low": lows[0] - highs[1], "high": highs[0] - lows[1]}


def student_sentences(student: Student | None) -> list[str]:
    """How well the student does on PerSyn's data, beside every other method's."""
    if student is None or "persyn" not in student["methods"]:
        return []
    tuned = student["methods"]["persyn"]
    if tuned["value"] is None:
        return []
    problems = f" on {count(student['num_problems'])} problems" if student["num_problems"] else ""
    metric = student["metric"] or "accuracy"
    sentences = [
        f"Tuned on PerSyn's data, the student reaches {metric} {estimate(tuned)}{problems}."
    ]
    names = ["before", *student["methods"]]
    others = {name: student_difference(student, name) for name in ordered(names)}
    measured = {name: value for name, value in others.items() if value is not None}
    simpler = [name for name in SIMPLER if verdict(others.get(name)) == "lower"]
    sentences += comparison_sentences(f"This {metric}", measured)
    if simpler:
        sentences.append(
            "The run speaks against PerSyn here: a simpler assignment gave a better student."
        )
    return sentences
