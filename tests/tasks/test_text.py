"""Short texts as answers: where they stand in a response, and which of them are the same."""

import pytest

from crescent.config import AnswerStyle, TaskConfig
from crescent.records import Completion
from crescent.tasks import open_task, read_final
from crescent.tasks.text import TextTask, normalised

TASK = TextTask()


@pytest.mark.parametrize(
    ("text", "final"),
    [
        ("Paris", "Paris"),
        ("It lies on the Seine.\n\n**Paris**", "Paris"),
        ("#### Paris\nIt lies on the Seine.", "Paris"),
        ("The answer is: Paris.", "Paris."),
        (r"So it is \boxed{\text{Paris}}, not Lyon.", "Paris"),
        ("<think>Lyon?</think>\nParis", "Paris"),
        ("Answer: I don't know.", None),
        ("#### None", None),
        ("", None),
        ("word " * 400, None),
    ],
)
def test_the_final_answer_is_marked_or_the_last_line(text: str, final: str | None) -> None:
    assert TASK.read(text) == final


def test_a_cut_response_counts_only_with_a_marked_answer() -> None:
    assert read_final(Completion("#### Paris\nIt lies on", "length", 5), TASK) == "Paris"
    assert read_final(Completion("Paris lies on", "length", 5), TASK) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Eiffel Tower.", "eiffel tower"),
        ("U.S.A.", "usa"),
        ("well-known", "well known"),
        ("“Straße”", "STRASSE"),
        ("12:30", "12:30."),
        ("  two\twords ", "two words!"),
    ],
)
def test_articles_case_and_punctuation_do_not_distinguish_answers(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)
    assert TASK.correct(one, other)


@pytest.mark.parametrize(
    ("one", "other"), [("-5", "5"), ("3.5", "35"), ("the", "a"), ("1/2", "12"), ("12:30", "1230"), ("no", "not")]
)
def test_what_belongs_to_a_number_does(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


def test_answers_are_counted_by_their_normalised_text() -> None:
    assert TASK.classes(["Paris", "the Paris.", None, "Lyon", "PARIS"]) == (0, 0, -1, 1, 0)


def test_the_style_opens_this_task() -> None:
    with open_task(TaskConfig(answer_style=AnswerStyle.text), 1.0) as task:
        assert isinstance(task, TextTask)
