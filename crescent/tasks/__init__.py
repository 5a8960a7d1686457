"""A task (domain): how final answers are found, and which of them are the same. One file each.

Another task is a member of `crescent.config.AnswerStyle`, a file here, its line in `open_task`, and its settings in
conf/task, conf/bait and conf/eval.
"""

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from crescent.config import AnswerStyle, TaskConfig
from crescent.records import Completion


class Task(Protocol):
    """Called from several threads at once; may own processes, and so is opened and closed."""

    undecided: int
    """Answers that could not be compared or run within their time and memory: they count as different, or silent."""

    def accepts(self, question: str) -> bool:
        """Whether a question has what the task needs; multiple choice: lettered options."""
        ...

    def read(self, text: str, inputs: Sequence[str] = ()) -> str | None:
        """The final answer of a response that ended by itself, `None` when it has none: silence. Thoughts are not read.

        With `inputs` (`task.inputs_prompt`) the answer is what the program in the response returns for them, as one
        string; without, the program itself.
        """
        ...

    def read_cut(self, text: str) -> str | None:
        """The final answer of a response that was cut at `max_tokens`: only an explicitly marked one."""
        ...

    def classes(self, finals: Sequence[str | None]) -> tuple[int, ...]:
        """Equivalence class of each final answer, numbered by first appearance; -1 for `None`."""
        ...

    def correct(self, final: str, target: str) -> bool:
        """Whether a final answer, read without inputs, is a benchmark item's reference answer, or passes its tests."""
        ...


# The lookbehind keeps the search linear: it starts where a word starts, not at each of its letters.
_LAST_WORD = re.compile(r"(?<!\S)\S++\Z")


def read_final(completion: Completion, task: Task, inputs: Sequence[str] = ()) -> str | None:
    """The final answer of a completion, in votes, rewards and benchmarks alike; `None` when it has none.

    A completion cut at `max_tokens` counts only with an explicitly marked answer: models may ramble on behind one, but
    the last number of an unfinished calculation is none. Its last word may be half a number and is not read. What a
    server says when it refuses a request is no answer, whatever number stands in it.
    """
    match completion.finish_reason:
        case "error":
            return None
        case "length":
            return task.read_cut(_LAST_WORD.sub("", completion.text))
        case _:
            return task.read(completion.text, inputs)


def open_task(cfg: TaskConfig, grading_timeout_s: float) -> AbstractContextManager[Task]:
    """The task, for as long as the context lasts."""
    match cfg.answer_style:
        case AnswerStyle.number | AnswerStyle.math:
            from crescent.tasks.math import MathTask

            return MathTask(cfg.answer_style, grading_timeout_s, cfg.boxes, cfg.decimal_mark)
        case AnswerStyle.choice:
            from crescent.tasks.multiple_choice import MultipleChoice

            return MultipleChoice()
        case AnswerStyle.text:
            from crescent.tasks.text import TextTask

            return TextTask()
        case AnswerStyle.code:
            from crescent.tasks.code import CodeTask

            return CodeTask(cfg)
