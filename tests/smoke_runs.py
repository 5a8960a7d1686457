"""Smoke runs for tests that read runs, and ways to change them on the disk."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from crescent.records import Response, read_lines, write_lines
from crescent.run_folder.manifest import MANIFEST, seal

ROUND_STAGES = ("synthesis", "pairs", "train", "eval", "verdict")


STAGES = ("base/eval", *(f"round-{number}/{step}" for number in (1, 2) for step in ROUND_STAGES))


Change = Callable[[dict[str, object]], None]


def run_smoke(root: Path, name: str, *overrides: str) -> Path:
    """A finished run on the fakes: few questions, few items."""
    few = ("bait.questions=24", "eval.benchmarks.sums_dev.items=40", "eval.benchmarks.sums_test.items=30")
    loop = [sys.executable, "-P", "-m", "crescent.loop", "+experiment=smoke", f"run.root={root}", f"run.name={name}"]
    ended = subprocess.run([*loop, *few, *overrides], capture_output=True, text=True, check=False, timeout=250)
    assert ended.returncode == 0, ended.stderr
    return root / name


def reseal(root: Path, change: Change = lambda manifest: None) -> None:
    """Seal all stages again as they are now, each as made from the others as they are now."""
    digests: dict[str, str] = {}
    for stage in STAGES:
        if (root / stage).exists():
            manifest = json.loads((root / stage / MANIFEST).read_text())
            change(manifest)
            inputs = {name: digests.get(input_, input_) for name, input_ in manifest["made_from"]["inputs"].items()}
            about = {name: manifest[name] for name in ("metrics", "seconds")}
            sealed = seal(root / stage, {**about, "made_from": {**manifest["made_from"], "inputs": inputs}})
            digests[manifest["digest"]] = sealed["digest"]


def reseal_alone(stage: Path) -> None:
    manifest = json.loads((stage / MANIFEST).read_text())
    seal(stage, {name: manifest[name] for name in ("metrics", "seconds", "made_from")})


def rename_items(root: Path, stages: tuple[str, ...], benchmark: str) -> None:
    for stage in stages:
        path = root / stage / "responses.jsonl"
        responses = read_lines(path, Response)
        write_lines(
            path,
            [
                replace(response, item=f"x{response.item}") if response.benchmark == benchmark else response
                for response in responses
            ],
        )
    reseal(root)


def sweep_of(zero: Path, folder: Path, *points: tuple[str, int, int, int]) -> list[Path]:
    """Copies with other samples and seeds; the first correct dev answers of the last child are made wrong."""
    roots = []
    for name, samples, seed, wrong in points:
        root = Path(shutil.copytree(zero, folder / name))
        config = (root / "config.yaml").read_text().replace("samples: 8", f"samples: {samples}")
        (root / "config.yaml").write_text(re.sub(r"(?m)^  seed: 0$", f"  seed: {seed}", config))
        path, found, left = root / "round-2/eval/responses.jsonl", [], wrong
        for response in read_lines(path, Response):
            spoiled = response.benchmark == "sums_dev" and response.correct and left > 0
            left -= spoiled
            found.append(replace(response, correct=response.correct and not spoiled))
        write_lines(path, found)
        scores = json.loads((path.parent / "scores.json").read_text())
        for score in scores:
            if score["benchmark"] == "sums_dev":
                score["correct"] -= wrong
                score["accuracy"] = score["correct"] / score["total"]
        (path.parent / "scores.json").write_text(json.dumps(scores))
        reseal(root)
        roots.append(root)
    return roots


def set_setting(root: Path, key: str, value: str) -> None:
    """Write another value of a setting into `config.yaml`; `key` is the last part of its name."""
    path = root / "config.yaml"
    changed, count = re.subn(rf"(?m)^(\s*{key}:).*$", lambda match: f"{match[1]} {value}", path.read_text(), count=1)
    assert count == 1
    path.write_text(changed)


def change_records(root: Path, name: str, kind: type[object], how: Callable[[object], object]) -> None:
    path = root / name
    write_lines(path, [how(record) for record in read_lines(path, kind)])


def several(run: Path, folder: Path) -> list[Path]:
    """Two seeds of two settings, the last of them not finished."""
    roots = []
    for name, seed, samples in (("a0", 0, 3), ("a1", 1, 3), ("b0", 0, 5), ("b1", 1, 5)):
        root = Path(shutil.copytree(run, folder / name))
        set_setting(root, "seed", str(seed))
        set_setting(root, "samples", str(samples))
        roots.append(root)
    shutil.rmtree(roots[-1] / "round-2")
    return roots
