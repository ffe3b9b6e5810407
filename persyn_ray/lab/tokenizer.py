"""The lab's tokenizer: every character is a token, in the ordinary Hugging Face form.

A conversation reads `<u>` prompt `<a>` response `<e>`; `<e>` ends the turn and the
sequence. The text with a generation prompt is therefore a true prefix of the text with the answer.
"""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, USER, ASSISTANT, END = "<pad>", "<unk>", "<u>", "<a>", "<e>"
CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyz +,;:=#<>.?-"
VOCABULARY = {
    token: number for number, token in enumerate([PAD, UNKNOWN, USER, ASSISTANT, END, *CHARACTERS])
}

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}<a>{{ message['content'] }}<e>"
    "{% else %}<u>{{ message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<a>{% endif %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return the character tokenizer with its chat template; characters it lacks become `<unk>`."""
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        bos_token=USER,
        eos_token=END,
        additional_special_tokens=[ASSISTANT],
        model_max_length=256,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast
