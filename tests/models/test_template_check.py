"""Sound and broken templates are told apart by harmless texts, whatever family they are of."""

import pytest

from persyn_ray.errors import ConfigError
from persyn_ray.models.chat import Message
from persyn_ray.models.templates.check import require_sound_template, why_unreadable

from .templates import FAMILIES, HARMONY, tokenizer_of


@pytest.mark.parametrize("name", [*FAMILIES, HARMONY.name])
def test_no_template_of_a_real_family_is_called_broken(name: str) -> None:
    tokenizer = tokenizer_of(FAMILIES.get(name, HARMONY))
    require_sound_template(tokenizer)
    assert why_unreadable(tokenizer, [Message(role="user", content="What is 6 × 7?")]) is None


@pytest.mark.parametrize("name", FAMILIES)
def test_text_that_spells_control_tokens_and_thinking_tags_is_read(name: str) -> None:
    family = FAMILIES[name]
    text = f"What do {' and '.join(family.controls)} or </think> and <think> mean? \u200b\ud800"
    tokenizer = tokenizer_of(family)
    assert why_unreadable(tokenizer, [Message(role="user", content=text)]) is None


def test_a_template_that_wants_a_system_turn_is_sound() -> None:
    tokenizer = tokenizer_of(FAMILIES["chatml"])
    tokenizer.chat_template = (
        "{% if messages[0].role != 'system' %}{{ raise_exception('No system turn') }}{% endif %}"
        + str(tokenizer.chat_template)
    )
    require_sound_template(tokenizer)
    assert "No system turn" in str(why_unreadable(tokenizer, [Message(role="user", content="Hi")]))


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("", "no chat template"),
        ("{# nothing #}", "rewrites the response"),
        (
            "{% for m in messages if m.role == 'assistant' %}{{ m.content }}<|im_end|>{% endfor %}",
            "writes nothing",
        ),
        ("{{ 'x' if messages }}{% for %}", "refuses a conversation"),
        ("{{ messages[7].content }}", "refuses a conversation"),
        ("{{ raise_exception('Tools only') }}", "Tools only"),
        ("{% for m in messages %}{{ m.content }}{% endfor %}!", "rewrites the"),
    ],
)
def test_templates_that_break_every_conversation_are_refused(template: str, reason: str) -> None:
    tokenizer = tokenizer_of(FAMILIES["chatml"])
    tokenizer.chat_template = template
    with pytest.raises(ConfigError, match=reason):
        require_sound_template(tokenizer)
