"""Tiny random models, written once per session."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from persyn_ray.models.load import load_causal_lm, load_tokenizer, save_random


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_random("llama", tmp_path_factory.mktemp("llama")))


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_random("bert", tmp_path_factory.mktemp("bert")))


@pytest.fixture(scope="session")
def reward_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_random("reward", tmp_path_factory.mktemp("reward")))


@pytest.fixture
def llama(llama_folder: str) -> PreTrainedModel:
    return load_causal_lm(llama_folder)


@pytest.fixture
def tokenizer(llama_folder: str) -> PreTrainedTokenizerBase:
    return load_tokenizer(llama_folder)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of one's own, so that the default cache is empty."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path
