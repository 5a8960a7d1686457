"""The table of a study: decisions first, every seed and round shown, and how the numbers were made."""

from studies import changed, records, study, without

from crescent.config import StudyConfig
from crescent.judging.deviations import deviations
from crescent.judging.item_records import StudyRecords
from crescent.judging.study import judge_study
from crescent.show.study import study_as_markdown, study_as_text


def page(declared: StudyConfig, found: StudyRecords, width: int = 200) -> str:
    return study_as_text(judge_study(declared, found, deviations(declared, found)), found, width)


def test_the_page_opens_with_the_claim_and_a_decision_on_each_contrast() -> None:
    lines = page(study(claim="votes teach"), records(study(claim="votes teach"))).splitlines()
    assert lines[0].endswith(": votes teach")
    assert "8 samples on 60 items of test, the child of round 2, seeds 1, 2, 3, 4, 5" in lines[1]
    assert lines[2].startswith("holds               majority - base > 0: +")
    assert lines[4].startswith("does not hold       first - base > 0: ")
    assert lines[5].startswith("guard held          guard, majority: ")
    assert "deviations from the declaration: none" in lines


def test_every_seed_and_every_round_is_shown() -> None:
    text = page(study(), records(study()))
    for column in ("seed 1", "seed 5", "round 1", "round 2", "over seeds", "seeds × items", "bootstrap", "detectable"):
        assert column in text
    for figure in ("greedy", "maj@k", "pass@k", "unparsed", "of readable", "wrong in form", "likelihood"):
        assert figure in text


def test_what_is_missing_and_what_deviates_is_said_where_the_decision_stands() -> None:
    found = changed(without(records(study()), "first-4"), "majority-1", declared=())
    text = page(study(), found)
    assert "cannot be told yet  majority - first > 0" in text
    assert "missing: first after round 2: no answers to test with seed 4" in text
    assert "deviations from the declaration: 1\n  - made without a declaration (majority-1)" in text


def test_the_notes_say_what_the_study_could_detect_and_which_arm_uses_labels() -> None:
    declared = study(seeds=[1, 2, 3], arms=["majority", "gold"], contrasts=["majority:vote - base:vote"])
    text = page(declared, records(declared, {"base": 0.4, "majority": 0.5, "gold": 0.9}))
    assert "before: 3 seeds × 60 items × 8 samples can detect" in text
    assert "3 seeds are few: 5 or more for a claim" in text
    assert "gold uses labels" in text
    assert "at most 8: majority 8.0, gold 8.0" in text
    assert "declared end: after all seeds" in text


def test_a_narrow_terminal_cuts_no_number() -> None:
    wide, narrow = page(study(), records(study())), page(study(), records(study()), width=70)
    figure = next(word for word in wide.split() if word.startswith("+2"))
    assert figure in narrow


def test_markdown_has_the_same_tables() -> None:
    result = judge_study(study(), records(study()))
    text = study_as_markdown(result, records(study()))
    assert "### contrasts, in points" in text
    assert "| majority - base | +" in text
    assert "guard held" in text
