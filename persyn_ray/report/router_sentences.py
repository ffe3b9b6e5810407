"""Sentences on the router's calibration and on novel prompts."""

from persyn_ray.report.content import CalibrationSummary, NoveltySummary, Report
from persyn_ray.report.numbers import estimate, number, percent

MUCH_NOVELTY = 0.05
"""Of the routed prompts; about 0.01 is flagged where they are like the parallel set."""
SPLITS = {
    "routed": "of the routed prompts",
    "heldout": "of the held-out prompts",
    "parallel": "of the parallel set itself",
}


def router_sentences(report: Report) -> list[str]:
    """Sentences for the summary: only where the router should not simply be believed."""
    router = report["router"]
    if router is None:
        return []
    return [*_calibration(router["calibration"]), *_novelty(router["novelty"])]


def is_off(calibration: CalibrationSummary) -> bool:
    """Whether the claims miss by more than chance gives: the interval is then above zero."""
    ece, noise = calibration["ece"], calibration["noise"]
    if ece is None or ece["value"] is None or noise is None:
        return False
    return bool(ece["low"]) and ece["value"] > noise


def miscalibration(calibration: CalibrationSummary) -> str:
    """What the temperature says of claims that miss."""
    temperature = calibration["temperature"]
    if temperature is None or temperature == 1:
        return "off"
    return "overconfident" if temperature > 1 else "underconfident"


def novelty_sentence(novelty: NoveltySummary) -> str:
    """The share of novel prompts in each split that was looked at."""
    known = [
        (percent(novelty["by_split"][split]), name)
        for split, name in SPLITS.items()
        if novelty["by_split"].get(split) is not None
    ]
    if not known:
        return "No split was looked at."
    (first, name), *others = known
    rest = "".join(f", {share} {of}" for share, of in others)
    return f"{first} {name} are unlike the parallel set{rest}."


def _calibration(calibration: CalibrationSummary | None) -> list[str]:
    if calibration is None or not is_off(calibration):
        return []
    scaled = calibration["scaled_ece"]
    after = ""
    if scaled and scaled["value"] is not None:
        after = f"; scaled by a temperature, they miss by {estimate(scaled)}"
    return [
        f"The router's claims that one teacher beats another are "
        f"{miscalibration(calibration)}: they miss by {estimate(calibration['ece'])} on average, "
        f"where chance alone gives {number(calibration['noise'])}{after}."
    ]


def _novelty(novelty: NoveltySummary | None) -> list[str]:
    share = novelty["by_split"].get("routed") if novelty else None
    if share is None or share <= MUCH_NOVELTY:
        return []
    return [
        f"{percent(share)} of the routed prompts are unlike the parallel set; there the router "
        "chooses by what it learned elsewhere."
    ]
