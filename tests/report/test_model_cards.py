"""Cards of routers and students, and licences as the Hub names them."""

from typing import Any

import pytest
import yaml

from persyn_ray.report.cards.licences import identifier, known, licence_fields
from persyn_ray.report.cards.models import ModelFacts, router_card, student_card


def front_of(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("apache-2.0", "apache-2.0"),
        (" Apache 2 ", "apache-2.0"),
        ("Apache License", None),  # of which version?
        ("MIT License", "mit"),
        ("CC-BY-4.0", "cc-by-4.0"),
        ("proprietary", None),
        ("", None),
    ],
)
def test_spellings_of_licences(name: str, found: str | None) -> None:
    assert identifier(name) == found


def test_every_identifier_of_the_hub_is_itself() -> None:
    assert {identifier(name.upper()) for name in known()} == known()
    assert len(known()) > 60


def test_several_licences_are_all_named_in_one_order() -> None:
    fields = licence_fields(["Our Own", "mit", "Acme v2", "MIT License", "our-own"])
    assert fields == {"license": ["mit", "other"], "license_name": "acme-v2-and-our-own"}
    assert fields == licence_fields(["mit", "Acme v2", "Our Own"])
    assert licence_fields([]) == {}
    assert licence_fields(["***"]) == {"license": "other", "license_name": "unnamed"}


def test_a_name_of_any_length_is_cut_to_one_that_the_hub_takes() -> None:
    name = licence_fields([f"Licence number {number}" for number in range(30)])["license_name"]
    assert isinstance(name, str)
    assert 40 < len(name) <= 80
    assert name[-1].isalnum()


def test_a_router_is_found_by_its_base_and_says_its_teachers(content: dict[str, Any]) -> None:
    facts = ModelFacts("org/router", "base/model", "Our Own", ("a", "b[x](http://y)"), "llama")
    card = router_card(content, facts)
    front = front_of(card)
    assert front["base_model"] == "base/model"
    assert (front["license"], front["license_name"]) == ("other", "our-own")
    assert front["pipeline_tag"] == "text-classification"
    assert "\n# router\n" in card
    rows = [line for line in card.splitlines() if line.startswith(("| 0 |", "| 1 |", "| 2 |"))]
    assert rows[0] == "| 0 | a |"
    assert len(rows) == 2
    assert "[x](" not in card  # a name is no link


def test_a_student_without_base_or_licence_claims_neither(content: dict[str, Any]) -> None:
    front = front_of(student_card(content, ModelFacts("org/student", None, None)))
    assert "base_model" not in front
    assert "license" not in front
    assert front["library_name"] == "transformers"


@pytest.mark.parametrize("make", [router_card, student_card])
def test_an_empty_run_still_has_cards(make: Any) -> None:
    card = make({}, ModelFacts("org/model", None, "mit"))
    assert front_of(card)["license"] == "mit"
    assert "None" not in card
    assert "nan" not in card.lower().replace("nand", "")


def test_a_students_card_says_its_data_licences_figures_and_limits(
    content: dict[str, Any],
) -> None:
    content["run"]["recipe"]["dataset"] = {"extra": [{"name": "tulu", "licence": "odc-by"}]}
    content["run"]["recipe"]["finetune"] = {"max_length": 4096}
    content["examples"]["methods"]["persyn"]["contaminated"] = 3
    content["student"]["answers"] = {"persyn": {"cut_share": 0.25, "looped_share": 0.125}}
    content["lm_eval"] = {
        "students": ["before", "persyn"],
        "tasks": {"gsm8k": {"acc": {"persyn": {"value": 0.4321, "stderr": None}}}},
    }
    card = student_card(content, ModelFacts("students/persyn", None, None, title="Mine"))
    assert "\n# Mine\n" in card
    assert "| add-specialist | 21 % | apache-2.0 |" in card.replace("\u00a0", " ")
    assert "| weak-generalist |" in card
    assert "| unknown |" in card
    assert "| tulu | 4,718 | odc-by |" in card
    assert "3 more were left out, as they overlap with problems of evaluation" in card
    assert "| gsm8k | acc | – | 0.43 |" in card
    figures = next(line for line in card.splitlines() if line.startswith("| 600 |"))
    assert "25" in figures
    assert "12" in figures
    assert "Examples had at most 4,096 tokens" in card
    assert 'from_pretrained("students/persyn")' in card


def test_a_card_of_another_method_claims_nothing_of_persyn(content: dict[str, Any]) -> None:
    card = student_card(content, ModelFacts("students/random", None, None, method="random"))
    assert "chosen by the method `random`" in card
    assert "Tuned on PerSyn" not in card
    assert "| strong-generalist | 20 % |" in card.replace("\u00a0", " ")
