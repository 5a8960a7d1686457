"""Repair a run folder without deleting anything.

What is damaged is set aside, so that the next run makes it again. A stage that another run still holds is linked from
there instead: a run that this one took stages over from (`run.reuse`) or gave stages to, or any run beside it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crescent.doors.reusable import find_run
from crescent.engine.journal import read_journal, set_damaged_lines_aside
from crescent.errors import BadConfig, TryAgain
from crescent.machine.disk import link_or_copy, whole_folder
from crescent.reading.finished import runs_below
from crescent.reading.verification import JOURNALS, stages_of
from crescent.run_folder.dropped import dropped
from crescent.run_folder.lock import only_supervisor
from crescent.run_folder.manifest import MANIFEST, Unreadable, inspect, is_there, manifests_of, reused_from
from crescent.run_folder.places import read_config
from crescent.run_folder.remade import describe_damage
from crescent.run_folder.reuse import NEVER_REUSED, maker_of, note_reused
from crescent.run_folder.set_aside import set_aside

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Repair:
    """One thing to repair."""

    line: str
    """What is wrong, what is done about it and what it costs, for a person."""
    do: Callable[[], None]


def repair_run(root: Path, act: bool, named: Sequence[Path], say: Callable[[str], None]) -> None:
    """Say what has to be repaired in a run folder and, with `act`, do it.

    Args:
        named: Runs to look for intact copies in, before those that are found without being named.

    Raises:
        RunLocked: the run is at work.
        TryAgain: something could not be read; it was left as it is, and all else was repaired.
    """
    if not act:
        _repair(root, act, named, say)
        return
    with only_supervisor(root):
        _repair(root, act, named, say)


def _repair(root: Path, act: bool, named: Sequence[Path], say: Callable[[str], None]) -> None:
    unread: list[str] = []
    found = [*_stages(root, named, unread), *_journals(root, unread)]
    for repair in found:
        say(repair.line)
        if act:
            repair.do()
    for line in unread:
        say(line)
    if not found and not unread:
        say(f"{root}: nothing to repair")
    elif found and act:
        say(f"{root}: repaired; run the same command as before to go on")
    elif found:
        say(f"nothing was changed; to do this: crescent repair {root} --yes")
    if unread:
        raise TryAgain(f"{root}: {len(unread)} could not be read and were left as they are; try again")


def _stages(root: Path, named: Sequence[Path], unread: list[str]) -> Iterator[Repair]:
    """Damaged stages, and stages that others were made from and that are gone."""
    donors = list(_donors(root, named))
    known = manifests_of(root)
    needed = {str(digest) for manifest in known.values() for digest in manifest["made_from"]["inputs"].values()}
    for stage in stages_of(root):
        try:
            inspection = inspect(root / stage, thorough=True)
            if not inspection.damage:
                continue
            donor = _intact_copy(donors, stage, inspection.recorded, needed)
            if donor is not None:
                yield _restored(root, stage, donor, inspection.damage)
            else:
                line = f"{stage}: {describe_damage(root, inspection)}"
                yield Repair(line, lambda stage=stage: _set_aside(root, stage))  # type: ignore[misc]
        except Unreadable as error:
            unread.append(f"{stage}: {error}")
    here = {str(manifest["digest"]) for manifest in known.values()}
    gone = {stage for donor in donors for stage in manifests_of(donor)} - set(stages_of(root))
    for stage in sorted(gone):
        donor = _intact_copy(donors, stage, {}, needed - here)
        if donor is not None:
            yield _restored(root, stage, donor, "is gone")


def _journals(root: Path, unread: list[str]) -> Iterator[Repair]:
    for path in sorted(root.glob(f"*/*.partial/**/{JOURNALS}")):
        name = path.relative_to(root)
        try:
            journal = read_journal(path)
        except OSError as error:
            unread.append(f"{name}: cannot be read ({error.strerror})")
            continue
        if bad := len(journal.damaged):
            lines = "1 damaged line is" if bad == 1 else f"{bad} damaged lines are"
            line = f"{name}: {lines} set aside beside it, and what they answered is asked again"
            yield Repair(line, lambda path=path, journal=journal: set_damaged_lines_aside(path, journal))  # type: ignore[misc]


def _set_aside(root: Path, stage: str) -> None:
    set_aside(root, root / stage)


def _donors(root: Path, named: Sequence[Path]) -> Iterator[Path]:
    """Other runs that may hold stages of this one, each once."""
    config = read_config(root).get("run") or {}
    candidates = list(named)
    for name in config.get("reuse") or []:
        try:
            candidates.append(find_run(str(name), root.parent))
        except BadConfig:
            continue  # it is gone: no reason to leave the rest as it is
    candidates += [Path(maker) for stage in stages_of(root) if (maker := reused_from(root / stage)) is not None]
    candidates += runs_below(root.parent)
    seen = {root.resolve()}
    for run in candidates:
        if run.resolve() not in seen and run.is_dir():
            seen.add(run.resolve())
            yield run


def _intact_copy(donors: Sequence[Path], stage: str, recorded: Manifest, needed: set[str]) -> Path | None:
    """A run with an intact copy of a stage: it has the digest that later stages were made from or, if its manifest is
    legible here, was made from the same and has the same digest."""
    if stage.rpartition("/")[2] in NEVER_REUSED:
        return None
    for run in donors:
        manifest = manifests_of(run).get(stage)
        if manifest is None:
            continue
        same = all(manifest.get(part) == recorded.get(part) for part in ("digest", "made_from"))
        if not same and str(manifest["digest"]) not in needed:
            continue
        try:
            if not inspect(run / stage, thorough=True).damage and not dropped(run / stage, manifest):
                return run
        except (Unreadable, OSError):
            continue
    return None


def _restored(root: Path, stage: str, donor: Path, damage: str) -> Repair:
    aside = "set aside and " if is_there(root / stage) else ""
    line = f"{stage}: {damage}; it is {aside}linked from {donor}, where it is intact: costs nothing"
    return Repair(line, lambda: _restore(root, stage, donor))


def _restore(root: Path, stage: str, donor: Path) -> None:
    """Link a stage from another run. It is complete beside its name before the damaged one is moved away."""
    final, manifest = root / stage, manifests_of(donor)[stage]
    with whole_folder(final) as draft:
        for name in (*manifest["files"], MANIFEST):
            link_or_copy(donor / stage / name, draft / name)
        if inspect(draft, thorough=True).manifest != manifest:
            raise TryAgain(f"{donor / stage} changed while it was read; run the same command again")
        if is_there(final):
            set_aside(root, final)
        maker = maker_of(donor, stage)
        if Path(maker).resolve() != root.resolve():
            note_reused(final, maker, manifest)
