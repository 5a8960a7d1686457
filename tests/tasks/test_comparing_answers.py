"""Which final answers mean the same: an equivalence, whatever way they are written and in whatever order they come."""

import time
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from random import Random

import psutil
import pytest
from answer_groups import made_groups, written_groups
from answer_pairs import DIFFERENT, SAME
from hypothesis import given, settings
from hypothesis import strategies as st

from crescent.tasks.equivalence import LONGEST, as_number, normal, same_at_sight, sight
from crescent.tasks.grading import Grader
from crescent.tasks.readings import read_formula


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(timeout_s=30.0) as grader:
        yield grader


def short(text: object) -> str | None:
    """Test ids end up in an environment variable, where a megabyte keeps new processes from starting."""
    return ascii(text[:20]) if isinstance(text, str) else None


# --- numbers


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("+5", 5),
        ("−5", -5),
        ("007", 7),
        (".5", Fraction(1, 2)),
        ("2.", 2),
        ("0.1", Fraction(1, 10)),
        ("1,234", 1234),
        ("1 234", 1234),
        ("1{,}234", 1234),
        (r"12\,345", 12345),
        ("12,345.60", Fraction(123456, 10)),
        ("3/4", Fraction(3, 4)),
        ("-3/4", Fraction(-3, 4)),
        (r"\frac{3}{4}", Fraction(3, 4)),
        (r"-\dfrac34", Fraction(-3, 4)),
        ("1 3/4", Fraction(7, 4)),
        (r"-1\frac{3}{4}", Fraction(-7, 4)),
        ("$-5", -5),
        ("-$5.00", -5),
        ("5€", 5),
        ("5 apples", 5),
        ("5 km", 5),
        ("5km/h", 5),
        (r"5\text{ cm}^2", 5),
        (r"90^\circ", 90),
        ("2 million dollars", 2_000_000),
        ("1.5e3", 1500),
        (r"3 \times 10^{-2}", Fraction(3, 100)),
        ("x = 5", 5),
        ("3*4 = 12", 12),
        ("**12**.", 12),
        ("1" * 400, int("1" * 400)),
        (r"32,\! 349", 32349),
        ("10{,}000", 10_000),
        ("123,456,789,012,345,678,901,234,567,890", 123456789012345678901234567890),
        ("10^3", 1000),
        (r"2^{10}", 1024),
        ("-2^2", -4),
        ("½", Fraction(1, 2)),
        ("1½", Fraction(3, 2)),
        ("５．５", Fraction(11, 2)),
        (r"60\degree", 60),
        ("-10°F", -10),
        (r"125\textnormal{ miles}", 125),
        ("0.333…", Fraction(1, 3)),
        ("0.1666...", Fraction(1, 6)),
        (r"0.\overline{142857}", Fraction(1, 7)),
        (r"1.2\bar{3}", Fraction(37, 30)),
        ("0.(3)", Fraction(1, 3)),
        ("2 dozen eggs", 24),
        ("1/2 dozen", 6),
        ("22 times", 22),
        ("6th place", 6),
        ("$25,000/year", 25_000),
        ("762 M&Ms", 762),
        ("USD 0.50", Fraction(1, 2)),
        ("5 ft.", 5),
        ("9.8 m/s^2", Fraction(49, 5)),
        ("5 apples left", 5),
        ("total cost = 5 dollars", 5),
        (r"\boxed{5}", 5),
        (r"\textbf{5}", 5),
        (r"{1 \over 2}", Fraction(1, 2)),
    ],
)
def test_a_number_is_read_exactly(text: str, value: int | Fraction) -> None:
    assert as_number(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "five",
            "1,23",
            "0,123",
            "1,234,56",
            "1, 234",
            "5-7",
            "3:30",
            "5x",
            "5m",
            "2 pi",
            "5 or 6",
            "1/0",
            "1 7/4",
        ),
        *("2:30", "3 to 4", "1 in 6", "101_2", "5 am", "5 p.m.", "5 more than x", "5 squared", "5 tenths", "5 sin x"),
        *("3 fewer", "5 miles north", "30 BC", "5 and a half", "5 or so", "101 in binary", "7 remainder 2", "n even"),
        *("12 noon", "5 ft 3 in", "5'3\"", "3.14159…", "x = 5 and y = 6", "x^2 = 4", "5/x", "rt-d=0", "5!", "5 2"),
        *("1e9999", "9^9^9^9", "nan", "Infinity", "1_000", "0x10", "x >= 5", "٣", "--5", "(0, 1)", "__import__('os')"),
        *("(" * 10_000 + ")" * 10_000, "1" * 100_000, "1" * (LONGEST + 1), "5\0", "\ud800", "5 " * 500_000),
    ],
    ids=short,
)
def test_what_is_not_one_number_is_none(text: str) -> None:
    assert as_number(text) is None


@given(st.text() | st.text(alphabet="0123456789,. /\\{}^-+e$%=x"))
def test_reading_a_number_never_raises(text: str) -> None:
    as_number(text)


@given(st.fractions(max_denominator=10_000))
def test_a_fraction_is_read_back_as_itself(value: Fraction) -> None:
    assert as_number(str(value)) == value
    assert as_number(rf"\frac{{{value.numerator}}}{{{value.denominator}}}") == value


@given(st.integers(-(10**18), 10**18))
def test_thousands_separators_change_nothing(value: int) -> None:
    assert as_number(f"{value:,}") == as_number(f"{value:,}".replace(",", " ")) == value


# --- sameness


def workers() -> set[psutil.Process]:
    return {child for child in psutil.Process().children() if "grading_server" in " ".join(child.cmdline())}


def test_numbers_words_and_spelling_need_no_worker() -> None:
    others = workers()
    with Grader(timeout_s=1.0) as grader:
        assert grader.same("1,234", "1234.00 apples")
        assert grader.same(r"\frac{1}{2}", "0.5")
        assert grader.same("  Monday. ", r"\text{monday}")
        assert grader.same("(x + 1)^2", r"\left(x+1\right)^2")
        assert not grader.same("1/3", "0.333")
        assert not grader.same("silent", "listen")
        assert not grader.same("Monday", "5")
        assert grader.classes(["5", None, "5.0", "6", "Monday", "five", "6 km"]) == (0, -1, 0, 1, 2, 3, 1)
        assert workers() == others
    assert grader.undecided == 0


def test_a_percent_sign_is_a_unit() -> None:
    with Grader(timeout_s=1.0) as grader:
        assert grader.same("25%", "25")
        assert grader.same(r"25\%", "25 percent")
        assert not grader.same("25%", "0.25")


@pytest.mark.timeout(120)
def test_answers_that_mean_the_same_are_the_same(grader: Grader) -> None:
    assert [pair for pair in SAME if not grader.same(*pair) or not grader.same(*reversed(pair))] == []


@pytest.mark.timeout(120)
def test_answers_that_mean_something_else_differ(grader: Grader) -> None:
    assert [pair for pair in DIFFERENT if grader.same(*pair) or grader.same(*reversed(pair))] == []


def test_formulas_fall_into_classes_in_order_of_appearance(grader: Grader) -> None:
    finals = [r"\sqrt{4}", None, "x+1", "2", "1+x", "2.0", "x"]
    assert grader.classes(finals) == (0, -1, 1, 0, 1, 0, 2)


# --- an equivalence

GROUPS = (*written_groups(), *made_groups())
GROUP_OF = {text: index for index, group in enumerate(GROUPS) for text in group}


def test_the_groups_are_hundreds_and_share_no_spelling() -> None:
    assert len(GROUPS) > 500
    assert len(GROUP_OF) == sum(map(len, GROUPS)) > 2000


@pytest.mark.timeout(240)
def test_every_spelling_of_hundreds_of_answers_is_in_its_group_and_in_no_other(grader: Grader) -> None:
    texts = list(GROUP_OF)
    Random(0).shuffle(texts)
    classes = grader.classes(texts)
    groups_of_class: dict[int, set[int]] = {}
    classes_of_group: dict[int, set[int]] = {}
    for text, number in zip(texts, classes, strict=True):
        groups_of_class.setdefault(number, set()).add(GROUP_OF[text])
        classes_of_group.setdefault(GROUP_OF[text], set()).add(number)
    assert [[GROUPS[index][0] for index in groups] for groups in groups_of_class.values() if len(groups) > 1] == []
    assert [GROUPS[index] for index, numbers in classes_of_group.items() if len(numbers) > 1] == []


@st.composite
def eight_answers(draw: st.DrawFn) -> list[str]:
    """From a few groups, so that there is something to agree on; some texts more than once."""
    groups = draw(st.lists(st.sampled_from(GROUPS), min_size=1, max_size=4))
    return draw(st.lists(st.sampled_from([text for group in groups for text in group]), min_size=8, max_size=8))


@pytest.mark.timeout(240)
@settings(max_examples=400)
@given(eight_answers(), st.randoms(use_true_random=False))
def test_classes_and_winner_of_any_eight_answers_do_not_depend_on_their_order(
    grader: Grader, finals: list[str], random: Random
) -> None:
    shuffled = random.sample(finals, len(finals))
    found = [dict(zip(order, grader.classes(order), strict=True)) for order in (finals, shuffled)]
    for classes in found:
        assert all(
            (classes[a] == classes[b]) == (GROUP_OF[a] == GROUP_OF[b]) == grader.same(a, b)
            for a in classes
            for b in classes
        )
    votes = [Counter(classes[text] for text in finals).most_common() for classes in found]
    winners = [{GROUP_OF[t] for t in finals if c[t] == v[0][0]} for c, v in zip(found, votes, strict=True)]
    is_tie = len(votes[0]) > 1 and votes[0][0][1] == votes[0][1][1]
    assert is_tie or winners[0] == winners[1]


def test_a_class_is_joined_by_any_of_its_members(grader: Grader) -> None:
    chain = [r"\sum_{k=1}^{n} 2k", r"2\sum_{k=1}^{n} k", "n(n+1)", "n^2+n"]
    assert grader.classes(chain) == grader.classes(chain[::-1]) == (0, 0, 0, 0)


# --- any text


numeric_finals = st.lists(
    st.none()
    | st.sampled_from(["5", "5.0", "5 apples", "5%", "1/2", "0.5", r"\frac{1}{2}", "2/4", "1,000", "1e3", "-5"]),
    max_size=8,
)


@given(numeric_finals, st.randoms())
def test_classes_of_numbers_do_not_depend_on_the_order(finals: list[str | None], random: Random) -> None:
    def partition(grader: Grader, order: list[int]) -> set[frozenset[int]]:
        classes = grader.classes([finals[index] for index in order])
        assert all((number == -1) == (finals[index] is None) for index, number in zip(order, classes, strict=True))
        firsts = list(dict.fromkeys(number for number in classes if number >= 0))
        assert firsts == list(range(len(firsts)))
        return {frozenset(i for i, n in zip(order, classes, strict=True) if n == number) for number in classes}

    shuffled = list(range(len(finals)))
    random.shuffle(shuffled)
    with Grader(timeout_s=1.0) as grader:
        assert partition(grader, list(range(len(finals)))) == partition(grader, shuffled)


@given(st.text())
def test_any_text_can_be_normalised_and_is_one_at_sight_with_itself(text: str) -> None:
    assert normal(text) == normal(text)
    assert sight(text) == sight(text)


PIECES = (r"\frac", r"\sqrt", r"\sin", r"\sum", r"\int", r"\pm", r"\cup", r"\begin{pmatrix}", r"\\", r"\text{or}")
PIECES += (
    *r"{}()[]xyei+-*/^_=<>,;|!:&'",
    r"\{",
    r"\}",
    "10",
    "0.5",
    " ",
    "f(",
    r"\le",
    r"\infty",
    r"\log",
    r"\lim",
    "d",
)


@settings(max_examples=500)
@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_any_formula_is_read_at_once_or_refused(text: str) -> None:
    started = time.process_time()
    seen = sight(text)
    if seen.kind == "formula":
        assert read_formula(str(seen.value)) == read_formula(str(seen.value))
    assert time.process_time() - started < 5


@given(st.text(), st.text())
def test_sameness_at_sight_is_reflexive_and_symmetric(a: str, b: str) -> None:
    assert same_at_sight(a, a) is True
    assert same_at_sight(a, b) == same_at_sight(b, a)
