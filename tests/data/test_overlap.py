"""Overlap with problems of evaluation: copies are found, phrases that all share are none."""

from persyn_ray.data.overlap import Problems, common_ends, words_of

STORY = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in "
    "May. How many clips did Natalia sell altogether in April and May?"
)
OTHER = (
    "Weng earns $12 an hour for babysitting. Yesterday she just did 50 minutes of babysitting at "
    "the house of her neighbour. How much did she earn?"
)
ASK = "\nPlease reason step by step, and put your final answer within \\boxed{} at the very end."


def test_words_in_a_row_are_found_whatever_their_case_and_punctuation() -> None:
    problems = Problems({"one": STORY, "two": OTHER}, 13)
    copy = "Solve: natalia SOLD clips to 48 of her friends in April and then she sold 7 more."
    (first, *_) = problems.shared_with(copy)
    assert first.problem == "one"
    assert first.words == "natalia sold clips to 48 of her friends in april and then she"
    assert problems.shared_with("Natalia sold clips to 47 of her friends in April and then") == []


def test_one_word_fewer_than_asked_for_is_no_overlap() -> None:
    words = words_of(STORY)
    problems = Problems({"one": STORY}, 13)
    assert problems.shared_with(" ".join(["so", *words[5:17], "end"])) == []
    assert len(problems.shared_with(" ".join(["so", *words[5:18], "end"]))) == 1


def test_a_template_that_all_problems_end_with_is_no_overlap() -> None:
    problems = Problems({"one": STORY + ASK, "two": OTHER + ASK}, 13)
    unlike = "A train leaves at noon. How much did she earn?" + ASK
    assert problems.shared_with(unlike) == []
    assert problems.shared_with(STORY + ASK)
    assert problems.shared_with(STORY)  # without the template as well


def test_short_problems_must_be_the_whole_text() -> None:
    problems = Problems({"sum": "12 + 15", "difference": "12 - 14"}, 13)
    assert problems.shared_with("What is 12 + 15?") == []
    found = problems.is_whole(" 12 + 15\n")
    assert found is not None
    assert (found.problem, found.is_whole) == ("sum", True)
    assert problems.is_whole("12 - 15") is None


def test_a_problem_of_eight_words_or_more_is_found_as_a_whole() -> None:
    problems = Problems(
        {"eight": "In what city do three rivers meet, friend?", "seven": "a b c d e f g"}, 13
    )
    (found,) = problems.shared_with("Tell me: in what city do three rivers meet, friend? Passau.")
    assert (found.problem, len(found.words.split())) == ("eight", 8)
    assert problems.shared_with("In what city do three rivers meet?") == []
    assert problems.shared_with("x a b c d e f g h") == []


def test_without_a_number_of_words_whole_texts_alone_count() -> None:
    problems = Problems({"one": STORY}, None)
    assert problems.shared_with(STORY) == []
    assert problems.is_whole(STORY.upper()) is not None


def test_texts_that_are_all_the_same_have_ends_that_do_not_overlap() -> None:
    same = ("a", "b", "c")
    begin, end = common_ends([same, same])
    assert begin + end == same
    assert common_ends([("a", "x", "z"), ("a", "y", "z")]) == (("a",), ("z",))
    assert common_ends([same]) == ((), ())
