"""What a run would cost at most: the plan says it, and the head of each experiment repeats it."""

import re
from pathlib import Path

import pytest
from test_config import EXPERIMENTS, ROOT, composed

from crescent.doors.plan import expected_requests, most_generated
from crescent.doors.planned_cost import PlannedCost, cost_lines, planned_cost, trained_tokens, weight_of_rounds

STATED = re.compile(r"^# Cost:    (at most .*hours \(reckoned\)); \$([\d,]+) at \$3 an hour\.$", re.MULTILINE)


def cost_of(*overrides: str) -> PlannedCost:
    cfg = composed(*overrides)
    cost = planned_cost(cfg, most_generated(cfg))
    assert cost is not None
    return cost


def test_heads_of_experiments_state_the_cost_that_the_plan_reckons() -> None:
    heads = {name: (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text() for name in EXPERIMENTS}
    stated = {name: found for name, head in heads.items() if (found := STATED.search(head))}
    assert len(stated) >= 10
    for name, found in stated.items():
        cost = cost_of(f"+experiment={name}")
        assert found[1] == str(cost), name
        assert found[2] == f"{3 * cost.gpu_hours:,.0f}", name
        assert "# Result:  not run yet." in heads[name]


def test_every_request_is_counted_once() -> None:
    cfg = composed("+experiment=qwen7b", "run.rounds=2")
    questions, rewrites, answers, early, items = expected_requests(cfg)
    assert [questions.within, rewrites.within, answers.within, early.within, items.within] == [
        *[False] * 3,
        True,
        False,
    ]
    each_round = 20_000 * 512 + 60_000 * 512 + 160_000 * 1024 + 1000 * 1024
    assert most_generated(cfg) == 2 * each_round + 1000 * 1024


def test_training_reads_what_the_data_policy_keeps() -> None:
    def weights(*overrides: str) -> list[float]:
        cfg = composed("+experiment=qwen7b", *overrides)
        return [weight_of_rounds(cfg, number) for number in (1, 2, 3)]

    assert weights() == pytest.approx([1, 1.7, 2.19])
    assert weights("pairs.policy=window", "pairs.window=2") == pytest.approx([1, 1.7, 1.7])
    assert weights("pairs.policy=replace") == [1, 1, 1]
    steps = ("train.max_steps=10", "train.batch=64", "run.rounds=2")
    assert trained_tokens(composed("+experiment=qwen7b", *steps)) == 2 * 10 * 64 * 1536
    assert trained_tokens(composed("+experiment=qwen7b", *steps, "train.max_length=1024")) == 2 * 10 * 64 * 1024


def test_a_larger_model_and_all_weights_cost_more_and_a_student_less() -> None:
    small, large = cost_of("+experiment=qwen1_5b"), cost_of("+experiment=llama3_8b")
    assert small.generated == large.generated
    assert 2 * small.gpu_hours < large.gpu_hours
    full = cost_of("+experiment=llama3_8b", "train=full", "serving.child=restart")
    assert full.gpu_hours > large.gpu_hours
    taught = cost_of("+experiment=distill_7b_to_1_5b")
    assert cost_of("+experiment=qwen1_5b", "run.rounds=2").gpu_hours < taught.gpu_hours
    assert taught.gpu_hours < cost_of("+experiment=qwen7b", "run.rounds=2").gpu_hours


@pytest.mark.parametrize(
    "overrides",
    [
        ["+experiment=smoke"],
        ["+experiment=quickstart"],
        ["+experiment=qwen7b", "train=grpo"],
        ["+experiment=qwen7b", "model.path=someone/nameless"],
    ],
)
def test_nothing_is_said_where_nothing_can_be_reckoned(overrides: list[str]) -> None:
    assert cost_lines(composed(*overrides), 1e9) == []


def test_the_price_is_that_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = composed("+experiment=qwen7b", "tracking.hourly_rate=24")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "an hour" not in cost_lines(cfg, 6e8)[0]
    (tmp_path / "nvidia-smi").write_text(
        "#!/bin/sh\nfor gpu in 0 1 2 3; do echo $gpu, H100, 81559, 81000, 580.65, 9.0; done\n"
    )
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    line = cost_lines(cfg, 6e8)[0]
    hours = planned_cost(cfg, 6e8)
    assert hours is not None
    assert line.endswith(f"; {hours.gpu_hours / 4 * 24:,.0f} at 24 an hour of this machine")
