"""docs/gpu.md says of each figure where it comes from, and its tables agree with the code."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from crescent.config import (
    BaitConfig,
    BenchmarkConfig,
    Child,
    Config,
    Dtype,
    EvalConfig,
    ModelConfig,
    ServingConfig,
    TrainConfig,
    Tuning,
)
from crescent.models.micro_batch import Processes, find_fit

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "gpu.md").read_text()
MARK = re.compile(r"(measured|simulated|reckoned|read)\b(.*)")
WITH_COMMAND = ("measured", "simulated")


def rows_of(page: str) -> list[list[str]]:
    """Cells of all table rows, without heads and rules."""
    lines = page.splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for number, line in enumerate(lines)
        if line.startswith("|") and not set(line) <= set("|-: ") and not lines[number + 1].startswith("|-")
    ]


def unmarked(page: str) -> list[list[str]]:
    """Rows whose last cell does not say where the row comes from: measured by which command, reckoned from what, read
    where."""
    found = []
    for row in rows_of(page):
        mark = MARK.match(row[-1])
        if mark is None or (mark[1] in WITH_COMMAND and "`" not in mark[2]) or not mark[2].strip(": "):
            found.append(row)
    return found


def test_every_row_of_every_table_says_where_it_comes_from() -> None:
    assert len(rows_of(PAGE)) > 15
    assert not unmarked(PAGE)


@pytest.mark.parametrize(
    "row",
    [
        "| a | 3 s |",
        "| a | 3 s | reckoned |",
        "| a | 3 s | measured on an H200 |",
        "| a | 3 s | read |",
        "| a | b | x |",
    ],
)
def test_a_row_without_mark_source_or_command_is_noticed(row: str) -> None:
    assert unmarked(f"| what | figure | |\n|---|---|---|\n{row}\n\n") == rows_of(f"{row}\n\n")


def test_commands_of_the_page_name_tests_that_exist() -> None:
    named = re.findall(r"`pytest ([\w/.]+)", PAGE)
    assert named
    assert not [path for path in named if not (ROOT / path).exists()]


def fit_in_words(tuning: Tuning, gpu_gib: float, processes: Processes) -> str:
    child = Child.restart if tuning is Tuning.full else Child.adapter
    cfg = Config(
        bait=BaitConfig(prompts={"b": "Ask."}),
        eval=EvalConfig(benchmarks={"dev": BenchmarkConfig()}),
        model=ModelConfig(dtype=Dtype.bfloat16),
        serving=ServingConfig(child=child),
        train=replace(TrainConfig(micro_batch="auto", gradient_checkpointing="auto"), tuning=tuning),
    )
    fit = find_fit(cfg, 7.6e9, processes, gpu_gib, on_gpu=True)
    way = "with" if fit.gradient_checkpointing else "without"
    return f"{fit.micro_batch}, {way} checkpointing" + (", and may not fit" if "DOES NOT FIT" in fit.why else "")


@pytest.mark.parametrize(
    ("what", "tuning", "gpu_gib", "processes"),
    [
        ("7B, adapters, 140 GiB", Tuning.lora, 140.0, Processes()),
        ("7B, adapters, 80 GiB", Tuning.lora, 80.0, Processes()),
        ("7B, adapters, 48 GiB", Tuning.lora, 48.0, Processes()),
        ("7B, adapters, 24 GiB", Tuning.lora, 24.0, Processes()),
        ("7B, `train=qlora`, 24 GiB", Tuning.qlora, 24.0, Processes()),
        ("7B, all weights, 8 × 80 GiB (ZeRO-3)", Tuning.full, 80.0, Processes(8, 3)),
    ],
)
def test_the_table_of_micro_batches_says_what_the_code_chooses(
    what: str, tuning: Tuning, gpu_gib: float, processes: Processes
) -> None:
    [row] = [row for row in rows_of(PAGE) if row[0] == what]
    assert row[1].startswith(fit_in_words(tuning, gpu_gib, processes))
