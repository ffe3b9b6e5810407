import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, BertConfig, LlamaConfig, RobertaConfig

from persyn_ray.errors import ConfigError, DataError, PoolMismatchError
from persyn_ray.models.chat import Message, encode_prompt
from persyn_ray.models.collate import pad_right
from persyn_ray.models.load import load_tokenizer, save_random
from persyn_ray.models.router.losses import bradley_terry_loss, plackett_luce_loss, regression_loss
from persyn_ray.models.router.model import (
    Router,
    build_router,
    encode_router_prompts,
    is_decoder,
    load_router,
    router_logits,
    save_router,
)

from .conftest import POOL, PROMPTS


def test_padding_on_either_side_changes_nothing(folder: str) -> None:
    router, tokenizer = build_router(folder, POOL).eval(), load_tokenizer(folder)
    rows = encode_router_prompts(tokenizer, PROMPTS, 1024)
    ids, mask = pad_right(rows, 0)
    with torch.no_grad():
        alone = torch.cat([router(torch.tensor([row])).logits for row in rows])
        right = router(ids, mask).logits
        left = router(_roll(ids, mask), _roll(mask, mask)).logits
    torch.testing.assert_close(right, alone, atol=1e-5, rtol=0)
    if router.config.pooling == "last":  # encoders count positions from the first column
        torch.testing.assert_close(left, alone, atol=1e-5, rtol=0)


def _roll(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    shifts = (mask == 0).sum(1).tolist()
    return torch.stack([row.roll(shift) for row, shift in zip(values, shifts, strict=True)])


def test_logits_are_the_head_of_the_pooled_state(folder: str) -> None:
    router, tokenizer = build_router(folder, POOL).eval(), load_tokenizer(folder)
    rows = encode_router_prompts(tokenizer, PROMPTS, 1024)
    expected = []
    for row in rows:
        with torch.no_grad():
            hidden_TD = router.backbone(torch.tensor([row])).last_hidden_state[0]
            pooled_D = hidden_TD[-1] if router.config.pooling == "last" else hidden_TD.mean(0)
            expected.append((router.head.weight @ pooled_D + router.head.bias).tolist())
    logits = router_logits(router, tokenizer, PROMPTS)
    assert logits.shape == (4, 3)
    assert logits.dtype == np.float64
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    for tokens_per_batch in (1, 60):
        batched = router_logits(router, tokenizer, PROMPTS, tokens_per_batch)
        np.testing.assert_allclose(batched, expected, atol=1e-5)


def test_a_saved_router_loads_without_its_backbone(tmp_path: Path, folder: str) -> None:
    backbone = shutil.copytree(folder, tmp_path / "backbone")
    router, tokenizer = build_router(str(backbone), POOL), load_tokenizer(folder)
    logits = router_logits(router, tokenizer, PROMPTS)
    save_router(router, tokenizer, tmp_path / "router", {"alpha": 0.4})
    shutil.rmtree(backbone)
    again, its_tokenizer = load_router(tmp_path / "router", POOL)
    np.testing.assert_array_equal(router_logits(again, its_tokenizer, PROMPTS), logits)
    assert again.config.extra == {"alpha": 0.4}
    written = (tmp_path / "router" / "config.json").read_text()
    assert json.loads(written)["id2label"] == {"0": "small", "1": "large", "2": "coder"}
    assert str(tmp_path) not in written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["router"]


def test_saving_replaces_an_older_router(tmp_path: Path, llama_folder: str) -> None:
    tokenizer = load_tokenizer(llama_folder)
    for teachers in (POOL, ("a", "b")):
        save_router(build_router(llama_folder, teachers), tokenizer, tmp_path / "router", {})
    assert load_router(tmp_path / "router")[0].config.teachers == ["a", "b"]


def test_number_formats_survive_saving(tmp_path: Path, llama_folder: str) -> None:
    router, tokenizer = (
        build_router(llama_folder, POOL, dtype="bfloat16"),
        load_tokenizer(llama_folder),
    )
    save_router(router, tokenizer, tmp_path / "router", {})
    assert {value.dtype for value in load_router(tmp_path / "router")[0].parameters()} == {
        torch.bfloat16
    }
    wide = Router.from_pretrained(str(tmp_path / "router"), dtype=torch.float32)
    assert {value.dtype for value in wide.parameters()} == {torch.float32}


def test_another_pool_is_refused(tmp_path: Path, llama_folder: str) -> None:
    save_router(build_router(llama_folder, POOL), load_tokenizer(llama_folder), tmp_path / "r", {})
    for teachers in (POOL[::-1], POOL[:2]):
        with pytest.raises(PoolMismatchError, match="small"):
            load_router(tmp_path / "r", teachers)


def test_other_folders_hold_no_router(tmp_path: Path, llama_folder: str) -> None:
    for folder in (tmp_path / "nothing", llama_folder):
        with pytest.raises(ConfigError, match="holds no router"):
            load_router(folder)


def test_the_loss_reaches_head_and_backbone(folder: str) -> None:
    router = build_router(folder, POOL).eval()
    ids, mask = pad_right(encode_router_prompts(load_tokenizer(folder), PROMPTS, 1024), 0)
    wins = torch.triu(torch.ones(3, 3), diagonal=1).expand(4, 3, 3)
    output = router(ids, mask, wins=wins)
    assert output.loss is not None
    assert output.logits is not None
    torch.testing.assert_close(output.loss, bradley_terry_loss(output.logits, wins))
    output.loss.backward()
    silent = [
        name
        for name, value in router.named_parameters()
        if value.requires_grad and value.grad is None
    ]
    assert silent == []  # a parameter without gradient would stall distributed training


def test_the_loss_is_the_one_in_the_configuration(llama_folder: str) -> None:
    router = build_router(llama_folder, POOL).eval()
    ids, mask = pad_right(encode_router_prompts(load_tokenizer(llama_folder), PROMPTS, 64), 0)
    wins = torch.triu(torch.ones(3, 3), diagonal=1).expand(4, 3, 3)
    rewards = torch.tensor([[1.0, 0.5, 0.0]]).expand(4, 3)
    expected = {
        "bradley_terry": lambda logits: bradley_terry_loss(logits, wins),
        "plackett_luce": lambda logits: plackett_luce_loss(logits, wins),
        "regression": lambda logits: regression_loss(logits, rewards),
    }
    for loss, compute in expected.items():
        router.config.loss = loss
        output = router(ids, mask, wins=wins, rewards=rewards)
        torch.testing.assert_close(output.loss, compute(output.logits))
    assert router(ids, mask, wins=wins).loss is None  # a regression has no use for wins


def test_a_few_steps_learn_a_planted_preference(llama_folder: str) -> None:
    router, tokenizer = (
        build_router(llama_folder, ("letters", "digits")),
        load_tokenizer(llama_folder),
    )
    prompts = [
        [Message(role="user", content=text)] for text in ("ab", "cdx", "12", "345", "e", "6")
    ]
    ids, mask = pad_right(encode_router_prompts(tokenizer, prompts, 64), 0)
    prefers = torch.tensor([0, 0, 1, 1, 0, 1])
    wins = torch.zeros(6, 2, 2)
    wins[torch.arange(6), prefers, 1 - prefers] = 1
    optimiser = torch.optim.AdamW(router.parameters(), lr=1e-2)
    for _ in range(30):
        optimiser.zero_grad()
        router(ids, mask, wins=wins).loss.backward()
        optimiser.step()
    assert router_logits(router, tokenizer, prompts).argmax(1).tolist() == prefers.tolist()


def test_the_head_starts_small_seeded_and_without_bias(llama_folder: str) -> None:
    first, same, other = (build_router(llama_folder, POOL, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.head.weight, same.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)
    assert first.head.bias.tolist() == [0, 0, 0]
    assert np.abs(router_logits(first, load_tokenizer(llama_folder), PROMPTS)).max() < 1


def test_pooling_follows_the_kind_of_backbone() -> None:
    assert is_decoder(LlamaConfig())
    assert is_decoder(AutoConfig.for_model("qwen2"))
    assert not is_decoder(BertConfig())
    assert not is_decoder(RobertaConfig())


def test_decoders_read_the_prompt_with_its_generation_prompt(llama_folder: str) -> None:
    tokenizer = load_tokenizer(llama_folder)
    (row,) = encode_router_prompts(tokenizer, PROMPTS[:1], 1024)
    assert row == encode_prompt(tokenizer, PROMPTS[0], add_generation_prompt=True)
    (cut,) = encode_router_prompts(tokenizer, PROMPTS[:1], 12)
    assert cut == row[-12:]


def test_encoders_read_the_users_text_between_their_marks(bert_folder: str) -> None:
    tokenizer = load_tokenizer(bert_folder)
    messages = [
        Message(role="system", content="S"),
        Message(role="user", content="abc [SEP] d"),
        Message(role="assistant", content="A"),
        Message(role="user", content="xyz"),
    ]
    whole, _ = encode_router_prompts(tokenizer, [messages, PROMPTS[0]], 1024)
    assert tokenizer.decode(whole) == "[CLS]abc [\u200dSEP] d\n\nxyz[SEP]"
    (cut,) = encode_router_prompts(tokenizer, [messages], 5)
    assert tokenizer.decode(cut) == "[CLS]xyz[SEP]"
    (long,) = encode_router_prompts(tokenizer, [[Message(role="user", content="x" * 999)]], 2000)
    assert len(long) == 512  # the tokenizer's own limit
    assert tokenizer.truncation_side == "right"


def test_a_prompt_without_text_is_refused(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(save_random("llama", tmp_path)))
    tokenizer.chat_template = None
    with pytest.raises(DataError, match="Prompt 1 has no text"):
        encode_router_prompts(tokenizer, [PROMPTS[0], [Message(role="system", content="x")]], 64)


def test_no_prompt_has_no_logits(llama_folder: str) -> None:
    router, tokenizer = build_router(llama_folder, POOL), load_tokenizer(llama_folder)
    assert router_logits(router, tokenizer, []).shape == (0, 3)


def test_logits_that_are_no_numbers_are_named(llama_folder: str) -> None:
    router = build_router(llama_folder, POOL)
    torch.nn.init.constant_(router.head.bias, float("nan"))
    with pytest.raises(DataError, match="prompt 0"):
        router_logits(router, load_tokenizer(llama_folder), PROMPTS)
