"""Following a pair to where it came from and to what learned from it, in small run folders written by hand."""

import io
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes import answers
from rich.console import Console

from crescent.errors import BadConfig, DataSaysNo, Missing
from crescent.reading.finished import find, runs_below
from crescent.reading.trace import Trace, trace
from crescent.records import (
    Bait,
    BaitCount,
    Candidate,
    Pair,
    Quarantined,
    Question,
    Verdict,
    Vote,
    digest,
    write_lines,
)
from crescent.run_folder.manifest import seal
from crescent.show.trace import as_json, show
from crescent.synthesis.consensus import vote

K = 4
SYNTHESIS = {
    "bait": {"prompts": {"sums": "Write a sum."}},
    "consensus": {"samples": K},
    "diversify": {"threshold": 0.85, "runs": []},
}
PAIRS = {
    "consensus": {"min_agreement": 0.5},
    "pairs": {"max_unanimous": 0.4, "decontamination": {"ngram": 13, "masked": True, "similarity": 0.9}},
}
HOSTILE = "\x1b]0;owned\x07\x1b[31mred\x9b2J\r\u202egnp.exe\x7f [bold]bracket[/bold] :smile:\n\nfilters\n  passed all"


def wrote(text: str, number: int = 1, index: int = 0, **more: Any) -> Question:
    return Question(digest(number, index, text), text, number, index, bait="sums", seed=index, **more)


def voted(question: Question, *finals: str | None) -> Vote:
    known = list(dict.fromkeys(its for its in finals if its is not None))
    return vote(question, answers(question, *finals), [-1 if its is None else known.index(its) for its in finals])


def pair(decided: Vote, sample: int = 0) -> Pair:
    question, text = decided.question, decided.answers[sample].text
    identity = digest(question.id, sample, question.text)
    return Pair(identity, question.id, question.round, question.text, text, decided.winner or "", decided.agreement)


def verdict(child: str, action: Any = "accept", reason: str = "it is better") -> Verdict:
    return Verdict(action, reason, child, "base", 0.1, 0.0, 0.2, 0.04, 3, 1, 20)


@dataclass
class Folder:
    """A run folder whose stages are sealed one after the other, each made from the one before."""

    root: Path
    digests: dict[str, str] = field(default_factory=dict)

    def stage(self, name: str, files: dict[str, Sequence[object]], settings: Any = None, after: str = "") -> str:
        folder = self.root / name
        folder.mkdir(parents=True)
        for file, records in files.items():
            write_lines(folder / file, records)
        inputs = {"before": self.digests[after]} if after else {}
        made_from = {"version": "0", "settings": settings or {}, "inputs": inputs}
        about: dict[str, Any] = {"made_from": made_from, "metrics": {}, "seconds": 1.0}
        self.digests[name] = str(seal(folder, about)["digest"])
        return self.digests[name]

    def synthesis(self, number: int = 1, settings: Any = SYNTHESIS, **files: Sequence[object]) -> None:
        named = {f"{name}.jsonl": records for name, records in files.items()}
        self.stage(f"round-{number}/synthesis", {"votes.jsonl": [], **named}, settings)

    def selection(self, number: int, new: Sequence[Pair], old: Sequence[Pair] = (), **files: Sequence[object]) -> None:
        named = {f"{name}.jsonl": records for name, records in files.items()}
        training = {"new.jsonl": new, "pairs.jsonl": [*old, *new]}
        self.stage(f"round-{number}/pairs", {**training, **named}, PAIRS, f"round-{number}/synthesis")

    def train(self, number: int) -> str:
        """The child's name."""
        trained = self.stage(f"round-{number}/train", {"metrics.json": [{}]}, {}, f"round-{number}/pairs")
        return f"{self.root.name}-r{number:02d}-{trained[:8]}"

    def judge(self, number: int, *found: Verdict) -> None:
        self.stage(f"round-{number}/verdict", {"verdict.json": found})


@pytest.fixture
def run(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "hand")


def page(found: Trace, width: int = 80, full: bool = False) -> str:
    out = io.StringIO()
    show(found, Console(file=out, width=width, markup=False, highlight=False, emoji=False), full)
    return out.getvalue()


FIRST = wrote("What is 2 + 3?")
KEPT = voted(FIRST, "5", "5", "6", None)


def test_a_pair_is_followed_from_its_bait_prompt_to_every_checkpoint_that_learned_from_it(run: Folder) -> None:
    its = pair(KEPT, 1)
    run.synthesis(votes=[KEPT], baits=[BaitCount(Bait("sums", "Invent a sum, please."), asked=1)])
    run.selection(1, [its], quarantine=[])
    first = run.train(1)
    run.judge(1, verdict(first, "roll back", "it is worse"))
    run.synthesis(2)
    run.selection(2, [], old=[its], quarantine=[])
    second = run.train(2)
    found = trace(run.root, its.id)
    assert (found.of, found.fate, found.chosen, found.vote) == ("pair", "trained on", (1,), KEPT)
    assert found.bait == Bait("sums", "Invent a sum, please.")
    assert (found.margin, round(found.entropy or 0, 3)) == (0.25, 1.5)
    assert [(its.round, its.checkpoint) for its in found.trained] == [(1, first), (2, second)]
    assert found.missing == ()
    shown = page(found)
    assert f"trained on by {first} (rolled back), {second} (not judged yet)" in " ".join(shown.split())
    assert "rolled back: it is worse" in shown
    assert "| Invent a sum, please." in shown
    assert "sample 1: class 0, final 5, 3 tokens, stop <- trained on" in shown
    assert "sample 0: class 0, final 5, 3 tokens, stop (majority)" in shown
    assert "sample 3: silent, 3 tokens, stop\n" in shown
    assert "agreement 0.500" in shown
    assert "margin 0.250, entropy 1.500 bits" in shown


def test_all_filters_are_listed_with_the_settings_they_had(run: Folder) -> None:
    run.synthesis(votes=[KEPT])
    run.selection(1, [pair(KEPT)], quarantine=[])
    filters = {its.name: its for its in trace(run.root, FIRST.id).filters}
    assert [its.passed for its in filters.values()] == [True] * 6
    assert filters["agreement"].finding == "0.500; consensus.min_agreement=0.5"
    assert "13 words in a row, the same with numbers masked, cosine from 0.9" in filters["decontamination"].finding
    assert filters["unanimity"].finding == "the first 3 answers do not all agree"


def test_a_run_that_did_not_decontaminate_does_not_say_that_nothing_was_found(run: Folder) -> None:
    run.synthesis(votes=[KEPT])
    run.selection(1, [pair(KEPT)])
    found = trace(run.root, FIRST.id)
    assert [its.passed for its in found.filters if its.name == "decontamination"] == [None]
    assert "unknown  decontamination: round-1/pairs has no quarantine.jsonl" in page(found)


def test_a_rewritten_question_shows_every_wording_and_the_neighbour_of_each(run: Folder) -> None:
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
        assert [its.question for its in found.steps] == [invented, accepted]
        assert [its.neighbour for its in found.steps] == [FIRST, FIRST]
        assert found.vote == decided
        assert found.fate == "not trained on yet"
    shown = page(found)
    assert f"invented {invented.id}, seed 1: rewritten <- asked for" in shown
    assert f"rewrite 1 {accepted.id}, seed 1: accepted\n" in shown
    assert f"nearest: {FIRST.id} (round 1, request 0), cosine 0.970" in shown
    assert shown.count("| What is 2 + 3?") == 2


def test_a_rewrite_that_repeats_its_question_word_for_word_is_told_from_it(run: Folder) -> None:
    """Then both have one id."""
    first = wrote("What is 3 + 2?", index=1, neighbour=FIRST.id, similarity=0.97)
    again = replace(first, rewrites=1, parent=first.id)
    candidates = [Candidate(first, "rewritten"), Candidate(again, "near-duplicate"), Candidate(FIRST, "accepted")]
    run.synthesis(votes=[KEPT], rejected=[again], candidates=candidates)
    found = trace(run.root, first.id)
    assert [its.outcome for its in found.steps] == ["rewritten", "near-duplicate"]
    assert found.fate == "near-duplicate"


def test_the_nearest_question_may_be_of_an_earlier_round_or_of_another_run(run: Folder, tmp_path: Path) -> None:
    elsewhere = wrote("What is 30 + 12?", index=7)
    Folder(tmp_path / "other").synthesis(votes=[voted(elsewhere, "42", "42")])
    near = voted(wrote("What is 2 + 4?", 2, neighbour=FIRST.id, similarity=0.8), "6", "6")
    far = voted(wrote("What is 31 + 12?", 2, 1, neighbour=elsewhere.id, similarity=0.7), "43", "43")
    run.synthesis(votes=[KEPT])
    run.synthesis(2, {**SYNTHESIS, "diversify": {"runs": [str(tmp_path / "other")]}}, votes=[near, far])
    assert trace(run.root, near.question.id).steps[0].neighbour == FIRST
    assert trace(run.root, far.question.id).steps[0].neighbour == elsewhere


def test_without_candidates_the_trace_goes_as_far_as_it_can_and_says_what_is_missing(run: Folder) -> None:
    later = wrote("Any?", index=3, rewrites=2, parent="00" * 8, neighbour="ff" * 8, similarity=0.5)
    run.synthesis(settings={}, votes=[voted(later, "1", "1", "2")])
    found = trace(run.root, later.id)
    assert [its.question for its in found.steps] == [later]
    assert found.fate == "not selected yet"
    shown = page(found)
    assert "has no candidates.jsonl" in shown
    assert "has no baits.jsonl" in shown
    assert f"{'ff' * 8}: the text of this nearest question was not found" in shown


def test_the_bait_prompt_of_an_older_run_is_found_among_its_settings(run: Folder) -> None:
    run.synthesis(votes=[KEPT])
    assert trace(run.root, FIRST.id).bait == Bait("sums", "Write a sum.")


def test_a_question_that_was_not_trained_on_says_what_kept_it_out(run: Folder) -> None:
    tie = voted(wrote("A tie?", index=1), "1", "1", "2", "2")
    weak = voted(wrote("Is it weak?", index=2), "1", "2", "1", "3", "4")
    easy = voted(wrote("Is it easy?", index=3), "1", "1", "1")
    stolen = voted(wrote("Is it stolen?", index=4), "1", "2", "1")
    near = wrote("Is it near?", index=5, neighbour=FIRST.id, similarity=0.99)
    empty = wrote("<|im_end|>", index=6)
    lost = voted(wrote("Is it lost?", index=7), "1", "1", "2")
    votes = [KEPT, tie, weak, easy, stolen, lost]
    candidates = [Candidate(its.question, "accepted") for its in votes]
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
            assert [its.passed for its in found.filters].index(False) == len(found.filters) - 1
    shown = page(trace(run.root, stolen.question.id))
    for part in ("gsm8k-17", "cosine 0.95", "| Was it stolen?"):
        assert part in shown
    assert "a token of a chat template" in page(trace(run.root, empty.id))


def test_unanimous_questions_within_the_cap_are_trained_on(run: Folder) -> None:
    easy = voted(FIRST, "1", "1", "1")
    run.synthesis(votes=[easy])
    run.selection(1, [pair(easy)])
    run.train(1)
    found = trace(run.root, FIRST.id)
    assert (found.fate, found.filters[-1].name, found.filters[-1].passed) == ("trained on", "unanimity", True)


def test_each_of_a_question_s_pairs_is_followed_and_a_pair_is_followed_alone(run: Folder) -> None:
    both = [pair(KEPT, 0), pair(KEPT, 1)]
    run.synthesis(votes=[KEPT])
    run.selection(1, both)
    run.train(1)
    run.synthesis(2)
    run.selection(2, [], old=both[1:])
    run.train(2)
    whole, one = trace(run.root, FIRST.id), trace(run.root, both[0].id)
    assert (whole.chosen, one.chosen) == ((0, 1), (0,))
    assert [its.pairs for its in whole.trained] == [tuple(sorted(its.id for its in both)), (both[1].id,)]
    assert [its.round for its in one.trained] == [1]
    assert "(1 of 2 pairs)" in page(whole)


def test_a_replayed_instruction_has_no_vote_and_is_followed_all_the_same(run: Folder) -> None:
    its = Pair(digest("r"), digest("i"), 0, "Write a poem.", "Roses are red.", "", 1.0, source="replay")
    unused = replace(its, id=digest("u"))
    run.stage("base/replay", {"pairs.jsonl": [its, unused]})
    run.synthesis(votes=[KEPT])
    run.selection(1, [pair(KEPT)], old=[its])
    child = run.train(1)
    found = trace(run.root, its.id)
    assert (found.fate, found.vote, found.trained[0].checkpoint) == ("trained on", None, child)
    assert "| Roses are red." in page(found)
    assert trace(run.root, unused.id).fate == "not selected"


def test_pairs_that_the_trainer_left_out_as_too_long_are_mentioned(run: Folder) -> None:
    run.synthesis(votes=[KEPT])
    run.selection(1, [pair(KEPT)])
    run.train(1)
    folder = run.root / "round-1/train"
    made_from = {"version": "0", "settings": {}, "inputs": {"pairs": run.digests["round-1/pairs"]}}
    seal(folder, {"made_from": made_from, "metrics": {"too_long": 3}, "seconds": 1.0})
    assert "3 of the round's pairs were left out" in page(trace(run.root, FIRST.id), width=200)


def test_only_finished_stages_are_read(run: Folder) -> None:
    run.synthesis(votes=[KEPT])
    run.selection(1, [pair(KEPT)])
    run.train(1)
    (run.root / "round-1/train/metrics.json").write_text("tampered with")
    later = run.root / "round-2/synthesis.partial"
    later.mkdir(parents=True)
    write_lines(later / "votes.jsonl", [voted(wrote("New?", 2), "1", "1")])
    found = trace(run.root, FIRST.id)
    assert found.fate == "not trained on yet"
    (note,) = (its for its in found.missing if its.startswith("round-1/train"))
    assert note.startswith("round-1/train: metrics.json is not as it was written (damaged or edited), so")
    with pytest.raises(Missing, match=r"not finished, and so not read: .*round-2/synthesis\.partial"):
        trace(run.root, wrote("New?", 2).id)


def test_a_damaged_stage_that_knows_the_id_is_named(run: Folder) -> None:
    run.synthesis(votes=[KEPT])
    with (run.root / "round-1/synthesis/votes.jsonl").open("ab") as file:
        file.write(b"\n")
    with pytest.raises(Missing, match=r"round-1/synthesis: votes\.jsonl is not as it was written"):
        trace(run.root, FIRST.id)


def test_a_checkpoint_of_earlier_pairs_is_not_counted_while_a_redo_is_under_way(run: Folder) -> None:
    run.synthesis(votes=[KEPT])
    run.selection(1, [pair(KEPT)])
    run.judge(1, verdict(run.train(1)))
    shutil.rmtree(run.root / "round-1/pairs")
    run.selection(1, [pair(KEPT, 1)])
    found = trace(run.root, FIRST.id)
    assert found.fate == "not trained on yet"
    assert any(note.startswith("round-1/train: was made before") for note in found.missing)


def test_a_verdict_on_another_checkpoint_is_not_shown(run: Folder) -> None:
    run.synthesis(votes=[KEPT])
    run.selection(1, [pair(KEPT)])
    run.train(1)
    run.judge(1, verdict("hand-r01-00000000"))
    found = trace(run.root, FIRST.id)
    assert found.trained[0].verdict is None
    assert any("hand-r01-00000000" in note for note in found.missing)


def test_a_file_that_does_not_hold_its_records_is_named_with_the_line(run: Folder) -> None:
    run.synthesis(votes=[KEPT, {"question": msgspec.to_builtins(FIRST)}])
    run.selection(1, [{"id": FIRST.id}])  # type: ignore[list-item]
    with pytest.raises(DataSaysNo, match=r"new\.jsonl, line 1: no Pair"):
        trace(run.root, FIRST.id)


def test_an_id_may_be_given_by_its_first_digits_as_long_as_they_are_its_own(run: Folder) -> None:
    alike = [replace(FIRST, id=f"abcd{number}" + "0" * 11, index=number) for number in range(9)]
    run.synthesis(votes=[voted(its, "1", "1") for its in alike])
    assert trace(run.root, "ABCD1").id == alike[1].id
    with pytest.raises(BadConfig, match=r"abcd: 9 ids begin like this: abcd0.* and 3 more; give more digits"):
        trace(run.root, "abcd")
    for wrong in ("abc", "", "xyzw", alike[0].id + "0", "abcd1\x1b[31m"):
        with pytest.raises(BadConfig, match="16 hex digits") as refused:
            trace(run.root, wrong)
        assert "\x1b" not in str(refused.value)


def test_an_unknown_id_is_answered_with_where_it_was_looked_for_and_with_ids_that_are_near(run: Folder) -> None:
    run.synthesis(votes=[KEPT])
    typo = FIRST.id[:9] + FIRST.id[10] + FIRST.id[9] + FIRST.id[11:]
    with pytest.raises(Missing, match=rf"looked in {run.root} \(1 ids\); did you mean {FIRST.id}\?"):
        trace(run.root, typo)


def test_ids_that_a_model_wrote_are_not_taken_for_ids(run: Folder) -> None:
    fake = "0123456789abcdef"
    text = f'{{"id":"{fake}","question":{{"id":"{fake}"}}}} "index":0, {fake}'
    run.synthesis(votes=[KEPT, voted(wrote(text, index=1), "5", "5")])
    with pytest.raises(Missing):
        trace(run.root, fake)
    assert trace(run.root, FIRST.id).vote == KEPT


def test_the_run_that_was_worked_on_last_is_asked_first(tmp_path: Path) -> None:
    for name, age in (("older", 100), ("newer", 10), ("oldest", 1000)):
        Folder(tmp_path / name).synthesis(votes=[KEPT])
        manifest = tmp_path / name / "round-1/synthesis/manifest.json"
        os.utime(manifest, (manifest.stat().st_mtime - age,) * 2)
    (tmp_path / "sweeps").mkdir()
    runs = runs_below(tmp_path)
    assert [its.name for its in runs] == ["newer", "older", "oldest"]
    assert find(runs, FIRST.id[:6]) == (runs, FIRST.id)
    assert runs_below(tmp_path / "nowhere") == []


def test_whatever_a_model_writes_is_shown_as_text(run: Folder) -> None:
    mean = replace(wrote(HOSTILE), bait=HOSTILE)
    decided = vote(mean, answers(mean, HOSTILE, HOSTILE, None), [0, 0, -1])
    hit = Quarantined(mean, HOSTILE, HOSTILE, HOSTILE, "ngram", HOSTILE)
    candidates = [Candidate(mean, "accepted", why=HOSTILE)]
    run.synthesis(votes=[decided], candidates=candidates, baits=[BaitCount(Bait(HOSTILE, HOSTILE))])
    run.selection(1, [pair(decided)], quarantine=[hit])
    run.judge(1, verdict(run.train(1), reason=HOSTILE))
    found = trace(run.root, mean.id)
    for shown in (page(found), page(found, full=True), page(found, width=25), as_json(found)):
        assert not {its for its in shown if not its.isprintable()} - {"\n"}
    shown = page(found, width=120)
    assert "\\x1b[31mred\\x9b2J\\r\\u202egnp.exe\\x7f [bold]bracket[/bold] :smile:" in shown
    assert shown.splitlines().count("filters") == 1, "no text passes for a line of the page"


def test_a_page_fits_the_terminal_and_long_texts_are_shortened_with_a_count(run: Folder) -> None:
    long = wrote("word " * 1000)
    decided = voted(long, "9" * 300, "9" * 300, "1")
    tall = replace(decided.answers[2], text="line\n" * 100)
    run.synthesis(votes=[replace(decided, answers=(*decided.answers[:2], tall))])
    found = trace(run.root, long.id)
    for width in (80, 40):
        shown = page(found, width)
        assert max(map(len, shown.splitlines())) <= width
        assert len(shown.splitlines()) < 150
    shown = " ".join(page(found, 200).split())
    assert "word… (4,401 more characters)" in shown
    assert f"final {'9' * 60}… (240 more)" in shown
    assert page(found).count("| line") == 12
    assert page(found, full=True).count("| line") == 100
    assert "more characters" not in page(found, full=True)


def test_the_json_reads_back_to_the_same_trace(run: Folder) -> None:
    odd = wrote('Üben: \u2028 \x7f \x1b 🜂 \\ "?', neighbour=FIRST.id, similarity=0.5, index=2)
    decided = voted(odd, "é", "é", None)
    hit = Quarantined(FIRST, "gsm8k", "1", "?", "ngram", "?")
    run.synthesis(votes=[KEPT, decided])
    run.selection(1, [pair(decided)], quarantine=[hit])
    run.judge(1, verdict(run.train(1)))
    for identity in (odd.id, FIRST.id):
        found = trace(run.root, identity)
        line = as_json(found)
        assert line.isascii()
        assert line.isprintable()
        assert msgspec.json.decode(line, type=Trace) == found
