"""Contents of the W&B runs of a run folder, made from its files alone and without W&B's library.

There is one W&B run for the loop, with its metrics on the axis `round`, and one for each heavy stage of each round:
`synthesis` (uploaded once its pairs are selected), `train` with the trainer's curves on the axis `train/step`, `eval`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from crescent.config import Artifacts, TrackingJob, VerdictConfig
from crescent.errors import CrescentError
from crescent.machine.secrets import without_secrets
from crescent.reading.curve import curve_file, read_steps
from crescent.reading.finished import Manifest, RunReader
from crescent.reading.outcome import read_outcome
from crescent.records import Score, round_label
from crescent.run_folder.manifest import MANIFEST
from crescent.run_folder.metric import LOOP
from crescent.run_folder.metric_names import (
    ACCEPTED_ROUNDS,
    ACCURACY,
    ACCURACY_HIGH,
    ACCURACY_LOW,
    BEST,
    GAIN_OVER_BASE,
    current_names,
    kind_of,
)
from crescent.run_folder.places import read_config
from crescent.tracking.ledger import UploadLedger
from crescent.tracking.live import CURVE_AXES, name_of, number_of, settings_under_way, stages_under_way
from crescent.tracking.samples import Table, sample_changed, sample_questions, sample_rejected, shorten, verdict_of

Row = Mapping[str, float | str | Table]
JOB_TYPES = {"pairs": "synthesis", "train": "train", "eval": "eval"}
"""W&B's job types of the heavy stages, by the last stage that belongs to each."""
SMALL = 16 << 20
"""Size in bytes up to which `tracking.artifacts=reference` uploads a file."""
LISTED = 500
"""Largest number of files that an artifact's metadata lists."""
ALARMING = ("roll back", "stop")
"""Verdicts that send an alert."""
WHERE = ("stage", "round")
"""Keys of a line of `metrics.jsonl` that are not metrics."""


@dataclass(frozen=True)
class Artifact:
    """One version of a data set, a model or an evaluation."""

    name: str
    type: str
    aliases: tuple[str, ...]
    """Aliases in W&B. The first is the digest of the stage that made it; later stages refer to that."""
    metadata: Mapping[str, Any]
    texts: Mapping[str, str]
    """Contents of files to write and upload, by name."""
    files: Mapping[str, Path]
    """Paths of files to upload, by name."""
    references: Mapping[str, Path] = field(default_factory=dict)
    """Paths of files that W&B only refers to, by name."""


@dataclass(frozen=True)
class Alert:
    """A message to the users who follow the run."""

    stage: str
    title: str
    text: str


@dataclass(frozen=True)
class WandbRun:
    """One W&B run, without its rows."""

    id: str
    name: str
    group: str
    job_type: str
    config: Mapping[str, Any]
    axes: Mapping[str, str]
    """Metric that is the axis of other metrics, by a pattern for their names."""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class StageRun:
    """The W&B run of a finished stage."""

    run: WandbRun
    rows: tuple[Row, ...]
    summary: Mapping[str, float]
    uses: tuple[str, ...]
    """Artifacts it was made from, `name:digest` each."""
    makes: tuple[Artifact, ...]
    """Artifacts that it made."""


class RunContents:
    """Contents of the W&B runs of one run folder. Open it again after more stages were finished."""

    def __init__(self, job: TrackingJob, ledger: UploadLedger) -> None:
        self.job = job
        self.ledger = ledger
        self.root = Path(job.root)
        self.run = RunReader(self.root)
        self.group = job.tracking.group or job.name

    def loop(self) -> WandbRun:
        """The loop's W&B run."""
        outcome = (BEST.named(benchmark="*"), GAIN_OVER_BASE.name, ACCEPTED_ROUNDS.name)
        axes = dict.fromkeys((f"{LOOP}*", "samples/*", *outcome), "round")
        settings = read_config(self.root)
        tags = tuple(dict.fromkeys([*self.job.tracking.tags, *named_after(settings)]))
        return WandbRun(self.ledger.loop_id(), self.job.name, self.group, "loop", without_secrets(settings), axes, tags)

    def loop_row(self, line: Mapping[str, Any]) -> Row:
        """One line of `metrics.jsonl` and, if the stage that wrote it is still in the run folder, its samples."""
        stage, number = str(line["stage"]), int(line["round"])
        place, kind = stage.split("/")
        kind = kind if place == "base" or number else stage
        measured = current_names(kind_of(stage), {name: value for name, value in line.items() if name not in WHERE})
        row: dict[str, float | str | Table] = {"round": number}
        row |= {slug(f"{LOOP}{kind}/{name}"): value for name, value in measured.items()}
        try:
            return {**row, **self._additions(stage, kind, number)}
        except (CrescentError, OSError) as error:
            self.run.note(f"{stage}: {error}")
            return row

    def alert(self, line: Mapping[str, Any]) -> Alert | None:
        """An alert, if the stage is a verdict with a collapse alarm, a rollback or a stop."""
        stage, number = str(line["stage"]), int(line["round"])
        verdict = verdict_of(self.run, number, self._patience()) if stage.endswith("/verdict") else None
        if verdict is None or not (verdict.alarms or verdict.action in ALARMING):
            return None
        cause = "collapse alarm" if verdict.alarms else verdict.action
        text = shorten([f"{verdict.action}: {verdict.reason}", *(alarm.sentence for alarm in verdict.alarms)])
        return Alert(stage, f"{self.job.name}, round {number}: {cause}", text)

    def benchmarks(self) -> tuple[str, ...]:
        """Benchmarks whose accuracy is in the loop's W&B run."""
        evaluated = [line for line in self.ledger.lines if str(line["stage"]).endswith("/eval")]
        return tuple(dict.fromkeys(name for line in evaluated for name in ACCURACY.find(line)))

    def stages(self) -> Iterator[tuple[str, str]]:
        """Finished heavy stages with the ids of their W&B runs. Their files are not verified here."""
        for stage in dict.fromkeys(str(line["stage"]) for line in self.ledger.lines):
            if stage.split("/")[-1] in JOB_TYPES:
                try:
                    made = json.loads((self.root / stage / MANIFEST).read_text())["digest"]
                except (OSError, ValueError, KeyError):
                    continue  # set aside and not made again yet
                yield stage, self.ledger.stage_id(stage, made)

    def under_way(self) -> Iterator[tuple[WandbRun, tuple[Row, ...]]]:
        """The training that is not finished: the W&B run that it will have, and its rows so far."""
        for stage, progress in stages_under_way(self.root):
            made_from = settings_under_way(self.root, stage)
            config = {
                "run": self.job.name,
                "round": number_of(stage),
                "stage": stage,
                "version": made_from.get("version"),
                "settings": made_from.get("settings"),
                "made_from": made_from.get("inputs"),
            }
            known = without_secrets({name: value for name, value in config.items() if value is not None})
            name, identity = name_of(self.job.name, stage), self.ledger.live_id(stage)
            yield WandbRun(identity, name, self.group, "train", known, CURVE_AXES), tuple(read_curve(progress))

    def stage(self, stage: str, identity: str) -> StageRun | None:
        """The W&B run of a finished stage; `None` if its files do not match its manifest."""
        manifest = self.run.stage(stage)
        if manifest is None:
            return None
        place, result = stage.split("/")
        kind = JOB_TYPES[result]
        number = int(place.removeprefix("round-")) if place.startswith("round-") else 0
        short = round_label(number) if number else place
        about = manifest["made_from"]
        config = {
            "run": self.job.name,
            "round": number,
            "stage": stage,
            "digest": manifest["digest"],
            "seconds": manifest["seconds"],
            "version": about["version"],
            "settings": about["settings"],
            "made_from": about["inputs"],
            **self._maker(stage),
        }
        axes = CURVE_AXES if kind == "train" else {f"{kind}/*": "round"}
        name = f"{self.job.name}-{short}-{kind}"
        run = WandbRun(identity, name, self.group, kind, without_secrets(config), axes)
        measured = current_names(result, manifest["metrics"])
        metrics = {slug(f"{kind}/{name}"): value for name, value in measured.items()}
        rows = self._rows(stage, kind, number, metrics)
        if self.job.tracking.artifacts is Artifacts.none:
            return StageRun(run, rows, metrics, (), ())
        made = self._artifact(stage, kind, manifest)
        return StageRun(run, rows, metrics, tuple(self._uses(about["inputs"])), (made,))

    def _additions(self, stage: str, kind: str, number: int) -> Row:
        """The part of a row that is not in `metrics.jsonl`: ends of intervals, samples, and the verdict."""
        match stage.split("/")[-1]:
            case "eval" if self.run.stage(stage) is not None:
                ends = {f"{LOOP}{kind}/{name}": end for name, end in self._ends(stage).items()}
                return {**ends, **(self._outcome(0) if stage == "base/eval" else {})}
            case "synthesis" if self.run.stage(stage) is not None:
                questions, rejected = sample_questions(self.run, number), sample_rejected(self.run, number)
                return {"samples/questions": questions, **({"samples/rejected": rejected} if rejected.rows else {})}
            case "verdict" if (verdict := verdict_of(self.run, number, self._patience())) is not None:
                changed = sample_changed(self.run, number)
                shown = {"samples/changed": changed} if changed is not None and changed.rows else {}
                return {f"{LOOP}{kind}/action": verdict.action, **self._outcome(number), **shown}
        return {}

    def _outcome(self, until: int) -> dict[str, float]:
        """What the run had come to after a round. W&B's summary keeps the last of each, which is what the run is worth:
        a child that was not accepted changes none of them."""
        outcome = read_outcome(self.run, until)
        return outcome.metrics if outcome is not None else {}

    def _maker(self, stage: str) -> dict[str, str]:
        """The run that made a stage, and for pairs the one that made their votes; nothing if this run made them."""
        place, kind = stage.split("/")
        made_by = {"reused_from": self.run.reused(stage)}
        if kind == "pairs":
            made_by["votes_reused_from"] = self.run.reused(f"{place}/synthesis")
        return {name: maker for name, maker in made_by.items() if maker is not None}

    def _patience(self) -> int:
        patience = (read_config(self.root).get("verdict") or {}).get("patience")
        return patience if isinstance(patience, int) else VerdictConfig.patience

    def _rows(self, stage: str, kind: str, number: int, metrics: Mapping[str, float]) -> tuple[Row, ...]:
        if kind == "train":
            return tuple(read_curve(curve_file(self.root, number)))
        if kind == "synthesis":
            asked = self.run.stage(f"round-{number}/synthesis")
            found = current_names(kind, asked["metrics"]) if asked is not None else {}
            selected = {name.replace("synthesis/", "synthesis/pairs/", 1): value for name, value in metrics.items()}
            return (
                {"round": number, **{slug(f"synthesis/{name}"): value for name, value in found.items()}, **selected},
            )
        ends = {f"eval/{name}": end for name, end in self._ends(stage).items()}
        return ({"round": number, **metrics, **ends},)

    def _ends(self, stage: str) -> dict[str, float]:
        """Ends of the accuracies' 95% intervals, by metric name."""
        ends: dict[str, float] = {}
        for score in self._scores(stage):
            ends[ACCURACY_LOW.named(benchmark=score.benchmark)] = score.low
            ends[ACCURACY_HIGH.named(benchmark=score.benchmark)] = score.high
        return ends

    def _scores(self, stage: str) -> tuple[Score, ...]:
        try:
            return msgspec.json.decode((self.root / stage / "scores.json").read_bytes(), type=tuple[Score, ...])
        except (OSError, msgspec.DecodeError) as error:
            self.run.note(f"{stage}/scores.json: cannot be read ({error})")
            return ()

    def _uses(self, inputs: Mapping[str, str]) -> Iterator[str]:
        """Artifacts of this run that have the digests of these inputs."""
        made = {}
        for stage in dict.fromkeys(str(line["stage"]) for line in self.ledger.lines):
            kind = JOB_TYPES.get(stage.split("/")[-1])
            manifest = self.run.root / stage / MANIFEST
            if kind is not None and manifest.is_file():
                made[json.loads(manifest.read_text())["digest"]] = self._artifact_name(kind)
        for name, value in inputs.items():
            # The pairs' artifact stands for the synthesis, too. So it uses the synthesis' parent, not the votes.
            source = self._parent_of_votes(value) if name == "votes" else value
            if source in made:
                yield f"{made[source]}:{source}"

    def _parent_of_votes(self, votes: str) -> str:
        """Digest of the checkpoint that made the votes with this digest; empty if it is unknown."""
        syntheses = (self.run.stage(f"round-{number}/synthesis") for number in self.run.rounds)
        found = next((synthesis for synthesis in syntheses if synthesis and synthesis["digest"] == votes), None)
        return str(found["made_from"]["inputs"].get("parent", "")) if found else ""

    def _artifact_name(self, kind: str) -> str:
        return f"{self.job.name}-{ {'synthesis': 'pairs', 'train': 'model', 'eval': 'evaluation'}[kind] }"

    def _artifact(self, stage: str, kind: str, manifest: Manifest) -> Artifact:
        folder, everything = self.root / stage, self.job.tracking.artifacts is Artifacts.upload
        present = {name: folder / name for name in manifest["files"] if (folder / name).is_file()}
        # Merged weights can be made again from the adapter and its base.
        model = "adapter/" if any(name.startswith("adapter/") for name in present) else "weights/"
        uploaded: dict[str, Path] = {}
        referred: dict[str, Path] = {}
        for name, path in present.items():
            weights = name.startswith(("adapter/", "weights/"))
            if weights and everything and not name.startswith(model):
                continue
            fits = everything or (not weights and path.stat().st_size <= SMALL)
            (uploaded if fits else referred)[name] = path
        files = dict(list(manifest["files"].items())[:LISTED])
        facts = {"stage": stage, "digest": manifest["digest"], "made_from": manifest["made_from"]["inputs"]}
        facts |= self._maker(stage)
        metadata = without_secrets({**facts, "metrics": manifest["metrics"], "files": files, "folder": str(folder)})
        types = {"synthesis": "dataset", "train": "model", "eval": "evaluation"}
        aliases = (manifest["digest"], stage.split("/")[0])
        # W&B distinguishes versions by their files, and a referred file by its path. This file always differs.
        texts = {MANIFEST: json.dumps(without_secrets(manifest), indent=1, sort_keys=True)}
        return Artifact(self._artifact_name(kind), types[kind], aliases, metadata, texts, uploaded, referred)


def named_after(settings: Mapping[str, Any]) -> Iterator[str]:
    """Tags that every run has: the name of its model, and the kind of its trainer."""
    for group, key in (("model", "path"), ("train", "trainer")):
        value = (settings.get(group) or {}).get(key)
        if isinstance(value, str) and (name := Path(value.replace(":", "/")).name):
            yield name[:64]


def slug(name: str) -> str:
    """A metric's name for W&B: `unusable/cut at max_tokens` → `unusable/cut_at_max_tokens`."""
    return name.replace(" ", "_")


def read_curve(path: Path) -> Iterator[Row]:
    """The lines of a trainer's progress file, one per step, as rows on the axis `train/step`."""
    for step, metrics in read_steps(path):
        yield {"train/step": step, **{f"train/{name}": value for name, value in metrics.items()}}
