"""Texts of a model in W&B's tables are shown, never calculated or obeyed: W&B exports tables as CSV."""

import pytest

from crescent.tracking.samples import Table


@pytest.mark.parametrize(
    "text",
    ["=HYPERLINK(1)", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "  =1+1", "\t=1", "＝1+1", "-", "+x", "-1-1"],
)
def test_a_formula_stays_text(text: str) -> None:
    ((cell,),) = Table(("question",), ((text,),)).cells
    assert str(cell).startswith("'")
    assert str(cell).lstrip("'").strip().endswith(text.strip()[-1])


@pytest.mark.parametrize("text", ["-5", "+5", "-1,234.5", "What is 1 + 1?", "two\nlines", "a=b", ""])
def test_numbers_and_sentences_stay_as_they_are(text: str) -> None:
    assert Table(("question",), ((text,),)).cells == [[text]]


def test_what_a_terminal_would_obey_is_shown_instead() -> None:
    ((cell, number, nothing),) = Table(("a", "b", "c"), (("x\x1b]52;c;eA==\x07 \u202egpj.exe", 0.5, None),)).cells
    assert cell == r"x\x1b]52;c;eA==\x07 \u202egpj.exe"
    assert (number, nothing) == (0.5, None)
