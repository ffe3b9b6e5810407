"""Tables of fine-tuning beside TRL: the committed result in, heads and rows out."""

from collections.abc import Iterator
from typing import Any

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]

WAYS = {
    "ours": "ours, packed",
    "ours_padded": "ours, padded",
    "trl_packed": "TRL with its packing",
    "trl": "TRL, padded, in the order that it draws",
    "trl_in_our_order": "TRL, padded, with the examples of our steps",
}
AT_LEAST = {
    "over_unpacked": "packed over TRL padded, in its own order (tokens a second)",
    "over_packed": "packed over TRL with its packing",
}
AT_MOST = {
    "max_loss_gap": "gap of the losses of a step, to TRL on the same examples",
    "max_grad_gap": "gap of a gradient, packed and padded",
    "workers_loss_gap": "gap of the losses of a step, one worker and two",
    "seen_twice": "examples seen twice, two workers killed (-9) in epoch 2 and resumed",
    "never_seen": "examples never seen",
    "run_seen_twice": "the same through `persyn run`, a worker killed in epoch 2 and then the run",
    "run_never_seen": "examples never seen in that",
    "mib_per_million_tokens": "MiB of a worker for a million mapped tokens",
    "seconds_outside_train": "step finetune of the lab, seconds outside train()",
}


def student_tables(whole: dict[str, Any]) -> Iterator[Table]:
    """What is held against goals, and the speed of every way where it was measured."""
    head = ("measured", "figure", "goal", "reached")
    yield head, [_held(name, whole["figures"], whole["goals"]) for name in AT_LEAST | AT_MOST]
    speed = whole["figures"].get("speed", {})
    if "ours" in speed:
        head = ("way", "response tokens/s", "ours packed over it", "tokens read, padding too")
        yield head, [_way(name, speed) for name in WAYS]


def _held(name: str, figures: dict[str, Any], goals: dict[str, float]) -> tuple[str, ...]:
    told, goal = (AT_LEAST | AT_MOST)[name], goals[name]
    bound = f"at least {goal:g}" if name in AT_LEAST else f"at most {goal:g}"
    if name not in figures:
        return told, "not measured", bound, "–"
    found = figures[name]
    is_reached = found >= goal if name in AT_LEAST else found <= goal
    return told, f"{found:.2g}", bound, "yes" if is_reached else "**no**"


def _way(name: str, speed: dict[str, Any]) -> tuple[str, ...]:
    rate, read = speed[name]["tokens_per_second"], speed[name].get("tokens_read")
    over = speed["ours"]["tokens_per_second"] / rate
    return WAYS[name], f"{rate:.0f}", f"{over:.2f}", f"{read:,}" if read else "–"
