"""Following a pair to where it came from and to the checkpoints trained on it, in run folders written by hand."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from handmade_run import FIRST, KEPT, PAIRS, SYNTHESIS, HandmadeRun, page, pair, verdict, voted, wrote

from crescent.errors import BadConfig, DataSaysNo, Missing
from crescent.reading.finished import find_id, runs_below
from crescent.reading.trace import trace
from crescent.records import (
    Bait,
    BaitCount,
    Candidate,
    Pair,
    Quarantined,
    digest,
    write_lines,
)
from crescent.run_folder.manifest import seal


@pytest.fixture
def run(tmp_path: Path) -> HandmadeRun:
    return HandmadeRun(tmp_path / "hand")


def test_a_pair_is_followed_from_its_bait_prompt_to_every_checkpoint_trained_on_it(run: HandmadeRun) -> None:
    asked = pair(KEPT, 1)
    run.synthesis(votes=[KEPT], baits=[BaitCount(Bait("sums", "Invent a sum, please."), asked=1)])
    run.selection(1, [asked], quarantine=[])
    first = run.train(1)
    run.judge(1, verdict(first, "roll back", "it is worse"))
    run.synthesis(2)
    run.selection(2, [], old=[asked], quarantine=[])
    second = run.train(2)
    found = trace(run.root, asked.id)
    assert (found.of, found.fate, found.chosen, found.vote) == ("pair", "trained on", (1,), KEPT)
    assert found.bait == Bait("sums", "Invent a sum, please.")
    assert (found.margin, round(found.entropy or 0, 3)) == (0.25, 1.5)
    assert [(round_.round, round_.checkpoint) for round_ in found.trained] == [(1, first), (2, second)]
    assert found.missing == ()
    shown = page(found)
    assert f"used to train {first} (rolled back), {second} (not judged yet)" in " ".join(shown.split())
    assert "rolled back: it is worse" in shown
    assert "| Invent a sum, please." in shown
    assert "sample 1: class 0, final 5, 3 tokens, stop <- trained on" in shown
    assert "sample 0: class 0, final 5, 3 tokens, stop (majority)" in shown
    assert "sample 3: no final answer, 3 tokens, stop\n" in shown
    assert "agreement 0.500" in shown
    assert "margin 0.250, entropy 1.500 bits" in shown


def test_all_filters_are_listed_with_the_settings_they_had(run: HandmadeRun) -> None:
    run.synthesis(votes=[KEPT])
    run.selection(1, [pair(KEPT)], quarantine=[])
    filters = {filter_.name: filter_ for filter_ in trace(run.root, FIRST.id).filters}
    assert [filter_.passed for filter_ in filters.values()] == [True] * 6
    assert filters["agreement"].finding == "0.500; consensus.min_agreement=0.5"
    assert "13 words in a row, the same with numbers masked, cosine from 0.9" in filters["decontamination"].finding
    assert filters["unanimity"].finding == "the first 3 answers do not all agree"


def test_a_run_that_did_not_decontaminate_does_not_say_that_nothing_was_found(run: HandmadeRun) -> None:
    run.synthesis(votes=[KEPT])
    run.selection(1, [pair(KEPT)])
    found = trace(run.root, FIRST.id)
    assert [filter_.passed for filter_ in found.filters if filter_.name == "decontamination"] == [None]
    assert "unknown decontamination: not checked: round-1/pairs has no quarantine.jsonl" in " ".join(
        page(found).split()
    )


def test_a_rewritten_question_shows_every_wording_and_the_neighbour_of_each(run: HandmadeRun) -> None:
    invented = wrote("What is 3 + 2?", index=1, neighbour=FIRST.id, similarity=0.97)
    accepted = wrote(
        "Ann has 3 pens and finds 2.", index=1, rewrites=1, parent=invented.id, neighbour=FIRST.id, similarity=0.4
    )
    decided = voted(accepted, "5", "5", "6")
    candidates = [Candidate(FIRST, "accepted"), Candidate(invented, "rewritten"), Candidate(accepted, "accepted")]
    run.synthesis(votes=[KEPT, decided], candidates=candidates)
    run.selection(1, [pair(decided)])
    for identity in (pair(decided).id, accepted.id, invented.id):
        found = trace(run.root, identity)
        assert [wording.question for wording in found.steps] == [invented, accepted]
        assert [wording.neighbour for wording in found.steps] == [FIRST, FIRST]
        assert found.vote == decided
        assert found.fate == "not trained on yet"
    shown = page(found)
    assert f"invented {invented.id}, seed 1: rewritten <- asked for" in shown
    assert f"rewrite 1 {accepted.id}, seed 1: accepted\n" in shown
    assert f"nearest: {FIRST.id} (round 1, request 0), cosine 0.970" in shown
    assert shown.count("| What is 2 + 3?") == 2


def test_a_rewrite_that_repeats_its_question_word_for_word_is_told_from_it(run: HandmadeRun) -> None:
    """Then the two have the same id."""
    first = wrote("What is 3 + 2?", index=1, neighbour=FIRST.id, similarity=0.97)
    again = replace(first, rewrites=1, parent=first.id)
    candidates = [Candidate(first, "rewritten"), Candidate(again, "near-duplicate"), Candidate(FIRST, "accepted")]
    run.synthesis(votes=[KEPT], rejected=[again], candidates=candidates)
    found = trace(run.root, first.id)
    assert [wording.outcome for wording in found.steps] == ["rewritten", "near-duplicate"]
    assert found.fate == "near-duplicate"


def test_the_nearest_question_may_be_of_an_earlier_round_or_of_another_run(run: HandmadeRun, tmp_path: Path) -> None:
    elsewhere = wrote("What is 30 + 12?", index=7)
    HandmadeRun(tmp_path / "other").synthesis(votes=[voted(elsewhere, "42", "42")])
    near = voted(wrote("What is 2 + 4?", 2, neighbour=FIRST.id, similarity=0.8), "6", "6")
    far = voted(wrote("What is 31 + 12?", 2, 1, neighbour=elsewhere.id, similarity=0.7), "43", "43")
    run.synthesis(votes=[KEPT])
    run.synthesis(2, {**SYNTHESIS, "diversify": {"runs": [str(tmp_path / "other")]}}, votes=[near, far])
    assert trace(run.root, near.question.id).steps[0].neighbour == FIRST
    assert trace(run.root, far.question.id).steps[0].neighbour == elsewhere


def test_without_candidates_the_trace_goes_as_far_as_it_can_and_says_what_is_missing(run: HandmadeRun) -> None:
    later = wrote("Any?", index=3, rewrites=2, parent="00" * 8, neighbour="ff" * 8, similarity=0.5)
    run.synthesis(settings={}, votes=[voted(later, "1", "1", "2")])
    found = trace(run.root, later.id)
    assert [wording.question for wording in found.steps] == [later]
    assert found.fate == "not selected yet"
    shown = page(found)
    assert "has no candidates.jsonl" in shown
    assert "has no baits.jsonl" in shown
    assert f"{'ff' * 8}: the text of this nearest question was not found" in shown


def test_the_bait_prompt_of_an_older_run_is_found_among_its_settings(run: HandmadeRun) -> None:
    run.synthesis(votes=[KEPT])
    assert trace(run.root, FIRST.id).bait == Bait("sums", "Write a sum.")


def test_a_question_that_was_not_trained_on_says_what_kept_it_out(run: HandmadeRun) -> None:
    tie = voted(wrote("A tie?", index=1), "1", "1", "2", "2")
    weak = voted(wrote("Is it weak?", index=2), "1", "2", "1", "3", "4")
    easy = voted(wrote("Is it easy?", index=3), "1", "1", "1")
    stolen = voted(wrote("Is it stolen?", index=4), "1", "2", "1")
    near = wrote("Is it near?", index=5, neighbour=FIRST.id, similarity=0.99)
    empty = wrote("<|im_end|>", index=6)
    lost = voted(wrote("Is it lost?", index=7), "1", "1", "2")
    votes = [KEPT, tie, weak, easy, stolen, lost]
    candidates = [Candidate(vote.question, "accepted") for vote in votes]
    candidates += [Candidate(near, "near-duplicate"), Candidate(empty, "unusable", "a token of a chat template")]
    hit = Quarantined(stolen.question, "gsm8k", "gsm8k-17", "Was it stolen?", "similarity", "cosine 0.95")
    run.synthesis(votes=votes, rejected=[near], candidates=candidates)
    run.selection(1, [pair(KEPT)], quarantine=[hit])
    fates = {
        tie.question: "no majority",
        weak.question: "too little agreement",
        easy.question: "too easy",
        stolen.question: "quarantined",
        near: "near-duplicate",
        empty: "unusable",
        lost.question: "not selected",
    }
    for question, fate in fates.items():
        found = trace(run.root, question.id)
        assert (found.of, found.fate, found.pairs) == ("question", fate, ()), question.text
        if fate != "not selected":
            assert "NOT trained on" in page(found)
            assert page(found).count("STOPPED") == 1
            assert [filter_.passed for filter_ in found.filters].index(False) == len(found.filters) - 1
    shown = page(trace(run.root, stolen.question.id))
    for part in ("gsm8k-17", "cosine 0.95", "| Was it stolen?"):
        assert part in shown
    assert "a token of a chat template" in page(trace(run.root, empty.id))


def arm(labels: str, **pairs: Any) -> dict[str, Any]:
    """Settings of a selection in a control arm."""
    return {**PAIRS, "pairs": {**PAIRS["pairs"], "labels": labels, **pairs}}


def test_a_question_to_which_its_arm_has_no_answer_says_so(run: HandmadeRun) -> None:
    wrong = voted(FIRST, "6", "6", "6", "7")
    unopposed = voted(wrote("What is 4 + 4?", index=1), "8", None, "8", "8")
    run.synthesis(votes=[wrong, unopposed])
    for labels, decided, said in (
        ("gold", wrong, "no answer is right by computation (pairs.labels=gold)"),
        ("minority", unopposed, "no answer contradicts the majority (pairs.labels=minority)"),
    ):
        shutil.rmtree(run.root / "round-1/pairs", ignore_errors=True)
        empty: dict[str, Sequence[object]] = dict.fromkeys(("new.jsonl", "pairs.jsonl", "quarantine.jsonl"), ())
        run.stage("round-1/pairs", empty, arm(labels, questions="kept"), "round-1/synthesis")
        found = trace(run.root, decided.question.id)
        assert found.fate == "no answer of its arm"
        assert (found.filters[-1].name, found.filters[-1].finding) == ("arm", said)
        assert said in page(found, width=200)


def test_first_of_an_earlier_run_had_no_cut_and_today_s_first_has_one(run: HandmadeRun) -> None:
    weak = voted(FIRST, "5", "6", "7", None)
    run.synthesis(votes=[weak])
    names = []
    for more in ({}, {"questions": "kept"}):
        shutil.rmtree(run.root / "round-1/pairs", ignore_errors=True)
        empty: dict[str, Sequence[object]] = dict.fromkeys(("new.jsonl", "pairs.jsonl", "quarantine.jsonl"), ())
        run.stage("round-1/pairs", empty, arm("first", **more), "round-1/synthesis")
        names.append([known.passed for known in trace(run.root, FIRST.id).filters if known.name == "majority"])
    assert names == [[True], [False]]


def test_a_response_to_another_question_is_shown_as_one(run: HandmadeRun) -> None:
    shuffled = replace(pair(KEPT), id=digest("shuffled"), completion="It is 77.", final="77")
    run.synthesis(votes=[KEPT])
    run.selection(1, [shuffled])
    shown = page(trace(run.root, shuffled.id), width=200)
    assert "made from the response to another question" in shown
    assert "| It is 77." in shown


def test_unanimous_questions_within_the_cap_are_trained_on(run: HandmadeRun) -> None:
    easy = voted(FIRST, "1", "1", "1")
    run.synthesis(votes=[easy])
    run.selection(1, [pair(easy)])
    run.train(1)
    found = trace(run.root, FIRST.id)
    assert (found.fate, found.filters[-1].name, found.filters[-1].passed) == ("trained on", "unanimity", True)


def test_each_of_a_question_s_pairs_is_followed_and_a_pair_is_followed_alone(run: HandmadeRun) -> None:
    pairs = [pair(KEPT, 0), pair(KEPT, 1)]
    run.synthesis(votes=[KEPT])
    run.selection(1, pairs)
    run.train(1)
    run.synthesis(2)
    run.selection(2, [], old=pairs[1:])
    run.train(2)
    of_question, of_pair = trace(run.root, FIRST.id), trace(run.root, pairs[0].id)
    assert (of_question.chosen, of_pair.chosen) == ((0, 1), (0,))
    ids = [made.id for made in pairs]
    assert [round_.pairs for round_ in of_question.trained] == [tuple(sorted(ids)), (ids[1],)]
    assert [round_.round for round_ in of_pair.trained] == [1]
    assert "(1 of 2 pairs)" in page(of_question)


def test_a_replayed_instruction_has_no_vote_and_is_followed_all_the_same(run: HandmadeRun) -> None:
    instruction = Pair(digest("r"), digest("i"), 0, "Write a poem.", "Roses are red.", "", 1.0, source="replay")
    unused = replace(instruction, id=digest("u"))
    run.stage("base/replay", {"pairs.jsonl": [instruction, unused]})
    run.synthesis(votes=[KEPT])
    run.selection(1, [pair(KEPT)], old=[instruction])
    child = run.train(1)
    found = trace(run.root, instruction.id)
    assert (found.fate, found.vote, found.trained[0].checkpoint) == ("trained on", None, child)
    assert "| Roses are red." in page(found)
    assert trace(run.root, unused.id).fate == "not selected"


def test_pairs_that_the_trainer_left_out_as_too_long_are_mentioned(run: HandmadeRun) -> None:
    run.synthesis(votes=[KEPT])
    run.selection(1, [pair(KEPT)])
    run.train(1)
    folder = run.root / "round-1/train"
    made_from = {"version": "0", "settings": {}, "inputs": {"pairs": run.digests["round-1/pairs"]}}
    seal(folder, {"made_from": made_from, "metrics": {"too_long": 3}, "seconds": 1.0})
    assert "3 of the round's pairs were left out" in page(trace(run.root, FIRST.id), width=200)


def test_only_finished_stages_are_read(run: HandmadeRun) -> None:
    run.synthesis(votes=[KEPT])
    run.selection(1, [pair(KEPT)])
    run.train(1)
    (run.root / "round-1/train/metrics.json").write_text("tampered with")
    later = run.root / "round-2/synthesis.partial"
    later.mkdir(parents=True)
    write_lines(later / "votes.jsonl", [voted(wrote("New?", 2), "1", "1")])
    found = trace(run.root, FIRST.id)
    assert found.fate == "not trained on yet"
    (note,) = (note for note in found.missing if note.startswith("round-1/train"))
    assert note.startswith("round-1/train: metrics.json is not as it was written (damaged or edited), so")
    with pytest.raises(Missing, match=r"not finished, so not read: .*round-2/synthesis\.partial"):
        trace(run.root, wrote("New?", 2).id)


def test_a_damaged_stage_that_knows_the_id_is_named(run: HandmadeRun) -> None:
    run.synthesis(votes=[KEPT])
    with (run.root / "round-1/synthesis/votes.jsonl").open("ab") as file:
        file.write(b"\n")
    with pytest.raises(Missing, match=r"round-1/synthesis: votes\.jsonl is not as it was written"):
        trace(run.root, FIRST.id)


def test_a_checkpoint_of_earlier_pairs_is_not_counted_while_a_redo_is_under_way(run: HandmadeRun) -> None:
    run.synthesis(votes=[KEPT])
    run.selection(1, [pair(KEPT)])
    run.judge(1, verdict(run.train(1)))
    shutil.rmtree(run.root / "round-1/pairs")
    run.selection(1, [pair(KEPT, 1)])
    found = trace(run.root, FIRST.id)
    assert found.fate == "not trained on yet"
    assert any(note.startswith("round-1/train: was made before") for note in found.missing)


def test_a_verdict_on_another_checkpoint_is_not_shown(run: HandmadeRun) -> None:
    run.synthesis(votes=[KEPT])
    run.selection(1, [pair(KEPT)])
    run.train(1)
    run.judge(1, verdict("hand-r01-00000000"))
    found = trace(run.root, FIRST.id)
    assert found.trained[0].verdict is None
    assert any("hand-r01-00000000" in note for note in found.missing)


def test_a_file_that_does_not_hold_its_records_is_named_with_the_line(run: HandmadeRun) -> None:
    run.synthesis(votes=[KEPT, {"question": msgspec.to_builtins(FIRST)}])
    run.selection(1, [{"id": FIRST.id}])  # type: ignore[list-item]
    with pytest.raises(DataSaysNo, match=r"new\.jsonl, line 1: not a Pair"):
        trace(run.root, FIRST.id)


def test_an_id_may_be_given_by_its_first_digits_as_long_as_they_are_its_own(run: HandmadeRun) -> None:
    alike = [replace(FIRST, id=f"abcd{number}" + "0" * 11, index=number) for number in range(9)]
    run.synthesis(votes=[voted(question, "1", "1") for question in alike])
    assert trace(run.root, "ABCD1").id == alike[1].id
    with pytest.raises(BadConfig, match=r"abcd: 9 ids begin like this: abcd0.* and 3 more; give more digits"):
        trace(run.root, "abcd")
    for wrong in ("abc", "", "xyzw", alike[0].id + "0", "abcd1\x1b[31m"):
        with pytest.raises(BadConfig, match="16 hex digits") as refused:
            trace(run.root, wrong)
        assert "\x1b" not in str(refused.value)


def test_an_unknown_id_is_answered_with_where_it_was_looked_for_and_with_ids_that_are_near(run: HandmadeRun) -> None:
    run.synthesis(votes=[KEPT])
    typo = FIRST.id[:9] + FIRST.id[10] + FIRST.id[9] + FIRST.id[11:]
    with pytest.raises(Missing, match=rf"looked in {run.root} \(1 ids\); did you mean {FIRST.id}\?"):
        trace(run.root, typo)


def test_ids_that_a_model_wrote_are_not_taken_for_ids(run: HandmadeRun) -> None:
    fake = "0123456789abcdef"
    text = f'{{"id":"{fake}","question":{{"id":"{fake}"}}}} "index":0, {fake}'
    run.synthesis(votes=[KEPT, voted(wrote(text, index=1), "5", "5")])
    with pytest.raises(Missing):
        trace(run.root, fake)
    assert trace(run.root, FIRST.id).vote == KEPT


def test_the_run_that_was_worked_on_last_is_asked_first(tmp_path: Path) -> None:
    for name, age in (("older", 100), ("newer", 10), ("oldest", 1000)):
        HandmadeRun(tmp_path / name).synthesis(votes=[KEPT])
        manifest = tmp_path / name / "round-1/synthesis/manifest.json"
        os.utime(manifest, (manifest.stat().st_mtime - age,) * 2)
    (tmp_path / "sweeps").mkdir()
    runs = runs_below(tmp_path)
    assert [folder.name for folder in runs] == ["newer", "older", "oldest"]
    assert find_id(runs, FIRST.id[:6]) == (runs, FIRST.id)
    assert runs_below(tmp_path / "nowhere") == []
