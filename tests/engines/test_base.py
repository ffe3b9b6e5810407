"""The seam's small helpers."""

from persyn_ray.engines.base import Completion, Message, last_user_text, with_system_prompt

QUESTION = Message(role="user", content="How many?")


def test_a_failed_completion_has_no_text_and_says_why() -> None:
    completion = Completion.failed("too long", num_prompt_tokens=7)
    assert completion.text is None
    assert (completion.finish_reason, completion.error) == ("error", "too long")
    assert (completion.num_prompt_tokens, completion.num_tokens) == (7, 0)


def test_a_system_prompt_goes_first_and_joins_one_that_is_there() -> None:
    assert with_system_prompt([QUESTION], None) == [QUESTION]
    assert with_system_prompt([QUESTION], "Be brief.") == [
        Message(role="system", content="Be brief."),
        QUESTION,
    ]
    own = Message(role="system", content="Count.")
    joined = with_system_prompt([own, QUESTION], "Be brief.")
    assert joined == [Message(role="system", content="Be brief.\n\nCount."), QUESTION]


def test_the_prompt_of_a_conversation_is_its_last_user_message() -> None:
    answer = Message(role="assistant", content="Of what?")
    assert last_user_text([QUESTION, answer, Message(role="user", content="Apples.")]) == "Apples."
    assert last_user_text([]) == ""
