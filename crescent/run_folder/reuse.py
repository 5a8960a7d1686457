"""Finished stages of other runs (`run.reuse`): a stage that was made from the same is taken over, not made again.

A stage is a function of the code version, the settings it depends on and the digests of its inputs. So another run's
stage with the same three is what making it here would give. It is linked file by file into a draft beside its final
name, compared with its manifest there, and renamed. `<stage>.reused.json` beside it names the run that made it; inside,
it would count as damage.
"""

import json
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crescent.config import Config
from crescent.machine.disk import draft_of, link_or_copy, whole_folder, write_whole
from crescent.machine.failpoint import failpoint
from crescent.run_folder.dropped import dropped
from crescent.run_folder.made_from import as_of_now, differences
from crescent.run_folder.manifest import MANIFEST, REUSED, Unreadable, damage, inspect, reused_from, verified_manifest

NEVER_REUSED = {
    "others": "it holds what the runs of diversify.runs had when this run first needed them",
    "verdict": "it names the checkpoints of its run",
}
"""Kinds of stages that each run makes itself, with the reason."""
FORKED = "forked"
"""Key in the note beside a stage that `crescent fork` linked."""
AS_FOUND = ("others", "synthesis", "replay", "pairs", "train")
"""Kinds of forked stages that are taken whatever the settings are. Evaluations are not: later ones are compared with
them, item by item."""
SHOWN = 4
"""Differences that a line for people names before it only counts them."""
MODELS = frozenset({"base", "checkpoint", "model", "parent", "start"})
"""Names of inputs that may be a model which no stage made."""

Refuse = Callable[[str], None]


class _Changed(Exception):
    """What was linked is not what was there before: the other run deleted a part, or made the stage again."""


@dataclass(frozen=True)
class TakenOver:
    """A stage that lies here now and that another run made."""

    manifest: Mapping[str, Any]
    run: str
    """The run that made it. The run that it was linked from may have taken it over itself."""


class Donors:
    """The runs whose finished stages may be taken over."""

    def __init__(self, runs: Sequence[Path] = (), schema: type = Config) -> None:
        """
        Args:
            runs: Run folders, in the order in which they are asked.
            schema: Config dataclass that declares the settings of stages.
        """
        self.runs = runs
        self.schema = schema

    def take_over(self, stage: str, final: Path, made_from: Mapping[str, Any], refuse: Refuse) -> TakenOver | None:
        """Link a stage that was made from the same to `final`, which must not exist; `None` if no run has it.

        Args:
            refuse: Called with a reason, for a person, whenever a run is asked and does not give the stage.
        """
        if not self.runs or stage.rpartition("/")[2] in NEVER_REUSED:
            return None
        others: list[tuple[int, str]] = []
        for run in self.runs:
            recorded = _recorded(run / stage)
            if recorded is None:
                if (run / stage).is_dir():
                    refuse(f"not reused from {run}: {damage(run / stage)}")
                continue
            recorded = as_of_now(recorded, made_from["settings"], self.schema)
            if changed := differences(recorded, made_from):
                others.append((len(changed), f"not reused from {run}: {_described(changed)}"))
                continue
            found = _link(run, stage, final)
            if isinstance(found, TakenOver):
                return found
            refuse(f"not reused from {run}: {found}")
        if others:
            nearest = min(others)[1]
            refuse(nearest + (f" (nor from {len(others) - 1} more runs)" if len(others) > 1 else ""))
        return None

    def foresee(self, stage: str, settings: Mapping[str, Any], known: Collection[str]) -> tuple[str, str | None]:
        """What a person is told of a stage that is not made yet, and its digest if it will be taken over.

        Args:
            known: Digests of the stages that are finished here, or will be taken over. Of models that no stage made,
                the runs' are taken for the same.
        """
        seen: list[tuple[int, str]] = []
        for run in () if stage.rpartition("/")[2] in NEVER_REUSED else self.runs:
            recorded = _recorded(run / stage)
            if recorded is None:
                continue
            now = {**recorded, "settings": dict(settings)}
            changed = differences(as_of_now(recorded, settings, self.schema), now)
            open_inputs = [name for name, value in recorded["inputs"].items() if value not in known]
            made_there = _digests(run)
            of_models = [name for name in open_inputs if name in MODELS and recorded["inputs"][name] not in made_there]
            if changed:
                seen.append((len(changed), f"{run} has it with {_described(changed)}"))
                continue
            manifest = _intact(run / stage) if of_models == open_inputs else None
            if manifest is not None and not dropped(run / stage, manifest):
                return f"will be reused from {maker_of(run, stage)}", str(manifest["digest"])
        return min(seen, default=(0, ""))[1], None


def fork_stage(run: Path, stage: str, final: Path) -> str | None:
    """Link a stage of a run to `final`, to be taken there as it is, whatever settings the run there has; or say why it
    cannot be."""
    found = _link(run, stage, final)
    if isinstance(found, str):
        return found
    note = {"run": found.run, "digest": found.manifest["digest"], FORKED: True}
    write_whole(_note_beside(final), json.dumps(note, indent=1).encode())
    return None


def is_forked(final: Path, digest: str) -> bool:
    """Whether a stage was linked by `crescent fork`, and is still what was linked."""
    try:
        note = json.loads(_note_beside(final).read_text())
        return bool(note.get(FORKED)) and note["digest"] == digest
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _link(run: Path, stage: str, final: Path) -> TakenOver | str:
    """Link a stage of a run to `final`; or say why it cannot be taken over."""
    folder = run / stage
    try:
        inspection = inspect(folder)
    except Unreadable as error:
        return str(error)
    manifest = inspection.manifest
    if manifest is None:
        return inspection.damage
    if gone := sorted(dropped(folder, manifest)):
        return f"{gone[0]} was deleted there (run.keep=best)"
    maker = maker_of(run, stage)
    try:
        with whole_folder(final) as draft:
            for name in (*manifest["files"], MANIFEST):
                failpoint("reuse.link")
                link_or_copy(folder / name, draft / name)
            if verified_manifest(draft) != manifest:
                raise _Changed
            # Before the folder has its name: a stage that was not made here never passes for one that was.
            failpoint("reuse.note")
            note_reused(final, maker, manifest)
            failpoint("reuse.rename")
    except (FileNotFoundError, Unreadable, _Changed):
        clear_draft(final)
        return "it changed while it was read"
    except OSError as error:
        if final.exists():
            raise
        clear_draft(final)  # whatever is wrong here, making the stage will tell
        return f"it cannot be linked ({error.strerror})"
    failpoint("reuse.committed")
    return TakenOver(manifest, maker)


def note_reused(final: Path, maker: str, manifest: Mapping[str, Any]) -> None:
    """Note beside a stage's folder which run made it."""
    note = {"run": maker, "digest": manifest["digest"]}
    write_whole(_note_beside(final), json.dumps(note, indent=1).encode())


def maker_of(run: Path, stage: str) -> str:
    """The run that made a stage which lies in `run`."""
    return reused_from(run / stage) or str(run)


def clear_draft(final: Path) -> None:
    """Delete what a process left that was killed while it took a stage over, so that no stage made here passes for one
    that was taken over."""
    shutil.rmtree(draft_of(final), ignore_errors=True)
    _note_beside(final).unlink(missing_ok=True)


def _note_beside(final: Path) -> Path:
    return final.with_name(final.name + REUSED)


def _intact(folder: Path) -> dict[str, Any] | None:
    """The manifest of another run's stage; `None` if the stage is damaged or cannot be read."""
    try:
        return verified_manifest(folder)
    except Unreadable:
        return None


def _recorded(folder: Path) -> dict[str, Any] | None:
    """What a stage of another run was made from, if it is finished; whether it is intact is not looked at here."""
    try:
        recorded: dict[str, Any] = json.loads((folder / MANIFEST).read_text())["made_from"]
        complete = "version" in recorded and all(isinstance(recorded[part], dict) for part in ("settings", "inputs"))
        return recorded if complete else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _digests(run: Path) -> set[str]:
    """Digests of the stages of a run."""
    found = set()
    for path in run.glob(f"*/*/{MANIFEST}"):
        try:
            found.add(str(json.loads(path.read_text())["digest"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def _described(changed: Sequence[tuple[str, object, object]]) -> str:
    """`pairs.labels 'majority' → 'first'`, for the first few differences."""
    shown = [f"{key} {_short(key, old)} → {_short(key, new)}" for key, old, new in changed[:SHOWN]]
    return ", ".join(shown) + (f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else "")


def _short(key: str, value: object) -> str:
    """A digest by its beginning, a long setting without its end."""
    text = repr(value[:8]) if key.startswith("input.") and isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
