"""A base model's tokenizer ends texts with one token, its chat template ends turns with another.

The lab's student stands for both: trained to end with `<e>`, its files made to name `<pad>`.
"""

import json
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from persyn_ray.engines.base import Completion, Message, Request
from persyn_ray.engines.prompting import PromptEncoder
from persyn_ray.engines.transformers import TransformersEngine
from persyn_ray.errors import ConfigError
from persyn_ray.models.chat import encode_example, encode_prompt
from persyn_ray.models.load import load_causal_lm, load_tokenizer
from persyn_ray.models.templates.end_of_turn import end_of_turn, set_end_of_turn
from persyn_ray.recipe.base import ModelConfig
from persyn_ray.recipe.teachers import SamplingConfig

STUDENT = Path(str(resources.files("persyn_ray"))) / "lab" / "assets" / "student"
QUESTIONS = ["add 3 4", "max 2 9 1", "add 15 22"]
END, TEXT_END = "<e>", "<pad>"
UNENDED = "{% for m in messages %}<u>{{ m['content'] }}{% endfor %}"


@pytest.fixture(scope="module")
def base_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lab's student, whose files name another end than its template writes."""
    folder = tmp_path_factory.mktemp("base") / "model"
    shutil.copytree(STUDENT, folder)
    ends = {"eos_token": TEXT_END, "extra_special_tokens": ["<a>", END]}
    for file, changes in (
        ("tokenizer_config.json", ends),
        ("config.json", {"eos_token_id": 0}),
        ("generation_config.json", {"eos_token_id": 0}),
    ):
        found = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(found | changes))
    return folder


def conversation(text: str) -> list[Message]:
    return [Message(role="user", content=text)]


def answers(folder: Path, **settings: Any) -> list[Completion]:
    sampling = SamplingConfig.model_validate({"max_tokens": 90, "temperature": 0.7, "seed": 5})
    engine = TransformersEngine("s", ModelConfig(name=str(folder)), sampling, **settings)
    return engine.generate([Request(text, conversation(text)) for text in QUESTIONS])


def test_by_default_it_is_what_the_template_writes(base_like: Path) -> None:
    tokenizer = load_tokenizer(str(base_like))
    assert tokenizer.eos_token == TEXT_END
    assert tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer)) == END
    tokenizer.chat_template = UNENDED + "{% if add_generation_prompt %}<a>{% endif %}"
    unended = tokenizer.chat_template.replace("<u>", "{{ '<a>' if loop.index == 2 else '<u>' }}")
    tokenizer.chat_template = unended
    assert end_of_turn(tokenizer) == tokenizer.eos_token_id
    tokenizer.chat_template = "{{ raise_exception('never') }}"
    with pytest.raises(ConfigError, match="set `end_of_turn`"):
        end_of_turn(tokenizer)


@pytest.mark.parametrize("token", [END, TEXT_END])
def test_training_ends_the_response_with_the_token_of_the_setting(
    base_like: Path, token: str
) -> None:
    tokenizer = load_tokenizer(str(base_like))
    prompt = conversation("add 3 4")
    plain = encode_example(tokenizer, prompt, "7")
    example = encode_example(tokenizer, prompt, "7", end_of_turn=token)
    assert tokenizer.convert_ids_to_tokens(example.ids[example.num_prompt_tokens :]) == ["7", token]
    assert (example == plain) == (token == END)


def test_a_token_that_texts_may_hold_ends_no_turn(base_like: Path) -> None:
    tokenizer = load_tokenizer(str(base_like))
    for token in ("7", "<|im_end|>", ""):
        with pytest.raises(ConfigError, match=r"no control token of .*<a>, <e>"):
            end_of_turn(tokenizer, token)
        with pytest.raises(ConfigError, match="no control token"):
            encode_example(tokenizer, conversation("add 3 4"), "7", end_of_turn=token)
        model = ModelConfig(name=str(base_like))
        with pytest.raises(ConfigError, match="no control token"):
            PromptEncoder("s", model, 9, end_of_turn=token).check()


def test_our_engine_stops_where_the_template_ends_a_turn(base_like: Path) -> None:
    right = answers(STUDENT)
    assert {answer.finish_reason for answer in right} == {"stop"}
    assert answers(base_like) == right
    ids = PromptEncoder("s", ModelConfig(name=str(base_like)), 9).end_ids
    assert ids == {0, 4}  # vLLM's stop ids as well


def test_our_engine_stops_at_the_token_of_the_setting(base_like: Path, tmp_path: Path) -> None:
    unended = tmp_path / "unended"
    shutil.copytree(base_like, unended)
    template = "{% for m in messages %}{{ '<u>' if m['role'] == 'user' else '<a>' }}"
    template += "{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
    (unended / "chat_template.jinja").write_text(template)
    assert {one.finish_reason for one in answers(unended)} == {"length"}  # it never writes <pad>
    assert answers(unended, end_of_turn=END) == answers(STUDENT)


def test_what_is_saved_stops_by_itself_in_transformers(base_like: Path, tmp_path: Path) -> None:
    model, tokenizer = load_causal_lm(str(base_like)), load_tokenizer(str(base_like))
    set_end_of_turn(model, tokenizer, end_of_turn(tokenizer))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded, saved = AutoTokenizer.from_pretrained(tmp_path), load_causal_lm(str(tmp_path))
    assert (loaded.eos_token, loaded.pad_token) == (END, "<pad>")
    assert (saved.config.eos_token_id, saved.generation_config.eos_token_id) == (4, [4, 0])  # pyright: ignore
    written = generated(tmp_path)
    assert written == generated(STUDENT)
    assert {ids[-1] for ids in written} == {4}
    assert all(len(ids) == 90 for ids in generated(base_like))


@torch.inference_mode()
def generated(folder: Path) -> list[list[int]]:
    """What transformers itself writes, with the settings of the folder alone."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), load_tokenizer(str(folder))
    found = []
    for text in QUESTIONS:
        ids = torch.tensor([encode_prompt(tokenizer, conversation(text))])
        out = model.generate(  # pyright: ignore
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=90
        )
        found.append(out[0, ids.shape[1] :].tolist())
    return found


def test_a_model_without_generation_settings_gets_them(base_like: Path) -> None:
    model, tokenizer = load_causal_lm(str(base_like)), load_tokenizer(str(base_like))
    model.generation_config = None  # pyright: ignore
    model.config.eos_token_id = [0, 4]
    set_end_of_turn(model, tokenizer, 4)
    assert model.generation_config.eos_token_id == [4, 0]  # pyright: ignore
