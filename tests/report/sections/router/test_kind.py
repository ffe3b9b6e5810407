import pytest

from persyn_ray.report.sections.router.kind import (
    LABELS,
    NETWORKS,
    RouterKind,
    is_network,
    kind_label,
    kind_sentences,
)


def kind(name: str | None, told: str | None = None, why: str | None = None) -> RouterKind:
    return {"kind": name, "told": told, "why": why, "num_prompts": 1200, "kinds": []}


def test_the_papers_router_needs_no_word() -> None:
    assert kind_sentences(None) == []
    assert kind_sentences(kind(None)) == []
    assert kind_sentences(kind("fitted", why="never told")) == []


def test_a_kind_that_was_asked_for_is_named_with_what_it_has_chosen() -> None:
    (said,) = kind_sentences(kind("knn", told="k = 16"))
    assert said == "The router is of kind knn: k-NN on frozen embeddings (k = 16)."


def test_a_kind_that_auto_has_chosen_says_on_what_and_why() -> None:
    (said,) = kind_sentences(kind("constant", why="no kind is better"))
    assert said.startswith("router.kind: auto uses best constant teacher, compared on 1,200")
    assert said.endswith("prompts: no kind is better.")


@pytest.mark.parametrize("name", [*LABELS, None])
def test_only_networks_minimise_a_loss(name: str | None) -> None:
    assert is_network(kind(name)) is (name is None or name in NETWORKS)
    assert is_network(None)


def test_a_kind_of_a_later_version_keeps_its_name() -> None:
    assert kind_label("forest") == "forest"
    assert kind_label(None) == kind_label("fitted") == LABELS["fitted"]
