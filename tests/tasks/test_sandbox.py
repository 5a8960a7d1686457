"""Programs that try to break out: each has a bounded outcome, and touches nothing outside."""

import ctypes
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from crescent.errors import Missing
from crescent.tasks.sandbox import LONGEST_PROGRAM, Outcome, Sandbox, read_report
from crescent.tasks.sandbox_server import OUTPUT_CHARACTERS, canonical

PR_GET_SECCOMP = 21
HAS_SECCOMP = sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0
needs_seccomp = pytest.mark.skipif(not HAS_SECCOMP, reason="this kernel has no seccomp: no program is run here")

# Gets the os module around every restriction that Python can make.
FIND_OS = """
def real_os():
    for kind in ().__class__.__base__.__subclasses__():
        if kind.__name__ == "_wrap_close":
            return kind.__init__.__globals__["sys"].modules["os"]
os = real_os()
real_import = os.__builtins__["__import__"] if isinstance(os.__builtins__, dict) else os.__builtins__.__import__
"""
DEEP = "import sys\nsys.setrecursionlimit(10**9)\n"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(timeout_s=1.0, memory_mib=256) as opened:
        yield opened


def outcome_of(sandbox: Sandbox, program: str, arguments: str = "()") -> str:
    """The outcome of one call: its output, or how the program ended."""
    outcome = sandbox.run(program, [arguments])
    return outcome.outputs[0] if outcome.status == "ok" else outcome.status


def passes(sandbox: Sandbox, program: str, tests: str) -> bool:
    return sandbox.test(program, tests).status == "ok"


def returning(expression: str) -> str:
    return f"def solve():\n    return {expression}\n"


pytestmark = needs_seccomp


def test_a_program_is_called_once_for_each_input(sandbox: Sandbox) -> None:
    outcome = sandbox.run("def solve(a, b):\n    return a + b\n", ["([1], [2])", "(1, 2)", "(1, 'a')", "('é', '')"])
    assert outcome == Outcome("ok", ("[1, 2]", "3", "!TypeError", "'\\xe9'"))


@pytest.mark.parametrize(
    ("program", "output"),
    [
        ("def solve(): return 1\ndef helper(): return 2", "1"),
        ("def first(): return 1\ndef last(): return first() + 1", "2"),
        ("def solve(): return __name__\nif __name__ == '__main__': input()", "'program'"),
        (
            "from dataclasses import dataclass\n@dataclass\nclass P:\n  x: 'float'\ndef solve(): return P(0.1 + 0.2)",
            "P(x=0.3)",
        ),
        ("class Node:\n  def __init__(self): self.next = None\ndef solve(): return Node()", "Node(next=None)"),
        ("def solve(): return lambda: 1", "!TypeError"),
        ("def solve():\n  yield 1\n  yield 2.0", "iterator(1, 2)"),
        ("import sys\nsys.setrecursionlimit(5000)\ndef solve(n=4000): return n and 1 + solve(n - 1)", "4000"),
        (
            "from datetime import datetime\ndef solve(): return datetime.strptime('2020-02-29', '%Y-%m-%d').weekday()",
            "5",
        ),
        ("def solve(): print('x' * 10**6)", "None"),
        ("def solve(): return input()", "!EOFError"),
    ],
)
def test_honest_programs_run(sandbox: Sandbox, program: str, output: str) -> None:
    assert outcome_of(sandbox, program) == output


@pytest.mark.parametrize(
    "program",
    [
        "",
        "x = 1",
        "def solve(:",
        "def solve(): return 1\0",
        "# \ud800\ndef solve(): return 1",
        "import os\ndef solve(): return 1",
        "import sys\ndef solve(): return 1\nsys.exit(0)",
        "def solve(): return 1\nraise KeyboardInterrupt",
        "def solve(): return 1\ndel solve",
        "def solve(): return " + "(" * 300 + ")" * 300,
        "#" * LONGEST_PROGRAM + "\ndef solve(): return 1",
        "#" * 2**20,
    ],
)
def test_a_text_that_is_no_program_is_an_error(sandbox: Sandbox, program: str) -> None:
    assert sandbox.run(program, ["()"]).status == "error"


@pytest.mark.parametrize(
    ("program", "ends"),
    [
        ("def solve():\n  while True: pass", {"timeout"}),
        ("while True: pass\ndef solve(): pass", {"timeout"}),
        (returning("9**9**9"), {"timeout", "memory"}),
        (returning("'a' * 10**12"), {"memory"}),
        (returning("[list(range(10**6)) for _ in range(10**6)]"), {"memory"}),
        (returning("str(10**5000)"), {"!ValueError"}),
        (returning("solve()"), {"!RecursionError"}),
        (DEEP + "def solve(): return solve()", {"!RecursionError", "memory", "killed"}),
        (DEEP + "class A:\n  def __repr__(self): return repr(self)\ndef solve(): return A()", {"!Rec", "killed"}),
        ("def solve():\n  a = []\n  for _ in range(10**5): a = [a]\n  return a", {"!RecursionError"}),
        ("def solve():\n  a = []\n  a += [a, a]\n  return a", {"[..., ...]"}),
        ("def solve():\n  while True: yield 0", {"iterator(0, 0"}),
        ("x = " + "-" * 40_000 + "1\ndef solve(): pass", {"memory", "error", "killed"}),
        ("def solve():\n  from threading import Lock", {"!ImportError"}),
        (FIND_OS + "def solve(): os.abort()", {"killed"}),
        (FIND_OS + "def solve(): os._exit(0)", {"error"}),
        (FIND_OS + "def solve(): os.write(3, b'x' * 10**6)", {"killed"}),
        (FIND_OS + "def solve(): os.write(3, b'[' * 60000); os._exit(0)", {"error"}),
        (FIND_OS + "take = real_import('_thread').allocate_lock().acquire\ndef solve(): take(); take()", {"timeout"}),
    ],
)
def test_bombs_end_within_their_limits(sandbox: Sandbox, program: str, ends: set[str]) -> None:
    end = outcome_of(sandbox, program)
    assert end in ends or any(end.startswith(beginning) for beginning in ends)
    assert outcome_of(sandbox, returning("1")) == "1"


@pytest.mark.parametrize(
    "attempt",
    [
        "open({canary!r}).read()",
        "open({canary!r}, 'w')",
        "os.open({canary!r}, os.O_RDONLY)",
        "os.open({canary!r} + '2', os.O_WRONLY | os.O_CREAT)",
        "os.unlink({canary!r})",
        "os.rename({canary!r}, {canary!r} + '3')",
        "os.chmod({canary!r}, 0)",
        "os.truncate({canary!r}, 0)",
        "os.stat({canary!r})",
        "os.listdir('/')",
        "os.mkdir({canary!r} + '4')",
        "os.getcwd()",
        "os.fork()",
        "os.posix_spawn('/bin/true', ['true'], dict())",
        "os.execv('/bin/true', ['true'])",
        "os.kill({parent}, 9)",
        "os.kill(os.getppid(), 9)",
        "os.setuid(12345)",
        "os.memfd_create('x')",
        "os.pipe()",
        "os.dup(3)",
        "os.close(3)",
        "os.write(1, b'x')",
        "os.read(0, 1)",
        "os.sched_setaffinity(0, [0])",
    ],
)
def test_the_kernel_refuses_what_python_lets_through(sandbox: Sandbox, tmp_path: Path, attempt: str) -> None:
    canary = tmp_path / "canary"
    canary.write_text("alive")
    mode = canary.stat().st_mode
    filled = attempt.format(canary=str(canary), parent=os.getpid())
    assert outcome_of(sandbox, FIND_OS + returning(filled)) == "!PermissionError"
    assert (canary.read_text(), canary.stat().st_mode) == ("alive", mode)
    assert os.listdir(tmp_path) == ["canary"]


@pytest.mark.parametrize(
    "attempt",
    [
        "import os",
        "import socket",
        "import subprocess",
        "import ctypes",
        "real_import('socket')",
        "real_import('resource').setrlimit(7, (9, 9))",
        "real_import('_thread').start_new_thread(print, ())",
    ],
)
def test_modules_with_access_to_the_system_are_missing_or_powerless(sandbox: Sandbox, attempt: str) -> None:
    end = outcome_of(sandbox, FIND_OS + f"def solve():\n    {attempt}\n    return 'reached'\n")
    assert end.startswith("!")


@pytest.mark.parametrize(
    ("call", "ends"),
    [
        ("libc.socket(2, 1, 0)", "(-1, 1)"),
        ("libc.fork()", "(-1, 1)"),
        ("libc.syscall(libc.numbers['ptrace'], 0, 1, 0, 0)", "(-1, 1)"),
        ("libc.syscall(libc.numbers['io_uring_setup'], 1, 0)", "(-1, 1)"),
        ("libc.mmap(0, 4096, 7, 0x22, -1, 0)", "(-1, 1)"),  # memory that could hold new machine code
        ("libc.syscall(0x40000000 + 41, 2, 1, 0)", "killed"),  # socket, by x86-64's second table of calls
    ],
)
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of system calls are x86-64's")
def test_the_kernel_refuses_whatever_c_is_called(sandbox: Sandbox, call: str, ends: str) -> None:
    program = FIND_OS + (
        "def solve():\n"
        "    ctypes = os.sys.modules['ctypes']\n"
        "    libc = ctypes.CDLL(None, use_errno=True)\n"
        "    libc.numbers = {'ptrace': 101, 'io_uring_setup': 425}\n"
        f"    return {call}, ctypes.get_errno()\n"
    )
    assert outcome_of(sandbox, program) == ends


def test_the_environment_is_empty_and_so_was_it_at_the_start(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    with Sandbox(1.0, 256, workers=1) as fresh:
        assert outcome_of(fresh, FIND_OS + returning("dict(os.environ)")) == "{}"
        assert outcome_of(fresh, FIND_OS + returning("open('/proc/self/environ').read()")) == "!PermissionError"


def test_programs_are_deterministic_and_leave_nothing_behind(sandbox: Sandbox) -> None:
    program = "import random\ndef solve(): return [random.random(), hash('a'), ''.join({'a', 'b', 'c', 'd'})]"
    assert len({outcome_of(sandbox, program) for _ in range(6)}) == 1
    outcome_of(sandbox, "import math\nmath.pi = 3\ndef solve(): return 1")
    assert outcome_of(sandbox, "import math\ndef solve(): return math.pi") == "3.14159265"


def test_a_program_that_patches_python_spoils_only_its_own_report(sandbox: Sandbox) -> None:
    patching = "real = print.__self__\nreal.len = real.ascii = real.sorted = real.isinstance = lambda *a: 0\n"
    assert outcome_of(sandbox, patching + returning("[1]")) not in ("[1]", "timeout")
    assert outcome_of(sandbox, "def sorted(x): return x\n" + returning("{2, 1}")) == "set(1, 2)"
    assert outcome_of(sandbox, returning("[1]")) == "[1]"


def test_tests_pass_for_a_right_program_only(sandbox: Sandbox) -> None:
    tests = "import math\nassert double(2) == 4\nassert double(0) == 0"
    assert passes(sandbox, "def double(x): return 2 * x", tests)
    assert not passes(sandbox, "def double(x): return x + 2", tests)
    assert not passes(sandbox, "def twice(x): return 2 * x", tests)
    assert not passes(sandbox, "def double(x): return 2 * x", "assert double(2) ==")


@pytest.mark.parametrize(
    "program",
    [
        "def double(x): raise SystemExit(0)",
        "import sys\ndef double(x): sys.exit(0)",
        "def double(x): exit()",
        FIND_OS + "def double(x): os._exit(0)",
        FIND_OS + 'def double(x):\n  os.write(3, b\'{"status":"ok"}\')\n  os._exit(0)',
        FIND_OS + "def double(x):\n  os.write(3, b'0' * 32 + b'{\"status\":\"ok\"}')\n  os._exit(0)",
        'def double(x):\n  print(\'{"status":"ok"}\')\n  raise KeyboardInterrupt',
        "def double(x):\n  while True: pass",
    ],
)
def test_a_program_that_ends_the_process_passes_nothing(sandbox: Sandbox, program: str) -> None:
    assert not passes(sandbox, program, "assert double(2) == 4")


def test_parsing_runs_nothing(sandbox: Sandbox) -> None:
    assert sandbox.parses("def f(): pass\nwhile True: pass")
    assert not sandbox.parses("x = 1")
    assert not sandbox.parses("def f(:")
    assert not sandbox.parses("x = " + "-" * 40_000 + "1\ndef f(): pass")


def test_bytes_that_are_no_report_are_errors() -> None:
    nonce = "0" * 32
    assert read_report((nonce + '{"status":"ok","outputs":["1"]}').encode(), nonce, 1) == Outcome("ok", ("1",))
    for written in (
        '{"status":"ok","outputs":[]}',
        '{"status":"ok","outputs":[1]}',
        "[" * 60_000,
        "\xff",
        "",
        '{"status":"timeout"}',
    ):
        assert read_report(nonce.encode() + written.encode("latin-1"), nonce, 1) == Outcome("error")
    assert read_report(b'{"status":"ok"}', nonce, 0) == Outcome("error")


@pytest.mark.parametrize(
    "same",
    [
        "1, 1.0, True, Fraction(2, 2), Decimal('1.00'), complex(1, 0), 1 - 1e-15",
        "0.1 + 0.2, 0.3, Fraction(3, 10), Decimal('0.3')",
        "0, -0.0, 0.0, False",
        "1e20, 10**20, Fraction(10**20), Decimal(10) ** 20",
        "{1: 2, 3: 4}, {3: 4.0, 1: 2}, OrderedDict([(3, 4), (1, 2)])",
        "{3, 1, 2}, {2, 3, 1.0}, frozenset({1, 2, 3})",
        "(1, 2), Point(1, 2)",
        "b'a', bytearray(b'a')",
        "'a', Text('a')",
    ],
)
def test_equal_values_have_one_spelling(same: str) -> None:
    from collections import OrderedDict, namedtuple
    from decimal import Decimal
    from fractions import Fraction

    class Text(str):
        __slots__ = ()

        def __repr__(self) -> str:
            return "?"

    names = {"Fraction": Fraction, "Decimal": Decimal, "OrderedDict": OrderedDict, "Text": Text}
    values = eval(same, names | {"Point": namedtuple("Point", "x y")})
    assert len({canonical(value) for value in values}) == 1, [canonical(value) for value in values]


def test_different_values_have_different_spellings() -> None:
    class Thing:
        def __init__(self, held: object) -> None:
            self.held = held

    values = [
        *(None, 0, 1, 2**64, 2**64 + 1, 1.5, 1e-9, 1e-8, float("inf"), float("-inf"), float("nan"), 1j),
        *("", "1", "None", "é", "\\xe9", b"1", [], (), set(), {}, [1], (1,), {1}, {1: 1}, [[1]], [1, 2], [2, 1]),
        *(10**5000, 10**5000 + 1, Thing(1), Thing(2), range(3), iter([1]), iter([2]), int, str, len),
    ]
    assert len({canonical(value) for value in values}) == len(values)


def test_long_outputs_are_shortened_and_stay_different(sandbox: Sandbox) -> None:
    program = "def solve(n): return 'a' * 10**5 + str(n)"
    first, second, again = sandbox.run(program, ["(1,)", "(2,)", "(1,)"]).outputs
    assert max(map(len, (first, second))) <= OUTPUT_CHARACTERS
    assert first == again != second


def test_a_sandbox_that_is_not_open_says_so() -> None:
    with pytest.raises(RuntimeError, match="`with` block"):
        Sandbox(1.0, 256).run("def solve(): pass", ["()"])


def test_many_threads_share_a_sandbox_and_each_gets_its_own_answer(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(8) as threads:
        outputs = list(threads.map(lambda n: outcome_of(sandbox, returning(str(n))), range(60)))
    assert outputs == [str(n) for n in range(60)]


def test_a_killed_server_is_started_again() -> None:
    others = set(psutil.Process().children())
    with Sandbox(1.0, 256, workers=1) as fresh:
        (server,) = set(psutil.Process().children()) - others
        server.kill()
        assert outcome_of(fresh, returning("2")) == "2"


def test_closing_ends_a_program_under_way() -> None:
    ends: list[Outcome] = []
    others = set(psutil.Process().children())
    with Sandbox(60.0, 256, workers=1) as fresh:
        caller = threading.Thread(target=lambda: ends.append(fresh.run("def solve():\n  while True: pass", ["()"])))
        caller.start()
        (server,) = set(psutil.Process().children()) - others
        while not (programs := server.children()):
            time.sleep(0.01)
    caller.join()
    assert ends == [Outcome("killed")]
    _, alive = psutil.wait_procs([server, *programs], timeout=60)
    assert alive == []


SUPERVISOR = """
from crescent.tasks.sandbox import Sandbox
import threading
with Sandbox(600.0, 256) as sandbox:
    loop = lambda: sandbox.run("def solve():\\n  while True: pass", ["()"])
    threads = [threading.Thread(target=loop) for _ in range(2)]
    [thread.start() for thread in threads]
    print("running", flush=True)
    [thread.join() for thread in threads]
"""


def test_a_killed_supervisor_leaves_no_process_behind() -> None:
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR], stdout=subprocess.PIPE)
    assert supervisor.stdout is not None
    with supervisor.stdout:
        assert supervisor.stdout.readline() == b"running\n"
        family = psutil.Process(supervisor.pid)
        while len(theirs := family.children(recursive=True)) < 4:  # two servers, two programs
            time.sleep(0.01)
        supervisor.send_signal(signal.SIGKILL)
        supervisor.wait()
    _, alive = psutil.wait_procs(theirs, timeout=60)
    assert alive == []


@pytest.mark.parametrize(
    ("complaint", "fix"),
    [
        ("raise ModuleNotFoundError('no pyseccomp')", "pip install pyseccomp"),
        ("raise RuntimeError('Unable to find libseccomp')", "apt install libseccomp2"),
    ],
)
def test_nothing_runs_unprotected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: str, fix: str) -> None:
    (tmp_path / "pyseccomp.py").write_text(complaint)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Missing, match=fix), Sandbox(1.0, 256):
        pass


def test_a_filter_that_does_not_hold_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = (
        "ALLOW = EQ = MASKED_EQ = 0\nERRNO = Arg = lambda *a: 0\n"
        "class SyscallFilter:\n  def __init__(self, _): pass\n  def add_rule(self, *a): pass\n  def load(self): pass\n"
    )
    (tmp_path / "pyseccomp.py").write_text(empty)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Missing, match="allow seccomp"), Sandbox(1.0, 256):
        pass
