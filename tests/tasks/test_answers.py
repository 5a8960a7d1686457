"""Final answers: found where people and models put them, compared exactly, and never at the mercy of hostile text."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crescent.config import AnswerStyle
from crescent.tasks.answers import extract_final
from crescent.tasks.equivalence import LONGEST

NUMBER, MATH = AnswerStyle.number, AnswerStyle.math


def short(text: object) -> str | None:
    """Test ids end up in an environment variable, where a megabyte keeps new processes from starting."""
    return ascii(text[:20]) if isinstance(text, str) else None


# --- where the final answer stands


@pytest.mark.parametrize(
    ("text", "final"),
    [
        ("The total is 1,234.", "1,234"),  # the authors' code: 234
        ("He ate 3/4", "3/4"),  # theirs: 4
        ("pages 5-7", "7"),  # theirs: -7
        ("pages 5–7", "7"),
        ("10 - 3 = 7", "7"),
        ("x = -5", "-5"),
        ("it was −5 degrees", "-5"),
        ("#### -5", "-5"),
        ("#### $1,234.50 dollars", "1,234.50"),
        ("#### Answer: 12", "12"),
        ("#### Answer:\n\n**$12**", "12"),
        ("Answer: 12", "12"),
        ("**Answer:** 12 apples", "12"),
        ("**Answer**: $12$", "12"),
        ("the ANSWER is 12.", "12"),
        ("The answer to the question is 12.", "12"),
        ("The answer is 12 apples because 3*4=12.", "12"),
        ("The answer is 12, since 3 times 3 is 9 and 3 more.", "12"),
        ("The answer is 3*4=12.", "12"),
        ("The answer is -$5.", "-5"),
        ("The answer is 1 3/4 cups", "1 3/4"),
        ("The answer is 1 234.", "1 234"),
        ("The answer is 3 × 10^8 m/s", "3 × 10^8"),
        (r"\boxed{5} and \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{7} #### 8", "7"),
        ("Answer: 7 then\n#### 8", "8"),
        ("The area is 5 m^2", "5"),
        (r"which gives \frac{3}{4}", r"\frac{3}{4}"),
    ],
)
def test_a_number_is_found_whole(text: str, final: str) -> None:
    assert extract_final(text, NUMBER) == final


@pytest.mark.parametrize(
    ("text", "final"),
    [
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"So it is $\boxed{\{1, \frac{1}{2}\}}$.", r"\{1, \frac{1}{2}\}"),
        ("The answer is (x+1)^2.", "(x+1)^2"),
        ("The answer is $x^2 + 1$, which is even.", "x^2 + 1"),
        ("The answer is\n\n\\[ 42 \\]", "42"),
        ("The answer is 12 apples because 3*4=12.", "12 apples"),
        ("The answer is Monday because 15 mod 7 = 1.", "Monday"),
        ("The answer is 2 hours and 30 minutes.", "2 hours and 30 minutes"),
        ("Answer: Natalia sold 72 clips.", "72"),
        ("Thus $x = 5$ and then $y = 6$ follows", "y = 6"),
        (r"Thus \(x^2\) it is", "x^2"),
        ("It costs $5 and $6", "6"),
        ("**Answer:** [0, 1)", "[0, 1)"),
    ],
)
def test_a_mathematical_answer_may_be_a_formula_or_a_word(text: str, final: str) -> None:
    assert extract_final(text, MATH) == final


@pytest.mark.parametrize("style", AnswerStyle)
@pytest.mark.parametrize(
    "text",
    [
        *("", "no answer", "I have no answer.", "#### ", "answer:", r"\boxed{}", r"\boxed{\text{no answer}}", "H2O"),
        *("Half of 8 is 4. #### no answer", "I counted 3. Answer: I don't know.", "3 and 4, the answer is unknown."),
    ],
)
def test_silence_is_none(text: str, style: AnswerStyle) -> None:
    assert extract_final(text, style) is None


@pytest.mark.parametrize("style", AnswerStyle)
@pytest.mark.parametrize(
    "text",
    [
        "3 + 9 = 12\n#### ",
        "12 = 12. Answer:",
        r"It is 12. \boxed{}",
        r"\boxed{12} or \boxed{\frac{1}{2",
        "#### Step 1: add\n3 + 9 = 12\n",
        "#### 1. Add\n3 + 9 = 12",
        "3 + 9 is 12.\n#### Conclusion\nA dozen",
        "The answer is as follows: 3 + 9 = 12",
        "Answer:\n1. We have 3.\n2. We add 9 and get 12",
    ],
)
def test_a_mark_without_an_answer_is_no_mark(text: str, style: AnswerStyle) -> None:
    assert extract_final(text, style) == "12"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("style", AnswerStyle)
@pytest.mark.parametrize(
    "unit",
    [
        *("(", r"\boxed{", r"\boxed{1}", "answer is ", "answer to ", "$1", "$", "1", ",234", "#### 1. a", r"\frac{1}{"),
        *("1 ", "1/", "1+", r"\(", "-", "*", "\0", "\ud800", "answer: the ", "1,", "answer=a", "\\", "{", "😀"),
    ],
    ids=short,
)
def test_a_megabyte_of_anything_is_read_at_once(unit: str, style: AnswerStyle) -> None:
    final = extract_final(unit * (1_000_000 // len(unit)), style)
    assert final is None or len(final.encode()) <= 4 * LONGEST


@given(st.text(), st.sampled_from(AnswerStyle))
def test_any_text_gives_a_final_answer_that_can_be_written_down(text: str, style: AnswerStyle) -> None:
    for marked in (text, f"#### {text}", f"answer: {text}", rf"\boxed{{{text}}}"):
        final = extract_final(marked, style)
        assert final is None or final.encode("utf-8")


def test_importing_answers_imports_nothing_heavy() -> None:
    heavy = "{'sympy', 'math_verify', 'torch', 'numpy'}"
    script = f"import sys, crescent.tasks.answers; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.strip() == ""
