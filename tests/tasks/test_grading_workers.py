"""Hostile and slow answers cost only themselves, and the load of the machine changes nothing."""

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from crescent.tasks.grading import Grader


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(timeout_s=30.0) as grader:
        yield grader


# Comparisons for workers to make instead of reading formulas, by name because a new process has to find them.


def burn(cpu_s: float) -> None:
    until = time.process_time() + cpu_s
    while time.process_time() < until:
        pass


def hangs_on_tar(a: str, b: str) -> bool:
    while "tar" in a + b or "t_a" in a + b:
        pass
    return a[0] == b[0]


def sleeps_on_tar(a: str, b: str) -> bool:
    while "t_a" in a + b:
        time.sleep(0.1)
    return a[0] == b[0]


def dies_on_d(a: str, b: str) -> bool:
    if "d" in a + b:
        os.kill(os.getpid(), signal.SIGKILL)
    return a[0] == b[0]


def eats_memory(a: str, b: str) -> bool:
    return len(bytearray(4 * 2**30)) > 0


def takes_a_while(a: str, b: str) -> bool:
    burn(0.3)
    return True


def waits_without_working(a: str, b: str) -> bool:
    time.sleep(1.5)
    return True


def is_written_down(a: str, b: str) -> bool:
    with Path(os.environ["ASKED"]).open("a") as asked:
        asked.write(f"{a}|{b}\n")
    return a[0] == b[0]


def is_slow_the_first_time(a: str, b: str) -> bool:
    """Two questions run out of time; the third would not."""
    if not Path(os.environ["ASKED"]).exists():
        Path(os.environ["ASKED"]).touch()
        burn(60)
    return True


def works_for(seconds: float) -> None:
    burn(seconds)


def workers(*, besides: Collection[psutil.Process] = ()) -> set[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return {child for child in children if "grading_server" in " ".join(child.cmdline())}.difference(besides)


def short(text: object) -> str | None:
    """Test ids end up in an environment variable, where a megabyte keeps new processes from starting."""
    return ascii(text[:20]) if isinstance(text, str) else None


# --- hostile answers


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "hostile",
    [
        *("9^9^9^9", "9^{9^{9^{9}}}", "9999999!", "x^{99999}", "9" * 100_000, "__import__('os').system('x')", "$$", ""),
        *("(" * 10_000 + ")" * 10_000, "(" * 100 + ")" * 100, "x" * 1_000_000, "{" * 200, r"\frac{" * 40),
        *("x\0y", "\ud800", "2^{2^{2^{2^{2^{2}}}}}", "e^{e^{e^{e^{e^{e}}}}}", "1" * 499 + "!", "^" * 400, "-" * 499),
        *(r"\sqrt" * 90, "f(" * 100 + ")" * 100, "|" * 300, r"\sum_{k=1}^{9999999} k", r"\prod_{k=1}^{500} (k!)!"),
        *(r"\sum_{i=1}^{500}\sum_{j=1}^{500}\sum_{k=1}^{500} ijk", "(x+1)^{9999}" * 30, "99999!" * 80, "1/(" * 150),
        *(
            r"\int_0^1" * 20 + "x" + "dx" * 20,
            "a=b=" * 100 + "c",
            r"\pm1" * 100,
            "x^" * 200 + "2",
            "{" * 240 + "1" + "}" * 240,
        ),
    ],
    ids=short,
)
def test_hostile_answers_are_themselves_and_nothing_else(grader: Grader, hostile: str) -> None:
    before = time.monotonic()
    assert grader.same(hostile, hostile)
    assert not grader.same(hostile, "x+1")
    assert not grader.same("7", hostile)
    assert time.monotonic() - before < 60


def test_an_expansion_without_end_is_never_begun() -> None:
    with Grader(timeout_s=5.0) as grader:
        assert not grader.same("x^{9999}", "(x+1)^{9999}")
        assert grader.same("(x+1)^{9999}", "(1+x)^{9998}(x+1)")
        assert grader.undecided == 0


@pytest.mark.timeout(120)
def test_an_endless_comparison_is_killed_counted_and_remembered() -> None:
    others = workers()
    with Grader(timeout_s=1.0, compare=hangs_on_tar, workers=1) as grader:
        assert not grader.same("t_a+1", "x")
        assert grader.undecided == 1
        assert grader.same("x+1", "x+2")
        assert not grader.same("t_a+1", "x")
        assert grader.undecided == 1, "a comparison is killed once and then remembered"
    assert not workers(besides=others)


@pytest.mark.timeout(120)
def test_a_comparison_that_only_sleeps_ends_some_day() -> None:
    with Grader(timeout_s=0.4, compare=sleeps_on_tar, workers=1) as grader:
        assert not grader.same("t_a+1", "x")
        assert grader.undecided == 1
        assert grader.same("x+1", "x+2")


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


# --- budgets


@pytest.mark.timeout(120)
@pytest.mark.parametrize("place", [0, 7])
def test_a_slow_answer_costs_itself_and_nobody_else(place: int) -> None:
    finals = [f"x+{index}" for index in range(7)]
    finals.insert(place, "t_a")
    with Grader(timeout_s=0.4, compare=hangs_on_tar) as grader:
        classes = grader.classes(finals)
        assert len({classes[index] for index in range(8) if index != place}) == 1
        assert list(classes).count(classes[place]) == 1


@pytest.mark.timeout(120)
def test_three_slow_answers_do_not_eat_the_budget_of_the_others() -> None:
    finals = ["t_a+1", "t_a+2", "t_a+3", *(f"x+{index}" for index in range(5))]
    with Grader(timeout_s=0.4, compare=hangs_on_tar) as grader:
        assert grader.classes(finals) == (0, 1, 2, 3, 3, 3, 3, 3)
        assert grader.classes(finals[::-1]) == (0, 0, 0, 0, 0, 1, 2, 3)


@pytest.mark.timeout(120)
def test_a_question_full_of_hostile_answers_has_a_budget() -> None:
    hostile = [f"t_a+{index}" for index in range(16)]  # 120 pairs
    with Grader(timeout_s=0.2, compare=hangs_on_tar) as grader:
        assert grader.classes(hostile) == tuple(range(16))
        assert grader.undecided == 120
        assert grader.classes(["x+1", "y", "x"]) == (0, 1, 0), "the next question has a budget of its own"


@pytest.mark.timeout(120)
def test_identical_answers_and_joined_ones_are_not_compared_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    finals = ["x+1", "x+2", "x+1", " x+1 ", "$x+1$", "y", "x + 2", "y"]
    with Grader(timeout_s=30.0, compare=is_written_down) as grader:
        assert grader.classes(finals) == (0, 0, 0, 0, 0, 1, 0, 1)
        assert grader.classes(finals) == (0, 0, 0, 0, 0, 1, 0, 1)
    asked = [tuple(line.split("|")) for line in (tmp_path / "asked").read_text().splitlines()]
    assert all(a != b for a, b in asked)
    assert len(asked) == len(set(map(frozenset, asked))) == 3


@pytest.mark.timeout(120)
def test_what_ran_out_of_time_is_asked_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    with Grader(timeout_s=2.0, compare=is_slow_the_first_time) as grader:
        assert grader.same("x+1", "x+2")
        assert grader.undecided == 0


# --- load


@pytest.mark.timeout(120)
def test_limits_count_cpu_time_so_that_waiting_is_free() -> None:
    with Grader(timeout_s=1.0, compare=waits_without_working) as grader:
        assert grader.same("x+1", "x+2")
        assert grader.undecided == 0


@pytest.mark.timeout(180)
def test_a_busy_machine_changes_no_vote() -> None:
    context = multiprocessing.get_context("spawn")
    busy = [context.Process(target=works_for, args=(120.0,)) for _ in range(3 * (os.cpu_count() or 1))]
    for process in busy:
        process.start()
    try:
        with Grader(timeout_s=0.6, compare=takes_a_while) as grader:
            assert grader.same("x+1", "x+2")
            assert grader.undecided == 0
    finally:
        for process in busy:
            process.kill()
            process.join()


# --- processes


@pytest.mark.timeout(120)
def test_many_threads_may_ask_at_once_and_end() -> None:
    pairs = list(itertools.product(["x+1", "1+x", "x-1"], ["1+x", "x+1"]))
    others = workers()
    with Grader(timeout_s=30.0) as grader:
        with ThreadPoolExecutor(6) as threads:
            assert list(threads.map(lambda pair: grader.same(*pair), pairs)) == [True] * 4 + [False] * 2
        first = workers(besides=others)
        assert len(first) == 2
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
        "Grader(30.0).same('x+1', '1+x')\n"
        "print(*[child.pid for child in psutil.Process().children(recursive=True)], flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == -signal.SIGKILL
    children = [int(pid) for pid in done.stdout.split()]
    assert len(children) >= 2
    gone_by = time.monotonic() + 30
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in children):
        assert time.monotonic() < gone_by
        time.sleep(0.1)


@pytest.mark.timeout(120)
def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "compare.py"
    script.write_text(
        "from crescent.tasks.grading import Grader\n"
        "with Grader(30.0) as grader:\n"
        "    print(grader.classes(['x+1', '1+x', '5', r'\\int_0^1 2x dx', '1']))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=100, check=False, env=with_path()
    )
    assert done.stdout == "(0, 0, 1, 2, 2)\n", done.stderr


def with_path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def test_importing_the_grader_imports_nothing_heavy() -> None:
    heavy = "{'sympy', 'mpmath', 'math_verify', 'torch', 'numpy'}"
    script = f"import sys, crescent.tasks.grading; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.strip() == ""
