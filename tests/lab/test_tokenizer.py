"""The lab's tokenizer: nothing is lost, and a prompt is a true prefix of prompt and answer."""

from pathlib import Path

from transformers import AutoTokenizer

from persyn_ray.lab import tasks
from persyn_ray.lab.tokenizer import CHARACTERS, build_tokenizer


def test_round_trip_of_every_character_and_style():
    tokenizer = build_tokenizer()
    texts = [CHARACTERS]
    for problem in tasks.generate(80, seed=0):
        texts += [problem.prompt, *(style(problem) for style in tasks.STYLES.values())]
    for text in texts:
        ids = tokenizer.encode(text)
        assert len(ids) == len(text)
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == text


def test_unknown_characters_become_one_unknown_token_each():
    tokenizer = build_tokenizer()
    assert tokenizer.encode("A\n") == [tokenizer.unk_token_id] * 2


def test_the_prompt_is_a_true_prefix_and_the_answer_ends_the_turn():
    tokenizer = build_tokenizer()
    user = [{"role": "user", "content": "sum 5 3"}]
    turns = [*user, {"role": "assistant", "content": "#8"}]
    head = tokenizer.apply_chat_template(user, add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    assert (head, whole) == ("<u>sum 5 3<a>", "<u>sum 5 3<a>#8<e>")
    head_ids, whole_ids = tokenizer.encode(str(head)), tokenizer.encode(str(whole))
    assert whole_ids[: len(head_ids)] == head_ids
    assert len(whole_ids) == len(head_ids) + 3
    assert whole_ids[-1] == tokenizer.eos_token_id


def test_saved_and_loaded_it_is_the_same(tmp_path: Path):
    build_tokenizer().save_pretrained(tmp_path)
    loaded, fresh = AutoTokenizer.from_pretrained(tmp_path), build_tokenizer()
    assert loaded.get_vocab() == fresh.get_vocab()
    assert loaded.chat_template == fresh.chat_template
    assert (loaded.pad_token, loaded.eos_token, loaded.bos_token) == ("<pad>", "<e>", "<u>")
    assert loaded.padding_side == "left"
