"""Routers whose backbone stays: features are computed once, columns come without moving others."""

from pathlib import Path

import numpy as np
import pytest
import torch

from persyn_ray.errors import PoolMismatchError
from persyn_ray.models.load import load_tokenizer
from persyn_ray.models.router.frozen import (
    add_columns,
    feature_logits,
    prompt_features,
    with_features,
)
from persyn_ray.models.router.model import (
    build_router,
    encode_router_prompts,
    load_router,
    router_logits,
    save_router,
)

from .conftest import POOL, PROMPTS


@pytest.mark.parametrize("tokens_per_batch", [1, 60, 8192])
def test_the_head_of_features_is_the_router(folder: str, tokens_per_batch: int) -> None:
    router, tokenizer = build_router(folder, POOL), load_tokenizer(folder)
    features_PD = prompt_features(router, tokenizer, PROMPTS, tokens_per_batch)
    assert features_PD.shape == (4, 32)
    logits_PM = router_logits(router, tokenizer, PROMPTS)
    np.testing.assert_allclose(feature_logits(router.head, features_PD), logits_PM, atol=1e-5)


def test_features_come_without_dropout_and_can_be_fitted_on(bert_folder: str) -> None:
    router, tokenizer = build_router(bert_folder, POOL).train(), load_tokenizer(bert_folder)
    first, again = (prompt_features(router, tokenizer, PROMPTS) for _ in range(2))
    assert torch.equal(first, again)
    router.head(first).sum().backward()  # tensors of inference mode would refuse
    assert router.head.weight.grad is not None


def test_rows_are_embedded_once(llama_folder: str) -> None:
    router, tokenizer = build_router(llama_folder, POOL), load_tokenizer(llama_folder)
    ids = encode_router_prompts(tokenizer, PROMPTS, 64)
    rows = with_features(router, [{"input_ids": row, "name": n} for n, row in enumerate(ids)], 0)
    features_PD = prompt_features(router, tokenizer, PROMPTS)
    torch.testing.assert_close(torch.stack([row["features"] for row in rows]), features_PD)
    assert [row["name"] for row in rows] == [0, 1, 2, 3]
    again = with_features(router, [rows[2], {"input_ids": ids[0]}], 0)
    assert again[0] is rows[2]
    torch.testing.assert_close(again[1]["features"], features_PD[0])


def test_new_columns_leave_the_others_bit_by_bit(tmp_path: Path, folder: str) -> None:
    router, tokenizer = build_router(folder, POOL), load_tokenizer(folder)
    before = router_logits(router, tokenizer, PROMPTS)
    draw = np.random.default_rng(0)
    columns = {"new": (draw.normal(size=32), 0.25), "other": (draw.normal(size=32), -1.0)}
    larger = add_columns(router, ("coder", "new", "small", "large", "other"), columns)
    for place, name in ((2, "small"), (3, "large"), (0, "coder")):
        old = POOL.index(name)
        assert torch.equal(larger.head.weight[place], router.head.weight[old])
        assert torch.equal(larger.head.bias[place], router.head.bias[old])
    logits_PM = router_logits(larger, tokenizer, PROMPTS)
    np.testing.assert_allclose(logits_PM[:, [2, 3, 0]], before, atol=1e-6)
    features_PD = prompt_features(router, tokenizer, PROMPTS).double().numpy()
    for place, name in ((1, "new"), (4, "other")):
        expected_P = features_PD @ columns[name][0] + columns[name][1]
        np.testing.assert_allclose(logits_PM[:, place], expected_P, atol=1e-5)
    save_router(larger, tokenizer, tmp_path / "router")
    again, _ = load_router(tmp_path / "router", ("coder", "new", "small", "large", "other"))
    np.testing.assert_array_equal(router_logits(again, tokenizer, PROMPTS), logits_PM)


def test_a_router_keeps_its_number_format_and_its_loss_when_it_grows(
    tmp_path: Path, llama_folder: str
) -> None:
    router = build_router(llama_folder, POOL, dtype="bfloat16")
    router.config.loss = "plackett_luce"
    larger = add_columns(router, (*POOL, "new"), {"new": (np.zeros(32), 0.0)})
    save_router(larger, load_tokenizer(llama_folder), tmp_path / "router")
    again, _ = load_router(tmp_path / "router")
    assert {value.dtype for value in again.parameters()} == {torch.bfloat16}
    assert again.config.loss == "plackett_luce"


@pytest.mark.parametrize(
    ("teachers", "columns"),
    [
        (("small", "large", "new"), ("new",)),  # one is left out
        ((*POOL, "new"), ()),  # one has no column
        ((*POOL, "new"), ("new", "small")),  # one has two
        (POOL, ("new",)),  # one is not in the pool
    ],
)
def test_a_pool_that_does_not_fit_is_refused(
    llama_folder: str, teachers: tuple[str, ...], columns: tuple[str, ...]
) -> None:
    router = build_router(llama_folder, POOL)
    with pytest.raises(PoolMismatchError, match="do not make the pool"):
        add_columns(router, teachers, dict.fromkeys(columns, (np.zeros(32), 0.0)))
