"""The local engine: order, ends, room in the context, and rows that fail alone."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from persyn_ray.engines import transformers as engine_module
from persyn_ray.engines.base import Message, Request
from persyn_ray.engines.decoding import Draws, decode
from persyn_ray.engines.transformers import TransformersEngine
from persyn_ray.errors import ConfigError, StepError
from persyn_ray.models.chat import encode_prompt
from persyn_ray.models.load import load_tokenizer, save_random
from persyn_ray.recipe.base import ModelConfig
from persyn_ray.recipe.teachers import SamplingConfig

TEXTS = ["Hi", "A rather longer prompt than the others", "Count to 3.", "Why?", "Sort 3 1 2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random("llama", tmp_path_factory.mktemp("model"), seed=1)


def requests(texts: list[str]) -> list[Request]:
    return [Request(text, [Message(role="user", content=text)]) for text in texts]


def engine(folder: Path, max_tokens: int = 12, batch_size: int = 3, **settings: Any):
    shaped = {key: settings.pop(key) for key in ("temperature", "stop") if key in settings}
    sampling = SamplingConfig.model_validate({"max_tokens": max_tokens} | shaped)
    return TransformersEngine(
        "ada", ModelConfig(name=str(folder)), sampling, batch_size, **settings
    )


def with_config(folder: Path, out: Path, file: str, **changes: Any) -> Path:
    """A copy of a model folder with other values in one of its JSON files."""
    out.mkdir()
    for path in folder.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    config = json.loads((out / file).read_text())
    (out / file).write_text(json.dumps(config | changes))
    return out


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_completions_come_in_order_and_do_not_depend_on_batches(
    folder: Path, temperature: float
) -> None:
    together = engine(folder, temperature=temperature).generate(requests(TEXTS))
    one_by_one = engine(folder, batch_size=1, temperature=temperature)
    assert together == [one_by_one.generate([item])[0] for item in requests(TEXTS)]
    assert engine(folder, temperature=temperature).generate(requests(TEXTS[::-1])) == together[::-1]
    assert len({item.num_prompt_tokens for item in together}) > 3


def test_a_response_cut_short_says_length_and_counts_its_tokens(folder: Path) -> None:
    for item in engine(folder, max_tokens=5).generate(requests(TEXTS)):
        assert (item.finish_reason, item.num_tokens) == ("length", 5)


def test_an_end_of_turn_of_the_generation_config_stops_and_is_counted_but_not_written(
    folder: Path, tmp_path: Path
) -> None:
    local, tokenizer = engine(folder), load_tokenizer(str(folder))
    prompt = encode_prompt(tokenizer, requests(["Hi"])[0].messages)
    (ids,) = decode(local._model, [prompt], [12], frozenset(), Draws(), ["Hi"])
    last = next(place for place in range(3, 12) if ids[place] not in ids[:place])
    ending = with_config(
        folder, tmp_path / "ending", "generation_config.json", eos_token_id=[2, ids[last]]
    )
    (item,) = engine(ending).generate(requests(["Hi"]))
    assert (item.finish_reason, item.num_tokens) == ("stop", last + 1)
    assert item.text == tokenizer.decode(ids[:last])


def test_system_prompt_and_template_settings_reach_the_template(folder: Path) -> None:
    plain = engine(folder).generate(requests(["Hi"]))[0]
    prompted = engine(folder, system_prompt="Be brief.").generate(requests(["Hi"]))[0]
    assert prompted.num_prompt_tokens > plain.num_prompt_tokens + len("Be brief.")
    template = "{{ extra }}{{ messages[0]['content'] }}"
    model = ModelConfig(name=str(folder), chat_template=template)
    local = TransformersEngine(
        "ada",
        model,
        SamplingConfig.model_validate({"max_tokens": 1}),
        template_kwargs={"extra": "<->"},
    )
    assert local.generate(requests(["Hi"]))[0].num_prompt_tokens == len("<->Hi")


def test_a_prompt_beyond_the_context_is_refused_without_weights(
    folder: Path, tmp_path: Path
) -> None:
    small = with_config(folder, tmp_path / "small", "config.json", max_position_embeddings=64)
    (small / "model.safetensors").unlink()  # nothing may look for weights
    local = engine(small)
    fits, too_long = requests(["Hi", "x" * 70])
    assert local.refuses(fits) is None
    refusal = str(local.refuses(too_long))
    assert refusal.startswith("prompt of ")
    assert refusal.endswith("leaves no room in the context of 64 tokens of ada")


def test_what_room_is_left_is_used_and_no_more(folder: Path, tmp_path: Path) -> None:
    probe = engine(folder, max_tokens=1).generate(requests(["x" * 30]))[0].num_prompt_tokens
    small = with_config(
        folder, tmp_path / "small", "config.json", max_position_embeddings=probe + 4
    )
    long, fits, too_long = engine(small).generate(requests(["x" * 30, "x" * 20, "x" * 34]))
    assert (long.finish_reason, long.num_tokens) == ("length", 4)
    assert (fits.finish_reason, fits.num_tokens) == ("length", 12)
    assert (too_long.finish_reason, too_long.text) == ("error", None)
    assert too_long.num_prompt_tokens == probe + 4


def test_a_conversation_the_template_refuses_is_an_error_completion(folder: Path) -> None:
    template = "{% if 'bad' in messages[0]['content'] %}{{ raise_exception('no') }}{% endif %}ok"
    model = ModelConfig(name=str(folder), chat_template=template)
    local = TransformersEngine("ada", model, SamplingConfig.model_validate({"max_tokens": 2}))
    good, bad = local.generate(requests(["good", "bad"]))
    assert (good.finish_reason, bad.finish_reason) == ("length", "error")
    assert "refuses a conversation" in str(local.refuses(requests(["bad"])[0]))


@pytest.fixture
def ailing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[list[str]], None]], list[int]]:
    """Decoding that first calls what is given with the batch's prompts; lists batch sizes."""

    def make(fail: Callable[[list[str]], None]) -> list[int]:
        healthy, sizes = engine_module.decode, []

        def decode(*settings: Any) -> Any:
            keys = settings[5]
            sizes.append(len(keys))
            fail(keys)
            return healthy(*settings)

        monkeypatch.setattr(engine_module, "decode", decode)
        return sizes

    return make


def test_of_a_batch_with_a_row_that_gives_no_numbers_only_that_row_fails(
    folder: Path, ailing: Any
) -> None:
    expected = engine(folder).generate(requests(TEXTS))

    def fail(keys: list[str]) -> None:
        if "Why?" in keys:
            raise ArithmeticError("NaN")

    ailing(fail)
    completions = engine(folder).generate(requests(TEXTS))
    bad = completions.pop(TEXTS.index("Why?"))
    assert (bad.finish_reason, bad.error) == ("error", "ArithmeticError: NaN")
    del expected[TEXTS.index("Why?")]
    assert completions == expected


def out_of_memory() -> Exception:
    """The error of a machine without so much memory, as torch raises it."""
    try:
        torch.empty(1 << 50)
    except RuntimeError as error:
        return error
    raise AssertionError("this machine has a petabyte of memory")


@pytest.mark.parametrize("error", [out_of_memory(), torch.OutOfMemoryError("CUDA out of memory.")])
def test_a_batch_that_is_too_large_for_the_memory_is_halved_with_a_warning(
    folder: Path, ailing: Any, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    expected = engine(folder, temperature=1.0).generate(requests(TEXTS))

    def fail(keys: list[str]) -> None:
        if len(keys) > 1:
            raise error

    sizes = ailing(fail)
    local = engine(folder, batch_size=5, temperature=1.0)
    assert local.generate(requests(TEXTS)) == expected
    assert sizes == [5, 2, 1, 1, 1, 1, 1]
    warnings = [record.getMessage() for record in caplog.records]
    assert [text[: text.index(" (set")] for text in warnings] == [
        "ada has not enough memory for 5 prompts at once and goes on with 2",
        "ada has not enough memory for 2 prompts at once and goes on with 1",
    ]
    local.generate(requests(TEXTS))
    assert sizes[7:] == [1] * 5  # what did not fit once is not tried again


def test_too_little_memory_for_one_prompt_is_no_answer_of_the_model(
    folder: Path, ailing: Any
) -> None:
    def fail(keys: list[str]) -> None:
        if "Why?" in keys:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    ailing(fail)
    with pytest.raises(StepError, match=r"ada has not enough memory for one response of 12 tokens"):
        engine(folder).generate(requests(TEXTS))


def test_any_other_error_is_raised_at_once(folder: Path, ailing: Any) -> None:
    def fail(keys: list[str]) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    sizes = ailing(fail)
    with pytest.raises(RuntimeError, match="device-side assert"):
        engine(folder).generate(requests(TEXTS))
    assert len(sizes) == 1


def test_a_request_may_ask_for_more_or_fewer_tokens_than_the_teacher_writes(folder: Path) -> None:
    (asked,) = requests(["Hi"])
    (plain,) = engine(folder, max_tokens=5).generate([asked])
    local = engine(folder, max_tokens=5)
    longer, shorter = local.generate([replace(asked, max_tokens=n) for n in (11, 2)])
    assert (longer.finish_reason, longer.num_tokens, shorter.num_tokens) == ("length", 11, 2)
    assert longer == engine(folder, max_tokens=11).generate([asked])[0]
    assert str(longer.text).startswith(str(plain.text))


def test_the_first_stop_text_ends_a_response_and_is_no_part_of_it(folder: Path) -> None:
    whole = engine(folder, max_tokens=60).generate(requests(TEXTS))
    text = str(whole[0].text)
    stops = (text[20:23], text[10:13], "is never written")
    stopped = engine(folder, max_tokens=60, stop=stops).generate(requests(TEXTS))
    for before, after in zip(whole, stopped, strict=True):
        places = [str(before.text).find(stop) for stop in stops if stop in str(before.text)]
        if places:
            assert (after.text, after.finish_reason) == (str(before.text)[: min(places)], "stop")
            assert after.num_tokens < before.num_tokens
        else:
            assert after == before
    assert stopped[0].text == text[: text.find(stops[1])]
    alone = engine(folder, max_tokens=60, stop=stops, batch_size=1)
    assert alone.generate(requests(TEXTS)) == stopped


def test_a_teacher_that_cannot_work_is_refused_before_it_starts(
    folder: Path, tmp_path: Path
) -> None:
    without_weights = with_config(folder, tmp_path / "model", "config.json")
    (without_weights / "model.safetensors").unlink()
    engine(without_weights).check()
    with pytest.raises(ConfigError, match="No model at"):
        engine(tmp_path / "nowhere").check()
    (without_weights / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match=r"'ada'.*no chat template.*model\.chat_template"):
        engine(without_weights).check()
    model = ModelConfig(name=str(without_weights), chat_template="{{ messages }}")
    TransformersEngine("ada", model, SamplingConfig.model_validate({})).check()
    thinking = SamplingConfig.model_validate({"thinking_tokens": 9})
    with pytest.raises(ConfigError, match=r"'ada'.*thinking_tokens 9.*vllm or openai"):
        TransformersEngine("ada", model, thinking).check()


def test_a_missing_model_is_an_error_of_the_engine_not_of_the_rows(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No model at"):
        engine(tmp_path / "nowhere").generate(requests(["Hi"]))


def test_no_requests_load_nothing_and_a_closed_engine_starts_again(folder: Path) -> None:
    assert engine(Path("/nowhere")).generate([]) == []
    local = engine(folder)
    first = local.generate(requests(TEXTS))
    local.close()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(123)  # no part of the answers comes from the global generator
        assert local.generate(requests(TEXTS)) == first
