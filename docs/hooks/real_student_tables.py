"""Tables of real students of recorded responses: real_student.json in, Markdown out."""

from typing import Any

from markdown_tables import METHODS, Rows, compared_students, interval, result, table

SIGNALS = {
    "quality": "quality",
    "log_likelihood": "learnability (log-likelihood)",
    "lowest_window": "lowest log-likelihood of a window",
    "rank_surprisal": "rank surprisal, negated",
    "reward": "reward, alpha 0.4",
    "car, beta 1.0": "CAR, β = 1",
}


def real_floor() -> str:
    """Students of one teacher's responses, beside the untuned one."""
    of = _figures("floor")
    rows: Rows = []
    for name, accuracy in of["accuracy"].items():
        difference = of["minus_before"].get(name)
        gain = "–" if difference is None else interval(difference, 2, "+")
        rows.append((name, str(accuracy["num"]), interval(accuracy, 2), gain))
    return table(("data from", "answers", "right", "minus before fine-tuning"), rows)


def real_methods() -> str:
    """Students of each way to choose a teacher, and PerSyn's difference from them."""
    of = _figures("methods")
    rows: Rows = []
    for name, (share, *others) in compared_students(of).items():
        likely = of["mean_log_likelihood"].get(name)
        told = "–" if likely is None else f"{likely:.2f}"
        rows.append((METHODS[name], share, told, *others))
    head = ("data from", "share right", "log-likelihood", "right", "PerSyn minus it", "p")
    return table(head, rows)


def real_predicted() -> str:
    """Does the mean of a signal over a data set predict the student's gain?"""
    correlations = _figures("methods")["predicted_by"]["spearman"]
    rows: Rows = [(told, interval(correlations[name], 2, "+")) for name, told in SIGNALS.items()]
    return table(("mean over the data of", "rank correlation with the gain"), rows)


def _figures(part: str) -> dict[str, Any]:
    return result("real_student")["figures"][part]
