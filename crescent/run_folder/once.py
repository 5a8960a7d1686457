"""Resuming: a stage runs once, and its result is kept.

A stage is a pure function from the code version, the settings it depends on and the digests of its inputs to a folder.
It works in `<stage>.partial`. When it is finished, every file is synced, `manifest.json` is written last, and the
folder is renamed to `<stage>`. A folder that matches its manifest is never made again; any other is never read.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial as partial_call
from pathlib import Path
from typing import Any, Protocol

from crescent import __version__
from crescent.config import Config
from crescent.errors import SettingsChanged
from crescent.machine.disk import sync, write_whole
from crescent.machine.failpoint import failpoint
from crescent.records import Done
from crescent.run_folder.made_from import as_of_now, differences
from crescent.run_folder.manifest import DROPPED, REUSED, SCRATCH, dropped, seal, verified_manifest, verify
from crescent.run_folder.places import SET_ASIDE
from crescent.run_folder.reuse import Donors, clear_draft

KEY = "key.json"
"""Name of the file in a scratch folder that says what the unfinished stage is made from."""
REDO = "redo.json"
"""Name of the file in a run folder that lists the stages an interrupted `run.redo` has begun to make again."""
Metrics = Mapping[str, float]
Work = Callable[[Path], Metrics]


class StageObserver(Protocol):
    """Receives what happens to stages."""

    def started(self, stage: str, resumed: bool) -> None: ...

    def finished(self, stage: str, metrics: Metrics, seconds: float, fresh: bool) -> None: ...

    def reused(self, stage: str, metrics: Metrics, seconds: float, run: str) -> None:
        """The stage was taken over from another run, in which it took `seconds`."""
        ...

    def not_reused(self, stage: str, why: str) -> None:
        """The stage is made here although other runs were asked for it; `why` is one line for a person."""
        ...


@dataclass(frozen=True)
class Foresight:
    """What a run would do with a stage."""

    hit: bool
    """Whether it would take the stage as found."""
    why: str
    """Reason, for a person."""
    reused: bool = False
    """Whether it would take the stage over from another run."""


class Once:
    """Runs each stage of one run folder at most once."""

    def __init__(
        self,
        root: Path,
        observer: StageObserver,
        redo: str | None = None,
        before_work: Callable[[], None] = lambda: None,
        schema: type = Config,
        reuse: Sequence[Path] = (),
    ) -> None:
        """Stages become folders of `root`.

        Args:
            redo: Stage that is set aside with every stage after it.
            before_work: Called before anything is made or moved.
            schema: Config dataclass that declares the settings.
            reuse: Folders of runs whose finished stages are taken over where they were made from the same.
        """
        self.root = root
        self.observer = observer
        self.redo = redo
        self.before_work = before_work
        self.schema = schema
        self.donors = Donors(reuse, schema)
        self._foreseen: set[str] = set()
        """Digests of the stages that `foresee` found here, or found to be taken over."""
        self._redoing = False
        self._settled: dict[str, Done] = {}
        """Stages that this process has found or made. Those that several rounds need are redone once, not per round."""
        self.begun = False
        """Whether anything was made or moved."""
        self.making: str | None = None
        """Stage that is being made."""
        self._marker = root / REDO

    def __call__(self, stage: str, work: Work, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> Done:
        """Return the finished stage; if it is not finished, run `work` in its partial folder first.

        Raises:
            SettingsChanged: the stage is finished, but was made from other settings or inputs.
        """
        if stage in self._settled:
            return self._settled[stage]
        final, partial = self.root / stage, self.root / f"{stage}.partial"
        made_from = {"version": __version__, "settings": dict(settings), "inputs": dict(inputs)}
        self._redoing = self._redoing or stage == self.redo
        if self._redoing and final.exists() and stage not in self._redone():
            self._begin()
            self._set_aside(final)
        if final.exists():
            manifest = verified_manifest(final)
            if manifest is None:
                self._set_aside(final)
            elif (recorded := as_of_now(manifest["made_from"], settings, self.schema)) != made_from:
                raise SettingsChanged(_explain(stage, recorded, made_from))
            else:
                self.observer.finished(stage, manifest["metrics"], manifest["seconds"], fresh=False)
                return self._settle(stage, manifest)
        self._begin()
        self.making = stage
        if self._redoing:
            self._note_redone(stage)
        clear_draft(final)
        manifest = verified_manifest(partial)
        if manifest is None or manifest["made_from"] != made_from:
            resumed = self._keep_partial(partial, made_from)
            if not resumed and (found := self._take_over(stage, made_from)) is not None:
                return found
            self._open_partial(partial, made_from)
            self.observer.started(stage, resumed)
            began = time.monotonic()
            metrics = dict(work(partial))
            seconds = round(time.monotonic() - began, 3)
            failpoint("once.manifest")
            manifest = seal(partial, {"made_from": made_from, "metrics": metrics, "seconds": seconds})
        failpoint("once.rename")
        os.rename(partial, final)
        sync(final.parent)
        failpoint("once.committed")
        shutil.rmtree(final / SCRATCH, ignore_errors=True)
        self.making = None
        self.observer.finished(stage, manifest["metrics"], manifest["seconds"], fresh=True)
        return self._settle(stage, manifest)

    def drop(self, stage: str, part: str) -> None:
        """Delete a folder inside a finished stage that no later stage needs; the stage stays finished."""
        folder = self.root / stage
        if not (folder / part).is_dir():
            return
        names = {path.relative_to(folder).as_posix() for path in (folder / part).rglob("*") if path.is_file()}
        note = folder.with_name(folder.name + DROPPED)
        write_whole(note, json.dumps(sorted(dropped(folder) | names), indent=1).encode())
        shutil.rmtree(folder / part)

    def _take_over(self, stage: str, made_from: Mapping[str, Any]) -> Done | None:
        """The stage as another run made it from the same; `None` if there is none, or it is to be made again here."""
        if self._redoing:
            return None
        refuse = partial_call(self.observer.not_reused, stage)
        found = self.donors.take_over(stage, self.root / stage, made_from, refuse)
        if found is None:
            return None
        self.making = None
        self.observer.reused(stage, found.manifest["metrics"], found.manifest["seconds"], found.run)
        return self._settle(stage, found.manifest)

    def _settle(self, stage: str, manifest: Mapping[str, Any]) -> Done:
        found = Done(self.root / stage, manifest["digest"], manifest["metrics"], manifest["seconds"])
        self._settled[stage] = found
        return found

    def finish(self) -> None:
        """Note that the run is finished: the next `redo` of the same stage starts over instead of resuming this one."""
        self._marker.unlink(missing_ok=True)

    def _begin(self) -> None:
        if not self.begun:
            self.begun = True
            self.before_work()

    def _redone(self) -> list[str]:
        """Stages that interrupted attempts at the same `redo` have begun to make again."""
        if not self._marker.exists():
            return []
        noted: dict[str, Any] = json.loads(self._marker.read_text())
        return list(noted["stages"]) if noted["redo"] == self.redo else []

    def _note_redone(self, stage: str) -> None:
        stages = sorted({*self._redone(), stage})
        write_whole(self._marker, json.dumps({"redo": self.redo, "stages": stages}).encode())

    def foresee(self, stage: str, settings: Mapping[str, Any]) -> Foresight:
        """What a run would do with the stage, as far as its settings show; its inputs are not known here.

        Whether a stage would be taken over from another run depends on the stages before it: ask for those first.
        """
        if (self.root / stage).exists():
            manifest, wrong = verify(self.root / stage)
            if wrong:
                return Foresight(False, f"{wrong}: will be made again")
            if as_of_now(manifest["made_from"], settings, self.schema)["settings"] != dict(settings):
                return Foresight(False, f"made with other settings: will be refused without run.redo={stage}")
            self._foreseen.add(manifest["digest"])
            return Foresight(True, "same settings, manifest holds")
        if (self.root / f"{stage}.partial").exists():
            return Foresight(False, "interrupted: will be resumed")
        told, digest = self.donors.foresee(stage, settings, self._foreseen)
        if digest is not None:
            self._foreseen.add(digest)
            return Foresight(False, told, reused=True)
        return Foresight(False, f"not made yet; {told}" if told else "not made yet")

    def _keep_partial(self, partial: Path, made_from: Mapping[str, Any]) -> bool:
        """Whether the stage resumes in the partial folder of an interrupted run.

        It does if that was made from exactly the same; otherwise the folder is set aside.
        """
        left = partial / SCRATCH / KEY
        if left.exists() and left.read_text() == _key_of(made_from):
            return True
        if partial.exists():
            self._set_aside(partial)
        return False

    def _open_partial(self, partial: Path, made_from: Mapping[str, Any]) -> None:
        """Make the partial folder, unless it was kept."""
        if partial.exists():
            return
        (partial / SCRATCH).mkdir(parents=True)
        (partial / SCRATCH / KEY).write_text(_key_of(made_from))
        sync(partial / SCRATCH / KEY)

    def _set_aside(self, folder: Path) -> None:
        """Move a folder that is no longer valid to `set-aside/`. Nothing is deleted."""
        for number in range(1, 10_000):
            name = str(folder.relative_to(self.root)).replace(os.sep, "-")
            target = self.root / SET_ASIDE / f"{name}-{number}"
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(folder, target)
                for note in (DROPPED, REUSED):
                    folder.with_name(folder.name + note).unlink(missing_ok=True)
                return


def _key_of(made_from: Mapping[str, Any]) -> str:
    return json.dumps(made_from, sort_keys=True)


def _explain(stage: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    changed = [f"  {key}: {old!r} → {new!r}" for key, old, new in differences(before, now)]
    return (
        f"{stage} is finished, but was made with other settings:\n"
        + "\n".join(changed)
        + f"\ngive the run a new name (run.name=…), or make this stage and all later ones again (run.redo={stage}); "
        "nothing was changed"
    )
