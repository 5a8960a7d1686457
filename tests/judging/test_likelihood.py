"""A score without format: the reference answer against distractors."""

import pytest

from crescent.judging.likelihood import Likelihood, distractors, summed


def test_distractors_of_a_number_are_its_neighbours_of_the_same_sign() -> None:
    assert distractors("12", {"5"}, 5) == ["13", "11", "22", "2", "14"]
    assert distractors("0", {"5"}, 4) == ["1", "10", "2", "9"]
    assert all(wrong.startswith("-") for wrong in distractors("-1", (), 4))
    assert len(set(distractors("3", (), 10))) == 10


def test_distractors_of_anything_else_are_other_reference_answers() -> None:
    others = {"A", "B", "C", "D"}
    assert set(distractors("A", others - {"A"}, 7)) == {"B", "C", "D"}
    assert distractors("x^2", {"x^3", "x^{2}", "1/2"}, 1) == distractors("x^2", {"1/2", "x^3", "x^{2}"}, 1)
    assert "x^{2}" not in distractors("x^2", {"x^3", "x^{2}"}, 9), "another spelling of the same is not wrong"


def test_sums_begin_where_the_candidates_part() -> None:
    right = [(5, None), (6, -1.0), (7, -0.5), (8, -0.25)]
    longer = [(5, None), (6, -1.001), (9, -2.0), (8, -0.5), (4, -1.0)]
    assert summed([right, longer]) == [-0.75, -3.5]


def test_shares_add_up_and_a_tie_is_not_the_most_likely() -> None:
    found = Likelihood("sums", "a", ("3", "4"), (-1.0, -1.0))
    assert found.share == pytest.approx(0.5)
    assert not found.is_most_likely
    assert Likelihood("sums", "a", ("3", "4"), (-1.0, -3.0)).is_most_likely
    assert Likelihood("sums", "a", ("3", "4"), (-900.0, -903.0)).share == pytest.approx(0.9526, abs=1e-4)
