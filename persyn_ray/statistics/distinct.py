"""Variety of texts: distinct-n, the share of different n-grams among all (arXiv 1510.03055)."""

from collections.abc import Iterable, Sequence


def distinct_n(texts: Iterable[Sequence[str]], n: int) -> float | None:
    """Different n-grams of words over all n-grams, in all texts together; None without any."""
    seen: set[tuple[str, ...]] = set()
    total = 0
    for words in texts:
        grams = list(zip(*(words[start:] for start in range(n)), strict=False))
        total += len(grams)
        seen.update(grams)
    return len(seen) / total if total else None
