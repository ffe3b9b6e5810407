"""Where the final answer stands, and what it says: right ones are found, wrong ones are not."""

from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persyn_ray.checks.answer_numbers import quantity_of
from persyn_ray.checks.final_answer import Answer, final_answer
from persyn_ray.checks.same_answer import same_answer
from persyn_ray.checks.verifier import CORRECT, NO_ANSWER, WRONG, Verifier

from .answer_forms import FORMS, GOLDS, stated


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with Verifier(timeout_seconds=20) as checking:
        yield checking


@pytest.mark.parametrize("gold", GOLDS)
def test_an_answer_equals_itself_in_every_form(verifier: Verifier, gold: str) -> None:
    responses = stated(gold)
    verdicts = verifier.check([(response, gold) for response in responses])
    assert [r for r, v in zip(responses, verdicts, strict=True) if v != CORRECT] == []


@pytest.mark.parametrize("gold", GOLDS)
def test_references_may_be_solutions_that_end_in_the_answer(verifier: Verifier, gold: str) -> None:
    assert verifier.check_references([gold, f"So we add.\n#### {gold}"]) == []
    assert verifier.check([(f"#### {gold}", f"So we add.\n#### {gold}")]) == [CORRECT]


NUMBERS = ("72", "-5", "1,200", "7.25", "1/7", "5:30", "300%", "8:45 PM", "10^{9}", "2.5e7")
OTHERS = ("(7, 2)", "y = 7x + 1", "x > 2", "no solution", "Rome", r"\{4, 5\}", "[0, 1)", "z^2 + 9")


@pytest.mark.parametrize("gold", [*NUMBERS, *OTHERS])
def test_another_answer_is_wrong_in_every_form(verifier: Verifier, gold: str) -> None:
    others = [answer for answer in (*NUMBERS, *OTHERS) if answer != gold]
    responses = [response for other in others for response in stated(other)]
    verdicts = verifier.check([(response, gold) for response in responses])
    judged = zip(responses, verdicts, strict=True)
    assert [r for r, verdict in judged if verdict not in (WRONG, NO_ANSWER)] == []


@pytest.mark.parametrize(
    ("response", "gold"),
    [
        # The last number of something else is no answer (huggingface/Math-Verify#47).
        ("#### (7, 2)", "2"),
        ("#### y = 7x + 1", "1"),
        ("#### 3 apples and 2 pears", "2"),
        (r"\boxed{[1, 5]}", "5"),
        ("#### x > 2", "2"),
        (r"\boxed{(1, 2)}", "(2, 1)"),
        (r"\boxed{[1, 2)}", "[1, 2]"),
        ("#### 72 mph", "72 km/h"),
        ("#### 6:30", "5:30"),
        ("#### 4.24", r"3\sqrt{2}"),
        ("#### 50", "5"),
        ("#### -3", "3"),
        ("#### C", "B"),
        ("#### no", "yes"),
        (r"\boxed{117.3}. So, the answer is G", "G"),
    ],
)
def test_a_wrong_answer_is_not_taken_for_a_right_one(
    verifier: Verifier, response: str, gold: str
) -> None:
    assert verifier.check([(response, gold)]) == [WRONG]


@pytest.mark.parametrize(
    ("response", "gold"),
    [
        ("<answer>72</answer>", "72"),
        ("`72`", "72"),
        ('"72"', "72"),
        ("(72)", "72"),
        ("The result is \u22125", "-5"),  # a minus sign, no hyphen
        ("Rs.72", "72"),
        ("一共是72个", "72"),
        ("それは72です", "72"),
        ("#### ７２", "72"),
        ("#### ٧٢", "72"),
        (r"\boxed{1\,200}", "1200"),
        (r"\boxed {72}", "72"),
        (r"\fbox{72}", "72"),
        (r"\boxed{1} and \boxed{2}", "1, 2"),
        (r"\boxed{1}, \boxed{2}", "2, 1"),
        ("I think it is 5, no wait, 7", "7"),
        ("The answer is 42\n\nLet me know if you have 3 more questions!", "42"),
        ("The answer is (B).", "B"),
        ("(b)", "B"),
        ("The correct option is B.", "B"),
        ("The right choice is (B) because it fits", "B"),
        ("So the answer is option B", "B"),
        (r"\boxed{\text{(B) } 5}", "B"),
        ("Yes, it is.", "yes"),
        ("She has 24 + 48 = 72 clips", "72"),
    ],
)
def test_a_right_answer_is_found(verifier: Verifier, response: str, gold: str) -> None:
    assert verifier.check([(response, gold)]) == [CORRECT]


@pytest.mark.parametrize("form", ["%s", "#### %s", r"\boxed{%s}", "The answer is %s."])
@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("2 1/4", "9/4"),
        ("9/4", "2 1/4"),
        ("2 1/4", "2.25"),
        (r"2\frac{1}{4}", r"\frac{9}{4}"),
        ("18.70", r"\$18.70"),
        ("$18.7", r"\$18.70"),
        ("32348", r"\$32,\!348"),
        ("0.1", "0.10000000149011612"),  # from a column of float32
        ("0.00001", "1e-05"),
        ("1e-5", "0.00001"),
        ("50%", "0.5"),
        ("1,000", "1000"),
        ("12.0", "12"),
        (r"\frac12", "0.5"),
        ("72 km/h", "72"),
    ],
)
def test_a_number_compares_as_a_number(
    verifier: Verifier, form: str, answer: str, gold: str
) -> None:
    assert verifier.check([(form.replace("%s", answer), gold)]) == [CORRECT]


@pytest.mark.parametrize("form", ["%s", "#### %s", r"\boxed{%s}", "The answer is $%s$."])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
        (r"\begin{bmatrix}1\\2\end{bmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
        (r"\begin{pmatrix}7&0\\&1\end{pmatrix}", r"\begin{pmatrix} 7 & 0 \\ & 1 \end{pmatrix}"),
        (r"\begin{pmatrix}-1\\\frac32\end{pmatrix}", r"\begin{pmatrix} -1 \\ 3/2 \end{pmatrix}"),
    ],
)
def test_a_matrix_compares_as_a_matrix(verifier: Verifier, form: str, one: str, other: str) -> None:
    pairs = [(form % one, other), (form % other, one), (form % one, other.replace("1", "3"))]
    outcomes = [verdict.outcome for verdict in verifier.check(pairs)]
    assert outcomes == ["correct", "correct", "wrong"]


@pytest.mark.parametrize("form", ["#### %s", r"\boxed{%s}", "The answer is $%s$."])
@pytest.mark.parametrize(
    ("answer", "gold", "is_right"),
    [
        (r"\log_{2}{3}", r"\log_2 3", True),
        (r"\log_3 2", r"\log_2 3", False),
        ("2220_{5}", "2220_5", True),
        ("2220_6", "2220_5", False),
        (r"6-5\mathrm{i}", "6 - 5i", True),
        (r"6+5\mathrm{i}", "6 - 5i", False),
        (r"-2 \le x \le 7", r"-2\leq x\leq 7", True),
        (r"[2, \infty)", "[2, infinity)", True),
    ],
)
def test_expressions_compare_as_wholes(
    verifier: Verifier, form: str, answer: str, gold: str, is_right: bool
) -> None:
    (verdict,) = verifier.check([(form % answer, gold)])
    assert verdict.outcome == ("correct" if is_right else "wrong")


@pytest.mark.parametrize(
    "answer", [r"\log_2 3", r"-2\le x\le 7", r"[2, \infty)", r"1 \pm \sqrt{5}"]
)
def test_latex_alone_is_an_answer_as_a_whole(verifier: Verifier, answer: str) -> None:
    (verdict,) = verifier.check([(answer, answer)])
    assert verdict.outcome == "correct"


@pytest.mark.parametrize(
    ("response", "gold", "is_right"),
    [
        ("The answer is no.", "No", True),
        ("No, it is not.", "No", True),
        (r"\boxed{\text{Yes}}", "No", False),
        ("Final answer: x = 3 or x = -2", "-2, 3", True),
        ("3 * 4 = 12 and 12 + 5 = 17", "17", True),
        (r"\boxed{5}\text{ or }\boxed{7}", "5, 7", True),
        (r"\boxed{0.\overline{3}}", r"\frac13", True),
        (r"\boxed{0.1\overline{6}}", "1/6", True),
        (r"\boxed{0.3}", r"0.\overline{3}", False),
        ("<answer>five</answer>", "5", True),
        ("Answer: Five", "5", True),
        (r"\boxed{\text{six}}", "5", False),
        ("Total: ₹1,23,456", "123456", True),
    ],
)
def test_ways_to_say_an_answer(
    verifier: Verifier, response: str, gold: str, is_right: bool
) -> None:
    (verdict,) = verifier.check([(response, gold)])
    assert verdict.outcome == ("correct" if is_right else "wrong")


@pytest.mark.parametrize("text", ["", " \n", "\u200b\u2060", "I cannot tell.", r"\boxed{}", "####"])
def test_a_text_without_an_answer_has_none(verifier: Verifier, text: str) -> None:
    assert verifier.check([(text, "3")]) == [NO_ANSWER]


@pytest.mark.parametrize(
    "text", ["The answer is a prime number", "I think a is best", "Answer: A dog", "A dog"]
)
def test_an_article_is_no_choice(verifier: Verifier, text: str) -> None:
    assert verifier.check([(text, "A")])[0] in (NO_ANSWER, WRONG)


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9), st.sampled_from(FORMS))
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_whole_numbers_are_right_exactly_where_they_are_equal(
    said: int, gold: int, form: str
) -> None:
    for number in (said, gold):
        answer = final_answer(form.replace("%s", str(number)))
        assert answer is not None
        assert same_answer(answer, str(gold)) == (number == gold)


@given(st.fractions(-1000, 1000, max_denominator=50))
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_fractions_are_their_value_in_any_writing(value: Fraction) -> None:
    plain = f"{value.numerator}/{value.denominator}"
    sign, whole, rest = ("-" if value < 0 else ""), abs(value) // 1, abs(value) % 1
    mixed = f"{sign}{whole} {rest.numerator}/{rest.denominator}" if whole and rest else plain
    for writing in (plain, mixed, rf"{sign}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"):
        assert same_answer(Answer(writing), plain) is True
        assert same_answer(Answer(writing), f"{value.numerator + 1}/{value.denominator}") is False


@given(st.text(max_size=300))
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_any_text_has_an_answer_or_none(text: str) -> None:
    answer = final_answer(text)
    if answer is not None:
        assert same_answer(answer, answer.text) is True


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (" 72 ", "72"),
        ("$1,200.50", "1200.50"),
        ("-.5", "-0.5"),
        ("+3.", "3"),
        ("1,200,000", "1200000"),
        ("1,20", None),
        ("7 2", None),
        ("", None),
        (".", None),
        ("$", None),
        ("7x + 1", None),
        ("(7, 2)", None),
        ("at least 5", None),
        ("x > 2", None),
    ],
)
def test_what_is_a_number(text: str, value: str | None) -> None:
    quantity = quantity_of(text)
    assert (None if quantity is None else quantity.value) == (
        None if value is None else Fraction(value)
    )
