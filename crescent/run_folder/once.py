"""Resuming: a stage runs once, and its result is kept.

A stage is a pure function from the code version, the settings it depends on and the digests of its inputs to a folder.
It works in `<stage>.partial`. When it is finished, every file is synced, `manifest.json` is written last, and the
folder is renamed to `<stage>`. A folder that matches its manifest is never made again; any other is never read.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from crescent import __version__
from crescent.config import Config
from crescent.errors import SettingsChanged
from crescent.machine.disk import sync, write_whole
from crescent.machine.failpoint import failpoint
from crescent.records import Done
from crescent.run_folder.manifest import DROPPED, SCRATCH, dropped, seal, verified_manifest, verify
from crescent.run_folder.places import SET_ASIDE
from crescent.run_folder.stage_settings import completed

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


@dataclass(frozen=True)
class Foresight:
    """What a run would do with a stage."""

    hit: bool
    """Whether it would take the stage as found."""
    why: str
    """Reason, for a person."""


class Once:
    """Runs each stage of one run folder at most once."""

    def __init__(
        self,
        root: Path,
        observer: StageObserver,
        redo: str | None = None,
        before_work: Callable[[], None] = lambda: None,
        schema: type = Config,
    ) -> None:
        """Stages become folders of `root`.

        Args:
            redo: Stage that is set aside with every stage after it.
            before_work: Called before anything is made or moved.
            schema: Config dataclass that declares the settings.
        """
        self.root = root
        self.observer = observer
        self.redo = redo
        self.before_work = before_work
        self.schema = schema
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
            elif (recorded := self._as_of_now(manifest["made_from"], settings)) != made_from:
                raise SettingsChanged(_explain(stage, recorded, made_from))
            else:
                self.observer.finished(stage, manifest["metrics"], manifest["seconds"], fresh=False)
                return self._settle(stage, manifest)
        self._begin()
        self.making = stage
        if self._redoing:
            self._note_redone(stage)
        manifest = verified_manifest(partial)
        if manifest is None or manifest["made_from"] != made_from:
            resumed = self._open_partial(partial, made_from)
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

    def _as_of_now(self, made_from: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
        """What a finished stage was made from, with settings that joined since (`crescent.config.earlier`) filled in.

        An unfinished stage is not read this way: it starts again rather than being made by two versions of the code.
        """
        return {**made_from, "settings": completed(made_from["settings"], settings, self.schema)}

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
        """What a run would do with the stage, as far as its settings show; its inputs are not known here."""
        if (self.root / stage).exists():
            manifest, wrong = verify(self.root / stage)
            if wrong:
                return Foresight(False, f"{wrong}: will be made again")
            if self._as_of_now(manifest["made_from"], settings)["settings"] != dict(settings):
                return Foresight(False, f"made with other settings: will be refused without run.redo={stage}")
            return Foresight(True, "same settings, manifest holds")
        if (self.root / f"{stage}.partial").exists():
            return Foresight(False, "interrupted: will be resumed")
        return Foresight(False, "not made yet")

    def _open_partial(self, partial: Path, made_from: Mapping[str, Any]) -> bool:
        """Make the partial folder, or keep that of an interrupted run; returns whether the stage resumes.

        It is kept if it was made from exactly the same; otherwise it is set aside.
        """
        key = json.dumps(made_from, sort_keys=True)
        if partial.exists():
            left = partial / SCRATCH / KEY
            if left.exists() and left.read_text() == key:
                return True
            self._set_aside(partial)
        (partial / SCRATCH).mkdir(parents=True)
        (partial / SCRATCH / KEY).write_text(key)
        sync(partial / SCRATCH / KEY)
        return False

    def _set_aside(self, folder: Path) -> None:
        """Move a folder that is no longer valid to `set-aside/`. Nothing is deleted."""
        for number in range(1, 10_000):
            name = str(folder.relative_to(self.root)).replace(os.sep, "-")
            target = self.root / SET_ASIDE / f"{name}-{number}"
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(folder, target)
                folder.with_name(folder.name + DROPPED).unlink(missing_ok=True)
                return


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {k: v for name, part in value.items() for k, v in _flat(part, f"{prefix}{name}.").items()}
    return {prefix.removesuffix("."): value}


def _explain(stage: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    old = _flat({"version": before["version"], **before["settings"], "input": before["inputs"]})
    new = _flat({"version": now["version"], **now["settings"], "input": now["inputs"]})
    changed = [
        f"  {key}: {old.get(key, '(not there)')!r} → {new.get(key, '(not there)')!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    return (
        f"{stage} is finished, but was made with other settings:\n"
        + "\n".join(changed)
        + f"\ngive the run a new name (run.name=…), or make this stage and all later ones again (run.redo={stage}); "
        "nothing was changed"
    )
