"""`crescent export --pairs`: what a round's child was trained on, as a data set in the formats that TRL reads
(https://huggingface.co/docs/trl/dataset_formats), with where each row comes from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crescent import __version__
from crescent.doors.export import BEST, check_target
from crescent.doors.export_card import answers_from, questions_from
from crescent.errors import BadConfig
from crescent.machine.disk import whole_folder
from crescent.reading.finished import RunReader, setting
from crescent.reading.rounds import read_rounds
from crescent.records import Pair, Question

FORMS = ("sft", "preference")
"""Names of the configurations: prompt and completion; prompt, chosen and rejected."""


def export_pairs(run: Path, wanted: str, target: Path) -> dict[str, int]:
    """Write the pairs of a round to the folder `target`, which must not exist; returns the rows by form.

    `datasets.load_dataset(FOLDER, "sft")` reads it.

    Args:
        wanted: Number of a round; or `best`: of the last accepted child, else of the last round that has pairs.

    Raises:
        BadConfig: the run has no such pairs, or `target` exists.
    """
    import datasets

    number = choose(run, wanted)
    check_target(target)
    reader = RunReader(run)
    pairs = list(reader.records(f"round-{number}/pairs/pairs.jsonl", Pair))
    if not pairs:
        raise BadConfig(f"{run}/round-{number}/pairs: holds no pairs; --round N names another round")
    baits = baits_of(reader, pairs)
    rows: dict[str, list[dict[str, Any]]] = {
        "sft": [sft_row(pair, baits) for pair in pairs],
        "preference": [preference_row(pair, baits) for pair in pairs if pair.rejected is not None],
    }
    found = {form: made for form, made in rows.items() if made}
    datasets.disable_progress_bars()
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(target) as draft:
        for form, made in found.items():
            (draft / form).mkdir()
            datasets.Dataset.from_list(made).to_parquet(draft / form / "train.parquet")
        (draft / "README.md").write_text(card(reader, number, found))
    return {form: len(made) for form, made in found.items()}


def choose(run: Path, wanted: str) -> int:
    """Number of the round whose pairs are exported. Raises `BadConfig` if it has none."""
    reader = RunReader(run)
    selected = [number for number in reader.rounds if reader.selection(number) is not None]
    if not selected:
        raise BadConfig(f"{run}: no round has finished pairs yet; run it first")
    if wanted == BEST:
        accepted = [found.round for found in read_rounds(run).rounds if found.action == "accept"]
        return accepted[-1] if accepted else selected[-1]
    if wanted not in map(str, selected):
        raise BadConfig(f"--round {wanted}: no finished pairs; rounds with pairs: {', '.join(map(str, selected))}")
    return int(wanted)


def baits_of(reader: RunReader, pairs: Sequence[Pair]) -> dict[str, str]:
    """Name of the bait prompt behind each question, by its id."""
    wanted = {pair.question for pair in pairs if pair.source == "vote"}
    found: dict[str, Question] = {}
    for number in sorted({pair.round for pair in pairs if pair.source == "vote"}):
        found |= {question.id: question for question in reader.questions(number, wanted)}
    return {identity: question.bait for identity, question in found.items()}


def sft_row(pair: Pair, baits: dict[str, str]) -> dict[str, Any]:
    return {"prompt": _user(pair.prompt), "completion": _assistant(pair.completion), **_origin(pair, baits)}


def preference_row(pair: Pair, baits: dict[str, str]) -> dict[str, Any]:
    chosen, rejected = _assistant(pair.completion), _assistant(pair.rejected or "")
    row = {"prompt": _user(pair.prompt), "chosen": chosen, "rejected": rejected, "margin": pair.margin}
    return {**row, **_origin(pair, baits)}


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _origin(pair: Pair, baits: dict[str, str]) -> dict[str, Any]:
    """Where a row comes from, as `crescent trace ID` shows it."""
    return {
        "final": pair.final,
        "agreement": pair.agreement,
        "source": pair.source,
        "round": pair.round,
        "bait": baits.get(pair.question),
        "id": pair.id,
        "question_id": pair.question,
    }


def card(reader: RunReader, number: int, rows: dict[str, list[dict[str, Any]]]) -> str:
    """Text of README.md, with the configurations that the hub and `datasets` read."""
    configs = "\n".join(
        f"- config_name: {form}\n  data_files: {form}/train.parquet" + ("\n  default: true" if form == "sft" else "")
        for form in rows
    )
    selection = reader.selection(number)
    prompts = setting(reader.synthesis(number), "bait.prompts") or {}
    baits = "\n".join(f"- `{name}`: {' '.join(str(prompt).split())}" for name, prompt in sorted(prompts.items()))
    counts = ", ".join(f"{len(made)} rows as `{form}`" for form, made in rows.items())
    return f"""---
tags: [crescent, synthetic, self-improvement]
configs:
{configs}
---

# Pairs of round {number} of the run `{reader.root.resolve().name}`

{counts}. The questions are what a model {questions_from(reader, number)} and answered several times. The completions
come {answers_from(reader, number)}; `rejected` is an answer that was outvoted. Nobody has checked the answers:
`agreement` is the share of samples behind the majority's. Made by Crescent {__version__}; digest of the stage
{selection["digest"] if selection else "–"}.

Bait prompts:

{baits}

```python
datasets.load_dataset("PATH", "sft", split="train")
```
"""
