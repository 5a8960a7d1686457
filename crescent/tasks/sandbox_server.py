"""The processes behind `crescent.tasks.sandbox`: a fork server, and the confined children that run one program each.

    python -P -m crescent.tasks.sandbox_server          (requests on stdin, reports on stdout)

The server imports what programs may import and then forks for every program: a child starts in a few milliseconds,
with an interpreter that no earlier program has touched. Before it runs hostile code, a child gives up everything but
computing: a seccomp filter with an allow-list (man 2 seccomp) refuses every system call that could open, write, delete,
connect, start or signal anything. Restrictions in Python, such as those on imports, only make refusals readable: a
program can get around them, but not around the filter. The server itself never runs hostile code.
"""

import ast
import builtins
import codecs
import ctypes
import errno
import gc
import hashlib
import importlib
import io
import json
import os
import random
import resource
import select
import signal
import struct
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import islice
from types import ModuleType
from typing import Any, NoReturn

from crescent.machine.processes import die_with_parent

ENDED, TIMED_OUT, OUT_OF_MEMORY, KILLED, UNPROTECTED = b"e", b"t", b"m", b"k", b"u"
"""How a child ended: the first byte of the server's answer; the child's report follows."""
REPORT_BYTES = 64 * 1024
"""Size of the longest report; a child that writes more is killed."""
OUTPUT_CHARACTERS = 1_000
"""Characters of the longest output; of a longer one, the beginning and a hash are kept."""
ITERATED = 10_000
"""Number of items read from an iterator that a program returns."""
REPORT_FD = 3
"""Descriptor of the only file a child has open."""
EXIT_MEMORY, EXIT_UNPROTECTED = 77, 78
SOLVE = "solve"

MODULES = (
    *("__future__", "abc", "array", "base64", "binascii", "bisect", "calendar", "cmath", "collections"),
    *("collections.abc", "contextlib", "copy", "dataclasses", "datetime", "decimal", "difflib", "enum", "fractions"),
    *("functools", "graphlib", "hashlib", "heapq", "itertools", "json", "math", "numbers", "operator", "queue"),
    *("random", "re", "statistics", "string", "struct", "textwrap", "time", "types", "typing", "unicodedata"),
)
"""Modules that a program may import, besides a harmless `sys`. All of them only compute; none needs a file."""
IMPORTED_LATER = ("_strptime", "locale")
"""Modules that those import inside their functions, when no file can be opened any more."""
ENCODINGS = ("utf-8", "ascii", "latin-1", "utf-16", "utf-32", "cp1252", "hex", "rot13", "unicode_escape", "punycode")
ALLOWED_CALLS = (
    *("brk", "munmap", "mremap", "madvise", "futex", "sched_yield", "getrandom", "getpid", "gettid"),
    *("clock_gettime", "clock_getres", "gettimeofday", "time", "restart_syscall", "exit", "exit_group"),
)
"""System calls that are allowed with any arguments; `syscall_filter` adds some with certain arguments only. All others
are refused with EPERM."""
PROT_EXEC = 4
PR_SET_DUMPABLE = 4
SYS_ATTRIBUTES = ("maxsize", "version", "version_info", "float_info", "int_info", "byteorder", "maxunicode")
DEEPEST = 100_000


def serve() -> None:
    """Answer requests until stdin closes, as it does when the supervisor ends in whatever way."""
    prepare()
    try:
        call_filter = syscall_filter()
    except (ImportError, RuntimeError, OSError) as error:
        send(repr(error).encode())
        return
    send(b"")
    while (frame := receive()) is not None:
        send(answer(json.loads(frame), call_filter))


def prepare() -> None:
    """Load everything that programs may need, because a child cannot open files."""
    for name in (*MODULES, *IMPORTED_LATER):
        importlib.import_module(name)
    for encoding in ENCODINGS:
        codecs.lookup(encoding)
    warnings.simplefilter("ignore")
    # When memory runs out, the kernel should kill a program and not the engine. Raising the score needs no privilege.
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    gc.freeze()  # children share these pages as long as no garbage collector touches them


def syscall_filter() -> Any:
    """The filter for the children, not loaded yet.

    Raises:
        ImportError: pyseccomp is not installed.
        RuntimeError: libseccomp is not installed.
    """
    import pyseccomp  # type: ignore[import-untyped]

    calls = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
    for name in ALLOWED_CALLS:
        calls.add_rule(pyseccomp.ALLOW, name)
    calls.add_rule(pyseccomp.ALLOW, "write", pyseccomp.Arg(0, pyseccomp.EQ, REPORT_FD))
    for name in ("mmap", "mprotect"):  # no new machine code
        calls.add_rule(pyseccomp.ALLOW, name, pyseccomp.Arg(2, pyseccomp.MASKED_EQ, PROT_EXEC, 0))
    return calls


def answer(request: Mapping[str, Any], call_filter: Any) -> bytes:
    """Run one program in a child; returns how it ended, and its report."""
    reports, reporting = os.pipe()
    server = os.getpid()
    child = os.fork()
    if child == 0:
        become_program(request, call_filter, reporting, server)
    os.close(reporting)
    try:
        report, ending = listen(reports, time.monotonic() + request["wall_s"])
    finally:
        os.close(reports)
        os.kill(child, signal.SIGKILL)  # not waited for yet, so the id cannot belong to another process
        _, status = os.waitpid(child, 0)
    if ending is not None:
        return ending
    if os.WIFSIGNALED(status):
        late = os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGXCPU)
        return TIMED_OUT if late else KILLED
    match os.WEXITSTATUS(status):
        case code if code == EXIT_MEMORY:
            return OUT_OF_MEMORY
        case code if code == EXIT_UNPROTECTED:
            return UNPROTECTED
        case _:
            return ENDED + report


def listen(reports: int, deadline: float) -> tuple[bytes, bytes | None]:
    """What the child writes until it ends, or why it must be killed. Exits when the supervisor is gone."""
    poll = select.poll()
    poll.register(reports, select.POLLIN)
    poll.register(0, 0)
    report = b""
    while True:
        left_s = deadline - time.monotonic()
        ready = dict(poll.poll(1000 * left_s)) if left_s > 0 else {}
        if 0 in ready:
            sys.exit()  # the kernel ends the child, too
        if not ready:
            return b"", TIMED_OUT
        chunk = os.read(reports, REPORT_BYTES)
        report += chunk
        if not chunk:
            return report, None
        if len(report) > REPORT_BYTES:
            return b"", KILLED


def become_program(request: Mapping[str, Any], call_filter: Any, reporting: int, server: int) -> NoReturn:
    """Give up all rights, run the program, report and end. No code of the server runs in this process afterwards."""
    code = 1
    try:
        if not confine(request, call_filter, reporting, server):
            os._exit(EXIT_UNPROTECTED)
        report = json.dumps(execute(request))
        os.write(REPORT_FD, (request["nonce"] + report).encode())
        code = 0
    except MemoryError:
        code = EXIT_MEMORY
    finally:
        os._exit(code)


def confine(request: Mapping[str, Any], call_filter: Any, reporting: int, server: int) -> bool:
    """Confine this process for good; returns whether that worked."""
    die_with_parent()
    if os.getppid() != server:  # the server died before the line above
        os._exit(1)
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0)  # no core file, whatever the machine's settings
    os.dup2(reporting, REPORT_FD)
    os.closerange(0, REPORT_FD)
    os.closerange(REPORT_FD + 1, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    sys.stdin, sys.stdout, sys.stderr = io.StringIO(), Nowhere(), Nowhere()
    random.seed(0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    cpu_s, memory = request["cpu_s"], request["memory_mib"] * 2**20
    for limit, most in (
        (resource.RLIMIT_AS, memory),
        (
            resource.RLIMIT_CPU,
            int(cpu_s) + 2,
        ),  # whole seconds, later than the timer below, in case the program stops that one
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        _, hard = resource.getrlimit(limit)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (most, most))
    signal.setitimer(signal.ITIMER_PROF, cpu_s)  # CPU seconds: a busy machine must not change a vote
    try:
        call_filter.load()
    except OSError:
        return False
    # An attempt proves more than a return value.
    try:
        os.kill(server, 0)
    except PermissionError:
        return True
    return False


class Nowhere(io.TextIOBase):
    """An output stream that discards everything."""

    def write(self, text: str) -> int:
        return len(text)


def execute(request: Mapping[str, Any]) -> dict[str, Any]:
    """Run the request's calls or tests and report on them; with neither, report whether the program is one."""
    try:
        tree = ast.parse(request["program"])
        functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        calls = [ast.literal_eval(call) for call in request.get("calls", ())]
        if not functions or not ("calls" in request or "tests" in request):
            return {"status": "ok" if functions else "error"}
        namespace = fresh_namespace()
        exec(compile(tree, "<program>", "exec"), namespace)
        if "tests" in request:
            exec(compile(request["tests"], "<tests>", "exec"), namespace)
            return {"status": "ok"}
        function = namespace[SOLVE if SOLVE in functions else functions[-1]]
    except MemoryError:
        raise
    except BaseException:  # SystemExit too: a program that exits has not answered
        return {"status": "error"}
    return {"status": "ok", "outputs": [called(function, arguments) for arguments in calls]}


def called(function: Callable[..., object], arguments: object) -> str:
    """Canonical return value of the function, or `!` and the name of the exception it raises."""
    try:
        return shortened(canonical(function(*arguments if isinstance(arguments, tuple) else (arguments,))))
    except MemoryError:
        raise
    except BaseException as error:
        return shortened("!" + ascii(type(error).__name__).strip("'"))


def fresh_namespace() -> dict[str, Any]:
    """Globals of a module that is not `__main__`, so that code below `if __name__ == "__main__"` does not run."""
    module = ModuleType("program")
    sys.modules["program"] = module  # dataclasses look their module up
    module.__dict__["__builtins__"] = {**vars(builtins), "__import__": guarded_import}
    return module.__dict__


def guarded_import(name: str, *context: Any) -> object:
    """`__import__` for programs, also used by C code that imports while a program runs."""
    if name == "sys":
        return harmless_sys()
    if name not in MODULES and name not in IMPORTED_LATER:
        raise ImportError(f"{name} cannot be imported here")
    return __import__(name, *context)


def harmless_sys() -> ModuleType:
    """A `sys` without anything through which a program could change the interpreter."""
    harmless = ModuleType("sys")
    for name in SYS_ATTRIBUTES:
        setattr(harmless, name, getattr(sys, name))
    harmless.__dict__.update(
        {
            "argv": ["program"],
            "exit": sys.exit,
            "stdin": sys.stdin,
            "stdout": sys.stdout,
            "stderr": sys.stderr,
            "getrecursionlimit": sys.getrecursionlimit,
            "setrecursionlimit": lambda limit: sys.setrecursionlimit(min(limit, DEEPEST)),
            "getsizeof": sys.getsizeof,
            "intern": sys.intern,
        }
    )
    return harmless


def canonical(value: Any, inside: tuple[int, ...] = ()) -> str:
    """An ASCII string that is the same for values that Python calls equal. `inside`: ids of the containers around it.

    2, 2.0 and True are one value; other numbers count to nine significant digits, so 0.1 + 0.2 and 0.3 are one value.
    Sets and dictionaries have no order. A list is no tuple, as in Python. An object with the default repr is
    written as its type and its attributes.

    Raises:
        TypeError: the value is a function, of which only the address is known.
    """
    match value:
        case str():
            return ascii("".join([value]))  # a plain one, whatever repr its class has
        case bytes() | bytearray():
            return ascii(bytes(value))
        case int():
            return whole(int.__int__(value))
        case float() | Fraction() | Decimal():
            return real(value)
        case complex():
            return real(value.real) if value.imag == 0 else f"complex({real(value.real)}, {real(value.imag)})"
    if id(value) in inside:
        return "..."
    inside = (*inside, id(value))
    match value:
        case list():
            return f"[{', '.join([canonical(item, inside) for item in list.__iter__(value)])}]"
        case tuple():
            return f"({', '.join([canonical(item, inside) for item in tuple.__iter__(value)])})"
        case set() | frozenset():
            return f"set({', '.join(sorted([canonical(item, inside) for item in value]))})"
        case dict():
            items = sorted([f"{canonical(key, inside)}: {canonical(item, inside)}" for key, item in dict.items(value)])
            return f"{{{', '.join(items)}}}"
        case Iterator():
            return f"iterator({', '.join([canonical(item, inside) for item in islice(value, ITERATED)])})"
    written = ascii(value)
    if is_dataclass(value) and not isinstance(value, type):
        attributes = {field.name: getattr(value, field.name) for field in fields(value)}
    elif " at 0x" not in written:
        return written
    elif callable(value):
        raise TypeError("functions cannot be compared")
    else:
        attributes = vars(value)
    inner = ", ".join([f"{name}={canonical(attribute, inside)}" for name, attribute in attributes.items()])
    return ascii(f"{type(value).__name__}({inner})").strip("'\"")


def whole(number: int) -> str:
    """Digits of a whole number, hexadecimal if it is large."""
    # Python takes quadratic time for decimal digits, and refuses 4300 of them.
    return str(number) if number.bit_length() < 13_000 else hex(number)


def real(number: float | Fraction | Decimal) -> str:
    """A real number to nine significant digits; one that is whole, like an integer."""
    try:
        if number == int(number):
            return whole(int(number))
        rounded = float(f"{float(number):.9g}")
    except (OverflowError, ValueError):  # infinite, or no number
        return str(float(number)) if isinstance(number, float) else ascii(number)
    return whole(int(rounded)) if rounded.is_integer() else f"{rounded:.9g}"


def shortened(text: str) -> str:
    """The text, or the beginning and a hash of a long one."""
    if len(text) <= OUTPUT_CHARACTERS:
        return text
    return f"{text[: OUTPUT_CHARACTERS - 100]}... sha256:{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def receive() -> bytes | None:
    """The next request; `None` when stdin has closed."""
    header = sys.stdin.buffer.read(4)
    return sys.stdin.buffer.read(struct.unpack("!I", header)[0]) if len(header) == 4 else None


def send(frame: bytes) -> None:
    """Write one frame: its length in four bytes, then its content."""
    sys.stdout.buffer.write(struct.pack("!I", len(frame)) + frame)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve()
