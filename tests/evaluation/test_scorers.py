r"""Three readings of one response: strict, flexible and symbolic, on texts as several families of models write them."""

import random
import re

import pytest

from crescent.config import AnswerStyle, TaskConfig
from crescent.judging.comparison import wilson
from crescent.judging.reliability import pass_at
from crescent.records import Completion, Response
from crescent.tasks import open_task
from eval.reading import grade
from eval.scorers import flexible_match, interval, last_boxed, majority, pass_at_each, score, strict_match

Labelled = tuple[str, str, bool, bool | None, bool]
"""A response, the reference, and whether a person's reading of the three rules calls it right."""

# GSM8K's own style, of models trained on it.
TUNED: list[Labelled] = [
    ("He has 3 + 4 = 7 apples.\n#### 7", "7", True, True, True),
    ("He has 3 + 4 = <<3+4=7>>7 apples.\n#### 7", "7", True, True, True),
    ("So she pays 12 * 90 = $1,080.\n#### 1,080", "1080", True, True, True),
    ("So she pays $1,080.\n#### $1,080", "1080", False, True, True),
    ("It sinks to -5 degrees.\n#### -5", "-5", True, True, True),
    ("Each gets 5 / 2 = 2.5.\n#### 2.5", "2.5", True, True, True),
    ("Each gets 36 / 2.\n#### 18.00", "18", False, False, True),
    ("He has 7 apples left.\n#### 8", "7", False, False, False),
    ("#### 7\n\n#### 9", "7", True, False, False),
    ("3 + 4 = 7\n####7", "7", False, True, True),
    ("3 + 4 = 7.\n#### 7.", "7", True, True, True),
    ("The train takes 3 hours.\n#### 3 hours", "3", True, True, True),
    ("A quarter of 100 is 25.\n#### 25%", "25", True, True, True),
    ("Seven.\n#### seven", "7", False, False, False),
    # A base model goes on with a question of its own.
    ("It is 7.\n#### 7\n\nQuestion: Ann has 3 cats. How many?\nAnswer: 3\n#### 3", "7", True, False, False),
]
# Chat models: bold, headings, sentences, units.
CHAT: list[Labelled] = [
    ("To find the total, add:\n\n3 + 4 = 7\n\n**Answer: 7**", "7", False, True, True),
    ("**Step 1:** 3 + 4 = 7.\n**Step 2:** 7 x 2 = 14.\n\nThe final answer is: **14**", "14", False, True, True),
    ("The final answer is $\\boxed{14}$", "14", True, True, True),
    ("The final answer is $\\boxed{14}$.", "14", True, False, True),  # to the harness, `$.` is a number
    ("## Step 1: Add\n3 + 4 = 7\n\nThe final answer is: $\\boxed{7}$", "7", True, True, True),
    ("Let's think step by step. She had 5, lost 2. Therefore she has 3 left.", "3", False, True, True),
    ("Therefore, Tom has 3 apples left after giving away 2.", "3", False, False, False),
    ("Ann pays $12.50 for the 5 pens, so each costs $2.50.", "2.5", False, False, True),
    (
        "Sure! The answer is 42. I hope this helps! Let me know if you have any other questions.",
        "42",
        False,
        True,
        True,
    ),
    ("The answer is 42, because 6 times 7 is 42 and not 36.", "42", False, False, True),
    ("It takes 8 hours.", "8", False, True, True),
    ("In total, there are **1,234** people.", "1234", False, True, True),
    ("So the ratio is 3:4, and the answer is 3.", "3", False, True, True),
    ("#### Step 1: Add\n5 + 6 = 11\n\n#### Step 2: Halve\n11 / 2\n\n#### Answer\n5.5", "5.5", False, True, True),
    ("#### 1. Add\n5 + 6 = 11\n\n#### 2. Answer\nThe answer is 11.", "11", False, True, True),
    ("#### Final Answer: 12 apples", "12", False, True, True),
    ("#### **12**", "12", False, True, True),
    ("#### answer: 12", "12", False, True, True),
    ("There are 12 eggs...", "12", False, False, True),
    ("She needs 12, 13, etc., and so 25 in all, etc.,", "25", False, False, True),
    ("I cannot determine the answer from what is given.", "12", False, False, False),
    ("", "12", False, False, False),
    ("Answer:\n\n12", "12", False, True, True),
    ("Final answer: 12 (twelve)", "12", False, True, True),
    ("The answer is 12 (twelve dollars) because 5 + 7 = 12.", "12", False, True, True),
    ("The answer is none of the 3 given.", "3", False, True, False),
    ("The answer is none of the options above.", "12", False, False, False),
    ("Answer: None of the apples are left, so 0", "0", False, True, True),
    ("#### 1 200 euros", "1200", False, False, True),
    ("| step | value |\n|---|---|\n| 1 | 5 |\n| 2 | 12 |\n\n**Total: 12**", "12", False, True, True),
    ("Result ≈ 33.33", "33.33", False, True, True),
    ("The answer is 33.333.", "33.33", False, False, False),
    ("The profit is −5 dollars.", "-5", False, False, True),
    ("The answer is 3/4.", "3/4", False, False, True),
    ("#### 3/4", "3/4", True, False, True),
    ("#### 0.75", "3/4", False, False, True),
    ("It is 1.5e3, and the answer is 1.5e3.", "1500", False, False, True),
]
# Reasoning and mathematics models: thoughts, boxes, LaTeX.
MATHS: list[Labelled] = [
    ("<think>\n3 + 4 is 8. No, wait, 7.\n</think>\n\nThe answer is \\boxed{7}.", "7", True, True, True),
    ("We get $x = 7$. Hence \\boxed{7}. Check: 7 - 4 = 3.", "7", True, False, True),
    ("\\[ \\boxed{7 \\text{ apples}} \\]", "7", False, True, True),
    ("\\boxed{5} is the first, and \\boxed{7} the second.", "7", True, True, True),
    ("\\[\n\\boxed{1{,}080}\n\\]", "1080", False, False, True),
    ("The half is $\\boxed{\\frac{1}{2}}$.", "\\frac{1}{2}", True, False, True),
    ("The half is $\\boxed{\\dfrac12}$.", "\\frac{1}{2}", True, False, True),
    ("The half is $\\boxed{0.5}$.", "\\frac{1}{2}", False, False, True),
    ("#### \\frac{1}{2}", "\\frac{1}{2}", True, False, True),
    ("#### $\\frac{1}{2}$", "\\frac{1}{2}", True, False, True),
    ("#### \\boxed{\\frac{1}{2}}", "\\frac{1}{2}", True, False, True),
    ("So it is $\\frac{2}{4}$.", "\\frac{1}{2}", False, False, True),
    ("\\boxed{(x+1)^2}", "x^2 + 2x + 1", False, None, True),
    ("\\boxed{x^2+2x+1}", "x^2 + 2x + 1", True, None, True),
    ("\\boxed{3\\sqrt{13}}", "3\\sqrt{13}", True, None, True),
    ("\\boxed{\\sqrt{117}}", "3\\sqrt{13}", False, None, True),
    ("\\boxed{\\left( 3, \\frac{\\pi}{2} \\right)}", "\\left( 3, \\frac{\\pi}{2} \\right)", True, None, True),
    ("\\boxed{(3, \\pi/2)}", "\\left( 3, \\frac{\\pi}{2} \\right)", False, None, True),
    ("\\boxed{(\\frac{\\pi}{2}, 3)}", "\\left( 3, \\frac{\\pi}{2} \\right)", False, None, False),
    ("\\boxed{\\text{Evelyn}}", "\\text{Evelyn}", True, None, True),
    ("#### Evelyn", "\\text{Evelyn}", True, None, True),
    ("Her name is Evelyn.", "\\text{Evelyn}", False, None, False),
    ("\\boxed{90^\\circ}", "90^\\circ", True, False, True),
    ("The answer is $p - q$.", "p - q", False, None, True),
    ("The answer is 12 (a + b)", "12a + 12b", False, None, True),
    ("The answer is 3 (mod n)", "3", False, True, False),
    ("\\boxed{q - p}", "p - q", False, None, False),
    ("\\boxed{x = 5}", "x=5", True, False, True),
    ("\\boxed{5}", "x=5", True, False, True),
    ("\\boxed{1, -2}", "1,-2", True, None, True),
    ("\\boxed{-2, 1}", "1,-2", False, None, True),
    ("\\boxed{}", "7", False, False, False),
    ("\\boxed{7", "7", False, True, True),
]

# What the deciding one gets wrong, as far as it is known.
MISREAD: list[Labelled] = [("It costs 1 200 euros.", "1200", False, False, True)]


def labelled() -> list[Labelled]:
    return [*TUNED, *CHAT, *MATHS]


def test_every_labelled_response_is_read_as_a_person_reads_it() -> None:
    assert len(labelled()) >= 60
    with open_task(TaskConfig(answer_style=AnswerStyle.math), 5.0) as task:
        for text, target, strict, flexible, symbolic in labelled():
            found = strict_match(text, target), flexible_match(text, target)
            assert (*found, grade(Completion(text, "stop", 9), target, task)[1]) == (strict, flexible, symbolic), text


def test_what_the_deciding_score_is_known_to_misread_it_still_misreads() -> None:
    with open_task(TaskConfig(answer_style=AnswerStyle.math), 5.0) as task:
        for text, target, strict, flexible, symbolic in MISREAD:
            assert (strict_match(text, target), flexible_match(text, target)) == (strict, flexible), text
            assert grade(Completion(text, "stop", 9), target, task)[1] is not symbolic, text


def test_strict_and_flexible_say_what_lm_evaluation_harness_says() -> None:
    extraction = pytest.importorskip("lm_eval.filters.extraction")
    metrics = pytest.importorskip("lm_eval.api.metrics")
    # The filters and the metric of its gsm8k.yaml, version 3.
    filters = {
        strict_match: extraction.RegexFilter(r"#### (\-?[0-9\.\,]+)"),
        flexible_match: extraction.RegexFilter("(-?[$0-9.,]{2,})|(-?[0-9]+)", group_select=-1),
    }
    ignored = [",", "\\$", "(?s).*#### ", "\\.$"]
    dice = random.Random(0)
    pieces = ["#### ", "####", "1", "2", "12", ".", ",", "$", "-", " ", "\n", " apples", "1,080", "x"]
    texts = [
        ("".join(dice.choices(pieces, k=dice.randrange(12))), dice.choice(["1", "12", "1080"])) for _ in range(999)
    ]
    texts += [(text, target) for text, target, *_ in labelled() if re.fullmatch(r"-?\d+(\.\d+)?", target)]
    agreed = {True: 0, False: 0}
    for text, target in texts:
        for ours, theirs in filters.items():
            if ours is strict_match and r"\boxed" in text:
                continue  # the box is ours
            found = theirs.apply([[text]], [{}])[0][0]
            exact = metrics.exact_match_hf_evaluate([found], [target], ignored, ignore_case=True)["exact_match"]
            assert ours(text, target) is bool(exact), text
            agreed[bool(exact)] += 1
    assert min(agreed.values()) > 50


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        (r"\boxed{1} and \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{ 7 } }", "7"),
        (r"\boxed{7} then \boxed{8", None),
        ("no box", None),
        (r"\boxed{" * 50_000, None),
    ],
)
def test_the_last_box_is_read_with_its_braces_balanced(text: str, inside: str | None) -> None:
    assert last_boxed(text) == inside


def test_long_hostile_texts_are_read_in_one_pass() -> None:
    for text in ("#### " * 50_000, "####" * 60_000, "1," * 100_000, "-$" * 100_000, "{" * 200_000, "\\" * 200_000):
        assert not strict_match(text, "7")
        assert not strict_match(text + r" \boxed{" + text, r"\pi")
        assert not flexible_match(text, "7")


def responses(*marks: str) -> list[Response]:
    """One string an item, one letter a sample: `r`ight, `w`rong, another wrong one `W`, `s`ilent."""
    finals = {"r": "1", "w": "2", "W": "3", "s": None}
    return [
        Response(
            f"i{item}", "dev", "q", "a", finals[mark], "1", mark == "r", "stop", 1, sample, mark == "r", mark != "s"
        )
        for item, samples in enumerate(marks)
        for sample, mark in enumerate(samples)
    ]


def classes(*marks: str) -> list[tuple[int, ...]]:
    def numbered(samples: str) -> tuple[int, ...]:
        seen = list(dict.fromkeys(mark for mark in samples if mark != "s"))
        return tuple(-1 if mark == "s" else seen.index(mark) for mark in samples)

    return [numbered(samples) for samples in marks]


def test_a_score_over_single_answers_by_hand() -> None:
    found = score("dev", responses("r", "r", "w", "s"), None, decides=True)
    assert (found.correct, found.unparsed, found.total, found.accuracy, found.samples) == (2, 1, 4, 0.5, 1)
    assert (found.strict, found.flexible, found.majority, found.pass_at) == (2, 3, None, {})
    assert (found.low, found.high) == wilson(2, 4)


def test_a_score_over_several_samples_by_hand() -> None:
    marks = ("rrww", "rrrw", "wwss", "rwWs")
    found = score("dev", responses(*marks), classes(*marks), decides=False)
    assert (found.correct, found.unparsed, found.total, found.samples, found.decides) == (6, 3, 16, 4, False)
    assert found.accuracy == 6 / 16
    assert found.majority == 1 / 4, "a tie is wrong, silence has no vote, three different answers are a tie"
    # Right of four samples: 2, 3, 0, 1; at least one of two drawn is right with chance 5/6, 1, 0, 1/2.
    assert found.pass_at == pytest.approx({"1": 6 / 16, "2": (5 / 6 + 1 + 0 + 1 / 2) / 4, "4": 3 / 4})
    assert (found.strict, found.flexible) == (6, 13)


def test_a_count_over_some_of_the_items_is_none() -> None:
    some = responses("r", "w")
    some[1] = Response("i1", "dev", "q", "a", "x", "y", False, "stop", 1)
    found = score("dev", some, None, decides=True)
    assert (found.strict, found.flexible) == (None, None)
    nothing = score("dev", [], None, decides=True)
    assert (nothing.total, nothing.low, nothing.high, nothing.strict) == (0, 0.0, 1.0, None)


def test_all_unparsed_is_nothing_right_and_no_majority() -> None:
    found = score("dev", responses("ss", "ss"), classes("ss", "ss"), decides=True)
    assert (found.correct, found.unparsed, found.majority, found.pass_at) == (0, 4, 0.0, {"1": 0.0, "2": 0.0})
    assert found.low == 0.0 < found.high < 1.0


def test_the_majority_is_right_when_the_first_of_its_class_is() -> None:
    items = [responses("wrr"), responses("wwr"), responses("srr")]
    assert majority(items, classes("wrr", "wwr", "srr")) == pytest.approx(2 / 3)


def test_pass_at_k_uses_the_powers_of_two_and_all_samples() -> None:
    assert list(pass_at_each([1, 2], 6)) == ["1", "2", "4", "6"]
    assert pass_at_each([1, 2], 6)["2"] == pytest.approx((pass_at(2, 6, 1) + pass_at(2, 6, 2)) / 2)


def test_asking_the_same_items_more_often_does_not_stand_for_more_items() -> None:
    once = interval([1] * 30 + [0] * 70, 1)
    assert once == wilson(30, 100)
    # Samples that all agree say no more than one of them.
    assert interval([8] * 30 + [0] * 70, 8) == pytest.approx(once)
    # Independent samples are worth as much as the same number of items.
    dice = random.Random(1)
    apart = interval([sum(dice.random() < 0.3 for _ in range(8)) for _ in range(100)], 8)
    assert apart[1] - apart[0] == pytest.approx(wilson(240, 800)[1] - wilson(240, 800)[0], rel=0.25)
    between = interval([8] * 15 + [3] * 40 + [0] * 45, 8)
    assert apart[1] - apart[0] < between[1] - between[0] < once[1] - once[0]


def test_an_interval_never_closes_on_what_few_items_show() -> None:
    assert interval([4, 4, 4], 4) == pytest.approx(wilson(3, 3))
    assert interval([0, 0, 0], 4) == pytest.approx(wilson(0, 3))
    assert interval([2], 4)[1] - interval([2], 4)[0] > 0.8
    assert interval([], 4) == (0.0, 1.0)


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    dice = random.Random(2)
    held = 0
    for _ in range(400):
        # Items differ: a third is always solved, a third never, a third every second time.
        items = [dice.choice((0.0, 0.5, 1.0)) for _ in range(60)]
        low, high = interval([sum(dice.random() < chance for _ in range(4)) for chance in items], 4)
        held += low <= 0.5 <= high
    assert 0.92 <= held / 400 <= 0.98
