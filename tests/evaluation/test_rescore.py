"""Scores made again from stored responses: of runs whose answers were read otherwise, and of published outputs."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from crescent.config import (
    AnswerStyle,
    BaitConfig,
    BenchmarkConfig,
    Config,
    EvalConfig,
    Source,
    Split,
    TaskConfig,
)
from crescent.config.standalone import EvaluationConfig
from crescent.errors import BadConfig, CrescentError, DataSaysNo, Missing
from crescent.judging.comparison import paired_test
from crescent.reading.runs import compare_runs
from crescent.records import Response, Verdict, digest, read_lines, write_lines
from crescent.run_folder.manifest import seal, tree_digest
from crescent.run_folder.stage_settings import stage_settings
from eval.rescoring.command import find_sources, rescore
from eval.rescoring.outputs import guess_style, read_outputs, score_outputs
from eval.rescoring.runs import RescoredRun, rescore_run
from eval.rescoring.tables import show_run
from eval.scorers import score

PUBLISHED = Path(__file__).parent.parent / "recorded" / "published"
MATH = TaskConfig(answer_style=AnswerStyle.math)
ITEMS = 20


def run_config(samples: int = 1, **style: AnswerStyle) -> Config:
    """A run about mathematics, as it was before benchmarks had styles: read by formulas, whatever is asked."""
    benchmarks = {
        "dev": BenchmarkConfig(Source.svamp),
        "gsm8k": BenchmarkConfig(split=Split.test),
        "formulas": BenchmarkConfig(Source.math500, split=Split.test),
    }
    for name, chosen in style.items():
        benchmarks[name].style = chosen
    evaluation = EvalConfig(benchmarks, samples=samples, temperature=0.7 if samples > 1 else 0.0)
    return Config(bait=BaitConfig(prompts={"mine": "Ask."}), eval=evaluation, task=MATH)


def old_settings(cfg: Config, stage: str) -> dict[str, Any]:
    """As they were recorded before benchmarks had styles."""
    settings = stage_settings(cfg, stage)
    for benchmark in settings["eval"]["benchmarks"].values():
        benchmark.pop("style", None)
    return settings


def respond(benchmark: str, item: int, right: bool, sample: int = 0) -> Response:
    """A right answer stands after a formula, which is what was read of it."""
    target = "x = 300" if benchmark == "formulas" else str(item)
    said = item if right else item + 1
    final = "x = 300"
    text = f"With $x = 300$ a day it is {said} in all."
    correct = final == target
    return Response(f"i{item}", benchmark, "?", text, final, target, correct, "stop", 9, sample, False, right)


def write_stage(folder: Path, settings: dict[str, Any], inputs: dict[str, str], **files: Sequence[object]) -> str:
    folder.mkdir(parents=True)
    for name, records in files.items():
        if name == "scores":
            (folder / "scores.json").write_bytes(b"[" + b",".join(map(as_json, records)) + b"]")
        else:
            write_lines(folder / (f"{name}.json" if name == "verdict" else f"{name}.jsonl"), records)
    made_from = {"version": "0.1.0", "settings": settings, "inputs": inputs}
    return str(seal(folder, {"made_from": made_from, "metrics": {}, "seconds": 1.0})["digest"])


def as_json(record: object) -> bytes:
    import msgspec

    return msgspec.json.encode(record)


def write_evaluation(root: Path, place: str, cfg: Config, right: int) -> str:
    """Of each benchmark the first `right` items are solved."""
    responses = [
        respond(name, item, item < right and sample != 1, sample)
        for name in cfg.eval.benchmarks
        for item in range(ITEMS)
        for sample in range(cfg.eval.samples)
    ]
    groups = {name: [answer for answer in responses if answer.benchmark == name] for name in cfg.eval.benchmarks}
    one_class = [(0,) * cfg.eval.samples] * ITEMS
    scores = [score(name, answers, one_class, decides=name == "dev") for name, answers in groups.items()]
    inputs = {"checkpoint": digest(place)}
    return write_stage(root / place / "eval", old_settings(cfg, "eval"), inputs, responses=responses, scores=scores)


def write_run(root: Path, rights: Sequence[int] = (8, 14), samples: int = 1, cfg: Config | None = None) -> Path:
    """The base and one round, whose verdict saw no difference: all word problems were read wrong."""
    cfg = cfg or run_config(samples)
    base, child = (write_evaluation(root, place, cfg, n) for place, n in zip(("base", "round-1"), rights, strict=True))
    verdict = Verdict("retry", "", "run-r01-00000000", "run-base", 0, 0, 0, 1, 0, 0, ITEMS, benchmarks=("dev",))
    inputs = {"child": child, "parent": base, "base": base, "best": base}
    write_stage(root / "round-1/verdict", stage_settings(cfg, "verdict"), inputs, verdict=[verdict])
    from omegaconf import OmegaConf

    OmegaConf.save(OmegaConf.structured(cfg), root / "config.yaml")
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def shown(found: RescoredRun) -> str:
    console = Console(file=io.StringIO(), record=True, width=150)
    show_run(found, console)
    return console.export_text()


def settings(**given: Any) -> EvaluationConfig:
    from crescent.config import ModelConfig

    return EvaluationConfig(model=ModelConfig(path="m"), **given)


def test_each_benchmark_is_read_again_in_its_own_style(tmp_path: Path) -> None:
    found = rescore_run(write_run(tmp_path / "a"), 5.0)
    assert [(row.place, row.benchmark, row.style, row.old.correct, row.new.correct) for row in found.scores] == [
        ("base", "dev", "number", 0, 8),
        ("base", "gsm8k", "number", 0, 8),
        ("base", "formulas", "math", 20, 20),
        ("round-1", "dev", "number", 0, 14),
        ("round-1", "gsm8k", "number", 0, 14),
        ("round-1", "formulas", "math", 20, 20),
    ]
    assert [row.new.flexible for row in found.scores if row.benchmark == "dev"] == [8, 14]
    # A style that the run's own config names is kept.
    explicit = rescore_run(write_run(tmp_path / "b", cfg=run_config(dev=AnswerStyle.math)), 5.0)
    assert {(row.style, row.new.correct) for row in explicit.scores if row.benchmark == "dev"} == {("math", 0)}


def test_every_changed_reading_is_listed_with_where_it_stands(tmp_path: Path) -> None:
    found = rescore_run(write_run(tmp_path / "a"), 5.0)
    stored = {
        place: read_lines(tmp_path / f"a/{place}/eval/responses.jsonl", Response) for place in ("base", "round-1")
    }
    assert len(found.changes) == 2 * 2 * ITEMS, "of all word problems another final answer was read"
    for change in found.changes:
        response = stored[change.place][change.line - 1]
        assert (change.benchmark, change.item, change.sample) == (response.benchmark, response.item, response.sample)
        assert (change.old_final, change.old_correct, change.target) == ("x = 300", False, response.target)
        assert change.text == digest(response.text)
        assert change.new_correct == (change.new_final == change.target)
    assert sum(change.new_correct for change in found.changes) == 2 * (8 + 14)


def test_what_a_verdict_rests_on_is_compared_old_and_new(tmp_path: Path) -> None:
    found = rescore_run(write_run(tmp_path / "a"), 5.0)
    (verdict,) = found.verdicts
    assert (verdict.round, verdict.parent, verdict.items) == (1, "base", ITEMS)
    assert verdict.changed == 14, "of the first 8 items both answers became right, of the next 6 the child's"
    parent, child = (
        [replace(respond("dev", item, item < right), correct=item < right) for item in range(ITEMS)]
        for right in (8, 14)
    )
    resamples = run_config().verdict.resamples
    assert verdict.new == paired_test(child, parent, resamples, seed=0)
    assert (verdict.old.gained, verdict.old.lost, verdict.old.p_value) == (0, 0, 1.0)
    assert (verdict.new.gained, verdict.new.lost) == (6, 0)
    assert verdict.new.p_value == pytest.approx(2 / 2**6)
    assert (verdict.old_action, verdict.new_action) == ("retry", "accept")
    text = shown(found)
    assert "0 → 6" in text
    assert "1.0 → 0.031" in text
    assert "retry → accept" in text
    assert (
        "the recorded verdict is 'retry' and does not change; on the new scores it would be 'accept': 6 of 20 items"
        in text
    )
    assert "80 of 120 readings changed: 44 wrong → right, 0 right → wrong, 36 in the final answer only" in text


def test_a_verdict_that_stays_is_not_called_changed(tmp_path: Path) -> None:
    found = rescore_run(write_run(tmp_path / "a", rights=(8, 8)), 5.0)
    (verdict,) = found.verdicts
    assert (verdict.changed, verdict.old_action, verdict.new_action) == (8, "retry", "retry")
    assert "the recorded verdict" not in shown(found)


def test_several_samples_are_voted_on_again(tmp_path: Path) -> None:
    found = rescore_run(write_run(tmp_path / "a", samples=3), 5.0)
    dev = next(row for row in found.scores if row.benchmark == "dev")
    assert (dev.old.samples, dev.old.majority, dev.new.majority) == (3, 0.0, 8 / ITEMS)
    assert dev.new.pass_at["3"] == 8 / ITEMS
    assert "maj@k" in shown(found)
    assert "0.0% → 40.0%" in shown(found)


def command(place: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    world = {**os.environ, "COLUMNS": "150"}
    line = [sys.executable, "-P", "-m", "eval", *arguments]
    return subprocess.run(line, cwd=place, env=world, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_shows_old_and_new_and_changes_no_stage(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs/mine")
    before, known, compared = contents(run), tree_digest(run), compare_runs([run])
    ended = command(tmp_path, "rescore=mine")
    assert ended.returncode == 0, ended.stderr
    assert "0.0% → 40.0%" in ended.stdout
    assert "44 wrong → right" in ended.stdout
    after = contents(run)
    assert {name for name in after if name not in before} == {"rescored/scores.json", "rescored/changes.jsonl"}
    assert {name: after[name] for name in before} == before
    assert (tree_digest(run), compare_runs([run])) == (known, compared)
    written = json.loads((run / "rescored/scores.json").read_text())
    assert written["styles"] == {"dev": "number", "gsm8k": "number", "formulas": "math"}
    assert [(row["old"]["correct"], row["new"]["correct"]) for row in written["scores"][:1]] == [(0, 8)]
    assert written["verdicts"][0]["new"]["gained"] == 6
    assert len((run / "rescored/changes.jsonl").read_text().splitlines()) == 80
    again = command(tmp_path, "rescore=runs/mine")
    assert again.stdout == ended.stdout
    assert contents(run) == after
    as_formulas = command(tmp_path, "rescore=runs/mine", "+styles.dev=math", "+styles.gsm8k=math")
    assert "0 of 120 readings changed" in as_formulas.stdout


def test_a_run_folder_of_earlier_code_is_rescored_and_its_stages_stay(tmp_path: Path) -> None:
    with tarfile.open(PUBLISHED.parent / "run_before_wings.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    run = tmp_path / "runs/smoke"
    before = contents(run)
    found = rescore_run(run, 5.0)
    assert [(row.place, row.benchmark, row.style) for row in found.scores] == [
        ("base", "sums_dev", "number"),
        ("round-1", "sums_dev", "number"),
    ]
    assert [(row.new.correct, row.new.unparsed) for row in found.scores] == [
        (row.old.correct, row.old.unparsed) for row in found.scores
    ]
    (verdict,) = found.verdicts
    assert (verdict.round, verdict.parent, verdict.old_action, verdict.new_action) == (1, "base", "accept", "accept")
    assert found.changes == found.notes == ()
    assert contents(run) == before


def test_a_sweeps_runs_are_given_as_a_list_a_pattern_or_their_folder(tmp_path: Path) -> None:
    runs = [tmp_path / "runs" / name for name in ("s-1", "s-2", "other")]
    for run in runs:
        (run / "base").mkdir(parents=True)
    (tmp_path / "out.jsonl").write_text("{}")
    (tmp_path / "out.rescored.jsonl").write_text("{}")
    root = tmp_path / "runs"
    assert find_sources([str(runs[0]), "s-2"], root) == (runs[:2], [])
    assert find_sources(str(root / "s-*"), root) == (runs[:2], [])
    assert find_sources(str(root), root) == (sorted(runs), [])
    assert find_sources(str(tmp_path / "*.jsonl"), root) == ([], [tmp_path / "out.jsonl"])
    for nothing in ("nowhere", str(root / "x-*"), str(tmp_path / "out.rescored.jsonl")):
        with pytest.raises(Missing, match=r"rescore=.*runs: .*s-1"):
            find_sources(nothing, root)


def test_without_stored_texts_it_says_where_they_would_be(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    for place in ("base", "round-1"):
        (run / place / "eval/responses.jsonl").unlink()
    with pytest.raises(
        Missing, match=r"base/eval: responses\.jsonl is missing, .* copy the complete folder .*run\.redo"
    ):
        rescore_run(run, 5.0)
    silent = write_run(tmp_path / "b")
    for place in ("base", "round-1"):
        stage = silent / place / "eval"
        manifest = json.loads((stage / "manifest.json").read_text())
        write_lines(
            stage / "responses.jsonl",
            [replace(response, text="") for response in read_lines(stage / "responses.jsonl", Response)],
        )
        seal(stage, {name: manifest[name] for name in ("made_from", "metrics", "seconds")})
    with pytest.raises(Missing, match="it has no finished evaluation with response texts"):
        rescore_run(silent, 5.0)


def test_a_damaged_evaluation_is_left_out_and_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    with (run / "round-1/eval/responses.jsonl").open("a") as file:
        file.write("{}\n")
    found = rescore_run(run, 5.0)
    assert {row.place for row in found.scores} == {"base"}
    assert found.verdicts == ()
    assert "round-1/eval: responses.jsonl is not as it was written" in shown(found)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (["rescore", "eval"], r"eval: a run is rescored with its own settings; .*\+styles\.BENCHMARK=STYLE"),
        (["rescore", "model.path"], r"model\.path: a run is rescored with its own settings"),
        (["rescore", "~eval.benchmarks"], r"~eval\.benchmarks: "),
        (["rescore", "task.answer_style"], r"task\.answer_style=math: each benchmark .* use \+styles\.BENCHMARK"),
        (["rescore", "styles.x"], r"styles\.x: .* has no such benchmark; it has dev, formulas, gsm8k"),
    ],
)
def test_settings_that_rescoring_does_not_read_are_refused(tmp_path: Path, given: list[str], error: str) -> None:
    run = write_run(tmp_path / "a")
    styles = {"x": AnswerStyle.math} if "styles.x" in given else {}
    with pytest.raises(BadConfig, match=error):
        rescore(settings(rescore=str(run), styles=styles), given)
    assert not (run / "rescored").exists()


def test_styles_without_a_rescoring_are_refused() -> None:
    with pytest.raises(BadConfig, match=r"styles=.*is only for rescore=RUN; set eval\.benchmarks\.NAME\.style"):
        settings(styles={"gsm8k": AnswerStyle.math})


def agreements(name: str, task: TaskConfig | None = None) -> dict[tuple[str, str, str], tuple[int, int, int, int]]:
    outputs = read_outputs(PUBLISHED / name)
    style = guess_style([output for published in outputs.values() for output in published])
    return {
        (found.model, row.label, row.score): (row.both_right, row.only_ours, row.only_theirs, row.both_wrong)
        for found in score_outputs(outputs, task or TaskConfig(answer_style=style), 5.0)
        for row in found.agreements
    }


def test_gsm8ks_published_solutions_are_read_for_each_model_and_agree_with_their_labels() -> None:
    found = agreements("gsm8k_solutions.jsonl")
    assert {model for model, _, _ in found} == {"careful", "hasty"}
    assert found["careful", "is_correct", "deciding"] == (4, 0, 0, 0)
    assert found["hasty", "is_correct", "deciding"] == (0, 0, 0, 4)
    outputs = read_outputs(PUBLISHED / "gsm8k_solutions.jsonl")
    assert [output.target for output in outputs["hasty"]] == ["11", "350", "600", "16"]


def test_lm_evals_samples_are_one_item_for_all_filters_and_agree_with_each_filter() -> None:
    outputs = read_outputs(PUBLISHED / "samples_gsm8k.jsonl")
    assert [len(published) for published in outputs.values()] == [8]
    found = agreements("samples_gsm8k.jsonl")
    assert found["", "flexible-extract", "flexible"] == (3, 0, 0, 5)
    # The box counts as strict for us, and not for lm-eval.
    assert found["", "strict-match", "strict"] == (3, 1, 0, 4)
    assert found["", "strict-match", "deciding"] == (3, 3, 0, 2)


def test_plain_outputs_with_several_responses_are_voted_on() -> None:
    outputs = read_outputs(PUBLISHED / "plain.jsonl")
    assert guess_style(outputs[""]) is AnswerStyle.math
    (found,) = score_outputs(outputs, MATH, 5.0)
    assert (found.score.samples, found.score.total, found.score.unparsed, found.score.correct) == (3, 9, 2, 5)
    assert found.score.majority == 1.0
    assert agreements("plain.jsonl", MATH)["", "is_correct", "deciding"] == (5, 0, 1, 3)


@pytest.mark.parametrize(
    ("targets", "style"),
    [
        (["18", "1/2", "-3.5"], AnswerStyle.number),
        (["A", "C"], AnswerStyle.choice),
        (["18", "x+1"], AnswerStyle.math),
        (["A", "18"], AnswerStyle.math),
    ],
)
def test_a_files_style_follows_from_its_reference_answers(
    tmp_path: Path, targets: list[str], style: AnswerStyle
) -> None:
    path = tmp_path / "o.jsonl"
    path.write_text("".join(json.dumps({"target": target, "response": "?"}) + "\n" for target in targets))
    assert guess_style(read_outputs(path)[""]) is style


def test_repeated_questions_and_cut_responses_stay_apart(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    rows = [
        {"id": 1, "target": 5, "response": "First 3, then 5", "finish_reason": "length"},
        {"id": 1, "target": 5, "response": "#### 5\nand then", "finish_reason": "length"},
        {"id": 2, "target": "so\n#### 1,000", "text": "1000"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (found,) = score_outputs(read_outputs(path), TaskConfig(answer_style=AnswerStyle.number), 5.0)
    assert [(response.item, response.final, response.correct) for response in found.responses] == [
        ("1", None, False),
        ("1/1", "5", True),
        ("2", "1000", True),
    ]
    assert found.agreements == ()


@pytest.mark.parametrize(
    ("content", "kind", "says"),
    [
        ("", DataSaysNo, "is empty"),
        ("{", BadConfig, "line 1: not JSON"),
        ("[1]", BadConfig, "line 1: a JSON list; each line must be an object"),
        ('{"prompt": "?", "output": "1"}', BadConfig, "line 1: its fields are prompt, output; it needs a reference"),
        ('{"resps": [[["-1.5", "False"]]], "target": "1"}', BadConfig, "log-probabilities, not texts"),
        (
            '{"id": 1, "target": "1", "output": ["1"]}\n{"id": 2, "target": "1", "output": []}',
            DataSaysNo,
            "0 to 1 resp",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_the_line(
    tmp_path: Path, content: str, kind: type[CrescentError], says: str
) -> None:
    path = tmp_path / "o.jsonl"
    path.write_text(content)
    with pytest.raises(kind, match=says):
        read_outputs(path)


def test_the_command_scores_a_file_and_writes_each_reading_beside_it(tmp_path: Path) -> None:
    for file in PUBLISHED.glob("*.jsonl"):
        shutil.copy(file, tmp_path)
    ended = command(tmp_path, "rescore=gsm8k_solutions.jsonl")
    assert ended.returncode == 0, ended.stderr
    assert "answers read as number, like its reference answers" in ended.stdout
    written = [json.loads(line) for line in (tmp_path / "gsm8k_solutions.rescored.jsonl").read_text().splitlines()]
    assert len(written) == 8
    assert all(row["correct"] is row["labels"]["is_correct"] for row in written)
    chosen = command(tmp_path, "rescore=samples_gsm8k.jsonl", "task=arithmetic")
    assert "samples_gsm8k.jsonl: answers read as number\n" in chosen.stdout
    assert "strict-match" in chosen.stdout
