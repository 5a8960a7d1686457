"""Resumability: a stage runs once, and its result is remembered.

A stage is a pure function of (code version, the settings it reads, digests of its inputs) to a folder. It works in
`<stage>.partial`; when it is done, every file is synced, `manifest.json` is written last, and the folder is renamed to
`<stage>`. A folder whose manifest holds is never made again; anything else is never read.
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
from crescent.machine.disk import sync
from crescent.machine.failpoint import failpoint
from crescent.records import Done
from crescent.run_folder.manifest import DROPPED, SCRATCH, _verify, dropped, seal, verified_manifest
from crescent.run_folder.stage_settings import completed

KEY = "key.json"
REDO = "redo.json"
Metrics = Mapping[str, float]
Work = Callable[[Path], Metrics]


class StageObserver(Protocol):
    """Who is told what stages do."""

    def started(self, stage: str, resumed: bool) -> None: ...

    def finished(self, stage: str, metrics: Metrics, seconds: float, fresh: bool) -> None: ...


@dataclass(frozen=True)
class Foresight:
    """What would happen to a stage, without doing it."""

    hit: bool
    why: str


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
            schema: Config that declares the settings, and what those that joined later stand for.
        """
        self.root = root
        self.observer = observer
        self.redo = redo
        self.before_work = before_work
        self.schema = schema
        self._redoing = False
        self._settled: dict[str, Done] = {}
        """What this process has found or made: stages that several rounds need are not redone with the second one."""
        self.begun = False
        """Whether anything was made or moved."""
        self.making: str | None = None
        self._marker = root / REDO

    def __call__(self, stage: str, work: Work, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> Done:
        """Return the finished stage, doing `work` in its partial folder if it is not finished.

        Raises:
            SettingsChanged: it is finished, but was made from other settings or inputs.
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
        """Delete a folder of a finished stage that nobody will need again; the stage stays finished, and its digest."""
        folder = self.root / stage
        if not (folder / part).is_dir():
            return
        names = sorted(its.relative_to(folder).as_posix() for its in (folder / part).rglob("*") if its.is_file())
        note = folder.with_name(folder.name + DROPPED)
        staged = note.with_suffix(".new")
        staged.write_text(json.dumps(sorted({*dropped(folder), *names}), indent=1))
        sync(staged)
        staged.rename(note)
        sync(folder.parent)
        shutil.rmtree(folder / part)

    def _as_of_now(self, made_from: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
        """What a finished stage was made from, in the words of today's settings.

        An unfinished stage has no such right: half made by other code, it is begun again.
        """
        return {**made_from, "settings": completed(made_from["settings"], settings, self.schema)}

    def _settle(self, stage: str, manifest: Mapping[str, Any]) -> Done:
        found = Done(self.root / stage, manifest["digest"], manifest["metrics"], manifest["seconds"])
        self._settled[stage] = found
        return found

    def finish(self) -> None:
        """The run came to its end: asked for again, `redo` means a new redoing and not the rest of this one."""
        self._marker.unlink(missing_ok=True)

    def _begin(self) -> None:
        if not self.begun:
            self.begun = True
            self.before_work()

    def _redone(self) -> list[str]:
        """The stages that interrupted attempts at the same `redo` have begun to make again."""
        if not self._marker.exists():
            return []
        noted: dict[str, Any] = json.loads(self._marker.read_text())
        return list(noted["stages"]) if noted["redo"] == self.redo else []

    def _note_redone(self, stage: str) -> None:
        staged = self._marker.with_suffix(".new")
        staged.write_text(json.dumps({"redo": self.redo, "stages": sorted({*self._redone(), stage})}))
        staged.replace(self._marker)

    def foresee(self, stage: str, settings: Mapping[str, Any]) -> Foresight:
        """Whether the stage is finished, as far as can be told without its inputs."""
        if (self.root / stage).exists():
            manifest, wrong = _verify(self.root / stage)
            if wrong:
                return Foresight(False, f"{wrong}: will be made again")
            if self._as_of_now(manifest["made_from"], settings)["settings"] != dict(settings):
                return Foresight(False, f"made with other settings: will be refused without run.redo={stage}")
            return Foresight(True, "same settings, manifest holds")
        if (self.root / f"{stage}.partial").exists():
            return Foresight(False, "interrupted: will be continued")
        return Foresight(False, "not made yet")

    def _open_partial(self, partial: Path, made_from: Mapping[str, Any]) -> bool:
        """Make the partial folder, or keep the one an interrupted run left if it was for the same stage."""
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
        """Nothing is deleted: what is no longer valid moves to `set-aside/`."""
        for number in range(1, 10_000):
            name = str(folder.relative_to(self.root)).replace(os.sep, "-")
            target = self.root / "set-aside" / f"{name}-{number}"
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
        f"{stage} is finished, and was made with other settings:\n"
        + "\n".join(changed)
        + f"\ngive the run a new name (run.name=…), or make this stage and all later ones again (run.redo={stage}); "
        "nothing was touched"
    )
