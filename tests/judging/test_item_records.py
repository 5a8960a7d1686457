"""One character per answer, and everything that is computed from it."""

from dataclasses import replace
from pathlib import Path

import pytest
from studies import records, study

from crescent.errors import BadConfig, DataSaysNo
from crescent.judging.item_records import (
    benchmark_record,
    has_form,
    majority_is_right,
    read_records,
    sample_string,
    write_records,
)
from crescent.records import Response


def response(final: str | None, sample: int, target: str = "12", item: str = "a") -> Response:
    return Response(item, "sums", "q", "text", final, target, final == target, "stop", 7, sample)


def test_right_silent_and_wrong_answers_have_characters_of_their_own() -> None:
    finals = ["12", None, "13", "7", "13", "12", "14", "7.0", "twelve"]
    assert sample_string([response(final, sample) for sample, final in enumerate(finals)]) == "*.aAa*bAB"


def test_samples_are_written_in_their_order() -> None:
    assert sample_string([response("12", 1), response("13", 0)]) == "a*"


def test_more_wrong_answers_than_letters_are_all_different() -> None:
    written = sample_string([response(str(20 + number), number) for number in range(30)])
    assert written[:26] == "abcdefghijklmnopqrstuvwxyz"
    assert written[26:] == "????"


@pytest.mark.parametrize(
    ("final", "target", "same"),
    [("13", "12", True), ("7", "12", False), ("-3", "12", True), ("B", "C", True), ("x+1", "12", False)],
)
def test_the_right_form_is_a_number_or_a_text_of_the_same_length(final: str, target: str, same: bool) -> None:
    assert has_form(final, target) is same


@pytest.mark.parametrize(
    ("answers", "wins"),
    [("**a", True), ("*a", False), ("*..", True), ("...", False), ("*aa", False), ("?*", False), ("?**", True)],
)
def test_a_majority_needs_more_right_answers_than_any_other_and_a_tie_is_wrong(answers: str, wins: bool) -> None:
    assert majority_is_right(answers) is wins


def test_a_smaller_vote_takes_the_first_samples() -> None:
    assert not majority_is_right("aa***", 4)
    assert majority_is_right("aa***", 5)
    assert majority_is_right("*aa", 1)


def test_items_stand_in_the_order_of_their_ids_with_their_likelihoods() -> None:
    found, ids = benchmark_record(
        [response("12", 0, item="b"), response("13", 0, item="a")], "set", {"a": (0.25, False), "b": (0.9, True)}
    )
    assert ids == ("a", "b")
    assert found.answers == ("a", "*")
    assert found.likelihoods == (0.25, 0.9)
    assert found.most_likely == "01"
    assert found.tokens == 7


def test_records_read_back_as_they_were_written_and_equal_records_make_equal_files(tmp_path: Path) -> None:
    made = records(study())
    size = write_records(tmp_path / "a.json.gz", made)
    write_records(tmp_path / "b.json.gz", made)
    assert read_records(tmp_path / "a.json.gz") == made
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()
    assert size < 60_000


def test_a_file_that_holds_no_records_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.gz").write_bytes(b"text")
    with pytest.raises(DataSaysNo, match="holds no records of a study"):
        read_records(tmp_path / "no.gz")
    with pytest.raises(BadConfig, match="name the study's runs as well"):
        read_records(tmp_path / "absent.gz")
    write_records(tmp_path / "new.gz", replace(records(study()), format=9))
    with pytest.raises(DataSaysNo, match="format 9"):
        read_records(tmp_path / "new.gz")
