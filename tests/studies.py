"""Declarations and records of made-up studies, for tests that judge and show them."""

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from crescent.config import StudyConfig
from crescent.config.study import PrimaryConfig, StudyGuardConfig
from crescent.judging.item_records import BenchmarkRecord, DeclaredAt, RoundRecord, RunRecord, StudyRecords

ITEMS, SAMPLES = 60, 8
SEEDS = [1, 2, 3, 4, 5]
SKILLS = {"base": 0.4, "majority": 0.6, "first": 0.4, "shuffled": 0.1}
"""Probability of a right sample, by model."""


def study(**changes: Any) -> StudyConfig:
    """A study of three arms; `changes` are fields."""
    settings: dict[str, Any] = {
        "name": "sums",
        "primary": PrimaryConfig("test", ITEMS, SAMPLES),
        "rounds": 2,
        "arms": ["majority", "first", "shuffled"],
        "seeds": SEEDS,
        "contrasts": ["majority - base", "majority - first", "first - base"],
        "greedy": "greedy",
        "guard": StudyGuardConfig("guard", 0.05),
        "stop": "after all seeds",
    }
    return StudyConfig(**{**settings, **changes})


def sampled(
    skill: float, seed: object, items: int = ITEMS, samples: int = SAMPLES, name: str = "set"
) -> BenchmarkRecord:
    """Answers that are right with this probability, else wrong in the right form or silent."""
    dice = random.Random(f"{seed}")

    def answer() -> str:
        return "*" if dice.random() < skill else dice.choice("aab.")

    answers = tuple("".join(answer() for _ in range(samples)) for _ in range(items))
    top = "".join(str(int(dice.random() < skill)) for _ in range(items))
    return BenchmarkRecord(f"{name}-{items}", samples, 10.0, answers, (), top)


def records(declared: StudyConfig, skills: Mapping[str, float] = SKILLS, **changes: Any) -> StudyRecords:
    """One complete run for each arm and seed; `changes` are fields of the records."""
    evaluations: dict[str, dict[str, BenchmarkRecord]] = {}
    runs = []
    for seed in declared.seeds:
        evaluations[f"base-{seed}"] = answers_of("base", seed, skills["base"])
        for arm in declared.arms:
            rounds = [RoundRecord(0, f"base-{seed}", "model")]
            for number in range(1, declared.rounds + 1):
                place = f"{arm}-{seed}-{number}"
                evaluations[place] = answers_of(arm, place, skills[arm])
                rounds.append(RoundRecord(number, place, place, "accept", f"synthesis-{seed}-{number}", 60, 40, 40))
            run = RunRecord(
                name=f"{arm}-{seed}",
                arm=arm,
                seed=seed,
                status="finished, 2 rounds",
                declared=(DeclaredAt(declared.digest, "2026-11-30T00:00:00+00:00"),),
                settings={"pairs.labels": f'"{arm}"', "run.seed": str(seed)},
                rounds=tuple(rounds),
            )
            runs.append(run)
    found = StudyRecords(
        study=declared.name,
        digest=declared.digest,
        declaration={},
        settings={"train.max_steps": "40"},
        item_sets={},
        evaluations=evaluations,
        runs=tuple(runs),
    )
    return replace(found, **changes)


def answers_of(name: str, place: object, skill: float) -> dict[str, BenchmarkRecord]:
    return {
        "test": sampled(skill, f"{name}{place}"),
        "greedy": sampled(skill, f"greedy{name}{place}", samples=1),
        "guard": sampled(0.7, f"guard{name}{place}", name="guards"),
    }


def without(found: StudyRecords, *names: str) -> StudyRecords:
    """The records without the runs of these names."""
    return replace(found, runs=tuple(run for run in found.runs if run.name not in names))


def changed(found: StudyRecords, name: str, **changes: Any) -> StudyRecords:
    """The records with fields of one run changed."""
    return replace(found, runs=tuple(replace(run, **changes) if run.name == name else run for run in found.runs))
