"""A question that asks for one plain computation has a value; any other question has none."""

from fractions import Fraction

import pytest

from crescent.tasks.computation import Sum, same_computation, truth


@pytest.mark.parametrize(
    ("question", "written", "value"),
    [
        ("What is 2 + 3?", "2+3", 5),
        ("1. What is 20 - 35?", "20-35", -15),
        ('A simple multiplication question is: "12 × 7', "12*7", 84),
        ("What is 2 plus 3 times 4?", "2+3*4", 14),
        ("10 - 2 - 3", "10-2-3", 5),
        ("7 divided by 2", "7/2", Fraction(7, 2)),
        ("What is the sum of 15 and 19?", "15+19", 34),
        ("A simple subtraction question is: 2.5 - 1.", "2.5-1", Fraction(3, 2)),
    ],
)
def test_a_plain_sum_has_a_truth(question: str, written: str, value: Fraction) -> None:
    assert truth(question) == Sum(written, value)


@pytest.mark.parametrize(
    "question",
    [
        "A simple addition question:",
        "How many times 2 x 4 equals 8?",
        "Can you multiply 2 by itself 20 times?",
        "2 + 3, where the answer is 5.",
        "If x is 5 and 3 - 5",
        "(3 x 2) / 2",
        "What is 2 + 3, and what is 4 + 5?",
        "8 / 0",
        "In 2020, a user asked: what is 2 + 4?",
        "What is half of 2 + 4?",
    ],
)
def test_a_question_that_is_no_plain_sum_has_no_known_truth(question: str) -> None:
    assert truth(question) is None


def test_questions_share_a_computation_whatever_the_words_and_the_order_of_terms() -> None:
    assert same_computation("What is 2 + 3?") == same_computation("What is the sum of 3 and 2?")
    assert same_computation("2 x 3 x 4") == same_computation("4 times 2 times 3")
    assert same_computation("What is 2.50 + 3?") == same_computation("3 + 2.5")
    for other in ("What is 2 - 3?", "What is 3 - 2 + 0?", "What is 2 * 3?", "What is 2 + 3 + 0?"):
        assert same_computation(other) not in (None, same_computation("What is 2 + 3?"))
    assert same_computation("8 - 2") != same_computation("2 - 8")
    assert same_computation("2 + 3 * 4") != same_computation("3 + 2 * 4")
    assert same_computation("How are you?") is None
