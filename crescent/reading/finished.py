"""What the finished stages of a run folder say about one question or pair.

A stage counts when its manifest holds and it was made from what lies beside it now: a redo begins with the earlier one.
Of files that can be large, only the lines that speak of an id are decoded.
"""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from crescent.errors import BadConfig, DataSaysNo, Missing
from crescent.records import Bait, BaitCount, Candidate, Pair, Quarantined, Question, Verdict, Vote
from crescent.run_folder.manifest import MANIFEST, damage, verified_manifest

R = TypeVar("R")
Manifest = Mapping[str, Any]

# Where a record's own id stands: at the beginning of its line, so that no text of a model can pass for one.
ID = re.compile(rb'\{(?:"question":\{)?"id":"([0-9a-f]{16})"')
SHORTEST_PREFIX = 4
NAMED = 6
"""Ids or folders that an error names before it only counts them."""


def find(folders: Sequence[Path], given: str) -> tuple[list[Path], str]:
    """Those of the run folders that know an id, in the order given, and the id in full.

    Raises:
        BadConfig: it is no id, or the beginning of several.
        Missing: there is no folder, or none knows the id.
    """
    wanted = given.strip().lower()
    if not re.fullmatch(rf"[0-9a-f]{{{SHORTEST_PREFIX},16}}", wanted):
        rule = f"an id has 16 hex digits; give all of them, or the first {SHORTEST_PREFIX} at least"
        raise BadConfig(f"{given[:40]!r}: {rule} (ids stand in runs/NAME/round-1/pairs/pairs.jsonl)")
    if not folders:
        raise Missing("no run to look in: name its folder with --run runs/NAME")
    ids = {folder: known_ids(folder) for folder in folders}
    matching = sorted({known for its in ids.values() for known in its if known.startswith(wanted)})
    if not matching:
        raise Missing(_unknown(wanted, ids))
    if len(matching) > 1:
        shown = [f"{known} ({next(its for its in folders if known in ids[its])})" for known in matching]
        raise BadConfig(f"{wanted}: {len(matching)} ids begin like this: {_some(shown)}; give more digits")
    return [folder for folder in folders if matching[0] in ids[folder]], matching[0]


def runs_below(root: Path) -> list[Path]:
    """The run folders in a folder, the one that was worked on last first."""
    runs = [folder for folder in sorted(root.iterdir()) if is_run(folder)] if root.is_dir() else []
    newest = {its: max((path.stat().st_mtime_ns for path in its.glob(f"*/*/{MANIFEST}")), default=0) for its in runs}
    return sorted(runs, key=lambda its: -newest[its])


def is_run(folder: Path) -> bool:
    """Whether a stage was at least begun here."""
    return (folder / "base").is_dir() or any(folder.glob("round-*/"))


def known_ids(root: Path) -> set[str]:
    """Of all questions and pairs of a run."""
    files = [path for kind in ("synthesis", "pairs") for path in root.glob(f"round-*/{kind}/*.jsonl")]
    found = set()
    for path in [*files, root / "base/replay/pairs.jsonl"]:
        if (path.parent / MANIFEST).exists() and path.exists():
            with path.open("rb") as file:
                found |= {its[1].decode() for line in file if (its := ID.match(line))}
    return found


class Run:
    """One run folder. What could not be read is noted in `missing`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.missing: list[str] = []
        self.damaged: list[str] = []
        """Stages that were asked for and are not as they were finished."""
        numbers = (its.name.removeprefix("round-") for its in root.glob("round-*/"))
        self.rounds = sorted(int(its) for its in numbers if its.isdecimal())
        self._manifests: dict[str, dict[str, Any] | None] = {}

    def note(self, line: str) -> None:
        if line not in self.missing:
            self.missing.append(line)

    def stage(self, name: str) -> Manifest | None:
        """The manifest of a stage, `None` unless it is finished."""
        if name not in self._manifests:
            folder = self.root / name
            self._manifests[name] = verified_manifest(folder)
            if self._manifests[name] is None and folder.exists():
                self.damaged.append(name)
                remedy = f"run.redo={name} makes it and all later ones again"
                self.note(f"{name}: {damage(folder)}, so it was not read; {remedy}")
            elif not folder.exists() and folder.with_name(f"{folder.name}.partial").exists():
                self.note(f"{name}: not finished, so it was not read")
        return self._manifests[name]

    def synthesis(self, number: int) -> Manifest | None:
        return self.stage(f"round-{number}/synthesis")

    def selection(self, number: int) -> Manifest | None:
        return self._made_from(f"round-{number}/pairs", self.synthesis(number))

    def training(self, number: int) -> Manifest | None:
        return self._made_from(f"round-{number}/train", self.selection(number))

    def verdict(self, number: int, checkpoint: str) -> Verdict | None:
        """What was thought of a checkpoint, whose name is given without that of the run."""
        stage = f"round-{number}/verdict"
        found = next(self.records(f"{stage}/verdict.json", Verdict), None)
        if found is not None and not found.child.endswith(checkpoint):
            self.note(f"{stage}: about {found.child}, which is not the checkpoint here now, so it was not read")
            return None
        return found

    def pair(self, identity: str) -> Pair | None:
        return next((pair for pair in self._pairs(identity) if pair.id == identity), None)

    def pairs_of(self, question: str) -> list[Pair]:
        """Each once: what one round made, later ones train on, too."""
        return list({pair.id: pair for pair in self._pairs(question) if pair.question == question}.values())

    def trained_on(self, number: int, pairs: Collection[str]) -> set[str]:
        """Those of the pairs that are among a round's."""
        if self.selection(number) is None:
            return set()
        return {pair.id for pair in self.records(f"round-{number}/pairs/pairs.jsonl", Pair, pairs)} & set(pairs)

    def question(self, identity: str) -> Question | None:
        found = (its for number in self.rounds for its in self.questions(number, [identity]))
        return next(found, None)

    def questions(self, number: int, identities: Collection[str]) -> Iterator[Question]:
        """Those of a round that have these ids, wherever they are kept; some come twice."""
        folder = f"round-{number}/synthesis"
        candidates = self.records(f"{folder}/candidates.jsonl", Candidate, identities)
        votes = self.records(f"{folder}/votes.jsonl", Vote, identities)
        yield from (its.question for its in candidates if its.question.id in identities)
        yield from (its.question for its in votes if its.question.id in identities)
        rejected = self.records(f"{folder}/rejected.jsonl", Question, identities)
        yield from (its for its in rejected if its.id in identities)

    def candidates(self, question: Question) -> list[Candidate]:
        """All that came of the question's request, from the one invented to the one accepted or given up.

        In order of rewrites, not of ids: a model that repeats itself word for word gives two candidates of one id.
        """
        folder = f"round-{question.round}/synthesis"
        alike = self.records(f"{folder}/candidates.jsonl", Candidate, [f'"index":{question.index},'])
        chain = {its.question.rewrites: its for its in alike if its.question.index == question.index}
        if chain:
            return [chain[rewrites] for rewrites in sorted(chain)]
        if question.rewrites:
            self.note(f"{folder}: has no candidates.jsonl, so the wordings before the last rewrite are not known")
        rejected = self.records(f"{folder}/rejected.jsonl", Question, [question.id])
        near = any(its.id == question.id for its in rejected)
        return [Candidate(question, "near-duplicate" if near else "accepted")]

    def vote(self, question: Question) -> Vote | None:
        found = self.records(f"round-{question.round}/synthesis/votes.jsonl", Vote, [question.id])
        return next((vote for vote in found if vote.question.id == question.id), None)

    def neighbours(self, candidates: Sequence[Candidate]) -> dict[str, Question]:
        """The nearest earlier questions by id: of this run, or of those that `diversify.runs` names."""
        wanted = {its.question.neighbour for its in candidates if its.question.neighbour is not None}
        number = candidates[0].question.round
        others = setting(self.synthesis(number), "diversify.runs") or []
        found: dict[str, Question] = {}
        for run in (self, *(Run(Path(its)) for its in others)):
            for earlier in run.rounds:
                absent = wanted - found.keys()
                if absent and (run is not self or earlier <= number):
                    found |= {its.id: its for its in run.questions(earlier, absent)}
        for identity in sorted(wanted - found.keys()):
            self.note(f"{identity}: the text of this nearest question was not found")
        return found

    def bait(self, question: Question) -> Bait | None:
        """Listed beside the votes; in older runs, only among the settings."""
        stage = f"round-{question.round}/synthesis"
        baits = self.records(f"{stage}/baits.jsonl", BaitCount)
        found = next((its.bait for its in baits if its.bait.name == question.bait), None)
        prompts = setting(self.stage(stage), "bait.prompts") or {}
        if found is None and question.bait in prompts:
            return Bait(question.bait, prompts[question.bait])
        if found is None:
            self.note(f"{stage}: has no baits.jsonl, so the text of this bait prompt is not known")
        return found

    def decontaminated(self, number: int) -> bool:
        """Whether the questions of a round were compared with the benchmarks'."""
        return self.selection(number) is not None and (self.root / f"round-{number}/pairs/quarantine.jsonl").exists()

    def quarantine(self, question: Question) -> Quarantined | None:
        if not self.decontaminated(question.round):
            return None
        found = self.records(f"round-{question.round}/pairs/quarantine.jsonl", Quarantined, [question.id])
        return next((its for its in found if its.question.id == question.id), None)

    def records(self, name: str, kind: type[R], containing: Collection[str] = ("",)) -> Iterator[R]:
        """The records of a finished stage's file in whose line one of the strings occurs: a first, coarse choice."""
        path, wanted = self.root / name, [its.encode() for its in containing]
        if self.stage(name.rpartition("/")[0]) is None or not path.exists():
            return
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if any(its in line for its in wanted):
                    try:
                        yield msgspec.json.decode(line, type=kind)
                    except ValueError as error:
                        said = f"{path}, line {number}: no {kind.__name__} ({error}); {suspicion(error)}"
                        raise DataSaysNo(said) from error

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


def suspicion(error: Exception) -> str:
    """Why a file may hold something else than was looked for."""
    whole = isinstance(error, msgspec.ValidationError | OSError)
    return "was it written by another version of Crescent?" if whole else "this is no whole JSON: it is damaged"


def setting(manifest: Manifest | None, key: str) -> Any:
    """A setting that a stage was made with, by its dotted key; `None` if it had none of that name."""
    found: Any = manifest["made_from"]["settings"] if manifest is not None else None
    for name in key.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _unknown(wanted: str, ids: Mapping[Path, Collection[str]]) -> str:
    everything = sorted({known for its in ids.values() for known in its})
    near = difflib.get_close_matches(wanted, [known[: len(wanted)] for known in everything], n=3, cutoff=0.7)
    meant = [known for known in everything if known[: len(wanted)] in near]
    unfinished = [
        str(path) for folder in ids for path in sorted(folder.glob("round-*/*.partial")) if path.name != "train.partial"
    ]
    looked = f"looked in {_some([str(folder) for folder in ids])} ({len(everything)} ids)"
    advice = f"did you mean {_some(meant)}?" if meant else "ids stand in round-*/pairs/pairs.jsonl"
    waiting = f"; not finished, and so not read: {_some(unfinished)}" if unfinished else ""
    return f"{wanted}: no pair and no question has this id; {looked}{waiting}; {advice}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
