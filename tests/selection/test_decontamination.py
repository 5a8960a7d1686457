"""Questions too near to a benchmark question are found, and only those."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from fakes import question
from hypothesis import given
from hypothesis import strategies as st

from crescent.config import DecontaminationConfig
from crescent.models.embedders import Vectors
from crescent.records import Item, Quarantined, Question
from crescent.selection.decontamination import Benchmarks, Ngrams, hashes, masked, tokens

WORDS_ONLY = DecontaminationConfig(similarity=None)
BAKER = (
    "A baker in the old harbour town sold 48 poppy rolls before noon, and then she sold half as many seeded loaves "
    "in the rain. How many things did she sell that day?"
)
WORDS = ("the", "a", "farmer", "has", "sells", "3", "48", "1,250", "apples", "-", "half", "in", "per", "how", "many")
words = st.sampled_from(WORDS)


def items(*questions: str) -> list[Item]:
    return [Item(f"item-{index}", "shop", text, "0") for index, text in enumerate(questions)]


def find_in(benchmarks: Benchmarks, asked: Question, vector: Vectors | None = None) -> Quarantined | None:
    """What `benchmarks` finds for a single question."""
    return benchmarks.find([asked], None if vector is None else vector[np.newaxis]).get(asked.id)


def find(asked: str, *known: str, cfg: DecontaminationConfig = WORDS_ONLY) -> Quarantined | None:
    return find_in(Benchmarks(items(*known), cfg), question(asked))


def rule(asked: str, *known: str, cfg: DecontaminationConfig = WORDS_ONLY) -> str | None:
    found = find(asked, *known, cfg=cfg)
    return found.rule if found else None


def test_a_copy_is_found_with_its_source_and_the_shared_words() -> None:
    found = find(BAKER, "What is 3 + 4?", BAKER)
    assert found is not None
    assert (found.benchmark, found.item, found.item_question) == ("shop", "item-1", BAKER)
    assert found.question.text == BAKER
    assert found.rule == "ngram"
    assert found.evidence == "a baker in the old harbour town sold 48 poppy rolls before noon"


@pytest.mark.parametrize(
    "disguised",
    [
        BAKER.upper(),
        BAKER.replace(",", " --").replace(".", ";\n\n"),
        f"**Problem:** {BAKER}",
        f"Sure! Here is a problem for you:\n\n> {BAKER}\n\nLet me know if you want another one.",
        BAKER.replace("poppy", "pop\u200bpy"),
        BAKER.replace("o", "ó"),
        BAKER.replace("48", "４８"),
        BAKER.replace(" 48 ", " $48$ "),
    ],
)
def test_case_punctuation_markdown_and_chatter_hide_nothing(disguised: str) -> None:
    assert rule(disguised, BAKER) == "ngram"


def test_other_numbers_hide_nothing_neither_digits_nor_words() -> None:
    shorter = "A baker sold 48 rolls, and then 1,250 loaves at 2.50 dollars a piece to 12 guests of the inn."
    for copy in (
        "A baker sold 52 rolls, and then 75 loaves at 3 dollars a piece to 9 guests of the inn.",
        "A baker sold fifty-two rolls, and then a hundred loaves at 3 dollars a piece to 2 dozen guests of the inn.",
    ):
        words_only = DecontaminationConfig(similarity=None, masked=False)
        assert rule(copy, shorter, cfg=words_only) is None
    found = find("A baker sold 52 rolls, and then 75 loaves at 3 dollars a piece to 9 guests of the inn.", shorter)
    assert found is not None
    assert found.rule == "masked"
    assert found.evidence == "a baker sold # rolls and then # loaves at # dollars a"


def test_the_exact_rule_comes_before_the_masked_rule_and_the_cosine_last() -> None:
    cfg = DecontaminationConfig(similarity=0.5)
    other_numbers = BAKER.replace("48", "60").replace("half", "twice")
    vector = np.array([1, 0], dtype=np.float32)
    benchmarks = Benchmarks(items(BAKER), cfg, vector[np.newaxis])
    asked = [BAKER, "So: " + other_numbers.replace("in the rain. ", ""), "Who sang?"]
    rules = [found.rule if (found := find_in(benchmarks, question(text), vector)) else None for text in asked]
    assert rules == ["ngram", "masked", "similarity"]


def test_the_same_computation_in_other_words_is_found_where_asked_for() -> None:
    cfg = DecontaminationConfig(similarity=None, computation=True)
    benchmark = ("Calculate 24 + 28.", "Calculate 9 - 4.")
    found = find("What is 28 plus 24?", *benchmark, cfg=cfg)
    assert found is not None
    assert (found.item, found.rule, found.evidence) == ("item-0", "computation", "24 + 28")
    assert rule("Calculate 24 + 28.", *benchmark, cfg=cfg) == "ngram"
    assert rule("What is 4 - 9?", *benchmark, cfg=cfg) is None, "the order of a difference matters"
    assert rule("What is 24 - 28?", *benchmark, cfg=cfg) is None
    assert rule("If 24 + 28 apples are sold, how many are left?", *benchmark, cfg=cfg) is None
    assert rule("What is 28 plus 24?", *benchmark) is None, "off by default"


def test_another_name_in_front_does_not_hide_the_rest() -> None:
    assert rule(BAKER.replace("A baker", "Old Miss Quill"), BAKER) == "ngram"


def test_a_story_of_the_same_kind_is_not_found() -> None:
    mine = "A baker sold 48 rolls in the morning and half as many in the evening. How many rolls did he sell that day?"
    yours = "A tailor sewed 48 coats in spring and a third as many in summer. How many coats did he sew in all?"
    assert rule(yours, mine) is None


def test_of_short_questions_only_equal_ones_are_found() -> None:
    assert rule("What is 3 + 4?", "What is 3 + 4?") == "ngram"
    assert rule("what is 3+4", "What is 3 + 4?") == "ngram"
    for other in ("What is 3 + 5?", "What is 3 - 4?", "What is 3 * 4?", "What is -3 + 4?", "What is 3 + 4 + 5?"):
        assert rule(other, "What is 3 + 4?") is None


def test_a_short_benchmark_question_inside_a_longer_one_counts_from_eight_words_on() -> None:
    eight = "How long is the river near Old Tarn?"
    assert rule(f"Please tell me quickly. {eight} Answer in miles.", eight) == "ngram"
    seven = "How long is the river near Tarn?"
    assert rule(f"Please tell me quickly. {seven} Answer in miles.", seven) is None
    assert rule(eight, f"Please tell me quickly. {eight} Answer in miles and nothing but miles.") is None


def test_masked_numbers_do_not_make_bare_sums_alike() -> None:
    ten, others = "Compute 10 + 2 + 3 + 4 + 5 + 6 + 7 + 8.", "Compute 9 + 12 + 23 + 31 + 45 + 16 + 77 + 18."
    assert rule(others, ten) is None
    assert rule(others, others) == "ngram"
    lists = "Sort these: 3, 1, 2, 8, 5, 9, 7, 6, 4, 0, 11, 12, 15, 14, 13."
    assert rule(lists.replace("3, 1", "1, 3"), lists.replace("12, 15", "15, 12")) is None


def test_spellings_of_one_number_are_one_token() -> None:
    assert tokens("1,234,567 and .5") == tokens("1234567, and 0.5") == ["1234567", "and", "0.5"]
    assert tokens("1,23") == ["1", "23"]
    assert tokens("1,2345") == ["1", "2345"]
    assert tokens("−5 ÷ 2") == tokens("-5/2") == ["-", "5", "/", "2"]
    assert tokens("25 %") == tokens("25 percent")
    assert tokens("don’t") == tokens("Don't") == ["dont"]
    assert tokens("Cafe\u0301s") == tokens("ca\u200bfés") == ["cafes"]


def test_latex_commands_are_words_and_operators_count() -> None:
    assert tokens(r"Find $\frac{3}{4} + x^2 \leq 7$.") == ["find", "frac", "3", "4", "+", "x", "^", "2", "leq", "7"]
    assert tokens("x ≤ 3") != tokens("x ≥ 3")


def test_a_run_of_numbers_is_masked_once() -> None:
    several = tokens("twenty-five of 3, 4 and 2 dozen 5th-graders")
    assert masked(several) == ["#", "of", "#", "and", "#", "th", "graders"]
    assert masked(["someone", "often", "seventeen"]) == ["someone", "often", "#"]


def test_no_ngram_spans_two_questions() -> None:
    first = "Of the nine tall ships that left the bay, seven came home before dark."
    second = "Each crew then carried its own salt up the hill, so who went first?"
    assert (
        rule("They left the bay; seven came home before dark. Each crew then carried its own salt.", first, second)
        is None
    )


def test_equal_hashes_of_different_words_are_no_match() -> None:
    base = hashes(np.array([1, 0], dtype=np.uint64), 2)[0]
    known = Ngrams([(0, np.array([1, 0], dtype=np.uint64))], 2)
    collides = np.array([0, base], dtype=np.uint64)
    assert hashes(collides, 2)[0] == base
    assert known.find(collides) is None
    assert known.find(np.array([7, 1, 0], dtype=np.uint64)) == (0, 1)


def test_the_cosine_finds_what_words_do_not() -> None:
    known = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0]], dtype=np.float32)
    benchmarks = Benchmarks(items("First?", "Second?", "Third?"), DecontaminationConfig(similarity=0.9), known)
    near, far = np.array([0.05, 0.9, 0.1], dtype=np.float32), np.array([0, 0.89, 0.4], dtype=np.float32)
    found = find_in(benchmarks, question("Another?"), near)
    assert found is not None
    assert (found.item, found.rule, found.evidence) == ("item-1", "similarity", "0.900")
    assert find_in(benchmarks, question("Another?"), far) is None
    assert find_in(benchmarks, question("Another?"), None) is None


def test_each_rule_can_be_turned_off() -> None:
    other_numbers = BAKER.replace("48", "60").replace("half", "twice")
    assert rule(BAKER, BAKER, cfg=DecontaminationConfig(ngram=0, similarity=None)) is None
    assert rule(other_numbers.replace("in the rain", ""), BAKER) == "masked"
    unmasked = DecontaminationConfig(masked=False, similarity=None)
    assert rule(other_numbers.replace("in the rain", ""), BAKER, cfg=unmasked) is None
    vector, off = np.ones((1, 1), dtype=np.float32), DecontaminationConfig(ngram=0, similarity=None)
    assert find_in(Benchmarks(items(BAKER), off, vector), question(BAKER), vector[0]) is None


def test_empty_benchmarks_and_empty_questions_find_nothing() -> None:
    empty = np.zeros((0, 2), dtype=np.float32)
    vector = np.array([1, 0], dtype=np.float32)
    assert find_in(Benchmarks([], DecontaminationConfig(), empty), question(BAKER), vector) is None
    assert rule("", "", "?!", BAKER) is None
    assert rule("?!", "", "...", BAKER) is None
    assert Benchmarks(items(BAKER), WORDS_ONLY).find([]) == {}


def test_many_questions_at_once_are_found_like_one_after_another() -> None:
    dice = np.random.default_rng(0)
    vectors = dice.normal(size=(1300, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = [question(f"What is {index} + 1?", index) for index in range(1300)]
    known = items(*(f"What is {index} + 1?" for index in range(0, 1300, 9)))
    benchmarks = Benchmarks(known, DecontaminationConfig(similarity=0.99), vectors[: len(known)])
    together = benchmarks.find(asked, vectors)
    pairs = zip(asked, vectors, strict=True)
    one_by_one = {each.id: found for each, vector in pairs if (found := find_in(benchmarks, each, vector))}
    assert together == one_by_one
    assert {found.rule for found in together.values()} == {"ngram", "similarity"}


@pytest.mark.parametrize(
    "hostile",
    [
        "(" * 1_000_000,
        "3," * 500_000,
        "1,234" * 200_000,
        "one " * 250_000,
        "a'" * 500_000,
        "*-" * 500_000,
        "- " * 500_000,
        "<=" * 500_000,
        "\u0301\u0323" * 500_000,
        "\\frac{" * 150_000,
        "x" * 1_000_000,
        "9" * 1_000_000,
    ],
    ids=lambda text: ascii(text[:6]),
)
def test_hostile_text_is_scanned_in_linear_time(hostile: str) -> None:
    """In quadratic time each of these would run into the time limit of the test."""
    assert rule(hostile, BAKER, "one two three four five six seven eight nine") is None
    assert rule(hostile + " " + BAKER, BAKER) == "ngram"


@given(st.lists(words, min_size=1, max_size=30), st.lists(words, max_size=30), st.lists(words, max_size=30))
def test_a_benchmark_question_is_found_in_itself_and_inside_other_words(
    known: list[str], before: list[str], after: list[str]
) -> None:
    known, text = tokens(" ".join(known)), " ".join(known)
    if not known:
        return
    assert rule(text, text) == "ngram"
    if len(known) >= 8:
        # The stops keep a number's neighbours from becoming part of it.
        assert rule(f"{' '.join(before)} . {text} . {' '.join(after)}", "Who?", text) == "ngram"


@given(st.lists(words, min_size=1, max_size=40), st.lists(words, min_size=1, max_size=40))
def test_whatever_is_found_by_words_shares_as_many_words(asked: list[str], known: list[str]) -> None:
    found = find(" ".join(asked), " ".join(known))
    shared, mine, theirs = (found.evidence if found else ""), tokens(" ".join(asked)), tokens(" ".join(known))
    if found is not None and found.rule == "masked":
        mine, theirs = masked(mine), masked(theirs)
    runs = {" ".join(mine[at : at + 13]) for at in range(len(mine) - 12)}
    common = runs & {" ".join(theirs[at : at + 13]) for at in range(len(theirs) - 12)}
    if found is None:
        assert not common
    elif len(theirs) >= 13:
        assert shared in common
    else:
        assert shared == " ".join(theirs)
        assert f" {shared} " in f" {' '.join(mine)} "


DATA = os.environ.get("CRESCENT_DATA")


@pytest.mark.skipif(DATA is None, reason="CRESCENT_DATA names no folder with benchmarks")
def test_all_of_gsm8k_is_found_and_its_training_set_is_not() -> None:
    assert DATA is not None

    def questions(name: str) -> list[str]:
        return [json.loads(line)["question"] for line in (Path(DATA) / "gsm8k" / name).open()]

    test, train = questions("test.jsonl"), questions("train.jsonl")
    benchmarks = Benchmarks(items(*test), WORDS_ONLY)
    copies = benchmarks.find([question(text, index) for index, text in enumerate(test)])
    strangers = benchmarks.find([question(text, index) for index, text in enumerate(train)])
    assert len(copies) == len(test)
    assert len(strangers) < 0.01 * len(train)
