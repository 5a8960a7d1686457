"""Read one response: its final answer, whether that is right, and the strict and the flexible score beside it.

Each benchmark's answers are read in the benchmark's own style (`crescent.config.style_of`), whatever the style of the
run is: numbers for word problems, formulas for MATH-500, letters for options.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from crescent.config import AnswerStyle, BenchmarkConfig, TaskConfig, task_of
from crescent.records import Completion
from crescent.tasks import Task, open_task, read_final
from eval.scorers import flexible_match, strict_match


@dataclass(frozen=True)
class Reading:
    """Result of reading one response; the fields are those of `crescent.records.Response`."""

    final: str | None
    correct: bool
    strict: bool | None
    flexible: bool | None


@dataclass(frozen=True)
class Reader:
    """Reads the responses to one benchmark. Safe to use from several threads at once."""

    style: AnswerStyle
    task: Task
    """The run's task in this style."""

    @property
    def can_vote(self) -> bool:
        """Whether final answers can be counted. Programs cannot: without inputs they differ by their texts."""
        return self.style is not AnswerStyle.code

    def read(self, completion: Completion, target: str) -> Reading:
        final, correct = grade(completion, target, self.task)
        return Reading(final, correct, *match(completion, target, self.style, final))


@contextmanager
def open_readers(
    benchmarks: Mapping[str, BenchmarkConfig], task: TaskConfig, grading_timeout_s: float
) -> Iterator[dict[str, Reader]]:
    """One reader for each benchmark, by name. Readers of one style share a task, which may own processes."""
    styled = {name: task_of(benchmark, task) for name, benchmark in benchmarks.items()}
    readers: dict[AnswerStyle, Reader] = {}
    with ExitStack() as stack:
        for own in styled.values():
            if own.answer_style not in readers:
                opened = stack.enter_context(open_task(own, grading_timeout_s))
                readers[own.answer_style] = Reader(own.answer_style, opened)
        yield {name: readers[own.answer_style] for name, own in styled.items()}


def grade(completion: Completion, target: str, task: Task) -> tuple[str | None, bool]:
    """The final answer, and whether it means the reference answer."""
    final = read_final(completion, task)
    return final, final is not None and task.correct(final, target)


def match(
    completion: Completion, target: str, style: AnswerStyle, final: str | None
) -> tuple[bool | None, bool | None]:
    """Whether it is right by the strict and by the flexible score; `None` for options and programs, and where a text
    has no flexible one: a text is strictly right if it is the reference letter by letter."""
    if style is AnswerStyle.text:
        return final == target, None
    if style not in (AnswerStyle.number, AnswerStyle.math):
        return None, None
    # The message of a server that refuses a request is not an answer, whatever number it contains.
    text = "" if completion.finish_reason == "error" else completion.text
    return strict_match(text, target), flexible_match(text, target)
