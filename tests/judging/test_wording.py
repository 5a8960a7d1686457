"""Numbers in words: one form for verdicts, tables and reports."""

import pytest

from crescent.judging import wording


def test_a_gain_reads_as_points_interval_and_p_value() -> None:
    assert wording.points_with_interval(0.047, 0.0, 0.1) == "+4.7 points [0.0, 10.0]"
    assert wording.points_number_with_interval(-0.047, -0.1, -0.00001) == "-4.7 [-10.0, 0.0]"
    assert wording.p_value(0.12) == "p = 0.12"


def test_a_share_reads_as_percent_without_a_space() -> None:
    assert wording.percent(0.5333) == "53.3%"
    assert wording.percent_with_interval(0.5333, 0.481, 1.0) == "53.3% [48.1, 100.0]"
    assert wording.percent_number_with_interval(0.0, 0.0, 0.04) == "0.0 [0.0, 4.0]"


@pytest.mark.parametrize("difference", [0.0, 0.0004, -0.0004])
def test_what_rounds_to_zero_has_no_sign(difference: float) -> None:
    assert wording.points(difference) == "0.0 points"


@pytest.mark.parametrize(
    ("p", "text"), [(1.0, "1.0"), (0.5, "0.50"), (0.0412, "0.041"), (0.001, "0.0010"), (0.00099, "<0.001")]
)
def test_a_p_value_has_two_significant_digits_down_to_a_thousandth(p: float, text: str) -> None:
    assert wording.p_number(p) == text


@pytest.mark.parametrize(
    ("p", "alpha", "text"),
    [
        (0.12, 0.05, "p = 0.12 > 0.05"),
        (0.041, 0.05, "p = 0.041 <= 0.05"),
        (0.05, 0.05, "p = 0.050 <= 0.05"),
        (0.0504, 0.05, "p = 0.0504 > 0.05"),
        (0.04999, 0.05, "p = 0.050 <= 0.05"),
        (0.00002, 0.05, "p < 0.001"),
        (0.0005, 0.0001, "p = 0.00050 > 0.0001"),
    ],
)
def test_a_p_value_beside_alpha_is_never_rounded_across_the_limit(p: float, alpha: float, text: str) -> None:
    assert wording.p_beside_alpha(p, alpha) == text


def test_a_long_list_names_the_first_few_and_counts_the_rest() -> None:
    assert wording.first_few(["a", "b"], 2) == "a, b"
    assert wording.first_few(["a", "b", "c", "d", "e"], 2) == "a, b and 3 more"
