"""A quality of one's own: right answers count, and among them short ones count more.

`own_quality.yaml` names it as `own_quality:score`.
"""

from persyn_ray import QualityRow


def score(rows: list[QualityRow], marker: str, tokens_free: int = 8) -> list[float | None]:
    """A number for each row, more is better, or None where it is unknown.

    `marker` and `tokens_free` come from `settings` of the recipe. Each row holds prompt_id,
    teacher, messages, response (without its thinking), reference and task.
    """
    return [_one(row, marker, tokens_free) for row in rows]


def _one(row: QualityRow, marker: str, tokens_free: int) -> float | None:
    if row["reference"] is None:
        return None
    _, mark, answer = row["response"].rpartition(marker)
    if not mark or answer.strip() != row["reference"]:
        return 0.0
    extra = max(0, len(row["response"].split()) - tokens_free)
    return 1.0 / (1.0 + 0.1 * extra)
