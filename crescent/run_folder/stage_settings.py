"""Stages of a run, and the settings that the result of each depends on."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from crescent.config import (
    TRAIN_LAYOUT,
    Child,
    Config,
    Labels,
    Start,
    TrainConfig,
    Trainer,
    Tuning,
    as_settings,
    style_of,
)
from crescent.config.earlier import earlier_values

ASKING = ("temperature", "samples", "likelihood", "reply")
"""Settings of a benchmark that decide how its items are asked, not which items it has."""


def planned_stages(cfg: Config) -> list[tuple[str, str]]:
    """Names of all stages in the order they are made, each with its kind."""
    harness = ["harness"] if cfg.eval.harness.tasks else []
    kinds = ("synthesis", "pairs", "train", "eval", *harness, "verdict")
    others = [("base/others", "others")] if cfg.diversify.runs else []
    models = ("base",) if cfg.train.student is None else ("base", "teacher")
    stages = [("base/benchmarks", "benchmarks")]
    stages += [(f"{model}/{kind}", kind) for model in models for kind in ("eval", *harness)]
    if cfg.eval.reliability:
        stages.append(("base/reliability", "reliability"))
    stages += others
    for number in range(1, cfg.run.rounds + 1):
        stages += [(f"round-{number}/{kind}", kind) for kind in kinds]
        if number == 1 and cfg.pairs.replay.share:
            stages.insert(1 - len(kinds), ("base/replay", "replay"))
    return stages


def stage_settings(cfg: Config, stage: str) -> dict[str, Any]:
    """Settings that the result of a stage depends on. Others (`tracking`, `launch`, …) never invalidate the stage.

    Args:
        stage: Kind of stage, e.g. `pairs`.
    """
    seed, model = cfg.run.seed, {"dtype": cfg.model.dtype.value, "context": cfg.model.context}
    match stage:
        case "benchmarks":
            return {"eval": {"benchmarks": _items(cfg, "shots", "style", *ASKING)}, **_embedder(cfg)}
        case "others":
            return {"diversify": {"runs": list(cfg.diversify.runs)}}
        case "synthesis":
            parts = {name: as_settings(getattr(cfg, name)) for name in ("task", "bait", "diversify", "consensus")}
            # The device does not change vectors; the questions of other runs are an input.
            for elsewhere in ("device", "runs"):
                del parts["diversify"][elsewhere]
            # Nor does the place of the seed questions: the digest of their file is an input.
            del parts["bait"]["seeds"]
            return {"model": model, "seed": seed, **parts}
        case "replay":
            pairs = {
                "replay": as_settings(cfg.pairs.replay),
                "decay": cfg.pairs.decay,
                "responses": cfg.pairs.responses,
            }
            embedding = {**_embedder(cfg)["diversify"], "threshold": cfg.diversify.threshold}
            asked = {"bait": {"questions": cfg.bait.questions}, "pairs": pairs, "diversify": embedding}
            return {"model": model, "seed": seed, **asked}
        case "reliability":
            voting = as_settings(cfg.consensus)
            for unused in ("adaptive", "min_agreement"):
                del voting[unused]
            parts = {"task": as_settings(cfg.task), "consensus": voting}
            items = {"benchmarks": _items(cfg, "shots", *ASKING), "reliability": cfg.eval.reliability}
            return {"model": model, "seed": seed, "eval": items, **parts}
        case "pairs":
            voting = as_settings(cfg.consensus)
            cut = {name: voting[name] for name in ("samples", "min_agreement", "keep_ties")}
            pairs = {**as_settings(cfg.pairs), **arm_settings(cfg.pairs.labels)}
            return {"task": as_settings(cfg.task), "consensus": cut, "pairs": pairs}
        case "train":
            merged = cfg.serving.child is not Child.adapter
            settings = {"train": training_settings(cfg.train), "serving": {"merged": merged}}
            if cfg.train.trainer is Trainer.grpo:
                settings["task"] = as_settings(cfg.task)
            return {"model": model, "seed": seed, **settings}
        case "harness":
            tasks = as_settings(cfg.eval.harness)
            del tasks["python"]
            return {"model": model, "eval": {"harness": tasks, "max_tokens": cfg.eval.max_tokens}}
        case "eval":
            return {"model": model, "seed": seed, "task": as_settings(cfg.task), "eval": _evaluation(cfg)}
        case "verdict":
            judging = as_settings(cfg.verdict)
            # Patience decides when the loop ends, not what a comparison shows: a stopped run may be given more.
            del judging["patience"]
            guards = sorted(name for name, benchmark in cfg.eval.benchmarks.items() if benchmark.guard)
            return {"seed": seed, "verdict": judging, "eval": {"guards": guards}}
    raise ValueError(f"no stage {stage!r}")


def completed(recorded: Any, now: Any, schema: Any = Config) -> Any:
    """Recorded settings with the fields that joined their configs since, each at its value in earlier runs.

    Only a field that `now` has and that declares such a value (`crescent.config.earlier`) is filled in. Any other
    field, and any other entry of a dict (a benchmark, a bait prompt), stays a difference: it may change results.

    Args:
        recorded: Settings of a finished stage, as its manifest holds them.
        now: Settings that the same stage would be made with today.
        schema: Type that declares them: a dataclass, or a dict of dataclasses.
    """
    if not isinstance(recorded, Mapping) or not isinstance(now, Mapping):
        return recorded
    if get_origin(schema) is dict:
        entries = get_args(schema)[1]
        return {name: completed(value, now.get(name), entries) for name, value in recorded.items()}
    if not is_dataclass(schema):
        return recorded
    kinds = get_type_hints(schema)
    found = {name: completed(value, now.get(name), kinds.get(name)) for name, value in recorded.items()}
    return {name: value for name, value in earlier_values(schema).items() if name in now} | found


def arm_settings(labels: Labels) -> dict[str, str]:
    """How an arm is recorded where that is more, or something else, than its name.

    Arms of earlier runs had questions of their own: an old `first` is today's `first_any`. A fixed arm differs from the
    majority's only in the votes, which are an input.
    """
    match labels:
        case Labels.majority:
            return {}
        case Labels.fixed:
            return {"labels": Labels.majority.value}
        case Labels.first_any:
            return {"labels": Labels.first.value}
        case _:
            return {"questions": "kept"}


def training_settings(train: TrainConfig) -> dict[str, Any]:
    """Settings that the result of a training depends on, without those that its trainer ignores.

    The models it starts from are not among them: their digests are inputs.
    """
    settings: dict[str, Any] = as_settings(train)
    unread = {
        **dict.fromkeys(TRAIN_LAYOUT, True),
        "student": True,
        "dpo": train.trainer is not Trainer.dpo,
        "grpo": train.trainer is not Trainer.grpo,
        "lora": train.tuning is Tuning.full,
        "alpha": train.start is not Start.merge,
    }
    for name, is_unread in unread.items():
        if is_unread:
            del settings[name]
    return settings


def _evaluation(cfg: Config) -> dict[str, Any]:
    evaluation: dict[str, Any] = as_settings(cfg.eval)
    for elsewhere in ("data", "reliability", "harness"):
        del evaluation[elsewhere]
    for name, benchmark in evaluation["benchmarks"].items():
        del benchmark["guard"]  # It changes what a score means for the verdict, not the score.
        # The style that is used, and only where it is not the task's: so a run from before benchmarks had styles of
        # their own resumes where its answers are still read as they were, and is refused where they are not.
        if not benchmark["likelihood"]:
            del benchmark["reply"]
        style = style_of(cfg.eval.benchmarks[name], cfg.task)
        del benchmark["style"]
        if style is not cfg.task.answer_style:
            benchmark["style"] = style.name
    return evaluation


def _items(cfg: Config, *unread: str) -> dict[str, Any]:
    """The benchmarks by what their items depend on, without the settings in `unread`."""
    benchmarks: dict[str, Any] = _evaluation(cfg)["benchmarks"]
    return {
        name: {key: value for key, value in benchmark.items() if key not in unread}
        for name, benchmark in benchmarks.items()
    }


def _embedder(cfg: Config) -> dict[str, Any]:
    return {"diversify": {"embedder": cfg.diversify.embedder.value, "path": cfg.diversify.path}}
