"""A question that asks for one plain computation has a value; any other question has none."""

from fractions import Fraction

import pytest

from crescent.tasks.computation import Sum, truth


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
