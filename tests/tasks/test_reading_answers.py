r"""Where the final answer stands, in responses as models of all kinds write them.

Every text here was written for this file, after the manner of fine-tuned GPT-3 (calculator notes, "A: 12"), chat models
(bold, headings, LaTeX) and reasoning models (thoughts). What a careful teacher would take for the answer stands beside
it. Where both styles are asked, both have to find the same value.
"""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crescent.config import AnswerStyle, Boxes, DecimalMark, TaskConfig
from crescent.records import Completion
from crescent.synthesis.bait_pool import read_list
from crescent.synthesis.consensus import read_vote
from crescent.synthesis.extraction import extract_question
from crescent.tasks import open_task, read_final
from crescent.tasks.answers import TAIL, extract_final, extract_marked
from crescent.tasks.code import find_program, read_inputs
from crescent.tasks.equivalence import LONGEST, as_number
from crescent.tasks.math import MathTask
from crescent.tasks.multiple_choice import MultipleChoice
from crescent.tasks.thoughts import without_thoughts

NUMBER, MATH = AnswerStyle.number, AnswerStyle.math
BOTH = pytest.mark.parametrize("style", [NUMBER, MATH])


def assert_says(final: str | None, value: str) -> None:
    assert final is not None
    assert as_number(final) == as_number(value), final


# --- money is not mathematics


@BOTH
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("He pays $5 + $6 = $11.", "11"),
        ("The total is $200 + $600 = $800. So, John spent $800.", "800"),
        ("She earns $18 per day.", "18"),
        ("John spends $3.50 on milk and $2 on bread, so he spends $5.50 in total.", "5.50"),
        ("He has $10 - $4 = $6 left.\nA: 6", "6"),
        ("5 * $2 = $10, and $10 + $3 = $13", "13"),
        ("The profit is $1,200 - $450 = $750. Therefore, Josh made a profit of $750.", "750"),
        ("Betty pays US$5 and then US$7, US$12 altogether.", "12"),
        ("Total: $5+$6+$7=$18", "18"),
        ("The price went from $20 to $15.", "15"),
        ("The price went from $40 to $30, a saving of $10 (25%).", "10"),
        ("She makes 9 * 2 = $<<9*2=18>>18 every day.", "18"),
        ("She makes <<9*2=18>> every day.", "18"),
        ("He pays $5/hour * 4 hours = $20.", "20"),
        ("He pays ($5 x 3) + ($6 x 2) = $27.", "27"),
        ("The total is $11050 - $(170*2) = $10710.", "10710"),
        ("Tom owes -$5.", "-5"),
        ("Her balance is $-5.", "-5"),
        ("The change is $20 - $13.75 = $6.25", "6.25"),
        ("So the cost is 5$ + 6$ = 11$.", "11"),
        ("She spends €3 + €4 = €7.", "7"),
        ("They raised £1,250.50 in all.", "1250.50"),
        (r"The cost is \$5 + \$6 = \$11.", "11"),
        (r"The cost is $\$5 + \$6 = \$11$.", "11"),
        ("**Total cost:** $5 + $6 = **$11**", "11"),
        ("It's 50¢ + 25¢ = 75¢.", "75"),
        ("$5 for x and $6 for y: $11 together.", "11"),
        ("Let $x$ be the price. Then $2x = 10$, so he pays $5.", "5"),
        ("Let $p$ be the price of a pen. $3p = 6$, $p = 2$. So 5 pens cost $10.", "10"),
        ("Since $3x = 12$, each costs $4.", "4"),
        ("First, $3 * 4 = $12. Second, $12 + $2 = $14.", "14"),
        ("| item | cost |\n|---|---|\n| milk | $3 |\n| total | $8 |", "8"),
        ("Costs: 3 * $4 = $12\n2 * $5 = $10\nTotal: $22", "22"),
        ("The answer is $5 + $6 = $11.", "11"),
        ("#### $5 + $6 = $11", "11"),
        ("#### $800", "800"),
        ("The answer is: $12 per hour.", "12"),
        ("The answer is $12, not $15.", "12"),
        ("He gives her 10 dollars and 50 cents.\n#### 10 dollars and 50 cents", "10.50"),
    ],
)
def test_a_dollar_sign_before_an_amount_opens_no_formula(text: str, value: str, style: AnswerStyle) -> None:
    assert_says(extract_final(text, style), value)


@pytest.mark.parametrize(
    ("text", "final"),
    [
        ("It costs $5 for $x$ of them", "x"),
        ("so $x = 12$, which costs us $ x + 1 $", "x + 1"),
        ("$12$, $15$ and $x$", "x"),
        ("Thus $3x + 5$", "3x + 5"),
        ("Thus $$3x + 5$$", "3x + 5"),
        (r"Thus \(3x + \$5\)", r"3x + \$5"),
        ("Thus we get\n\\begin{align*} x &= 3 \\\\ &= \\sqrt{9} \\end{align*}", r"\sqrt{9}"),
    ],
)
def test_formulas_between_dollar_signs_are_formulas_still(text: str, final: str) -> None:
    assert extract_final(text, MATH) == final


# --- what follows a mark


WORDS_AFTER_A_MARK = [
    *(("50 miles in 7 hours", "50"), ("22 times", "22"), ("6th place", "6"), ("2600g", "2600"), ("-10°F", "-10")),
    *(("$25,000/year", "25000"), ("762 M&Ms", "762"), ("12 to fill the pool", "12"), ("3 x 5 = 15 apples", "15")),
    *(("30. That leaves 5 apples.", "30"), ("12 (apples)", "12"), ("USD 0.50", "0.50"), ("-5°C", "-5")),
    *(("horse #12 wins in 5", "12"), ("12 apples and that is all", "12"), ("12 miles/hour", "12"), ("45 mph", "45")),
    *(("3.5kg", "3.5"), ("180 ml", "180"), ("5 feet tall", "5"), ("24 hours a day", "24"), ("1,200 sq. ft.", "1200")),
    *(("60 km/h", "60"), ("10 %", "10"), ("15% of the class", "15"), ("1st", "1"), ("the 3rd floor", "3")),
    *(("12, which is 3 more than 9", "12"), ("12 (since 3*4=12)", "12"), ("12 because there are 3 boxes of 4", "12")),
    *(("12. There are 3 boxes of 4.", "12"), ("12\n\nExplanation: 3 boxes of 4.", "12"), ("12\n(3 boxes * 4)", "12")),
    *(("7 (14/2)", "7"), ("80.00 (60 + 20)", "80"), ("12 = 3 x 4", "12"), ("(3+4)*2 = 14", "14"), ("5! = 120", "120")),
    *(("5 + 6 = 11 dollars", "11"), ("Total = 5 * 3 = 15 dollars", "15"), ("Total cost: $15", "15"), ("x = 12", "12")),
    *(
        ("She has 12 apples", "12"),
        ("In 3 days he will have 12 apples.", "12"),
        ("12 CDs", "12"),
        ("8 L of water", "8"),
    ),
    *(("Each of the 4 friends gets 12 cookies.", "12"), ("14 m/s", "14"), ("10 lbs", "10"), ("EUR 12", "12")),
    *(("Rs. 500", "500"), ("500 Rs", "500"), ("12€", "12"), ("£3.50 each", "3.50"), ("₹1,20,000", "120000")),
    *(("about 12 apples", "12"), ("approximately 3.5 hours", "3.5"), ("= 12", "12"), ("**12**", "12"), ("`12`", "12")),
    *(('"12"', "12"), ("$12$", "12"), (r"\(12\)", "12"), (r"\[12\]", "12"), ("Answer: 12", "12"), ("(12)", "12")),
    *(("The answer is 12 apples.", "12"), ("$12 each", "12"), ("12!", "12"), ("minus 5", "-5"), ("-$5.50", "-5.50")),
    *(("negative 5 degrees", "-5"), ("24 (twenty-four) eggs", "24"), ("16 – eggs", "16"), ("(-5)", "-5")),
    *(("4 cartons of 12 eggs each", "4"), ("2 $10 bills", "2"), ("12 8-ounce glasses", "12"), ("3 times as many", "3")),
    *(("5 more than before", "5"), ("8 years old", "8"), ("5 1/2 feet", "5 1/2"), ("1/2 of the pizza", "1/2")),
    *(("7 days/week", "7"), ("$3.50/lb", "3.50"), ("60 (miles per hour)", "60"), ("45 minutes (or 0.75 hours)", "45")),
    *(("12 apples (3 red, 9 green)", "12"), ("12; 5 of them red", "12"), ("12 per person (36 total)", "12")),
    *(("36 inches = 3 feet", "36"), ("36 inches or 3 feet", "36"), ("3 dozen = 36", "36"), ("12 ducks' eggs", "12")),
    *(("12 km²", "12"), ("12 square meters", "12"), ("Yes, 12", "12"), ("Tom: 12", "12"), ("Remainder: 5", "5")),
    *(("Each child gets 4 candies with 2 left over", "4"), ("Cost per item is $3", "3"), ("not 12 but 15.", "15")),
    *(("97$ on a shirt", "97"), ('67" tall', "67"), ("36 (sq. inches)", "36"), ("370g of flour", "370")),
    *(("18-8 = 10 pencils", "10"), ("20% of 50 = 10", "10"), ("8*2 = 16; 8+16+6 = 30 tickets", "30")),
    *(("2 liters of water are 2*1000 = 2000 ml", "2000"), ("Mr. Lee pays $200 - $198 = $2", "2")),
    *(("the 4 players averaged 5 points", "5"), ("12<|im_end|>", "12"), ("12</s>", "12"), ("[12]", "12")),
]


@BOTH
@pytest.mark.parametrize(
    "mark", ["3 + 4 = 7.\n#### {}", "First, 3 + 4 = 7.\nThe answer is: {}", "7.\n\n**Answer:** {}"]
)
@pytest.mark.parametrize(("words", "value"), WORDS_AFTER_A_MARK)
def test_the_number_that_a_mark_marks_is_read_whatever_words_follow(
    words: str, value: str, mark: str, style: AnswerStyle
) -> None:
    assert_says(extract_final(mark.format(words), style), value)


@BOTH
@pytest.mark.parametrize(
    "text",
    [
        *("A: 42", "3 + 39 = 42\nA: 42", "The sum of 3 and 4 is 7.\nA: 42 apples in 3 boxes", "Final Answer: 42"),
        *("**Final Answer**: 42", "## Final Answer\n\n42", "### Answer\n42 apples", "**Answer**\n\n$42", "Ans: 42"),
        *("Ans. = 42", "The answers are 42.", "The answer would be 42.", "The answer should be 42 dollars."),
        *("Therefore the answer (in dollars) is 42.", "The answer, then, is 42.", "The final result is 42."),
        *("answer = 42", "Answer → 42", "The answer comes out to 42.", "The answer is clearly 42.", "ANSWER: 42"),
        *('{"answer": 42}', "{'answer': '42 apples'}", "<answer>42</answer>", "<answer>\n42 apples\n</answer>"),
        *(r"The final answer is: $\boxed{42}$", r"\boxed{42 \text{ miles in } 7 \text{ hours}}", r"\boxed 42"),
        *(r"\boxed{\$42}", r"\boxed{\mathbf{42}}", r"\fbox{42}", r"\boxed{42^{th} \text{ place}}", r"\boxed{42\%}"),
        *(
            "So the answer is 42 apples. Let me know if you have any other question in the next 5 minutes!",
            "Answer：42",
        ),
        *(
            "#### 41\nWait, that is wrong.\n#### 42",
            "#### 42 #### ",
            "The answer is:\n\n$$42$$",
            "The answer is\n\n- 42",
        ),
    ],
)
def test_a_mark_may_look_like_this(text: str, style: AnswerStyle) -> None:
    assert_says(extract_final(text, style), "42")


@BOTH
@pytest.mark.parametrize(
    "text",
    [
        "#### 1. Add\n3 + 9 = 12",
        "#### 1. Buy 5 of them\nThat costs 3.\n#### 2. Buy 7 more\nAll cost 12",
        "Answer:\n1. We have 3.\n2. We add 9 and get 12",
        "The answer is found by adding 3 and 9. So he has 12.",
        "He must answer 5 questions in 3 minutes. He has 12",
        "Solution: 3 * 3 = 9. Then 9 + 3 = 12.",
    ],
)
def test_a_heading_and_a_verb_mark_nothing(text: str, style: AnswerStyle) -> None:
    assert_says(extract_final(text, style), "12")


@pytest.mark.parametrize(
    "final",
    [
        *("3 to 4", "1 in 6", "2 dozen", "5 pm", "2:30", "2:30 pm", "5 more than x", "2 hours and 30 minutes", "3:4"),
        *("5 feet 3 inches", "12 apples, 5 oranges", "3 out of 4", "x = 5, y = 6", "5 mod 7", "5x", "2x + 3y = 5"),
        *("19, 46, and 82", "19, 46, 82, 90, 100 and 120", "x<0 or x>1", "5 or 7", "(1, 2)", "[0, 1)", r"\{1, 2\}"),
        *(r"5\sqrt{3} cm", r"2\pi", "3 + 2i", "101_2", "C", "Monday", r"0.\overline{3}", r"-\frac{1}{2}", "5 or more"),
    ],
)
def test_what_changes_the_meaning_of_a_number_stays_with_it(final: str) -> None:
    assert extract_final(f"#### {final}", MATH) == final
    assert extract_final(f"The answer is {final}.", MATH) == final


@pytest.mark.parametrize(
    ("text", "final"),
    [
        ("The answers are $19$, $46$, and $82$.", "19, 46, 82"),
        ("The answers are $x=2$ and $x=3$.", "x=2, x=3"),
        (r"The answer is $\text{Even}$.", "Even"),
        (r"The parity is $\text{Even}$.", "Even"),
        (r"The answer is \(\text{Even}\)", "Even"),
        ("The answer is the interval $[0,1)$.", "[0,1)"),
        ("The answer is $5!$.", "5!"),
        ("The answer is 5!.", "5!"),
        (r"\boxed{n \text{ even}}", r"n \text{ even}"),
        (r"\boxed{5 \text{ or } 7}", r"5 \text{ or } 7"),
        (r"\boxed{11:30 \text{ am}}", r"11:30 \text{ am}"),
        (r"\boxed{19, 46, \text{ and } 82}", r"19, 46, \text{ and } 82"),
        (r"\boxed{x \text{ such that } x > 2}", r"x \text{ such that } x > 2"),
        (r"The answer is $\frac{270}7\text{ degrees}$.", r"\frac{270}7\text{ degrees}"),
        ("The answer is yes, because 3 > 2.", "yes"),
    ],
)
def test_formulas_lists_and_words_behind_a_mark_are_read_whole(text: str, final: str) -> None:
    assert extract_final(text, MATH) == final


# --- where nothing marks the answer


@BOTH
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("It takes 15 hours to clean 45 rooms.", "15"),
        ("So the car consumes x = 3300/275 = 12 liters per 100 km.", "12"),
        ("They drive 4 * 45 = 180 miles in 4 hours.", "180"),
        ("Therefore, she walked **12 miles**.", "12"),
        ("Therefore, she walked **12 miles** in 3 days.", "12"),
        ("Therefore, the total is **12 miles**. This assumes she walks 3 miles a day.", "12"),
        ("**Step 3:** 5 + 7 gives **12** in all", "12"),
        ("**3.** So he has 12 apples.", "12"),
        ("She has 12 apples.\n\nCheck: 12 + 3 = 15.", "12"),
        ("So 12 remain. Note: 3 were eaten.", "12"),
        ("In step 2 we saw that he has 12. This finishes step 3.", "12"),
        ("Steps:\n1. Add 5 and 7 to get 12.", "12"),
        ("Mr. Smith has 12 apples.", "12"),
        ("He needs 12 sq. ft. of wood.", "12"),
        ("She sells the 5 cakes for $12.", "12"),
        ("He was left with 12.", "12"),
        ("If 4 of them leave, 12 remain.", "12"),
        ("12 of the 20 students passed.", "12"),
        ("Each of the 4 friends gets 12 cookies.", "12"),
        ("The total is 5 + 7 = 12, i.e. 12 apples.", "12"),
        (r"\[ 5 + 7 = 12 \text{ apples} \]", "12"),
        ("Thus 350 - 230 = 120 daisies were sold on the 4th day.", "120"),
        ("She has 10 more pencils than Tom, who has 6.", "6"),
        ("| Day | Apples |\n|---|---|\n| 1 | 5 |\n| **Total** | **12** |", "12"),
        ("The number of weeks is 36/3 = 12 weeks (3 months).", "12"),
        ("Thus, she needs 12 eggs for 3 cakes.", "12"),
        ("He spends 12 because 4 * 3 = 12", "12"),
        ("He can skip 4 classes because 10 - 4 = 6", "4"),
        ("Let $n$ be the number of apples.\nThen we have 12 apples.", "12"),
        ("With $n$ people we need 12 chairs.", "12"),
    ],
)
def test_the_closing_number_is_the_one_that_its_sentence_states(text: str, value: str, style: AnswerStyle) -> None:
    assert_says(extract_final(text, style), value)


@pytest.mark.parametrize(
    ("text", "final"),
    [
        (r"So the length is $\sqrt{5}$. (See Figure 2.)", r"\sqrt{5}"),
        ("So the length is $\\sqrt{5}$.\n\nI hope this helps!", r"\sqrt{5}"),
        (r"Hence $x = \sqrt{5}$. Note that $2^2 < 5$.", r"x = \sqrt{5}"),
        ("There are 3 cases. The set is $\\{1, x\\}$", r"\{1, x\}"),
    ],
)
def test_a_formula_stands_where_no_number_comes_after_it(text: str, final: str) -> None:
    assert extract_final(text, MATH) == final


# --- spellings


@BOTH
@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(
            ("The answer is 42!", "42"),
            ("The answer is **42**!!", "42"),
            ("#### 1 200", "1200"),
            ("#### 1'200", "1200"),
        ),
        *((r"\boxed{32,\! 349}", "32349"), (r"\boxed{32,\!349}", "32349"), (r"\boxed{10{,}000}", "10000")),
        *((r"\boxed{1\,234\,567}", "1234567"), ("It is 1{,}234.", "1234"), ("#### 12 345 678", "12345678")),
        *(
            ("#### １２．５", "12.5"),
            ("Answer：１２", "12"),
            ("#### １，２００", "1200"),
            ("The answer is ４２。", "42"),
        ),
        *(("#### ½", "1/2"), ("The answer is 1½ cups.", "1 1/2"), ("-½", "-1/2"), ("#### 12 ½", "12 1/2")),
        *(("#### −5", "-5"), ("#### －5", "-5"), ("#### ‑5", "-5"), ("#### 10^3", "1000"), ("#### 10³", "1000")),
        *(("#### 1 1/2", "1 1/2"), ("The answer is 1 and 1/2 cups", "1 1/2"), ("#### 𝟏𝟐", "12"), ("#### 3⁄4", "3/4")),
        *(
            ("#### 1\u00a0200", "1200"),
            ("#### 1\u202f200", "1200"),
            ("It is 1\u2009200.", "1200"),
            ("#### 1\u200b2", "12"),
        ),
        *(("#### 1.5 × 10^3", "1500"), (r"\boxed{1.5 \times 10^3}", "1500"), (r"#### \frac{1}2", "1/2")),
        *((r"#### \frac12", "1/2"), (r"#### \tfrac{1}{2} of it", "1/2"), (r"#### $\frac{3}{4}$ cup", "3/4")),
        *((r"\boxed{125\textnormal{ miles}}", "125"), ("#### 1/10 or 0.1", "1/10"), ("It is 12,34,567.", "1234567")),
    ],
)
def test_a_number_is_read_in_any_spelling(text: str, value: str, style: AnswerStyle) -> None:
    assert_says(extract_final(text, style), value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("#### 3,5", "3.5"), ("#### 1.234,50 €", "1234.50"), ("Es sind 1.234.", "1234"), (r"\boxed{0,25}", "0.25")],
)
def test_a_decimal_comma_is_read_where_the_task_says_so(text: str, value: str) -> None:
    for style in (NUMBER, MATH):
        assert_says(extract_final(text, style, decimal_mark=DecimalMark.comma), value)
        assert_says(extract_marked(f"#### {value}", style), value)
    with open_task(TaskConfig(answer_style=NUMBER, decimal_mark=DecimalMark.comma), 5.0) as task:
        assert_says(task.read(text), value)


def test_which_of_several_boxes_counts_is_a_setting() -> None:
    text = r"Either \boxed{2}, or \boxed{2}, or \boxed{3}."
    assert extract_final(text, MATH) == "3"
    for boxes, final in ((Boxes.last, "3"), (Boxes.first, "2"), (Boxes.all, "2, 3")):
        with open_task(TaskConfig(boxes=boxes), 5.0) as task:
            assert task.read(text) == task.read_cut(text) == final


# --- thoughts


THOUGHTS = [
    *("<think>{}</think>", "<thinking>\n{}\n</thinking>\n\n", "<Thinking>{}</Thinking>", "<thought>{}</thought>\n"),
    *("[THINK]{}[/THINK]", "<reasoning>\n{}\n</reasoning>\n", "<reflection>{}</reflection>", "◁think▷{}◁/think▷"),
    *("<seed:think>{}</seed:think>", "<|begin_of_thought|>{}<|end_of_thought|>", "<think>{}<\\/think>"),
    *("<|START_THINKING|>{}<|END_THINKING|>", "<|inner_prefix|>{}<|inner_suffix|>", "<unused94>thought\n{}<unused95>"),
    *("<|channel>thought\n{}<channel|>", "&lt;think&gt;{}&lt;/think&gt;", "<think>a</think>\n<think>{}</think>"),
    *("<think>Use <think> tags? {}</think>", "<think>{} <think>b</think> c</think>", "<think time='3'>{}</think >"),
    "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
    "analysisWe see: {}assistantfinal",
    "Here is my thought process: {}\nHere is my response:",
]
MUSINGS = r"It may be 7. #### 7 So the answer is 7, or $x^7$. \boxed{7}"


@pytest.mark.parametrize("style", AnswerStyle)
@pytest.mark.parametrize("thought", THOUGHTS)
def test_a_thought_is_not_read(thought: str, style: AnswerStyle) -> None:
    before = thought.format(MUSINGS)
    for answer in ("So it is 12.", "#### 12", r"\boxed{12}", "The answer is 12."):
        assert_says(extract_final(before + answer, style), "12")
    assert extract_final(before, style) is None
    assert extract_final(before + "I do not know.", style) is None
    assert extract_marked(before + "#### 12 and", style) == "12"


@pytest.mark.parametrize("style", AnswerStyle)
@pytest.mark.parametrize(
    "opening", [thought.partition("{}")[0] for thought in THOUGHTS if not thought.startswith("Here")]
)
def test_a_thought_that_was_cut_is_silence(opening: str, style: AnswerStyle) -> None:
    for before in ("", "#### 12\n"):
        if before and opening.startswith("analysis"):
            continue  # only the beginning of a response tells that these words head a thought
        assert extract_final(before + opening + MUSINGS, style) is None
        assert extract_marked(before + opening + MUSINGS, style) is None


@pytest.mark.parametrize("style", AnswerStyle)
@pytest.mark.parametrize("closing", ["</think>", "</thinking>", "[/THINK]", "◁/think▷", "</reasoning>", "</thought>"])
def test_a_closing_tag_ends_what_the_template_opened(closing: str, style: AnswerStyle) -> None:
    assert_says(extract_final(f"{MUSINGS}\n{closing}\n\nThere are 12.", style), "12")
    assert extract_final(f"{MUSINGS}\n{closing}\n", style) is None
    assert extract_final(f"{MUSINGS} {'x' * 2 * TAIL}{closing}12", style) == "12"


def test_a_thought_longer_than_what_is_read_is_a_thought() -> None:
    assert extract_final(f"<think>{MUSINGS} {'so ' * TAIL} 8", NUMBER) is None


@pytest.mark.parametrize(
    "text",
    [
        *("12 < 15", "a[THING]b", "I think it is 12.", "if x<y then 12>7", "`<think>` tags are not used here: 12"),
        *("analysis of 12", "<b>12</b>", "The reason is <12>", 'Write "</think>" first', "/no_think 12"),
    ],
)
def test_what_is_no_tag_stays(text: str) -> None:
    assert without_thoughts(text) == text


@pytest.mark.parametrize("thought", THOUGHTS)
def test_a_letter_in_a_thought_is_no_choice(thought: str) -> None:
    task = MultipleChoice()
    before = thought.format(r"A seems right. The answer is A. \boxed{A}")
    assert task.read(before + "The answer is B.") == task.read_cut(before + "The answer is B.") == "B"
    assert task.read(before) is None
    assert task.read(thought.partition("{}")[0] + "The answer is A.") is None
    assert task.read("The answer is A.</think>B") == "B"


PROGRAM = "```python\ndef solve(x):\n    return {}\n```\n"


@pytest.mark.parametrize("thought", THOUGHTS)
def test_a_program_in_a_thought_is_none(thought: str) -> None:
    opening = thought.partition("{}")[0]
    assert (
        find_program(thought.replace("{}", PROGRAM.format(7)) + PROGRAM.format(12)) == "def solve(x):\n    return 12\n"
    )
    assert find_program(thought.replace("{}", PROGRAM.format(7))) is None
    assert find_program(opening + PROGRAM.format(7)) is None
    inputs = thought.replace("{}", "solve(7)\n") + "solve(12)"
    assert read_inputs(Completion(inputs, "stop", 9), 8) == ("(12,)",)


@pytest.mark.parametrize("quoted", ['"<think>.*?</think>"', "r'</think>'", "'<think>' + text"])
def test_a_program_may_speak_of_thoughts(quoted: str) -> None:
    program = f"def solve(text):\n    return text.split({quoted})\n"
    assert find_program(f"Here it is.\n\n```python\n{program}```\n") == program


@pytest.mark.parametrize("thought", THOUGHTS)
def test_a_question_in_a_thought_is_not_asked(thought: str) -> None:
    before = thought.format("Which one? How much is 7 + 7?")
    question = "Tom has 5 apples and buys 7 more. How many apples has he?"
    assert extract_question(Completion(before + question, "stop", 9), 8).text == question
    assert extract_question(Completion(before, "stop", 9), 8).text is None
    assert extract_question(Completion(thought.partition("{}")[0] + question, "stop", 9), 8).text is None
    long = thought.format("Perhaps. " * 3_000) + question
    assert extract_question(Completion(long, "stop", 9), 8).text == question
    assert read_list(before + "1. Algebra\n2. Geometry") == ["Algebra", "Geometry"]


# --- one rule for all who read


@pytest.fixture(scope="module")
def task() -> Iterator[MathTask]:
    with MathTask(NUMBER, 5.0) as opened:
        yield opened


@pytest.mark.parametrize(
    ("completion", "final", "voted"),
    [
        (Completion("So it is 7.", "stop", 9), "7", "7"),
        (Completion("#### 7", "stop", 9), "7", "7"),
        (Completion("#### 7\n\nAnother question: what is 5 + 5? It is 1", "length", 9), "7", None),
        (Completion("3 + 4 = 7, and then 7 + 2", "length", 9), None, None),
        (Completion("The answer is 12", "length", 9), None, None),
        (Completion("The answer is 3 + 4", "length", 9), None, None),
        (Completion("<think>#### 7\n\nAnother", "length", 9), None, None),
        (Completion("maximum context is 4096", "error", 0), None, None),
        (Completion("#### 7<|im_end|>", "stop", 9), "7", None),
    ],
)
def test_votes_and_benchmarks_read_alike_and_votes_count_what_can_be_trained_on(
    completion: Completion, final: str | None, voted: str | None, task: MathTask
) -> None:
    assert read_final(completion, task) == final
    assert read_vote(completion, task) == voted


# --- hostile texts


@pytest.mark.timeout(60)
@pytest.mark.parametrize("style", [NUMBER, MATH])
@pytest.mark.parametrize(
    "unit",
    [
        *(
            "<think>",
            "</think>",
            "<",
            "[THINK",
            "◁",
            "<|channel|>",
            "```\n'<think>'",
            "&lt;",
            "$5 ",
            "$5 + ",
            "$x$5",
            "$$",
        ),
        *(
            "5$+",
            r"\[",
            r"\begin{align}",
            r"\\",
            "**5**",
            "**5 ",
            "5 and ",
            "to clean 5 ",
            "(5 ",
            "If 5, ",
            "because 5=5 ",
        ),
        *(
            "1. ",
            "Note 5.",
            "5!",
            "answer answer: ",
            "final ",
            "ans: ",
            "A: 5\n",
            "#### 5. a\n",
            "<<5=5>>",
            "<<",
            "½",
            "⁵",
        ),
        *(
            "5'000",
            "1,00,",
            r"5\,000",
            "[asy]",
            "5 dollars and 50 cents ",
            "5 or ",
            "5, ",
            "5 a, ",
            "5 = ",
            "x = ",
            "a ",
        ),
        *("#5", "12:30 ", "5-a ", r"\text{5}", r"\frac5", "USD 5 ", "５", "İ", "Mr. 5 ", "5 feet ", "word "),
    ],
)
def test_a_megabyte_of_anything_is_read_at_once(unit: str, style: AnswerStyle) -> None:
    repeated = unit * (1_000_000 // len(unit))
    for text in (repeated, f"#### {repeated}", f"#### 5 {repeated}", repeated[:TAIL] + "\n#### 5 miles"):
        final = extract_final(text, style)
        assert final is None or len(final.encode()) <= 4 * LONGEST


MARKS = ["$", "5", "x", " ", "\n", "=", "+", ".", "(", ")", "{", "}", r"\boxed{", r"\text{", "#### ", "answer: ", "**"]
WORDS = ["<think>", "</think>", "½", "miles", "to ", "in ", "because ", "A: ", "$$", r"\(", r"\)", ",", "1 200", "!"]
PIECES = st.lists(st.sampled_from([*MARKS, *WORDS]), max_size=30).map("".join)


@given(PIECES, st.sampled_from([NUMBER, MATH]), st.sampled_from(Boxes), st.sampled_from(DecimalMark))
def test_reading_never_raises(text: str, style: AnswerStyle, boxes: Boxes, decimal_mark: DecimalMark) -> None:
    final = extract_final(text, style, boxes, decimal_mark)
    assert final is None or (final and final.encode("utf-8"))
    extract_marked(text, style, boxes, decimal_mark)


@given(PIECES)
def test_leaving_out_thoughts_twice_changes_nothing(text: str) -> None:
    said = without_thoughts(text)
    assert without_thoughts(said) == said
