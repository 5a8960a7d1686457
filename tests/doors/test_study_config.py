"""A declaration is checked where it is written, and a run against the declaration it is made under."""

import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from studies import study
from test_config import composed

from crescent.config import Gate, Labels, as_settings
from crescent.config.study import arm_name, parse_contrast
from crescent.doors.sweep import sweep_name
from crescent.errors import BadConfig
from crescent.reading.study import read_study
from crescent.run_folder.declaration import read_declarations, record_declaration
from crescent.run_folder.stage_settings import stage_settings


@pytest.mark.parametrize(
    ("contrast", "weights"),
    [
        ("majority - base", {("majority", ""): 1, ("base", ""): -1}),
        ("majority:vote - base:vote", {("majority", "vote"): 1, ("base", "vote"): -1}),
        ("(majority - base) - (first - base)", {("majority", ""): 1, ("first", ""): -1}),
        ("majority + gold - base - base", {("majority", ""): 1, ("gold", ""): 1, ("base", ""): -2}),
        ("noise=0.25 - majority", {("noise=0.25", ""): 1, ("majority", ""): -1}),
    ],
)
def test_a_contrast_is_a_weighted_sum(contrast: str, weights: dict[tuple[str, str], int]) -> None:
    assert parse_contrast(contrast) == weights


@pytest.mark.parametrize(
    "contrast", ["majority", "majority -", "majority base", "(majority - base", "base - base", "a + b", "- a + b"]
)
def test_what_is_no_difference_is_refused(contrast: str) -> None:
    with pytest.raises(BadConfig, match=re.escape(contrast)):
        parse_contrast(contrast)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"name": "My study"}, ["study.name='My study'"]),
        ({"arms": ["majority", "best"]}, ["study.arms=best", "pairs.labels"]),
        ({"arms": ["majority", "majority"]}, ["study.arms", "stands there twice"]),
        ({"seeds": [1]}, ["study.seeds=[1]", "5 or more"]),
        ({"contrasts": []}, ["study.contrasts=[]", "nothing is claimed"]),
        ({"contrasts": ["gold - base"]}, ["gold is neither base nor one of study.arms"]),
        ({"contrasts": ["majority - base:mean"]}, ["mean is no measure", "vote"]),
        ({"contrasts": ["majority - base:prompt"]}, ["needs study.base_prompts"]),
        ({"contrasts": ["majority:prompt - base"]}, ["only the base"]),
        ({"greedy": None, "contrasts": ["majority:greedy - base:greedy"]}, ["needs study.greedy"]),
        ({"stop": ""}, ["study.stop", "says when the study ends"]),
        ({"alpha": 0.0}, ["study.alpha=0.0"]),
        ({"digest": "0123"}, ["study.digest=0123", "changed after it was sealed"]),
    ],
)
def test_a_declaration_that_says_too_little_or_nonsense_is_refused(change: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(BadConfig) as refused:
        study(**change)
    for part in parts:
        assert part in str(refused.value)


def test_a_sealed_declaration_is_the_same_and_any_change_breaks_the_seal() -> None:
    sealed = study(digest=study().digest)
    assert sealed == study()
    assert study(alpha=0.01).digest != sealed.digest
    with pytest.raises(BadConfig, match="changed after it was sealed"):
        study(alpha=0.01, digest=sealed.digest)


def test_arms_are_named_after_their_labels_and_noise() -> None:
    assert arm_name("first") == "first"
    assert arm_name("majority", 0.25) == "noise=0.25"
    assert arm_name("first", 0.5) == "first+noise=0.5"
    assert study(arms=["majority", "noise=0.25", "first"]).arms[1] == "noise=0.25"
    for wrong in ("noise=2", "noise=0.250", "noise=0"):
        with pytest.raises(BadConfig, match="is no arm"):
            study(arms=["majority", "first", wrong])


def test_a_run_belongs_to_a_study_only_as_declared() -> None:
    cfg = composed("+experiment=smoke_study")
    assert cfg.study is not None
    assert cfg.study.digest
    for override, parts in {
        "run.seed=7": ["run.seed=7", "study=smoke", "[1, 2]"],
        "pairs.labels=first": ["pairs.labels=first", "is no arm of study=smoke"],
        "run.rounds=2": ["run.rounds=2", "declares 1 rounds"],
        "eval.samples=2": ["eval.benchmarks.sums_test.samples=2", "study=smoke declares 4"],
        "eval.benchmarks.sums_test.items=20": ["eval.benchmarks.sums_test.items=20", "declares 30"],
        "~eval.benchmarks.differences": ["differences", "is not in eval.benchmarks"],
        "eval.benchmarks.sums_greedy.temperature=0.5": ["sums_greedy.temperature=0.5", "greedy"],
        "eval.benchmarks.sums_greedy.seed=3": ["study.greedy=sums_greedy", "has other items than sums_test"],
    }.items():
        with pytest.raises(BadConfig) as refused:
            composed("+experiment=smoke_study", override)
        for part in parts:
            assert part in str(refused.value), override


def test_with_several_rounds_no_round_may_start_from_what_a_verdict_chose() -> None:
    two = ("+experiment=smoke_study", "study.rounds=2", "run.rounds=2")
    assert composed(*two).verdict.gate is Gate.off
    with pytest.raises(
        BadConfig, match=r"verdict.gate=better.*start of a round must not depend on a verdict.*gate=off"
    ):
        composed(*two, "verdict.gate=better")
    with pytest.raises(BadConfig, match="on_collapse=warn"):
        composed(*two, "verdict.collapse.on_collapse=stop")


def test_no_stage_depends_on_a_study() -> None:
    with_study, without = composed("+experiment=smoke_study"), composed("+experiment=smoke_study", "~study")
    assert without.study is None
    for kind in ("benchmarks", "synthesis", "pairs", "train", "eval", "verdict", "reliability", "replay", "harness"):
        assert stage_settings(with_study, kind) == stage_settings(without, kind)
    root = Path("runs")
    names = [sweep_name("a", ["run.seed=1", *extra], root) for extra in ([], ["study=smoke"], ["study.alpha=0.01"])]
    assert len(set(names)) == 1, "it is the same run"


def test_how_a_benchmark_is_asked_does_not_change_which_items_it_has() -> None:
    asked = composed(
        "+experiment=smoke", "eval.benchmarks.sums_test.samples=1", "eval.benchmarks.sums_test.likelihood=3"
    )
    assert stage_settings(asked, "benchmarks") == stage_settings(composed("+experiment=smoke"), "benchmarks")
    assert stage_settings(asked, "eval") != stage_settings(composed("+experiment=smoke"), "eval")


def test_a_declaration_is_read_by_name_from_a_file_and_from_the_config_of_a_run(tmp_path: Path) -> None:
    by_name = read_study("smoke")
    assert by_name.name == "smoke"
    cfg = composed("+experiment=smoke_study")
    OmegaConf.save(OmegaConf.structured(cfg), tmp_path / "config.yaml")
    assert read_study(str(tmp_path / "config.yaml")) == by_name == cfg.study
    OmegaConf.save(OmegaConf.create(as_settings(study())), tmp_path / "own.yaml")
    assert read_study(str(tmp_path / "own.yaml")) == study()
    with pytest.raises(BadConfig, match=r"conf/study, which has .*smoke"):
        read_study("smok")
    (tmp_path / "wrong.yaml").write_text("name: a\narm: [first]\n")
    with pytest.raises(BadConfig, match=r"wrong\.yaml.*arm"):
        read_study(str(tmp_path / "wrong.yaml"))


def test_a_run_folder_keeps_every_declaration_with_what_was_finished_by_then(tmp_path: Path) -> None:
    record_declaration(tmp_path, None)
    assert not read_declarations(tmp_path)
    record_declaration(tmp_path, study())
    record_declaration(tmp_path, study())
    done = tmp_path / "round-1/synthesis"
    done.mkdir(parents=True)
    (done / "manifest.json").write_text("{}")
    record_declaration(tmp_path, study(alpha=0.01))
    first, second = read_declarations(tmp_path)
    assert (first.digest, first.finished) == (study().digest, [])
    assert (second.digest, second.finished) == (study(alpha=0.01).digest, ["round-1/synthesis"])
    assert first.declaration["seeds"] == [1, 2, 3, 4, 5]


def test_labels_that_arms_may_have_are_those_of_the_pairs() -> None:
    assert study(arms=[labels.value for labels in Labels], contrasts=["majority - base"]).arms
