"""Which letter a response means, and which questions have options."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crescent.config import AnswerStyle, TaskConfig
from crescent.tasks import open_task
from crescent.tasks.multiple_choice import TAIL, MultipleChoice

TASK = MultipleChoice()
LINES = "Which gas do plants take in?\nA. oxygen\nB. carbon dioxide\nC. helium\nD. neon"


@pytest.mark.parametrize(
    "question",
    [
        LINES,
        LINES.replace(". ", ") "),
        LINES.replace("A. ", "(A) ").replace("B. ", "(B) ").replace("C. ", "(C) ").replace("D. ", "(D) "),
        LINES.replace(". ", ": "),
        LINES.replace("\n", "\n  - **") + "**",
        "Which is a metal? A) iron B) wood",
        "Which is a metal? (A) iron (B) wood (C) +",
        "Which is largest?\nA) 1  B) 2\nC) 3  D) 4",
        "Is the sky blue?\n\nA. Yes\n\nB. No\n\nAnswer:",
        "A. Einstein's theory says what?\n(A) x (B) y".replace("A. ", "", 1),
        "Which hold?\nI. It is hot.\nII. It is cold.\nA. I only\nB. I and II",
        "Pick.\n" + "\n".join(f"{letter}. {letter.lower()}{letter.lower()}" for letter in "ABCDEFGHIJ"),
        "Question with \u2028 and \x00 in it?\nA. a\u0301\nB. \U0001f600",
    ],
)
def test_a_question_with_lettered_options_is_accepted(question: str) -> None:
    assert TASK.accepts(question)


@pytest.mark.parametrize(
    "question",
    [
        "Which gas do plants take in?",
        "Which gas do plants take in?\nA. oxygen",
        "Which?\nB. oxygen\nC. helium",
        "Which?\nA. oxygen\nC. helium",
        "Which?\nA. oxygen\nB.\nC. helium",
        "Which? A) B) C)",
        "Which?\nA. x\nB. y\nAnd which?\nA. x\nB. y",
        "Pick.\n" + "\n".join(f"{letter}. x" for letter in "ABCDEFGHIJK"),
        "A. oxygen\nB. helium",
        "A plant is green. B cells are small. What is vitamin C?",
        "Dr. A. Smith and Dr. B. Jones meet.",
        LINES + "\n\nAnswer: B",
        LINES + "\nThe correct answer is (B) carbon dioxide.",
        "1. first\n2. second",
        "",
    ],
)
def test_a_question_without_options_or_with_its_answer_is_rejected(question: str) -> None:
    assert not TASK.accepts(question)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        (r"So it is \boxed{B}.", "B"),
        (r"\boxed{\text{B}}", "B"),
        (r"$\boxed{\textbf{(C)}\ 5}$", "C"),
        (r"\boxed{b}", "B"),
        ("Plants breathe.\n\n#### B", "B"),
        ("#### B\n", "B"),
        ("#### Answer: B", "B"),
        ("#### **B**", "B"),
        ("#### (b)", "B"),
        ("#### B. carbon dioxide", "B"),
        ("#### Option B", "B"),
        ("#### Answer:\n\n**(D)**", "D"),
        ("The answer is (B).", "B"),
        ("The answer is B because plants need it.", "B"),
        ("The answer is A, as we saw.", "A"),
        ("The answer is **C**.", "C"),
        ('The answer is "C".', "C"),
        ("The answer is B, I think.", "B"),
        ("The answer is B - carbon dioxide", "B"),
        ("The answer is B (carbon dioxide)", "B"),
        ("The correct answer to this question is option D.", "D"),
        ("The correct option is C", "C"),
        ("The best choice is therefore (a)", "A"),
        ("Answer: B", "B"),
        ("answer: b", "B"),
        ("**Answer:** B", "B"),
        ("**Answer: (B)**", "B"),
        ("Answer = J", "J"),
        ("Answer: I", "I"),
        ("Answer: B. A plant takes it in.", "B"),
        ("Answer:\nB. carbon dioxide", "B"),
        ("Thus:\n\n**B**\n", "B"),
        ("Thus:\n**(B)**", "B"),
        ("B", "B"),
        ("A", "A"),
        (" (B) ", "B"),
        ("(b)", "B"),
        ("**B**", "B"),
        ("B.", "B"),
        ("B) carbon dioxide", "B"),
        ("(B) carbon dioxide", "B"),
        ("B. carbon dioxide, since A plant needs it", "B"),
        ("**B) carbon dioxide**", "B"),
    ],
)
def test_the_letter_is_read_where_an_answer_is_announced(text: str, letter: str) -> None:
    assert TASK.read(text) == letter


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A plant needs light.",
        "I think it is carbon dioxide.",
        "The answer is a plant.",
        "The answer is A plant.",
        "The answer is B cells.",
        "The answer is carbon dioxide.",
        "The answer is i.e. nothing",
        "Answer: A-level chemistry",
        "Answer: I don't know",
        "Answer: I would say carbon dioxide",
        "The answer is not B.",
        "The answer is A and C.",
        "The answer is A or B",
        "Answer: A, B",
        "Answer: (A)/(B)",
        "Answer: both A and C",
        "#### A closer look at plants",
        "#### none",
        "#### No answer",
        "The answer is none of the above.",
        "The answer is B. On reflection, #### None",
        r"\boxed{5}",
        r"\boxed{}",
        "a",
        "b) carbon dioxide",
        "I. First, plants need light.",
        "K",
        "Answer: K",
        "A) is wrong.\nB) is right.",
        "A. It is wrong.\nB. It is right.",
        "A) wrong, B) right",
        "**A**\nwrong\n**B**\nright",
        "Let me find the answer:\n\nA. oxygen: no\nB. carbon dioxide: yes",
        "#### Option A: oxygen\nno\n#### Option B: carbon dioxide\nyes",
        "We eat vitamin C.",
    ],
)
def test_a_letter_that_is_a_word_or_one_of_several_is_silence(text: str) -> None:
    assert TASK.read(text) is None


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is A. Wait, oxygen is what they give off. The answer is B.", "B"),
        ("#### A\nNo.\n#### B", "B"),
        (r"\boxed{A}, no, \boxed{C}", "C"),
        ("Answer: none. Answer: D", "D"),
        ("#### B\n\nNext question: … The answer is C.", "B"),
        ("#### Option A: oxygen\nno\n#### Option B: gas\nyes\n#### B", "B"),
        ("#### Option A: oxygen\nno\n#### Option C: helium\nno\n\nThe answer is B.", "B"),
        (r"The answer is \boxed{5}, which is B. Answer: B", "B"),
    ],
)
def test_of_several_marked_answers_the_most_trusted_and_then_the_last_counts(text: str, letter: str) -> None:
    assert TASK.read(text) == letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("#### B\nand then", "B"),
        ("The answer is B. To see why,", "B"),
        ("B) carbon dioxide is", None),
        ("**B**\n", None),
        ("B", None),
        ("The answer is", None),
    ],
)
def test_of_a_cut_response_only_a_marked_answer_counts(text: str, letter: str | None) -> None:
    assert TASK.read_cut(text) == letter


def test_only_the_end_of_a_long_response_is_read() -> None:
    assert TASK.read("#### A\n" + "x " * TAIL) is None
    assert TASK.read("B) gas " + "x " * TAIL) is None
    assert TASK.read("x " * TAIL + "#### A") == "A"


def test_equal_letters_are_one_class_and_silence_is_none() -> None:
    assert TASK.classes(["B", None, "A", "B", None]) == (0, -1, 1, 0, -1)
    assert TASK.classes([]) == ()
    assert TASK.correct("B", "B")
    assert not TASK.correct("B", "C")


def test_the_task_is_opened_by_its_answer_style() -> None:
    with open_task(TaskConfig(answer_style=AnswerStyle.choice), 5.0) as task:
        assert task.read("Answer: C") == "C"
        assert task.undecided == 0


PIECES = ["A", "B)", "(", ")", "*", "**", "#", "####", " ", "\n", "\\boxed{", "{", "}", "answer", " is", ":", "option "]
PIECES += ["the ", ",", " and ", "/", "_", "$", "correct ", " to ", "none", "\t", "I", "'", "\udcff", "a", "."]


@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join))
def test_any_text_is_read_as_a_capital_letter_or_silence(text: str) -> None:
    final = TASK.read(text)
    assert final is None or final in set("ABCDEFGHIJ")
    assert TASK.read_cut(text) in (final, None)
    TASK.accepts(text)


@pytest.mark.parametrize(
    "piece", [*PIECES, "answer to ", "#### A ", "A)\n", "answer is A, ", "\\boxed{A and ", "**A**\n"]
)
def test_hostile_repetition_is_read_in_linear_time(piece: str) -> None:
    text = piece * (1_000_000 // len(piece)) + "\n\nxyz\n\n#### B"
    assert TASK.read(text) == TASK.read_cut(text) == "B"
    assert not TASK.accepts(text)
