"""What a study decides: from complete records, from incomplete ones, and from those that deviate."""

from dataclasses import replace
from typing import Any

import pytest
from studies import ITEMS, SKILLS, changed, records, sampled, study, without

from crescent.config import Secondary, StudyConfig
from crescent.judging.deviations import deviations
from crescent.judging.item_records import DeclaredAt, RoundRecord, RunRecord, StudyRecords
from crescent.judging.study import DOES_NOT, GUARDED, HOLDS, LOST, UNKNOWN_YET, StudyResult, judge_study


def judged(declared: StudyConfig, found: StudyRecords) -> StudyResult:
    return judge_study(declared, found, deviations(declared, found))


def decisions(result: StudyResult) -> dict[str, str]:
    return {contrast.contrast: contrast.decision for contrast in result.contrasts}


def test_a_difference_that_is_there_holds_and_one_that_is_not_does_not() -> None:
    result = judged(study(), records(study()))
    assert decisions(result) == {"majority - base": HOLDS, "majority - first": HOLDS, "first - base": DOES_NOT}
    assert result.deviations == ()
    gain = result.contrasts[0]
    assert gain.estimate is not None
    assert gain.estimate.mean == pytest.approx(0.2, abs=0.03)
    assert gain.estimate.low < gain.estimate.mean < gain.estimate.high
    assert set(gain.by_seed) == {1, 2, 3, 4, 5}
    assert gain.p_holm is not None
    assert gain.p_holm >= gain.estimate.p_value


def test_a_difference_of_differences_equals_the_difference_where_arms_share_their_base() -> None:
    declared = study(contrasts=["(majority - base) - (first - base)", "majority - first"])
    several, plain = judged(declared, records(declared)).contrasts
    assert several.estimate == plain.estimate


def test_a_missing_seed_leaves_every_contrast_that_needs_it_open_and_is_named() -> None:
    result = judged(study(), without(records(study()), "first-3"))
    assert decisions(result) == {"majority - base": HOLDS, "majority - first": UNKNOWN_YET, "first - base": UNKNOWN_YET}
    assert result.contrasts[1].missing == ("first after round 2: no answers to test with seed 3",)
    assert result.contrasts[1].estimate is not None, "the seeds that are there are shown"


def test_a_run_that_has_not_finished_its_last_round_is_missing() -> None:
    found = records(study())
    run = next(run for run in found.runs if run.name == "majority-2")
    result = judged(study(), changed(found, "majority-2", rounds=run.rounds[:2]))
    assert decisions(result)["majority - base"] == UNKNOWN_YET
    assert "majority after round 2" in result.contrasts[0].missing[0]


def test_the_last_declared_round_counts_and_not_a_better_earlier_one() -> None:
    found = records(study())
    best = {**found.evaluations, **{f"majority-{seed}-1": {"test": sampled(0.99, seed)} for seed in study().seeds}}
    result = judged(study(), replace(found, evaluations=best))
    arm = next(row for row in result.models if row.name == "majority")
    assert arm.primary is not None
    assert arm.by_round[0] == pytest.approx(0.99, abs=0.02)
    assert arm.primary.mean == pytest.approx(0.6, abs=0.04)


def test_other_items_than_declared_leave_a_contrast_open() -> None:
    found = records(study())
    few = {**found.evaluations, "majority-1-2": {"test": sampled(0.6, 1, items=ITEMS - 1)}}
    result = judged(study(), replace(found, evaluations=few))
    assert decisions(result)["majority - base"] == UNKNOWN_YET
    assert result.contrasts[0].missing == ("majority after round 2: 59 of 60 items of test with seed 1",)
    assert "59 items of test, declared are 60 (majority-1)" in result.deviations
    others = {**found.evaluations, "majority-1-2": {"test": sampled(0.6, 1, name="other")}}
    result = judged(study(), replace(found, evaluations=others))
    assert "the same items in all runs: there are 2 different sets of them" in result.contrasts[0].missing


def test_the_base_majority_is_compared_at_equal_tokens() -> None:
    declared = study(contrasts=["majority:vote - base:vote", "majority - base:vote"])
    found = records(declared)
    assert judged(declared, found).votes_at["majority"] == 8
    longer = {
        place: {
            name: replace(record, tokens=20.0) if place.startswith("majority") else record
            for name, record in answered.items()
        }
        for place, answered in found.evaluations.items()
    }
    result = judged(declared, replace(found, evaluations=longer))
    assert result.votes_at == {"majority": 4, "first": 8, "shuffled": 8}
    voted = result.models[0].secondary[Secondary.vote]
    single = result.contrasts[1].estimate
    assert single is not None
    assert single.mean == pytest.approx(result.models[1].primary.mean - voted)  # type: ignore[union-attr]


def test_the_base_with_its_best_prompt_stands_for_the_base() -> None:
    declared = study(base_prompts=["short", "steps"], contrasts=["majority - base:prompt", "majority - base"])
    found = records(declared)
    open_ = judged(declared, found)
    assert decisions(open_)["majority - base:prompt"] == UNKNOWN_YET
    assert "the base's answers to short, steps" in open_.contrasts[0].missing[0]
    asked = {"short": sampled(0.55, "short"), "steps": sampled(0.3, "steps")}
    alone = RunRecord("prompts", None, 0, "evaluation only", (), {}, (RoundRecord(0, "prompts", "model"),))
    result = judged(
        declared, replace(found, runs=(*found.runs, alone), evaluations={**found.evaluations, "prompts": asked})
    )
    assert result.best_prompt == "short"
    with_prompt, plain = (contrast.estimate for contrast in result.contrasts)
    assert with_prompt is not None
    assert plain is not None
    assert with_prompt.mean < plain.mean - 0.1


def test_a_guard_is_held_lost_or_open() -> None:
    assert [guard.decision for guard in judged(study(), records(study())).guards] == [GUARDED] * 3
    found = records(study())
    worse = {
        place: {**answered, "guard": sampled(0.5, place, name="guards")} if place.startswith("first") else answered
        for place, answered in found.evaluations.items()
    }
    result = judged(study(), replace(found, evaluations=worse))
    assert [guard.decision for guard in result.guards] == [GUARDED, LOST, GUARDED]
    assert judged(study(), without(found, "first-1")).guards[1].decision == UNKNOWN_YET


def test_secondary_figures_stand_beside_and_tell_format_from_content() -> None:
    found = records(study())
    silent = {
        place: {**answered, "test": replace(answered["test"], answers=tuple("*..*.a.." for _ in range(ITEMS)))}
        if place.startswith("base")
        else answered
        for place, answered in found.evaluations.items()
    }
    result = judged(study(), replace(found, evaluations=silent))
    base = result.models[0]
    assert base.secondary[Secondary.unparsed] == pytest.approx(5 / 8)
    assert base.secondary[Secondary.readable] == pytest.approx(2 / 3)
    assert base.secondary[Secondary.wrong_in_form] == pytest.approx(1 / 8)
    assert base.secondary[Secondary.passed] == 1
    gain, interval = result.secondary[Secondary.readable]["majority - base"]
    assert gain < 0.15, "of a gain of 35 points, most is format"
    assert interval.low < gain < interval.high
    assert set(result.secondary[Secondary.likelihood]) == {"majority - base", "majority - first", "first - base"}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"declared": ()}, "made without a declaration (majority-1)"),
        (
            {"declared": (DeclaredAt("other", "t"),)},
            "made under declaration other, and it is {digest} now (majority-1)",
        ),
        ({"seed": 9}, "seed 9 is not declared: left out (majority-1)"),
        ({"arm": "gold"}, "arm gold is not declared: left out (majority-1)"),
        ({"settings": {"train.max_steps": "80"}}, "train.max_steps=80, declared is 40 (majority-1)"),
    ],
)
def test_what_is_not_as_declared_is_named(change: dict[str, Any], line: str) -> None:
    declared = study(settings={"train.max_steps": 40})
    found = changed(records(declared), "majority-1", **change)
    assert line.format(digest=declared.digest) in deviations(declared, found)


def test_a_declaration_that_was_changed_on_the_way_or_came_late_is_named() -> None:
    digest = study().digest
    moved = changed(records(study()), "first-2", declared=(DeclaredAt("other", "t"), DeclaredAt(digest, "u")))
    assert "the declaration was changed while the run was under way (first-2)" in deviations(study(), moved)
    late = changed(records(study()), "first-2", declared=(DeclaredAt(digest, "t", ("round-1/eval",)),))
    assert "declared only after round-1/eval was finished (first-2)" in deviations(study(), late)
    other = replace(records(study()), digest="before")
    assert deviations(study(), other)[0].startswith("the records were made for declaration before")


def test_two_different_runs_of_one_arm_and_seed_are_ambiguous_and_neither_counts() -> None:
    found = records(study())
    again = replace(found.runs[0], name="again", rounds=found.runs[3].rounds)
    result = judged(study(), replace(found, runs=(*found.runs, again)))
    assert "2 different runs of majority with seed 1 (majority-1, again): none counts, name one" in result.deviations
    assert decisions(result)["majority - base"] == UNKNOWN_YET
    same = replace(found.runs[0], name="copy")
    assert decisions(judged(study(), replace(found, runs=(*found.runs, same))))["majority - base"] == HOLDS


def test_a_verdict_that_decided_what_the_next_round_started_from_is_named() -> None:
    found = records(study())
    run = found.runs[0]
    rolled = (run.rounds[0], replace(run.rounds[1], action="roll back"), run.rounds[2])
    lines = deviations(study(), changed(found, run.name, rounds=rolled))
    assert lines == [
        "round 1 was not accepted, so the next one did not start from it (set verdict.gate=off) (majority-1)"
    ]


def test_arms_that_do_not_share_questions_or_steps_and_settings_that_differ_are_named() -> None:
    found = records(study())
    run = found.runs[0]
    own = (run.rounds[0], replace(run.rounds[1], synthesis="own", steps=30), run.rounds[2])
    other = next(run for run in found.runs if run.name == "first-1")
    steps = (other.rounds[0], replace(other.rounds[1], steps=60), other.rounds[2])
    lines = deviations(study(), changed(changed(found, run.name, rounds=own), "first-1", rounds=steps))
    assert any(line.startswith("the arms of seed 1 do not train on the same questions in round 1") for line in lines)
    assert any("different numbers of steps (majority 30, first 60" in line for line in lines)
    lines = deviations(study(), changed(found, run.name, settings={**run.settings, "bait.questions": "9"}))
    assert lines == [
        "bait.questions differs between the runs: 9 in majority-1; not set in first-1, shuffled-1 and 12 more"
    ]


def test_more_skill_is_needed_before_a_small_study_holds() -> None:
    close = {**SKILLS, "majority": 0.41}
    assert decisions(judged(study(), records(study(), close)))["majority - base"] == DOES_NOT
