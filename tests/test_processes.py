from pathlib import Path

from crescent.processes import pass_on


def test_what_a_child_does_not_know_is_not_told(tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    progress = tmp_path / "progress.jsonl"
    pass_on(progress, lambda *its: told.append(its))
    progress.write_text('{"done": 2, "total": 9, "tokens_per_second": 152.31, "mfu": null}\n{"done": 3, "tot')
    pass_on(progress, lambda *its: told.append(its))
    assert told == [], "not there yet, or half written"
    progress.write_text('{"done": 2, "total": 9, "tokens_per_second": 152.31, "mfu": null}\n')
    pass_on(progress, lambda *its: told.append(its))
    assert told == [(2, 9, "tokens per second 152.3")]
