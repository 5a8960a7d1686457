"""A run on the fakes whose benchmarks are people's own files, added on the command line."""

import json
import subprocess
import sys
from pathlib import Path

from crescent.records import Item, Quarantined, read_lines


def crescent(folder: Path, *overrides: str) -> "subprocess.CompletedProcess[str]":
    command = [
        sys.executable,
        "-P",
        "-m",
        "crescent.loop",
        "+experiment=smoke",
        "eval=own",
        "eval.max_tokens=64",
        *overrides,
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=250)


def write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_own_sets_decide_guard_test_and_keep_their_questions_out_of_training(tmp_path: Path) -> None:
    sums = [{"q": f"What is {a} + {b}?", "gold": f"#### {a + b}"} for a in range(1, 30) for b in range(30, 33)]
    write(tmp_path / "dev.jsonl", sums)
    write(tmp_path / "guard.jsonl", [{"question": f"Who is number {n}?", "answer": "nobody"} for n in range(9)])
    write(tmp_path / "test.jsonl", [{"question": f"What is {n} + 0?", "answer": n} for n in range(40, 60)])
    mine = [
        *("+eval.benchmarks.mine.source=jsonl", "+eval.benchmarks.mine.path=dev.jsonl"),
        *("+eval.benchmarks.mine.question=q", "+eval.benchmarks.mine.answer=gold"),
        *("+eval.benchmarks.mine.style=number", "+eval.benchmarks.mine.items=40"),
        "+eval.benchmarks.names={source: jsonl, path: guard.jsonl, style: text, guard: true, prompt: '{question}?'}",
        "+eval.benchmarks.other={source: jsonl, path: test.jsonl, style: number, split: test}",
        *("run.rounds=1", "bait.questions=40"),
    ]
    ended = crescent(tmp_path, *mine)
    assert ended.returncode == 0, ended.stderr
    run = tmp_path / "runs/smoke"
    items = read_lines(run / "base/benchmarks/items.jsonl", Item)
    assert {item.benchmark for item in items} == {"mine", "names", "other"}
    assert sum(item.benchmark == "mine" for item in items) == len(sums), "also those that are not asked"
    scores = {score["benchmark"]: score for score in json.loads((run / "round-1/eval/scores.json").read_text())}
    assert (scores["mine"]["total"], scores["names"]["total"], scores["other"]["total"]) == (40, 9, 20)
    assert (scores["mine"]["decides"], scores["other"]["decides"]) == (True, False)
    quarantined = read_lines(run / "round-1/pairs/quarantine.jsonl", Quarantined)
    assert {found.benchmark for found in quarantined} <= {"mine", "other"}
    assert quarantined, "none of forty sums was too similar to one of ours"

    write(tmp_path / "dev.jsonl", [*sums, {"q": "What is 77 + 1?", "gold": 78}])
    changed = crescent(tmp_path, *mine)
    assert changed.returncode == 3, "the file has changed since its items were asked"
    assert "benchmark mine" in changed.stderr


def test_a_file_without_a_usable_answer_is_refused_by_the_plan_and_before_the_start(tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text('{"question": "What is 1 + 1?", "answer": "two"}\n')
    mine = "+eval.benchmarks.mine={source: jsonl, path: broken.jsonl, style: number}"
    planned = crescent(tmp_path, mine, "mode=plan")
    assert planned.returncode == 0, planned.stderr
    why = "broken.jsonl: line 1: field answer is 'two', which is no number; no row of 1 can be used"
    assert f"cannot run here: {why}" in planned.stdout
    started = crescent(tmp_path, mine)
    assert started.returncode == 65
    assert started.stderr.startswith(f"error: {why}")
    assert not (tmp_path / "runs").exists()


def test_the_plan_finds_a_question_of_the_dev_set_in_the_test_set(tmp_path: Path) -> None:
    write(tmp_path / "dev.jsonl", [{"question": f"What is {n} + 1?", "answer": n + 1} for n in range(9)])
    write(tmp_path / "test.jsonl", [{"question": "What is 3 + 1 ?", "answer": 4}])
    named = [
        f"+eval.benchmarks.{split}={{source: jsonl, path: {split}.jsonl, style: number, split: {split}}}"
        for split in ("dev", "test")
    ]
    planned = crescent(tmp_path, *named, "mode=plan")
    assert "cannot run here: eval.benchmarks.dev (dev) and eval.benchmarks.test (test): 1 questions" in planned.stdout
    assert "cannot run here" not in crescent(tmp_path, named[0], "mode=plan").stdout
