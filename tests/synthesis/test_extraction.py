"""What surrounds a problem is left out, what is inside stays, and reading twice is like reading once."""

import pytest
from fakes import cut, stop
from hypothesis import given, settings
from hypothesis import strategies as st

from crescent.records import Completion
from crescent.synthesis.extraction import LONGEST, Extraction, extract_question

SUM = "Tom has 3/4 of 12 apples and eats 25% of them at $2.50, so x^2 = -5. How many are left?"

BEFORE = [
    "Sure! Here's a math word problem for you:\n\n",
    "Of course! ",
    "Of course, here is a challenging problem: ",
    "Certainly! Here's a unique, high school level math word problem:\n\n**Problem:**\n\n",
    "Here is a question about fractions.\n\n",
    "Here's a math word problem for you\n\n",
    "I'd be happy to help! Here's one for you:\n\n",
    "Okay, I've created a problem for you.\n\n",
    "**Problem:** ",
    "Problem 1: ",
    "**Problem 1**\n",
    "### Problem 1\n\n",
    "**Problem 1: Apples**\n",
    "### Problem 3: The Bakery Sale\n",
    "Math problem #1: ",
    "1. ",
    "**1.** ",
    "Here are some math word problems:\n\n1. ",
    "Here are a few:\n\n1. **The Orchard**: ",
    "Below you find three problems of different kinds:\n\n1) ",
    "The problem is: ",
    "A creative, high school level math word problem is: ",
    "<think>Let me think. Which one? Answer: 5.</think>\n\n",
    "Let me think. Which one? Solution: 5.</think>\n\n",
]
AFTER = [
    "\n\nLet me know if you'd like the solution!",
    " Let me know if you need help.",
    "\n\nI hope this helps!",
    "\n\nWould you like the solution?",
    "\n\nWould you like me to make another one? I can do that.",
    "\n\nGood luck!",
    "\n\nFeel free to ask for hints!",
    "\n\nNote: This problem requires percentages.",
    "\n\nThis is a classic example of a word problem.",
    "\n\nSolution: He eats 5. How many? 4.",
    "\n\n**Answer:** 5",
    "\n**Solution**\n\n5",
    "\n\n#### Solution\n5",
    "\n\n### Step-by-step solution\n5",
    "\n\nStep 1: Find 3/4 of 12.\nStep 2: Subtract.",
    "\n\nExplanation: it is 4.",
    "\n\nTo solve this problem, we first find 3/4 of 12.",
    "\n\nThe correct answer is 4.",
    "\n\nHere's the solution:\n4",
    "\n#### 5",
    "\nTom has 9, so 9 - 5 = 4.\n#### 4",
    " Answer: 5",
    "\n(Answer: 5)",
    "\n\n---\n\n**Solution:**\n\n5",
    "\n\n<think>hm</think>",
]
FURTHER = [
    "\n\nProblem 2: Ann has 4 cats. How many legs?",
    "\n\n**Problem 2**\nAnn has 4 cats. How many legs?\n\nAnswer: 16",
    "\n\nProblem: Ann has 4 cats. How many legs?",
]

KEPT = [
    "1. She sells 3 cakes.\n2. He buys 2 of them.\nHow many are left?",
    "1. Multiply by 3.\n2. Add 5.\nWhich number gives 20?",
    "A number is chosen:\n(1) It is even.\n(2) It is less than 5.\nWhat can it be?",
    "Tom has 5 apples.\n\n1. How many are left after he eats 2?\n2. How many are left after he eats 3?",
    "Ann has 5 pears.\nQuestion 1: How many are left after 2?\nQuestion 2: How many after 3?",
    "Tom has 5 apples.\n\nQuestion: How many are left after he eats 2?",
    "Step 1: take a number. Step 2: double it. What is it after step 2 if it was 4?",
    "Find the result after these steps.\nStep 1: Multiply 5 by 3.\nStep 2: Subtract 4.",
    "A student's work is shown.\nSolution: 3x = 6, so x = 3.\nWhat mistake did the student make?",
    "Two mixtures are combined.\nSolution A: 10% salt\nSolution B: 20% salt\nHow much of each makes 12%?",
    "Would you like to be paid $1 doubled daily or $1000 at once? Which is more after 15 days?",
    "Here are the ages of five children: 3, 5, 7, 8, 9. What is the mean?",
    "Here is the number of problems Ann solved each day: 3, 4, 5. What is the mean?",
    "Of course, I have 3 apples. How many have you?",
    "Great circles of radius 3 meet. Where?",
    "Good luck charms cost $3 each. How many can Tom buy with $10?",
    "I can solve 3 problems in an hour. How many in 4 hours?",
    "Feel free to use a calculator. What is 17 * 23?",
    "Problem A has 3 solutions. How many has B?",
    "Prove that $\\sqrt{2}$ is irrational.",
    "Which planet is the largest?\nA) Mars\nB) Jupiter\nC) Venus\nD) Earth",
    "Which are primes?\nAnswers:\nA) 2 and 3\nB) 4 and 6",
    "What is\n  12\n+  5\n-----\n?",
    "| a | b |\n|---|---|\n| 1 | 2 |\n\nWhat is a + b?",
    "A simple addition question: 2 + 3",
]
CODE = (
    "Write a function `f(n)` that doubles its argument.\n\nExample 1:\nInput: n = 2\nOutput: 4\nExplanation: 2 * 2 = 4."
    "\n\n```python\ndef f(n):\n    # What?\n    ...\nAnswer: 4\nProblem 2: ?\n```\n\nWhat does f(3) return?"
)


def read(text: str) -> str | None:
    return extract_question(stop(text), 8).text


@pytest.mark.parametrize("before", BEFORE)
def test_what_is_said_before_a_problem_goes(before: str) -> None:
    assert extract_question(stop(before + SUM), 8) == Extraction(SUM)


@pytest.mark.parametrize("after", AFTER)
def test_what_is_said_after_a_problem_goes(after: str) -> None:
    assert extract_question(stop(SUM + after), 8) == Extraction(SUM)


@pytest.mark.parametrize("after", FURTHER)
@pytest.mark.parametrize("before", ["", "Problem 1: ", "**Problem 1**\n\n", "Sure!\n\nProblem: "])
def test_of_several_problems_the_first_stays(before: str, after: str) -> None:
    if "Problem: A" in after and "1" in before:
        after = after.replace("Problem:", "Problem 2:")
    assert extract_question(stop(before + SUM + after), 8) == Extraction(SUM, dropped=1)


@pytest.mark.parametrize(
    "listed",
    [
        "1. {}\n2. What is 5 + 6?\n3. What is 7 + 8?",
        "1) {}\n\n2) What is 5 + 6?\n\n3) What is 7 + 8?",
        "Sure, here are three word problems:\n\n**1.** {}\n\n**2.** What is 5?\n\n**3.** What is 6?",
        "1. {} 2. What is 5 + 6? 3. What is 7 + 8?",
        "- {}\n- What is 5 + 6?\n- What is 7 + 8?",
        "1. **Apples**: {}\n2. **Sums**: What is 5 + 6?\n3. **More**: What is 7?",
    ],
)
def test_of_a_list_of_problems_the_first_stays(listed: str) -> None:
    assert extract_question(stop(listed.format(SUM)), 8) == Extraction(SUM, dropped=2)


@pytest.mark.parametrize("text", [*KEPT, CODE])
def test_a_problem_is_never_cut(text: str) -> None:
    assert extract_question(stop(text), 8) == Extraction(text)


@pytest.mark.parametrize("given_away", ["\n\nAnswer: B", "\nCorrect answer: B", "\n**Correct Answer: B) Jupiter**"])
def test_options_stay_and_the_answer_after_them_goes(given_away: str) -> None:
    stem = "Which planet is the largest?\nA) Mars\nB) Jupiter"
    assert read(f"Question: {stem}{given_away}") == stem
    assert read(f"**Question: Which planet is it?**\nA) Mars\nB) Jupiter{given_away}") == (
        "**Which planet is it?**\nA) Mars\nB) Jupiter"
    )


def test_a_quote_that_is_never_closed_goes() -> None:
    assert read('A math question might be: "What is the sum of 2 and 4?') == "What is the sum of 2 and 4?"


@pytest.mark.parametrize(
    ("completion", "why"),
    [
        (cut(SUM), "cut at max_tokens"),
        (Completion("the prompt is too long", "error", 0), "refused"),
        (Completion(SUM, "content_filter", 0), "refused"),
        (stop("I'm sorry, but I can't help with that."), "refused"),
        (stop("Of course, I'd be happy to help! However, I'm unable to create problems."), "refused"),
        (stop("As an AI language model, I cannot have apples."), "refused"),
        (stop("3 + 4?"), "too short"),
        (stop(f"{SUM}<|im_end|>"), "chat-template token"),
        (stop("Solution: 5 + 3 = 8."), "only a solution"),
        (stop("Sure! **Answer:** 5"), "only a solution"),
        (stop("#### 5"), "only a solution"),
        (stop(""), "no problem in it"),
        (stop("Sure! Here's a math problem for you:"), "no problem in it"),
        (stop("A simple addition question:"), "no problem in it"),
        (stop("<think>Which one? Perhaps 3 + 4?"), "no problem in it"),
        (stop(f"<think>a</think>{SUM}<think>b"), "no problem in it"),
        (stop("1. " * 50 + SUM), "no problem in it"),
        (stop("x" * (LONGEST + 1)), "too long"),
        (stop(SUM + "\x00" * 1_000_000), "too long"),
    ],
)
def test_without_a_problem_it_says_why(completion: Completion, why: str) -> None:
    assert extract_question(completion, 8) == Extraction(None, why)


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert('3')</script> What does it show?",
        'name,apples\n=SUM(A1),3\n"Bob, Jr.",4\nHow many apples?',
        "\\input{/etc/passwd} What is $\\frac{1}{2}$?",
        "{topic} {difficulty} %s ${HOME} What is it?",
    ],
)
def test_payloads_are_text(text: str) -> None:
    assert read(text) == text


NAMES = st.sampled_from(["Tom", "Ann", "A train", "The number x^2", "Half of 3/4", "\\frac{1}{2}", "$2.50", "−5 °C"])
SENTENCES = st.builds(
    "{} {} {}.".format,
    NAMES,
    st.sampled_from(["has", "gives 25% of", "is more than", "costs", "travels"]),
    st.sampled_from(["3 apples", "-5", "1,234 km", "$3.50", "(x + 1)^2", "[0, 1)", "2.5 h", "“five”"]),
)
ASKING = st.sampled_from(
    [
        "How many are left?",
        "What is x?",
        "Find x.",
        "Is it 7? Is it 8? Add them.",
        "Calculate the total, then round it to the nearest 10%.",
        "Which?\nA) 3\nB) 4",
        "Prove it.",
    ]
)
PROBLEMS = st.builds(lambda first, asking: " ".join([*first, asking]), st.lists(SENTENCES, max_size=4), ASKING)


@given(PROBLEMS)
def test_a_plain_problem_stays_as_it_is(problem: str) -> None:
    assert read_any(problem) == problem


@given(PROBLEMS, st.sampled_from(["", *BEFORE]), st.sampled_from(["", *AFTER, *FURTHER]))
def test_a_plain_problem_is_found_in_what_surrounds_it(problem: str, before: str, after: str) -> None:
    if "Problem: A" in after and "1" in before:
        after = ""
    if after.startswith(" ") and problem[-1] not in "?.":
        after = f"\n{after.strip()}"
    assert read_any(before + problem + after) == problem


def read_any(text: str) -> str | None:
    return extract_question(stop(text), 1).text


FRAGMENTS = [
    *BEFORE,
    *AFTER,
    *FURTHER,
    *KEPT,
    CODE,
    SUM,
    *"\n *\"'`“”?:#()-\t",
    "\n\n",
    "**",
    "```\n",
    "1. ",
    "\n2. ",
    "x",
]


@settings(max_examples=400)
@given(st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5), max_size=8).map("".join))
def test_reading_twice_is_reading_once(text: str) -> None:
    once = extract_question(stop(text), 1)
    assert (once.text is None) == (once.why != "")
    if once.text is not None:
        assert extract_question(stop(once.text), 1) == Extraction(once.text)


@given(st.binary(max_size=200))
def test_noise_is_read_or_left(noise: bytes) -> None:
    found = extract_question(stop(noise.decode("utf-8", "replace")), 8)
    assert (found.text is None) == (found.why != "")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "part",
    [
        *(" ", "\n", "#", "*", '"', "\u200b \n", "# ", "problem ", "**problem", "problem:", "math ", "<|a", "<think>"),
        *("1. ", "\n2. ", "```\n", "\nAnswer:", "\nStep 1", "A) 1\nB) 2\nAnswers:\n", "here is a ", "\n\n---\n\n"),
    ],
)
def test_the_longest_text_is_read_in_no_time(part: str) -> None:
    """Before the patterns were possessive, `#` and 8,000 spaces took three seconds."""
    many = part * (LONGEST // len(part))
    for text in (many, f"x? {many}"[:LONGEST], f"{many[: LONGEST - 2]}x?", f"# {many}"[:LONGEST]):
        assert extract_question(stop(text), 8).why != "too long"
