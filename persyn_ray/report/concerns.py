"""Warnings of a report: cut, looping, failed or unscored responses, prompts on which no teacher is
better than another, and a router no better than one teacher; each with the setting that helps.

A sentence appears where the share reaches `NOTABLE`; it says "most" from `MOST` on. Of prompts,
where fewer than `MOST` of them or fewer than `FEW_PROMPTS` prefer a teacher.
"""

from collections.abc import Mapping
from typing import Any

from persyn_ray.report.content import Report
from persyn_ray.report.estimate import verdict
from persyn_ray.report.numbers import count, estimate, interval, number, percent, signed
from persyn_ray.report.sections.router.ranking import RouterSummary

NOTABLE = 0.1
"""Share of the responses from which they are told of."""
MOST = 0.5
FEW_PROMPTS = 30
"""Prompts that prefer a teacher: with fewer a router learns next to nothing."""
MOST_NAMED = 4
FATES = {
    "num_truncated": (
        "were cut by their token limit",
        "raise sampling.max_tokens, set sampling.retry_tokens, or keep what was cut "
        "(responses.incomplete: keep)",
    ),
    "num_looped": (
        "go round in circles",
        "try another sampling.temperature, or a larger responses.loop_repeats",
    ),
    "num_failed": ("failed", "see the dead letters"),
    "num_absent": ("are absent", "the same command asks for them again"),
    "num_unscored": ("have no score", "see scoring.quality and the dead letters"),
}


def fate_sentences(teachers: Mapping[str, Mapping[str, Any]], of: str) -> list[str]:
    """What became of the teachers' responses, where it happened often.

    Args:
        teachers: for each the counts of FATES, and `num_responses`.
        of: which responses, in words.
    """
    sentences: list[str] = []
    asked = {name: _asked(facts) for name, facts in teachers.items()}
    total = sum(asked.values())
    for key, (phrase, setting) in FATES.items():
        found = {name: facts.get(key) or 0 for name, facts in teachers.items()}
        num = sum(found.values())
        often = [name for name in found if found[name] >= NOTABLE * max(1, asked[name])]
        if not num or (num < NOTABLE * total and not any(_most(found, asked, n) for n in often)):
            continue
        often.sort(key=lambda name: -found[name])
        named = ", ".join(
            f"{name} {count(found[name])} of {count(asked[name])}" for name in often[:MOST_NAMED]
        )
        more = f" and {len(often) - MOST_NAMED} more" if len(often) > MOST_NAMED else ""
        share = f"{count(num)} of {count(total)} {of} ({percent(num / total)})"
        begin = f"Most responses {phrase}: {share}" if num >= MOST * total else f"{share} {phrase}"
        sentences.append(f"{begin}; {named}{more}. To change it: {setting}.")
    return sentences


def _asked(facts: Mapping[str, Any]) -> int:
    return (facts.get("num_responses") or 0) + (facts.get("num_absent") or 0)


def _most(found: Mapping[str, int], asked: Mapping[str, int], name: str) -> bool:
    return found[name] >= MOST * max(1, asked[name])


def preference_sentences(prompts: Mapping[str, Any] | None, what: str) -> list[str]:
    """That few prompts say which teacher is better, and why the others do not."""
    if not prompts or not prompts.get("num") or prompts.get("num_preferring") is None:
        return []
    num, preferring = prompts["num"], prompts["num_preferring"]
    if preferring >= MOST * num and preferring >= FEW_PROMPTS:
        return []
    tied, alone = prompts["num_all_tied"] or 0, num - (prompts["num_comparable"] or 0)
    reasons = [
        f"on {count(tied)} all known rewards are equal" if tied else "",
        f"on {count(alone)} fewer than two rewards are known" if alone else "",
    ]
    why = ", ".join(reason for reason in reasons if reason)
    advice = (
        " A quality with more grades or scoring.alpha above 0 parts equal ones."
        if tied >= MOST * num
        else " More parallel prompts (prompts.num_parallel) or more complete responses would help."
    )
    return [
        f"{what}: only {count(preferring)} of {count(num)} prompts prefer one teacher to another"
        f"{f'; {why}' if why else ''}.{advice}"
    ]


def constant_sentences(router: RouterSummary | None) -> list[str]:
    """That one teacher for all prompts does as well as the router, or a draw finds as good ones."""
    if router is None:
        return []
    gain, hit, chance = (
        router["differences"].get("best_constant"),
        router["hit_at_1"],
        router["chance_at_1"],
    )
    advice = (
        "More parallel prompts (prompts.num_parallel) or teachers that differ more may help; else "
        "one teacher is enough."
    )
    if gain is not None and gain["value"] is not None:
        if verdict(gain) == "higher":
            return []
        worse = "worse" if verdict(gain) == "lower" else "not clearly better"
        shown = f"{signed(gain['value'])} reward; {interval(gain)}"
        return [f"The router is {worse} than the best single teacher ({shown}). {advice}"]
    if hit is None or chance is None or hit["low"] is None or hit["low"] > chance:
        return []
    return [
        f"The router is not clearly better than a draw: Hit@1 {estimate(hit)}, of a teacher drawn "
        f"at random {number(chance)}. {advice}"
    ]


def concerns(report: Report) -> list[str]:
    """All that the summary should begin with."""
    reward, router = report["reward"], report["router"]
    found: list[str] = []
    if reward is not None:
        kept = reward["incomplete"] == "keep"
        teachers = {
            name: {**facts, "num_truncated": 0} if kept else facts
            for name, facts in reward["teachers"].items()
        }
        found += fate_sentences(teachers, "responses to the parallel set")
        found += preference_sentences(
            reward["prompts"], "The router learns from preferences of the parallel set"
        )
    if router is not None:
        found += preference_sentences(
            router["prompts"], f"The router is judged on {router['heldout_set'] or 'few prompts'}"
        )
        found += constant_sentences(router)
    return found
