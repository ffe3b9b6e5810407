"""That a template copies texts is proved from its source, and of none that looks into one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persyn_ray.errors import DataError
from persyn_ray.models.chat import Message, render_conversation
from persyn_ray.models.templates.check import readability_check, why_unreadable
from persyn_ray.models.templates.copies import copies_texts

from .templates import FAMILIES, FOLDER, tokenizer_of

COPYING = [
    "chatml",
    "chatml_default_system",
    "gemma2",
    "gemma3",
    "harmony",
    "llama3",
    "llama3.1",
    "mistral_small",
    "mistral_v0.1",
    "mistral_v0.3",
    "phi3.5",
    "phi4",
    "phi4_mini",
    "qwen2.5",
    "smollm2",
]
TURN = "{% for m in messages %}{{ '<|im_start|>' + m.role + m.content + '<|im_end|>' }}{% endfor %}"
REFUSE = "{{ raise_exception('No') }}"
BAD = "forbidden"
LOOKING = [
    "{% if 'forbidden' in messages[0].content %}REFUSE{% endif %}",
    "{% if messages[0]['content'].startswith('forb') %}REFUSE{% endif %}",
    "{% if (messages[-1].content | length) == 9 and messages[0].content < 'g' %}REFUSE{% endif %}",
    "{% if messages[0].content == 'forbidden' %}REFUSE{% endif %}",
    "{% if messages[0].content in 'all forbidden words' %}REFUSE{% endif %}",
    "{% if messages[0].content is in ['forbidden'] %}REFUSE{% endif %}",
    "{% if messages[0].content is eq 'forbidden' %}REFUSE{% endif %}",
    "{% if (messages[0].content | upper) == 'FORBIDDEN' %}REFUSE{% endif %}",
    "{% if messages[0].content[0] == 'f' %}REFUSE{% endif %}",
    "{% if messages[0].content[:4] == 'forb' %}REFUSE{% endif %}",
    "{% if messages[0].content > 'forb' %}REFUSE{% endif %}",
    "{% if messages[0].get('content') == 'forbidden' %}REFUSE{% endif %}",
    "{% if messages[0]['get']('content') == 'forbidden' %}REFUSE{% endif %}",
    "{% if 'forbidden' in messages[0].values() %}REFUSE{% endif %}",
    "{% for k, v in messages[0].items() %}{% if v == 'forbidden' %}REFUSE{% endif %}{% endfor %}",
    "{% if 'forbidden' in messages | map(attribute='content') %}REFUSE{% endif %}",
    "{% if messages | selectattr('content', 'eq', 'forbidden') | list %}REFUSE{% endif %}",
    "{% if 'forbidden' in messages | tojson %}REFUSE{% endif %}",
    "{% if 'forbidden' in messages | string %}REFUSE{% endif %}",
    "{% if {'role': 'user', 'content': 'forbidden'} in messages %}REFUSE{% endif %}",
    "{% if messages[0] == {'role': 'user', 'content': 'forbidden'} %}REFUSE{% endif %}",
    "{% set x = messages[0].content %}{% if x == 'forbidden' %}REFUSE{% endif %}",
    "{% set x = '' ~ messages[0].content %}{% if 'forb' in x %}REFUSE{% endif %}",
    "{% set x = '> ' + messages[0].content | trim %}{% if x == '> forbidden' %}REFUSE{% endif %}",
    "{% set x %}{{ messages[0].content }}{% endset %}{% if x == 'forbidden' %}REFUSE{% endif %}",
    "{% set n = namespace(x='') %}{% set n.x = messages[0].content %}"
    "{% if n.x == 'forbidden' %}REFUSE{% endif %}",
    "{% set n = namespace({}) %}{% set n.x = messages[0].content %}"
    "{% if n.x == 'forbidden' %}REFUSE{% endif %}",
    "{% set n = namespace(x=messages[0].content) %}{% if n['x'] == 'forbidden' %}REFUSE{% endif %}",
    "{% set x = [messages[0].content] %}{% if 'forbidden' in x %}REFUSE{% endif %}",
    "{% set x = [messages] %}{% if x[0][0].content == 'forbidden' %}REFUSE{% endif %}",
    "{% set x = {'forbidden': 1} %}{% if x[messages[0].content] %}REFUSE{% endif %}",
    "{% set x = messages[0] %}{% if x.content == 'forbidden' %}REFUSE{% endif %}",
    "{% set raise_exception = 'a forbidden word'.count %}"
    "{% if raise_exception(messages[0].content) %}{{ 1 // 0 }}{% endif %}",
    "{% if 'a forbidden word'.count(messages[0].content) %}REFUSE{% endif %}",
    "{% for c in messages[0].content %}{% if c == 'b' %}REFUSE{% endif %}{% endfor %}",
    "{% for m in messages if 'forb' in m.content %}REFUSE{% endfor %}",
    "{% for m in messages %}{% if loop.changed(m.content == 'forbidden') and loop.index > 1 %}"
    "{% endif %}{% if m.content == 'forbidden' %}REFUSE{% endif %}{% endfor %}",
    "{% for m in messages + [1] %}{% if loop.previtem and loop.previtem.content == 'forbidden' %}"
    "REFUSE{% endif %}{% endfor %}",
    "{% macro look(x) %}{% if x == 'forbidden' %}REFUSE{% endif %}{% endmacro %}"
    "{{ look(messages[0].content) }}",
    "{% filter replace('forbidden', '') %}{{ messages[0].content }}{% endfilter %}REFUSE",
    "{{ (messages[0].content == 'forbidden') and raise_exception('No') }}",
    "{{ raise_exception('No') if 'forb' in messages[0].content else '' }}",
    "{{ '' if messages[0].content.strip('f')[0] != 'o' else raise_exception('No') }}",
    "{{ 1 // ((messages[0].content | wordcount) * (messages[0].content | length - 9)) }}",
    "{% if messages[0].content is string %}{% if messages[0].content == 'forbidden' %}REFUSE"
    "{% endif %}{% endif %}",
    "{% set n = namespace(x=1) %}{% set n.x = messages[0].content %}{% if n.x is string %}"
    "{% else %}{% endif %}{% if n.x == 'forbidden' %}REFUSE{% endif %}",
    "{% with x = messages[0].content %}{% if x == 'forbidden' %}REFUSE{% endif %}{% endwith %}",
    "{% if '%s' % messages[0].content == 'forbidden' %}REFUSE{% endif %}",
    "{% if '{}'.format(messages[0].content) == 'forbidden' %}REFUSE{% endif %}",
    "{% if (messages | first).content == 'forbidden' %}REFUSE{% endif %}",
    "{% if 'forbidden' in (messages[0].content, '') %}REFUSE{% endif %}",
    "{% if dict(messages[0]).content == 'forbidden' %}REFUSE{% endif %}",
    "{% if messages[0].content | default('x') == 'forbidden' %}REFUSE{% endif %}",
    "{% if (messages[0].content or '') == 'forbidden' %}REFUSE{% endif %}",
    # No message at all, whose content is no string: a function, and a method of the list.
    "{% if false %}{% set range = messages[0] %}{% endif %}{% if range.content is string %}"
    "{% elif messages[0].content == 'forbidden' %}REFUSE{% endif %}",
    "{% if false %}{% set strftime_now = messages[0] %}{% endif %}"
    "{% if strftime_now.content is string %}"
    "{% elif messages[0].content == 'forbidden' %}REFUSE{% endif %}",
    "{% set key = 'append' %}{% if messages[key].content is string %}"
    "{% elif messages[0].content == 'forbidden' %}REFUSE{% endif %}",
    "{% if messages['app' + 'end'].content is string %}"
    "{% elif messages[0].content == 'forbidden' %}REFUSE{% endif %}",
]
NOT_BLANK = st.text(max_size=30).filter(str.strip)


@pytest.mark.parametrize("name", COPYING)
def test_templates_of_families_that_copy_are_told(name: str) -> None:
    template = (FOLDER / f"{name}.jinja").read_text()
    assert copies_texts(template)
    assert copies_texts(template, are_stripped=False) == ("trim" not in template)


@pytest.mark.parametrize("name", ["qwen3", "qwq", "deepseek_r1_distill", "broken_spaces"])
def test_templates_of_families_that_look_for_thinking_are_not(name: str) -> None:
    assert not copies_texts((FOLDER / f"{name}.jinja").read_text())


@pytest.mark.parametrize(
    "template",
    [
        "{% if m.content is string %}{{ m.content }}{% else %}PARTS{% endif %}",
        "{% if m['content'] is string %}{{ m['content'] | trim }}"
        "{% elif m['content'] is iterable %}PARTS{% endif %}",
        "{% if m.content is not string %}PARTS{% else %}{{ m.content }}{% endif %}",
    ],
)
def test_what_is_done_with_lists_of_parts_does_not_count(template: str) -> None:
    parts = "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}"
    template = "{% for m in messages %}" + template.replace("PARTS", parts) + "{% endfor %}"
    assert copies_texts(template)
    assert not copies_texts(template.replace("string", "defined"))


@pytest.mark.parametrize("looks", LOOKING)
def test_a_template_that_looks_into_a_text_is_never_said_to_copy_it(looks: str) -> None:
    template = looks.replace("REFUSE", REFUSE) + TURN
    assert not copies_texts(template)
    assert copies_texts(TURN)


@pytest.mark.parametrize("looks", LOOKING)
def test_the_text_that_breaks_such_a_template_is_found_among_others(looks: str) -> None:
    tokenizer = tokenizer_of(FAMILIES["chatml"])
    tokenizer.chat_template = (
        looks.replace("REFUSE", REFUSE)
        + TURN
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant' }}{% endif %}"
    )
    quick = readability_check(tokenizer)
    for text in ("An apple?", "Two plums.", BAD, "Three figs"):
        messages = [Message(role="user", content=text)]
        assert quick(messages) == why_unreadable(tokenizer, messages)


def test_what_may_be_a_setting_is_not_taken_for_a_message() -> None:
    template = (
        "{% if add_generation_prompt %}{% set m = messages[0] %}{% endif %}"
        "{% if m.content is string %}x{% else %}{{ messages[0].content[0] }}{% endif %}"
    )
    assert copies_texts(template)
    assert not copies_texts(template, settings=["m"])


def test_messages_are_told_by_numbers() -> None:
    parts = "{% if m.content is string %}{{ m.content }}{% else %}{{ m.content[0] }}{% endif %}"
    for index in ("0", "-1", "loop.index0", "loop.index0 + 1", "messages | length - 1"):
        assert copies_texts(f"{{% set m = messages[{index}] %}}" + parts)
    assert not copies_texts("{% set m = messages[tools] %}" + parts)
    assert not copies_texts(parts.replace("m.", "messages[tools]."))
    assert copies_texts("{{ messages[tools].content }}")


def test_a_template_that_is_nested_deeply_is_not_proved_and_holds_nobody_up() -> None:
    assert copies_texts("{{ (messages" + 60 * "[0:]" + " | first).content }}")
    assert not copies_texts("{{ " + 5000 * "(" + "1" + 5000 * ")" + " }}")


def test_settings_that_name_another_template_leave_nothing_proved() -> None:
    tokenizer = tokenizer_of(FAMILIES["chatml"])
    refuses = "{% if 'forbidden' in messages[0].content %}" + REFUSE + "{% endif %}"
    kwargs = {"chat_template": refuses + str(tokenizer.chat_template)}
    quick = readability_check(tokenizer, kwargs)
    assert quick([Message(role="user", content="An apple?")]) is None
    assert "No" in str(quick([Message(role="user", content=BAD)]))


@pytest.mark.parametrize("name", COPYING)
@given(
    roles=st.lists(st.sampled_from(["system", "user", "assistant"]), min_size=1, max_size=4),
    texts=st.lists(NOT_BLANK, min_size=4, max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_what_is_proved_holds(name: str, roles: list[str], texts: list[str]) -> None:
    tokenizer = tokenizer_of(FAMILIES["chatml"])
    tokenizer.chat_template = template = (FOLDER / f"{name}.jinja").read_text()
    if not copies_texts(template, are_stripped=False):
        texts = [text.strip() for text in texts]
    marks = [f"\ue000{number}\ue001" for number in range(len(roles))]

    def rendered(contents: list[str]) -> str | None:
        messages = [Message(role=r, content=c) for r, c in zip(roles, contents, strict=True)]
        try:
            return render_conversation(tokenizer, messages, True, None)
        except DataError:
            return None

    frame = rendered(marks)
    for mark, text in zip(marks, texts, strict=False):
        frame = None if frame is None else frame.replace(mark, text)
    assert rendered(texts[: len(roles)]) == frame
