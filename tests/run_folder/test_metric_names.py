"""One declaration of all metrics: what a run writes and what report, console, comparison and W&B show of it."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from crescent.config import Artifacts, TrackingConfig, TrackingJob
from crescent.reading.rounds import read_run
from crescent.reading.runs import ComparedRuns, compare_runs
from crescent.records import Candidate, Done, read_lines
from crescent.report.collapse_figures import collapse_figures
from crescent.report.run import read_report
from crescent.report.tables import MEASURES, training_sheet
from crescent.run_folder.manifest import MANIFEST, SEAL
from crescent.run_folder.metric import LOOP, READ, RUN, STEP, Unit
from crescent.run_folder.metric_names import (
    AGREEMENT,
    DROPPED_NEAR_DUPLICATES,
    FIRST_AGREEMENT,
    METRICS,
    NEAR_DUPLICATE_DROP_RATE,
    NEAR_DUPLICATE_RATE,
    QUESTIONS,
    SECONDS,
    current_names,
    declared,
    kind_of,
)
from crescent.run_folder.metrics import read_metrics
from crescent.show.compare_csv import COLUMNS
from crescent.show.compare_tables import sheets
from crescent.stages import monitored
from crescent.tracking.contents import RunContents
from crescent.tracking.ledger import UploadLedger
from crescent.tracking.view import CURVES, QUESTION_METRICS, SCORED, STAGES, VERDICTS

ROOT = Path(__file__).parents[2]
OLD = {"dropped_near_duplicates": "near_duplicates", "monitor/near_duplicate_rate": "monitor/near_duplicates"}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run in which self-deduplication rewrites some questions and drops others, and its console output."""
    root = tmp_path_factory.mktemp("runs")
    loop = [sys.executable, "-P", "-m", "crescent.loop", "+experiment=smoke", f"run.root={root}", "run.name=run"]
    few = ("bait.questions=32", "eval.benchmarks.sums_dev.items=40", "eval.benchmarks.sums_test.items=30")
    strict = ("diversify.threshold=0.5", "diversify.max_rewrites=1", "eval.reliability=20")
    several = ("eval.samples=2", "eval.temperature=0.7", "tracking.console=plain")
    ended = subprocess.run([*loop, *few, *strict, *several], capture_output=True, text=True, check=False, timeout=250)
    assert ended.returncode == 0, ended.stderr
    return root / "run", ended.stdout


@pytest.fixture(scope="module")
def run(told: tuple[Path, str]) -> Path:
    return told[0]


def metrics_of(root: Path, stage: str) -> dict[str, float]:
    found: dict[str, float] = json.loads((root / stage / MANIFEST).read_text())["metrics"]
    return found


def folder_of(root: Path) -> RunContents:
    tracking = TrackingConfig(artifacts=Artifacts.none)
    ledger = UploadLedger(root)
    ledger.add(read_metrics(root))
    return RunContents(TrackingJob(str(root), root.name, tracking), ledger)


def test_no_two_metrics_share_a_name_or_a_label() -> None:
    names = Counter((metric.stage, name) for metric in METRICS for name in (metric.name, *metric.aliases))
    assert max(names.values()) == 1
    labels = Counter(metric.label for metric in METRICS)
    assert [label for label, count in labels.items() if count > 1] == []


def test_every_metric_says_what_it_means() -> None:
    for metric in METRICS:
        assert len(metric.meaning) > 10, metric
        assert metric.meaning[0].isupper() or metric.meaning.startswith(("maj@", "1 if")), metric
        assert not metric.meaning.endswith("."), metric


def test_every_metric_that_a_run_writes_is_declared(run: Path) -> None:
    lines = read_metrics(run)
    assert {kind_of(line["stage"]) for line in lines} >= {
        "synthesis",
        "pairs",
        "train",
        "eval",
        "verdict",
        "reliability",
    }
    for line in lines:
        kind = kind_of(line["stage"])
        written = set(line) - {"stage", "round"}
        assert not [name for name in written if declared(kind, name) is None], line["stage"]
        assert written - {SECONDS.name} == metrics_of(run, line["stage"]).keys()


def test_shares_lie_between_0_and_1_and_counts_are_whole(run: Path) -> None:
    for line in read_metrics(run):
        for name, value in line.items():
            metric = declared(kind_of(line["stage"]), name)
            if metric is not None and metric.unit in (Unit.share, Unit.probability):
                assert 0 <= value <= 1, name
            if metric is not None and metric.unit in (Unit.count, Unit.tokens) and "monitor/" not in name:
                assert value == int(value) >= 0, name


def test_everything_that_wandb_is_given_is_declared_and_what_its_view_shows_is_given(run: Path) -> None:
    folder = folder_of(run)
    rows = [folder.loop_row(line) for line in read_metrics(run)]
    given = {name for row in rows for name, value in row.items() if isinstance(value, int | float) and name != "round"}
    for name in given:
        kind, _, rest = name.removeprefix(LOOP).partition("/")
        assert declared(kind, rest) is not None or declared(RUN, name) is not None, name
    shown = {metric.in_loop for metric in (*VERDICTS, *QUESTION_METRICS)}
    shown |= {f"{LOOP}{metric.stage}/{metric.named(benchmark='sums_dev')}" for metric in SCORED}
    shown |= {f"{LOOP}{stage}/{SECONDS.name}" for stage in STAGES}
    assert shown <= given
    assert all(metric.stage == STEP for metric in CURVES)
    for stage, identity in folder.stages():
        picture = folder.stage(stage, identity)
        assert picture is not None
        for name in picture.summary:
            kind, _, rest = name.partition("/")
            assert declared("pairs" if kind == "synthesis" else kind, rest) is not None, name


def test_near_duplicates_are_measured_in_three_ways_under_three_names(run: Path) -> None:
    candidates = read_lines(run / "round-1/synthesis/candidates.jsonl", Candidate)
    dropped = sum(candidate.outcome == "near-duplicate" for candidate in candidates)
    first = [found for found in candidates if found.question.rewrites == 0 and found.outcome != "unusable"]
    similar = sum(candidate.outcome != "accepted" for candidate in first)
    synthesis = metrics_of(run, "round-1/synthesis")
    assert 0 < dropped < similar, "this run cannot tell the three apart"
    assert DROPPED_NEAR_DUPLICATES.of(synthesis) == dropped
    assert NEAR_DUPLICATE_RATE.of(synthesis) == pytest.approx(similar / len(first), abs=1e-6)
    rows = read_run(run, "run").rounds
    assert rows[1].near_duplicate_drop_rate == dropped / synthesis["candidates"]
    labels = {metric.label for metric in (DROPPED_NEAR_DUPLICATES, NEAR_DUPLICATE_RATE, NEAR_DUPLICATE_DROP_RATE)}
    assert len(labels) == 3


def shown_numbers(root: Path, console: str) -> Iterator[tuple[str, int, str, float]]:
    """What report, console, comparison and W&B show of each round: label, round, where, and the value in its unit."""
    for line in read_metrics(root):
        kind = kind_of(line["stage"])
        for name, value in folder_of(root).loop_row(line).items():
            metric = declared(kind, name.removeprefix(f"{LOOP}{kind}/"))
            if (
                metric is not None
                and "{" not in metric.name
                and metric is not SECONDS
                and isinstance(value, int | float)
            ):
                yield metric.label, line["round"], "W&B", value
    table: ComparedRuns = compare_runs([root])
    for sheet in (sheet for sheet in sheets(table, {"run": "run"}, short=False) if sheet.title == "rounds"):
        for row in sheet.rows[1:]:
            for column, cell in zip(sheet.columns, row, strict=True):
                if any(column == f"|{metric.label}" for metric in METRICS):
                    yield column[1:], int(re.findall(r"r(\d\d)", row[1])[0]), "compare", float(cell)
    heads: list[str] = []
    for text in console.splitlines():
        cells = [cell.strip() for cell in re.split("[┃│]", text)[1:-1]]
        heads = cells if "agreement" in cells else heads
        if heads and cells and cells[0].isdecimal():
            for label in heads:
                if any(label == metric.label for metric in METRICS):
                    yield label, int(cells[0]), "console", float(cells[heads.index(label)])
    report = read_report(read_run(root, "run"))
    for found in report.rounds:
        for loss in (loss for step in found.funnel for loss in step.dropped):
            if any(loss.reason == metric.label for metric in METRICS):
                yield loss.reason, found.number, "report, step by step", loss.count
    for figure in collapse_figures(report):
        label = figure.title[0].lower() + figure.title[1:]
        percent = figure.numbers.columns[1] == "|%"
        for number, value in figure.numbers.rows:
            yield label, int(number), "report, monitors", float(value) / (100 if percent else 1)
    training = training_sheet(report.rounds)
    assert training is not None
    for row in training.rows:
        for column, cell in zip(training.columns[1:], row[1:], strict=True):
            yield column[1:], int(row[0]), "report, training", float(cell.replace(",", ""))


def test_equal_labels_show_equal_numbers(told: tuple[Path, str]) -> None:
    shown: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for label, number, where, value in shown_numbers(*told):
        assert shown[label, number].setdefault(where, value) == value, f"{label} twice in {where}"
        shown[label, number][where] = value
    for label in (DROPPED_NEAR_DUPLICATES.label, NEAR_DUPLICATE_RATE.label, AGREEMENT.label, FIRST_AGREEMENT.label):
        assert len(shown[label, 1]) > 1, f"{label} is shown in one place only, so nothing is compared"
    assert {where for values in shown.values() for where in values} == {
        *("W&B", "compare", "console", "report, step by step", "report, monitors", "report, training")
    }
    for (label, number), values in shown.items():
        rounding = 0.0051 if max(values.values()) < 10 else 0.051
        assert max(values.values()) == pytest.approx(min(values.values()), abs=rounding), (label, number, values)


def test_columns_of_the_csv_and_of_the_training_table_are_declared(run: Path) -> None:
    per_round = COLUMNS[COLUMNS.index("questions") : COLUMNS.index("benchmark")]
    known = [declared(kind, name) for name in per_round for kind in ("synthesis", "pairs", READ)]
    assert {metric.name for metric in known if metric} == set(per_round)
    assert "near_duplicates" not in COLUMNS
    assert {metric.stage for metric in MEASURES} == {"train"}


def as_written_before(root: Path) -> None:
    """Give the two renamed metrics the names that they had, in manifests and in metrics.jsonl."""
    for path in root.glob(f"round-*/synthesis/{MANIFEST}"):
        manifest = json.loads(path.read_text())
        del manifest[SEAL]  # Manifests had none then.
        manifest["metrics"] = {OLD.get(name, name): value for name, value in manifest["metrics"].items()}
        path.write_text(json.dumps(manifest))
    lines = [{OLD.get(name, name): value for name, value in line.items()} for line in read_metrics(root)]
    (root / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_run_folder_with_the_old_names_reads_as_before(run: Path, tmp_path: Path) -> None:
    old = tmp_path / "run"
    shutil.copytree(run, old)
    as_written_before(old)
    before = (old / "metrics.jsonl").read_bytes()
    assert OLD["monitor/near_duplicate_rate"] in before.decode()
    assert read_run(old, "run").rounds == read_run(run, "run").rounds
    rounds = read_report(read_run(old, "run")).rounds
    for found, expected in zip(rounds, read_report(read_run(run, "run")).rounds, strict=True):
        assert (found.monitors, found.funnel) == (expected.monitors, expected.funnel)
    done = [Done(root, "", metrics_of(root, "round-1/synthesis"), 1.0) for root in (old, run)]
    assert monitored(done[0]) == monitored(done[1])
    assert NEAR_DUPLICATE_RATE.monitor in monitored(done[0])
    rows = [[folder_of(root).loop_row(line) for line in read_metrics(root)] for root in (old, run)]
    assert rows[0] == rows[1]
    assert (old / "metrics.jsonl").read_bytes() == before, "what is on the disk stays as it was written"


def test_names_that_did_not_change_stay_and_unknown_ones_too() -> None:
    assert current_names("synthesis", {"questions": 1, "later": 2}) == {QUESTIONS.name: 1, "later": 2}
    assert current_names("pairs", {"near_duplicates": 1}) == {"near_duplicates": 1}


def test_no_reader_looks_a_metric_up_by_a_string() -> None:
    by_string = re.compile(r"""metrics(?:["']\])?(?:\.get\(|\[)\s*f?["']""")
    for folder in ("reading", "report", "show", "tracking", "doors"):
        for path in (ROOT / "crescent" / folder).rglob("*.py"):
            assert not by_string.search(path.read_text()), path
