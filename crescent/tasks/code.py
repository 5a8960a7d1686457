"""Programs: a function is known by what it returns for inputs that the model wrote itself.

Two programs are the same answer when they return the same values for all inputs of the question, however they are
written. CodeT (arXiv 2207.10397) and the execution-based selection of AlphaCode (arXiv 2203.07814) also group programs
by their behaviour on generated inputs; here the largest group is the majority.
"""

import ast
import json
import re
import threading
from collections.abc import Iterator, Sequence
from textwrap import dedent

from crescent.config import ConsensusConfig, TaskConfig
from crescent.config.checks import fill
from crescent.records import Completion, Question, Request, request_seed
from crescent.tasks.sandbox import Outcome, Sandbox
from crescent.tasks.thoughts import without_thoughts

LONGEST_INPUT = 2_000
"""Characters of the longest input that is used."""
LONGEST_LINE, LONGEST_LIST = 2_500, 4_000
"""Characters of the longest line, and of the longest code block, that is read as Python."""
DEEPEST = 20
"""Deepest nesting of brackets that is parsed: deeper ones would exhaust the supervisor's stack."""
MANY_LINES = 200
"""Number of lines that are searched for inputs."""

_BLOCK = re.compile(r"^[ \t]*+```[ \t]*+([\w+-]*+)[^\n]*+\n(.*?)(?:^[ \t]*+```|\Z)", re.MULTILINE | re.DOTALL)
_PYTHON = ("", "python", "python3", "py")
_FUNCTION = re.compile(r"^def[ \t]++\w", re.MULTILINE)
_LABEL = r"(?:>>>\s|[-*•]\s|\(?\d{1,3}+[.):]\s|(?:input|example|test)s?\s?\d*+\s?:)?"
_BULLET = re.compile(rf"\s*+{_LABEL}\s*+", re.IGNORECASE)
_RESULT = re.compile(r"\s(?:->|=>|→|returns)\s")
# Functions that a model may write around the call: print(solve(1)), assert sorted(solve([2, 1])) == [1, 2].
_WRAPPERS = frozenset({"print", "list", "tuple", "set", "dict", "sorted", "repr", "str", "len", "sum", "isinstance"})


class CodeTask:
    """Reads programs and runs them in a sandbox; opening fails where there is none."""

    def __init__(self, cfg: TaskConfig, workers: int = 2) -> None:
        """Up to `workers` programs run at once."""
        self.undecided = 0
        self._counting = threading.Lock()
        self._sandbox = Sandbox(cfg.program_timeout_s, cfg.program_memory_mib, workers)

    def __enter__(self) -> "CodeTask":
        """Raises `Missing` where programs cannot be confined."""
        self._sandbox.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._sandbox.__exit__()

    def accepts(self, question: str) -> bool:
        return bool(question.strip())

    def read(self, text: str, inputs: Sequence[str] = ()) -> str | None:
        """With inputs: a JSON list of what the program returns for each. Without: the program itself.

        A program that is stopped by its limits is silent. So is one that raises, or returns `None`, for every input:
        printing is not returning, and all programs that print would agree with each other.
        """
        program = find_program(text)
        if program is None:
            return None
        if not inputs:
            return program if self._sandbox.parses(program) else None
        outcome = self._counted(self._sandbox.run(program, inputs))
        if all(output.startswith("!") or output == "None" for output in outcome.outputs):
            return None
        return json.dumps(outcome.outputs)

    def read_cut(self, text: str) -> str | None:
        """Always `None`: a cut program is no program, and no mark shows that one is complete."""
        return None

    def classes(self, finals: Sequence[str | None]) -> tuple[int, ...]:
        seen = list(dict.fromkeys(final for final in finals if final is not None))
        return tuple(-1 if final is None else seen.index(final) for final in finals)

    def correct(self, final: str, target: str) -> bool:
        """Whether `target`, Python code with asserts, runs to its end after the program."""
        return self._counted(self._sandbox.test(final, target)).status == "ok"

    def _counted(self, outcome: Outcome) -> Outcome:
        with self._counting:
            self.undecided += not outcome.decided
        return outcome


def find_program(text: str) -> str | None:
    """The last Python block that defines a function; without any code block, the whole text if it defines one.

    A program in a thought does not count.
    """
    text = without_thoughts(text)
    blocks = [dedent(code) for language, code in _BLOCK.findall(text) if language.lower() in _PYTHON]
    programs = [block for block in blocks if _FUNCTION.search(block)]
    if programs:
        return programs[-1]
    return text if _FUNCTION.search(text) and not blocks else None


def inputs_request(question: Question, cfg: TaskConfig, consensus: ConsensusConfig, run_seed: int) -> Request:
    """The request for the inputs on which all answers to a question are compared."""
    assert cfg.inputs_prompt is not None, "checked by TaskConfig"
    return Request(
        key=f"inputs/{question.id}",
        prompt=fill(cfg.inputs_prompt, question.text),
        temperature=consensus.temperature,
        max_tokens=consensus.max_tokens,
        seed=request_seed(run_seed, question.round, "inputs", question.id),
    )


def read_inputs(completion: Completion, limit: int) -> tuple[str, ...]:
    """The first `limit` different inputs in a completion, each a tuple of arguments in Python's notation.

    Inputs may be calls, one on each line or wrapped in `print` or `assert`, or tuples of arguments, one on each line or
    in a list. Where there are calls, only these are inputs: tuples beside them are results. Arguments are literals, and
    nothing is evaluated. The last line of a cut completion is left out; a refused completion has no inputs.
    """
    if completion.finish_reason == "error":
        return ()
    whole = completion.finish_reason == "stop"
    text = without_thoughts(completion.text if whole else completion.text.rpartition("\n")[0])
    blocks = [code for language, code in _BLOCK.findall(text) if language.lower() in _PYTHON]
    trees = [tree for code in blocks if (tree := parsed(code, LONGEST_LIST)) is not None]
    if not trees:
        lines = [line for line in text.splitlines()[:MANY_LINES] if len(line) <= LONGEST_LINE]
        trees = [tree for line in map(without_ornaments, lines) if (tree := parsed(line, LONGEST_LINE)) is not None]
    statements = [statement for tree in trees for statement in tree.body]
    calls = [arguments for statement in statements if (arguments := arguments_called_with(statement)) is not None]
    tuples = [arguments for statement in statements for arguments in argument_tuples(statement)]
    inputs = dict.fromkeys(map(as_input, calls or tuples))
    return tuple(arguments for arguments in inputs if arguments is not None)[:limit]


def without_ornaments(line: str) -> str:
    """The code in a line of prose: `solve(5)` in "1. `solve(5)` -> 6"."""
    quoted = [part for part in line.split("`")[1:-1] if part]
    return quoted[0] if quoted else _RESULT.split(_BULLET.sub("", line, count=1), maxsplit=1)[0].strip(" \t,")


def parsed(text: str, longest: int) -> ast.Module | None:
    """Syntax tree of a text; `None` when it is no Python, longer than `longest`, or nested deeper than `DEEPEST`."""
    depth = deepest = 0
    for character in text[: longest + 1]:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    if len(text) > longest or deepest > DEEPEST or not text.strip():
        return None
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def arguments_called_with(statement: ast.stmt) -> list[ast.expr] | None:
    """The arguments of the outermost call in a statement, apart from `print` and the like."""
    if not isinstance(statement, (ast.Expr, ast.Assign, ast.Assert)):  # a definition: the model wrote a solution, too
        return None
    for node in ast.walk(statement):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Name) and called.id not in _WRAPPERS:
            assert isinstance(node, ast.Call)
            return None if node.keywords else node.args
    return None


def argument_tuples(statement: ast.stmt) -> Iterator[list[ast.expr]]:
    """The argument tuples in a statement: two in `[(1, 2), (3, 4)]`, one in `(1, 2)`; `[1, 2]` is one list argument."""
    match statement:
        case ast.Expr(value) | ast.Assign([ast.Name()], value):
            pass
        case _:
            return
    match value:
        case ast.List(elements) if elements and all(isinstance(element, ast.Tuple) for element in elements):
            yield from (element.elts for element in elements if isinstance(element, ast.Tuple))
        case ast.Tuple(elements):
            yield elements
        case ast.List() | ast.Dict() | ast.Set() | ast.Constant() | ast.UnaryOp():
            yield [value]


def as_input(arguments: list[ast.expr]) -> str | None:
    """One spelling for equal arguments; `None` when there are none, or they are too long or no literals."""
    try:
        text = ast.unparse(ast.Tuple(arguments, ast.Load()))
        ast.literal_eval(text)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return None
    return text if arguments and len(text) <= LONGEST_INPUT and ascii(text)[1:-1].isprintable() else None
