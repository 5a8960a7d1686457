"""Mathematics, from sums to competition LaTeX: answers are compared exactly, and by algebra where it takes algebra."""

from collections.abc import Sequence

from crescent.config import AnswerStyle, Boxes, DecimalMark
from crescent.tasks.answers import extract_final, extract_marked
from crescent.tasks.grading import Grader


class MathTask(Grader):
    """Answers found by `crescent.tasks.answers` and compared by `crescent.tasks.grading`, in killable processes."""

    def __init__(
        self,
        style: AnswerStyle,
        grading_timeout_s: float,
        boxes: Boxes = Boxes.last,
        decimal_mark: DecimalMark = DecimalMark.point,
    ) -> None:
        super().__init__(grading_timeout_s)
        self.style = style
        self.boxes = boxes
        self.decimal_mark = decimal_mark

    def __enter__(self) -> "MathTask":
        return self

    def accepts(self, question: str) -> bool:
        return True

    def read(self, text: str, inputs: Sequence[str] = ()) -> str | None:
        return extract_final(text, self.style, self.boxes, self.decimal_mark)

    def read_cut(self, text: str) -> str | None:
        return extract_marked(text, self.style, self.boxes, self.decimal_mark)

    def correct(self, final: str, target: str) -> bool:
        return self.same(final, target)
