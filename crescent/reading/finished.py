"""What the finished stages of a run folder say about one question or pair.

A stage is read when its manifest is intact and it was made from the stages that lie beside it now: after a redo, later
stages may still be those of the earlier attempt. Of files that can be large, only lines that contain a wanted id are
decoded.
"""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from crescent.errors import BadConfig, DataSaysNo, Missing
from crescent.judging.wording import first_few
from crescent.records import Bait, BaitCount, Candidate, Pair, Quarantined, Question, SeedQuestion, Verdict, Vote
from crescent.run_folder.manifest import MANIFEST, Unreadable, inspect, reused_from
from crescent.run_folder.places import SEEDS

R = TypeVar("R")
Manifest = Mapping[str, Any]

# A record's own id stands at the beginning of its line, so that no text of a model can pass for an id.
ID = re.compile(rb'\{(?:"question":\{)?"id":"([0-9a-f]{16})"')
SHORTEST_PREFIX = 4
NAMED = 6
"""Ids or folders that an error names; of more it gives the count."""


def find_id(folders: Sequence[Path], given: str) -> tuple[list[Path], str]:
    """The run folders that contain an id, in the order given, and the id in full.

    Raises:
        BadConfig: it is not an id, or several ids begin with it.
        Missing: there is no folder, or no folder contains the id.
    """
    wanted = given.strip().lower()
    if not re.fullmatch(rf"[0-9a-f]{{{SHORTEST_PREFIX},16}}", wanted):
        rule = f"an id has 16 hex digits; give all of them, or at least the first {SHORTEST_PREFIX}"
        raise BadConfig(f"{given[:40]!r}: {rule} (ids are listed in runs/NAME/round-1/pairs/pairs.jsonl)")
    if not folders:
        raise Missing("no run to look in: name its folder with --run runs/NAME")
    ids = {folder: known_ids(folder) for folder in folders}
    matching = sorted({known for known_here in ids.values() for known in known_here if known.startswith(wanted)})
    if not matching:
        raise Missing(_unknown(wanted, ids))
    if len(matching) > 1:
        shown = [f"{known} ({next(folder for folder in folders if known in ids[folder])})" for known in matching]
        rule = f"{len(matching)} ids begin like this: {first_few(shown, NAMED)}"
        raise BadConfig(f"{wanted}: {rule}; give more digits")
    return [folder for folder in folders if matching[0] in ids[folder]], matching[0]


def runs_below(root: Path) -> list[Path]:
    """The run folders in a folder, the most recently changed first."""
    runs = [folder for folder in sorted(root.iterdir()) if is_run(folder)] if root.is_dir() else []
    newest = {run: max((path.stat().st_mtime_ns for path in run.glob(f"*/*/{MANIFEST}")), default=0) for run in runs}
    return sorted(runs, key=lambda run: -newest[run])


def is_run(folder: Path) -> bool:
    """Whether at least one stage was begun here."""
    return (folder / "base").is_dir() or any(folder.glob("round-*/"))


def known_ids(root: Path) -> set[str]:
    """Ids of all questions and pairs of a run."""
    files = [path for kind in ("synthesis", "pairs") for path in root.glob(f"round-*/{kind}/*.jsonl")]
    found = set()
    for path in [*files, root / "base/replay/pairs.jsonl"]:
        if (path.parent / MANIFEST).exists() and path.exists():
            with path.open("rb") as file:
                found |= {match[1].decode() for line in file if (match := ID.match(line))}
    return found


class RunReader:
    """Reads the finished stages of one run folder, and notes in `missing` what it could not read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.missing: list[str] = []
        self.damaged: list[str] = []
        """Names of stages that were asked for and have changed since they were finished."""
        numbers = (folder.name.removeprefix("round-") for folder in root.glob("round-*/"))
        self.rounds = sorted(int(number) for number in numbers if number.isdecimal())
        self._manifests: dict[str, dict[str, Any] | None] = {}

    def note(self, line: str) -> None:
        if line not in self.missing:
            self.missing.append(line)

    def stage(self, name: str) -> Manifest | None:
        """The manifest of a stage, `None` unless it is finished."""
        if name not in self._manifests:
            self._manifests[name] = self._read_manifest(name)
        return self._manifests[name]

    def _read_manifest(self, name: str) -> dict[str, Any] | None:
        folder = self.root / name
        try:
            inspection = inspect(folder)
        except Unreadable as error:
            self.damaged.append(name)
            self.note(f"{name}: not read, because {error}")
            return None
        if inspection.damage and folder.exists():
            self.damaged.append(name)
            remedy = f"run.redo={name} makes it and all later ones again"
            self.note(f"{name}: {inspection.damage}, so it was not read; {remedy}")
        elif not folder.exists() and folder.with_name(f"{folder.name}.partial").exists():
            self.note(f"{name}: not finished, so it was not read")
        return inspection.manifest

    def reused(self, name: str) -> str | None:
        """The run that made a finished stage, if it was taken over from another run (`run.reuse`)."""
        return reused_from(self.root / name) if self.stage(name) is not None else None

    def synthesis(self, number: int) -> Manifest | None:
        return self.stage(f"round-{number}/synthesis")

    def selection(self, number: int) -> Manifest | None:
        return self._made_from(f"round-{number}/pairs", self.synthesis(number))

    def training(self, number: int) -> Manifest | None:
        return self._made_from(f"round-{number}/train", self.selection(number))

    def verdict(self, number: int, checkpoint: str) -> Verdict | None:
        """The verdict on a checkpoint, which is named without its run: `-r01-0123abcd`."""
        stage = f"round-{number}/verdict"
        found = next(self.records(f"{stage}/verdict.json", Verdict), None)
        if found is not None and not found.child.endswith(checkpoint):
            self.note(f"{stage}: about {found.child}, which is not the checkpoint here now, so it was not read")
            return None
        return found

    def pair(self, identity: str) -> Pair | None:
        return next((pair for pair in self._pairs(identity) if pair.id == identity), None)

    def pairs_of(self, question: str) -> list[Pair]:
        """The pairs made from a question, each once: later rounds train on pairs of earlier ones, too."""
        return list({pair.id: pair for pair in self._pairs(question) if pair.question == question}.values())

    def trained_on(self, number: int, pairs: Collection[str]) -> set[str]:
        """Ids, of those given, that are among the pairs of a round."""
        if self.selection(number) is None:
            return set()
        return {pair.id for pair in self.records(f"round-{number}/pairs/pairs.jsonl", Pair, pairs)} & set(pairs)

    def question(self, identity: str) -> Question | None:
        found = (question for number in self.rounds for question in self.questions(number, [identity]))
        return next(found, None)

    def questions(self, number: int, identities: Collection[str]) -> Iterator[Question]:
        """The questions of a round that have these ids, from all files that keep questions; some come twice."""
        folder = f"round-{number}/synthesis"
        candidates = self.records(f"{folder}/candidates.jsonl", Candidate, identities)
        votes = self.records(f"{folder}/votes.jsonl", Vote, identities)
        yield from (candidate.question for candidate in candidates if candidate.question.id in identities)
        yield from (vote.question for vote in votes if vote.question.id in identities)
        rejected = self.records(f"{folder}/rejected.jsonl", Question, identities)
        yield from (question for question in rejected if question.id in identities)

    def candidates(self, question: Question) -> list[Candidate]:
        """All candidates of the question's request, from the invented one to the one that was accepted or dropped.

        Sorted by rewrites, not by ids: a model that repeats itself word for word gives two candidates with one id.
        """
        folder = f"round-{question.round}/synthesis"
        same_request = self.records(f"{folder}/candidates.jsonl", Candidate, [f'"index":{question.index},'])
        by_rewrites = {
            candidate.question.rewrites: candidate
            for candidate in same_request
            if candidate.question.index == question.index
        }
        if by_rewrites:
            return [by_rewrites[rewrites] for rewrites in sorted(by_rewrites)]
        if question.rewrites:
            self.note(f"{folder}: has no candidates.jsonl, so the wordings before the last rewrite are not known")
        rejected = self.records(f"{folder}/rejected.jsonl", Question, [question.id])
        near = any(rejected_question.id == question.id for rejected_question in rejected)
        return [Candidate(question, "near-duplicate" if near else "accepted")]

    def vote(self, question: Question) -> Vote | None:
        found = self.records(f"round-{question.round}/synthesis/votes.jsonl", Vote, [question.id])
        return next((vote for vote in found if vote.question.id == question.id), None)

    def neighbours(self, candidates: Sequence[Candidate]) -> dict[str, Question]:
        """The nearest earlier questions by id, from this run and from those that `diversify.runs` names."""
        wanted = {candidate.question.neighbour for candidate in candidates if candidate.question.neighbour is not None}
        number = candidates[0].question.round
        others = setting(self.synthesis(number), "diversify.runs") or []
        found: dict[str, Question] = {}
        for run in (self, *(RunReader(Path(other)) for other in others)):
            for earlier in run.rounds:
                absent = wanted - found.keys()
                # Of this run, a question was compared with rounds up to its own; of other runs, with all of them.
                if absent and (run is not self or earlier <= number):
                    found |= {question.id: question for question in run.questions(earlier, absent)}
        for identity in sorted(wanted - found.keys()):
            self.note(f"{identity}: the text of this nearest question was not found")
        return found

    def bait(self, question: Question) -> Bait | None:
        """The bait prompt of a question; it is listed beside the votes, and in older runs only among the settings."""
        stage = f"round-{question.round}/synthesis"
        counts = self.records(f"{stage}/baits.jsonl", BaitCount)
        found = next((count.bait for count in counts if count.bait.name == question.bait), None)
        prompts = setting(self.stage(stage), "bait.prompts") or {}
        if found is None and question.bait in prompts:
            return Bait(question.bait, prompts[question.bait])
        if found is None:
            self.note(f"{stage}: has no baits.jsonl, so the text of this bait prompt is not known")
        return found

    def seed(self, question: Question) -> SeedQuestion | None:
        """The seed question that the bait prompt of a question showed to the model; `None` if it showed none."""
        stage = f"round-{question.round}/synthesis"
        prompts = setting(self.stage(stage), "bait.prompts") or {}
        if not any(question.bait.startswith(f"{name}/") for name, prompt in prompts.items() if "{seed}" in prompt):
            return None
        seeds = self.records(f"{stage}/{SEEDS}", SeedQuestion)
        return next((seed for seed in seeds if seed.slug in question.bait.split("/")), None)

    def decontaminated(self, number: int) -> bool:
        """Whether the questions of a round were compared with those of the benchmarks."""
        return self.selection(number) is not None and (self.root / f"round-{number}/pairs/quarantine.jsonl").exists()

    def quarantine(self, question: Question) -> Quarantined | None:
        if not self.decontaminated(question.round):
            return None
        found = self.records(f"round-{question.round}/pairs/quarantine.jsonl", Quarantined, [question.id])
        return next((quarantined for quarantined in found if quarantined.question.id == question.id), None)

    def records(self, name: str, kind: type[R], containing: Collection[str] = ("",)) -> Iterator[R]:
        """Records of a finished stage's file whose line contains one of the strings: a first, coarse choice."""
        path, wanted = self.root / name, [text.encode() for text in containing]
        if self.stage(name.rpartition("/")[0]) is None or not path.exists():
            return
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if any(text in line for text in wanted):
                    try:
                        yield msgspec.json.decode(line, type=kind)
                    except ValueError as error:
                        message = f"{path}, line {number}: not a {kind.__name__} ({error}); {likely_cause(error)}"
                        raise DataSaysNo(message) from error

    def _pairs(self, identity: str) -> Iterator[Pair]:
        for number in self.rounds:
            if self.selection(number) is not None:
                yield from self.records(f"round-{number}/pairs/new.jsonl", Pair, [identity])
                yield from self.records(f"round-{number}/pairs/pairs.jsonl", Pair, [identity])
        yield from self.records("base/replay/pairs.jsonl", Pair, [identity])

    def _made_from(self, name: str, before: Manifest | None) -> Manifest | None:
        manifest = self.stage(name)
        if manifest is None or before is None:
            return None
        if before["digest"] in manifest["made_from"]["inputs"].values():
            return manifest
        self.note(f"{name}: was made before the stages before it were made again, so it was not read")
        return None


def likely_cause(error: Exception) -> str:
    """Why a file may not hold what it should."""
    whole = isinstance(error, msgspec.ValidationError | OSError)
    return "was it written by another version of Crescent?" if whole else "its JSON is incomplete: it is damaged"


def setting(manifest: Manifest | None, key: str) -> Any:
    """A setting that a stage was made with, by its dotted key; `None` if it had no setting of that name."""
    found: Any = manifest["made_from"]["settings"] if manifest is not None else None
    for name in key.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _unknown(wanted: str, ids: Mapping[Path, Collection[str]]) -> str:
    everything = sorted({known for known_here in ids.values() for known in known_here})
    near = difflib.get_close_matches(wanted, [known[: len(wanted)] for known in everything], n=3, cutoff=0.7)
    meant = [known for known in everything if known[: len(wanted)] in near]
    unfinished = [
        str(path) for folder in ids for path in sorted(folder.glob("round-*/*.partial")) if path.name != "train.partial"
    ]
    looked = f"looked in {first_few([str(folder) for folder in ids], NAMED)} ({len(everything)} ids)"
    advice = f"did you mean {first_few(meant, NAMED)}?" if meant else "ids are listed in round-*/pairs/pairs.jsonl"
    waiting = f"; not finished, so not read: {first_few(unfinished, NAMED)}" if unfinished else ""
    return f"{wanted}: no pair or question has this id; {looked}{waiting}; {advice}"
