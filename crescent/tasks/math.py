"""Mathematics, from sums to competition LaTeX: answers are compared exactly, and by algebra where it takes algebra."""

from collections.abc import Sequence

from crescent.answers import extract_final, extract_marked
from crescent.config import AnswerStyle
from crescent.grading import Grader


class MathTask(Grader):
    """`crescent.answers` finds the answers, `crescent.grading` compares them in processes that may be killed."""

    def __init__(self, style: AnswerStyle, grading_timeout_s: float) -> None:
        super().__init__(grading_timeout_s)
        self.style = style

    def __enter__(self) -> "MathTask":
        return self

    def accepts(self, question: str) -> bool:
        return True

    def read(self, text: str, inputs: Sequence[str] = ()) -> str | None:
        return extract_final(text, self.style)

    def read_cut(self, text: str) -> str | None:
        return extract_marked(text, self.style)

    def correct(self, final: str, target: str) -> bool:
        return self.same(final, target)
