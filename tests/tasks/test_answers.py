"""Final answers: found where people and models put them, compared exactly, and never at the mercy of hostile text."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from random import Random

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crescent.config import AnswerStyle
from crescent.tasks.answers import extract_final
from crescent.tasks.equivalence import LONGEST, as_number, same_at_sight
from crescent.tasks.grading import Grader

NUMBER, MATH = AnswerStyle.number, AnswerStyle.math


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(timeout_s=30.0) as grader:
        yield grader


# Comparisons for workers to make instead of math-verify's, by name because a new process has to find them.


def hangs_on_tar(a: str, b: str) -> bool:
    while "tar" in a + b or "t_a" in a + b:
        time.sleep(0.1)
    return a[0] == b[0]


def dies_on_d(a: str, b: str) -> bool:
    if "d" in a + b:
        os.kill(os.getpid(), signal.SIGKILL)
    return a[0] == b[0]


def eats_memory(a: str, b: str) -> bool:
    return len(bytearray(4 * 2**30)) > 0


def workers(*, besides: Collection[psutil.Process] = ()) -> set[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return {child for child in children if "spawn_main" in " ".join(child.cmdline())}.difference(besides)


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


def test_numbers_and_spelling_need_no_worker() -> None:
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
        assert not workers(besides=others)
    assert grader.undecided == 0


def test_a_percent_sign_is_a_unit() -> None:
    with Grader(timeout_s=1.0) as grader:
        assert grader.same("25%", "25")
        assert grader.same(r"25\%", "25 percent")
        assert not grader.same("25%", "0.25")


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("x^2+2x+1", "(x+1)^2"),
        ("x**2", "x^{2}"),
        (r"\{1,2\}", r"\{2,1\}"),
        ("1, 2", "2 and 1"),
        ("x = 1 or x = 2", r"\{2, 1\}"),
        (r"(-\infty,2)\cup(3,\infty)", r"(3,∞)∪(-∞,2)"),
        (r"[\frac{1}{2}, 3)", "[0.5, 3)"),
        (r"\sqrt{8}", "2√2"),
        (r"5\sqrt{2}\text{ cm}", r"5\sqrt2"),
        ("2^{10}", "1,024"),
        ("10^6", "1000000"),
        ("sin(x)", r"\sin x"),
        ("y = 2x + 1", "1 + 2x"),
        ("x > 3", "3 < x"),
        (r"\frac{x}{2}", "0.5x"),
    ],
)
def test_formulas_are_the_same_when_algebra_says_so(grader: Grader, a: str, b: str) -> None:
    assert grader.same(a, b)
    assert grader.same(b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("[0,1)", "[0,1]"),
        ("(0,1)", r"\{0,1\}"),
        ("(1,2)", "(2,1)"),
        ("x+1", "x-1"),
        ("A", "B"),
        ("5m", "5"),
        ("5x", "5"),
        (r"\pi", "3.141593"),
        ("x = 1, y = 2", "x = 2, y = 1"),
        ("1 2", "3"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\3\end{pmatrix}"),
    ],
)
def test_formulas_differ_when_algebra_says_so(grader: Grader, a: str, b: str) -> None:
    assert not grader.same(a, b)
    assert not grader.same(b, a)


def test_formulas_fall_into_classes_in_order_of_appearance(grader: Grader) -> None:
    finals = [r"\sqrt{4}", None, "x+1", "2", "1+x", "2.0", "x"]
    assert grader.classes(finals) == (0, -1, 1, 0, 1, 0, 2)


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


@given(st.text(), st.text())
def test_sameness_at_sight_is_reflexive_and_symmetric(a: str, b: str) -> None:
    assert same_at_sight(a, a) is True
    assert same_at_sight(a, b) == same_at_sight(b, a)


# --- hostile answers


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "hostile",
    [
        *("9^9^9^9", "9^{9^{9^{9}}}", "9999999!", "x^{99999}", "9" * 100_000, "__import__('os').system('x')", "$$", ""),
        *("(" * 10_000 + ")" * 10_000, "(" * 100 + ")" * 100, "x" * 1_000_000, "{" * 200, r"\frac{" * 40),
        *("x\0y", "\ud800"),
    ],
    ids=short,
)
def test_hostile_answers_are_themselves_and_nothing_else(grader: Grader, hostile: str) -> None:
    assert grader.same(hostile, hostile)
    assert not grader.same(hostile, "x+1")
    assert not grader.same("7", hostile)


@pytest.mark.timeout(120)
def test_an_endless_simplification_is_killed_and_counted() -> None:
    with Grader(timeout_s=1.0) as grader:
        assert not grader.same("x^{9999}", "(x+1)^{9999}")
        assert grader.undecided == 1


@pytest.mark.timeout(120)
def test_after_a_kill_the_pool_goes_on_working() -> None:
    others = workers()
    with Grader(timeout_s=1.0, compare=hangs_on_tar, workers=1) as grader:
        assert not grader.same("t_a+1", "x")
        assert grader.undecided == 1
        assert grader.same("x+1", "x+2")
        assert not grader.same("t_a+1", "x")
        assert grader.undecided == 1, "a comparison is killed once and then remembered"
    assert not workers(besides=others)


@pytest.mark.timeout(120)
def test_a_crash_means_different_and_the_pool_goes_on_working() -> None:
    with Grader(timeout_s=30.0, compare=dies_on_d) as grader:
        assert not grader.same("x+d", "x")
        assert grader.undecided == 1
        assert grader.same("x+1", "x+2")


@pytest.mark.timeout(120)
def test_workers_killed_between_two_comparisons_are_replaced() -> None:
    others = workers()
    with Grader(timeout_s=30.0, compare=dies_on_d) as grader:
        assert grader.same("x+1", "x+2")
        for worker in workers(besides=others):
            worker.kill()
        assert grader.same("y+1", "y+2")
        assert grader.undecided == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the memory limit is Linux's")
@pytest.mark.timeout(120)
def test_too_much_memory_means_different() -> None:
    with Grader(timeout_s=30.0, compare=eats_memory) as grader:
        assert not grader.same("x+1", "x+2")
        assert grader.undecided == 1


@pytest.mark.timeout(120)
def test_a_question_full_of_hostile_answers_has_a_budget() -> None:
    hostile = [f"t_a+{index}" for index in range(16)]  # 120 pairs
    with Grader(timeout_s=0.5, compare=hangs_on_tar) as grader:
        assert grader.classes(hostile) == tuple(range(16))
        assert grader.undecided == 120
        assert grader.classes(["x+1", "y", "x"]) == (0, 1, 0), "the next question has a budget of its own"


@pytest.mark.timeout(120)
def test_many_threads_may_ask_at_once_and_end() -> None:
    pairs = list(itertools.product(["x+1", "1+x", "x-1"], ["1+x", "x+1"]))
    others = workers()
    with Grader(timeout_s=30.0) as grader:
        with ThreadPoolExecutor(6) as threads:
            assert list(threads.map(lambda pair: grader.same(*pair), pairs)) == [True] * 4 + [False] * 2
        first = workers(besides=others)
        assert grader.same("z+1", "1+z")
        assert first == workers(besides=others), "workers outlive the thread that needed them first"


@pytest.mark.timeout(120)
def test_closing_frees_a_thread_that_waits() -> None:
    verdicts = []
    others = workers()
    grader = Grader(timeout_s=600.0, compare=hangs_on_tar)
    asking = threading.Thread(target=lambda: verdicts.append(grader.same("t_a+1", "x")))
    with grader:
        asking.start()
        while not workers(besides=others):
            time.sleep(0.05)
        time.sleep(1.0)  # it may or may not have begun to compare
    asking.join(60)
    assert verdicts == [False]
    assert grader.undecided == 1
    with pytest.raises(RuntimeError, match="closed"):
        grader.same("x+1", "x+2")


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
@pytest.mark.timeout(120)
def test_workers_die_with_their_parent() -> None:
    script = (
        "import os, psutil\nfrom crescent.tasks.grading import Grader\n"
        "if __name__ == '__main__':\n"
        "    Grader(30.0).same('x+1', '1+x')\n"
        "    print(*[child.pid for child in psutil.Process().children(recursive=True)], flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == -signal.SIGKILL
    children = [int(pid) for pid in done.stdout.split()]
    assert len(children) >= 2
    gone_by = time.monotonic() + 30
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in children):
        assert time.monotonic() < gone_by
        time.sleep(0.1)


def test_importing_answers_imports_nothing_heavy() -> None:
    heavy = "{'sympy', 'math_verify', 'torch', 'numpy'}"
    script = f"import sys, crescent.tasks.answers; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.strip() == ""
