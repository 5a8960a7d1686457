"""Resuming: a stage runs once, and its result is kept.

A stage is a pure function from the code version, the settings it depends on and the digests of its inputs to a folder.
It works in `<stage>.partial`. When it is finished, every file is synced, `manifest.json` is written last, and the
folder is renamed to `<stage>`. A folder that matches its manifest is never made again; one that provably does not is
set aside and made again, after that was said. An error while reading proves nothing and ends the run.
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
from crescent.run_folder.dropped import note_dropped
from crescent.run_folder.made_from import as_of_now
from crescent.run_folder.manifest import SCRATCH, Inspection, inspect, is_there, seal, verified_manifest
from crescent.run_folder.remade import describe_damage, explain_difference, refused_later
from crescent.run_folder.reuse import AS_FOUND, Donors, clear_draft, is_forked
from crescent.run_folder.set_aside import set_aside

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

    def noticed(self, stage: str, what: str) -> None:
        """A finished stage is damaged, or holds what it should not; `what` is one line for a person."""
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
        expected: Mapping[str, Mapping[str, Any]] | None = None,
        versions: Sequence[str] = (),
    ) -> None:
        """Stages become folders of `root`.

        Args:
            redo: Stage that is set aside with every stage after it.
            before_work: Called before anything is made or moved.
            schema: Config dataclass that declares the settings.
            reuse: Folders of runs whose finished stages are taken over where they were made from the same.
            expected: Settings of the stages that this run will ask for, as far as they are known in advance.
            versions: Other versions of Crescent whose finished stages are taken as found.
        """
        self.root = root
        self.observer = observer
        self.redo = redo
        self.before_work = before_work
        self.schema = schema
        self.expected = expected or {}
        self.versions = versions
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
        if self._redoing and is_there(final) and stage not in self._redone():
            self._begin()
            set_aside(self.root, final)
        if is_there(final):
            inspection = inspect(final)
            manifest = inspection.manifest
            if manifest is None:
                self._check_later_stages(stage, inspection)
                self._begin()
                set_aside(self.root, final)
            elif (recorded := self._as_of_now(manifest["made_from"], settings)) != made_from and not (
                self._is_as_found(stage, manifest["digest"]) and {**recorded, "settings": dict(settings)} == made_from
            ):
                raise SettingsChanged(explain_difference(self.root, stage, recorded, made_from))
            else:
                if inspection.strangers:
                    self.observer.noticed(stage, _strangers(inspection))
                shutil.rmtree(final / SCRATCH, ignore_errors=True)  # killed before it was deleted
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
        manifest = verified_manifest(folder)
        if manifest is not None:
            note_dropped(folder, part, manifest)
            failpoint("once.dropped")
            shutil.rmtree(folder / part)

    def _as_of_now(self, made_from: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
        """What a finished stage was made from, with the versions that are taken as found counting as this one."""
        recorded = as_of_now(made_from, settings, self.schema)
        return {**recorded, "version": __version__} if recorded["version"] in self.versions else recorded

    def _is_as_found(self, stage: str, digest: str) -> bool:
        """Whether a finished stage counts whatever the settings are, because `crescent fork` put it here."""
        return stage.rpartition("/")[2] in AS_FOUND and is_forked(self.root / stage, digest)

    def _check_later_stages(self, stage: str, inspection: Inspection) -> None:
        """Say that a damaged stage is made again, and what that may cost.

        Raises:
            SettingsChanged: a stage made from it would be refused afterwards.
        """
        refused = refused_later(self.root, inspection, self.expected, self.schema) if self.redo is None else None
        if refused is not None:
            raise SettingsChanged(
                f"{stage} is damaged ({inspection.damage}) and was not made again yet, because {refused}"
            )
        self.observer.noticed(stage, describe_damage(self.root, inspection))

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
        try:
            noted: dict[str, Any] = json.loads(self._marker.read_text())
            return list(noted["stages"]) if noted["redo"] == self.redo else []
        except (ValueError, KeyError, TypeError):
            return []

    def _note_redone(self, stage: str) -> None:
        stages = sorted({*self._redone(), stage})
        write_whole(self._marker, json.dumps({"redo": self.redo, "stages": stages}).encode())

    def foresee(self, stage: str, settings: Mapping[str, Any]) -> Foresight:
        """What a run would do with the stage, as far as its settings show; its inputs are not known here.

        Whether a stage would be taken over from another run depends on the stages before it: ask for those first.
        """
        if is_there(self.root / stage):
            inspection = inspect(self.root / stage)
            manifest = inspection.manifest
            if manifest is None:
                return Foresight(False, f"{inspection.damage}: will be made again")
            if self._is_as_found(stage, manifest["digest"]):
                self._foreseen.add(manifest["digest"])
                return Foresight(True, "taken as found (crescent fork)")
            if self._as_of_now(manifest["made_from"], settings)["settings"] != dict(settings):
                return Foresight(False, f"made with other settings: will be refused without run.redo={stage}")
            version = self._as_of_now(manifest["made_from"], settings)["version"]
            if version != __version__:
                ways = f"run.versions=[{version}] or run.redo={stage}"
                return Foresight(False, f"made by Crescent {version}: will be refused without {ways}")
            self._foreseen.add(manifest["digest"])
            return Foresight(True, "same settings, manifest holds")
        if is_there(self.root / f"{stage}.partial"):
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
        if is_there(left) and left.read_text() == _key_of(made_from):
            return True
        if is_there(partial):
            set_aside(self.root, partial)
        return False

    def _open_partial(self, partial: Path, made_from: Mapping[str, Any]) -> None:
        """Make the partial folder, unless it was kept."""
        if partial.exists():
            return
        (partial / SCRATCH).mkdir(parents=True)
        (partial / SCRATCH / KEY).write_text(_key_of(made_from))
        sync(partial / SCRATCH / KEY)


def _key_of(made_from: Mapping[str, Any]) -> str:
    return json.dumps(made_from, sort_keys=True)


def _strangers(inspection: Inspection) -> str:
    names = inspection.strangers
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more} in its folder was not made by the run; it does no harm and was left there"
