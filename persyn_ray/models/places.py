"""Places of tokens in a text: a tokenised response and its text in, character offsets out.

A chat template may strip a response, write something before it, or break up control tokens in it.
So the tokens are written as text again, and that is looked for in the response.
"""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from persyn_ray.models.chat import Example

Span = tuple[int, int]
PART_OF_A_CHARACTER = "\ufffd"
"""What a tokenizer writes for bytes that end within a character."""


def span_in_text(
    tokenizer: PreTrainedTokenizerBase, example: Example, tokens: Span, text: str
) -> Span | None:
    """Where some tokens of a response stand in its text, in characters.

    A character that tokens share counts to those that end it. None where the tokens are not the
    text's own, or where a changed text holds their words more than once.

    Args:
        tokens: the first, and the one after the last, counted from the first response token on.
    """
    ids = example.ids[example.num_prompt_tokens :]
    whole = _written(tokenizer, ids)
    begin, end = (_num_characters(tokenizer, ids[:count], whole) for count in tokens)
    if begin is None or end is None:
        return None
    shift = _shift(whole, text)
    if shift is None:
        words = whole[begin:end].strip()
        if not words or text.count(words) != 1:
            return None
        begin, end, shift = 0, len(words), text.find(words)
    span = max(0, begin + shift), min(len(text), end + shift)
    return span if span[0] < span[1] else None


def _shift(whole: str, text: str) -> int | None:
    """From a place in the written tokens to that in the text; None if the text is not in them."""
    bare = text.strip()
    at = whole.rfind(bare)  # what stands before may hold the same words
    if at < 0 and bare.startswith(whole.strip().rstrip(PART_OF_A_CHARACTER)):  # cut at the context
        at = len(whole) - len(whole.lstrip())
    return len(text) - len(text.lstrip()) - at if at >= 0 else None


def _num_characters(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], whole: str
) -> int | None:
    """Characters of the first tokens; None if what follows changes how they are written."""
    before = _written(tokenizer, ids)
    if not whole.startswith(before):
        before = before.rstrip(PART_OF_A_CHARACTER)
    return len(before) if whole.startswith(before) else None


def _written(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Tokens as text, without the control tokens, which only a template can have written."""
    if not ids:
        return ""
    settings = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    return str(tokenizer.decode(list(ids), **settings))
