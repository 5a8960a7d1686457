"""Real engines on a CPU: two replicas with adapters, one of which dies; and the proof in bfloat16."""

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks.proof import DETECTABLE, NOISE
from crescent.config import Child, Dtype, LoraConfig, ModelConfig, ServingConfig, TrainConfig, WhileTraining
from crescent.engine.client import Client, Endpoint
from crescent.engine.proof import NOISE_LIMIT, Outcome, aligned, find, root_mean_square
from crescent.engine.server import Server
from crescent.engine.vllm_command import runs_on_cpu
from crescent.errors import CrescentError
from crescent.models.packaged_model import packaged_model
from crescent.records import Checkpoint, Completion, Proof, Request
from launch.local import LocalLaunch

RANK = 8
TEXTS = (
    ("Tom has 12 apples and buys 30 more at the market. How many has he now?", "He has 12 + 30 apples.\n#### 42"),
    ("A bus leaves at half past seven and needs 90 minutes. When does it arrive?", "It arrives at nine.\n#### 9"),
    ("Which gas do plants take in when the sun shines on them?", "Plants take in carbon dioxide from the air."),
    ("What is 7 times 8, and what is left if 50 is taken away?", "7 * 8 = 56, and 56 - 50 = 6.\n#### 6"),
)
"""Texts of the proofs: a question and an answer each."""


@dataclass(frozen=True)
class Adapter:
    """A child that is an adapter of random numbers, and how far it is from its parent."""

    checkpoint: Checkpoint
    shift: float
    """Root mean square of what the adapter changes, in nats, as the trainer's code computes it."""


def base_checkpoint() -> Checkpoint:
    return Checkpoint("t-base", 0, "base", weights=str(packaged_model()))


def random_adapters(folder: Path, dtype: Dtype, strengths: list[float]) -> list[Adapter]:
    """Adapters whose effect grows with the standard deviation of their second matrix."""
    import torch
    from peft import LoraConfig as PeftConfig
    from peft import PeftModel, get_peft_model
    from transformers import AutoTokenizer

    from train.child import log_probabilities
    from train.start import load

    base, torch_dtype = packaged_model(), getattr(torch, dtype.value)
    tokenizer = AutoTokenizer.from_pretrained(base)
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}, {"role": "assistant", "content": answer}], return_dict=False
        )
        for question, answer in TEXTS
    ]
    parent = log_probabilities(load(base, torch_dtype), texts)
    adapters = []
    for number, strength in enumerate(strengths, 1):
        torch.manual_seed(number)
        config = PeftConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(load(base, torch_dtype), config)
        for name, weight in model.named_parameters():
            if ".lora_B." in name:
                torch.nn.init.normal_(weight, std=strength)
        path = folder / f"adapter-{number}"
        model.save_pretrained(path)
        child = log_probabilities(PeftModel.from_pretrained(load(base, torch_dtype), path), texts)
        proof = Proof(tuple(map(tuple, texts)), child, parent)
        checkpoint = Checkpoint(
            f"t-r{number:02d}", number, f"d{number}", adapter=str(path), proof=proof, base=base_checkpoint()
        )
        first, second = aligned(child, parent)
        adapters.append(Adapter(checkpoint, root_mean_square(first - second)))
    return adapters


def real_server(folder: Path, dtype: Dtype, say: Callable[[str], None], replicas: int = 1) -> Server:
    serving = ServingConfig(
        child=Child.adapter,
        while_training=WhileTraining.keep,
        replicas=replicas,
        concurrency=8,
        cpu_cache_gib=1,
        eager=True,
        start_timeout_s=900,
    )
    train = TrainConfig(lora=LoraConfig(rank=RANK, alpha=2 * RANK))
    log = folder / "logs" / "server.log"
    model = ModelConfig(path="packaged:smollm2", dtype=dtype, context=512)
    return Server(serving, model, train, LocalLaunch(grace_s=20), "t", log, say)


def findings(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "logs" / "served.jsonl").read_text().splitlines()]


def ask(endpoint: Endpoint, count: int) -> list[Completion]:
    """Greedy answers to some questions."""
    requests = [Request(f"a/{n}", f"What is {n} + 1?", 0.0, 12, seed=n) for n in range(count)]

    async def all_of_them() -> list[Completion]:
        async with Client(endpoint.urls, endpoint.model, endpoint.key, 8, 300) as client:
            return list(await asyncio.gather(*map(client.complete, requests)))

    return asyncio.run(all_of_them())


def kill_engine(url: str) -> int:
    """Kill the processes of the engine behind a URL as a crash would, without its guard; returns their number."""
    port = url.removesuffix("/v1").split(":")[-1]
    killed = 0
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            line = process.cmdline()
            if "launch.guard" not in line and "vllm" in " ".join(line[:5]) and port in line:
                for part in [*process.children(recursive=True), process]:
                    part.kill()
                    killed += 1
    return killed


@pytest.mark.real
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not runs_on_cpu(), reason="for vLLM's CPU build")
def test_two_real_replicas_prove_an_adapter_each_and_go_on_when_one_dies(tmp_path: Path) -> None:
    [child] = random_adapters(tmp_path, Dtype.float32, [0.02])
    assert child.shift > 0.01, "the adapter changes something"
    lines: list[str] = []
    server = real_server(tmp_path, Dtype.float32, lines.append, replicas=2)
    attempts = []

    def work(endpoint: Endpoint) -> tuple[list[Completion], list[Completion], list[Completion]]:
        attempts.append(endpoint)
        before = ask(endpoint, 12)
        assert kill_engine(endpoint.urls[1]) >= 1
        during = ask(endpoint, 12)
        deadline = time.monotonic() + 900
        while len(findings(tmp_path)) < 3:  # the dead one is started and proven again
            assert time.monotonic() < deadline, lines
            time.sleep(0.5)
        return before, during, ask(endpoint, 12)

    try:
        before, during, after = server.ask(child.checkpoint, work)
    finally:
        server.stop()
    assert len(attempts) == 1, "the work was not disturbed"
    assert [answer.text for answer in before] == [answer.text for answer in during] == [answer.text for answer in after]
    assert all(answer.tokens for answer in before)
    proofs = findings(tmp_path)
    first, second = attempts[0].urls
    assert [proof["outcome"] for proof in proofs] == ["proven"] * 3
    assert sorted(str(proof["url"]) for proof in proofs) == sorted([first, second, second])
    assert all(float(str(proof["left"])) < 0.001 for proof in proofs), "both hold the same weights in float32"
    assert any("replica 2 of 2: died and is restarted while the others go on" in line for line in lines)
    assert {path.name for path in (tmp_path / "logs").glob("server-*.log")} == {"server-1.log", "server-2.log"}


@pytest.mark.real
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not runs_on_cpu(), reason="for vLLM's CPU build")
def test_in_bfloat16_adapters_of_growing_strength_are_never_refused_and_swapped_ones_are(tmp_path: Path) -> None:
    strengths = np.geomspace(0.0005, 0.06, int(os.environ.get("CRESCENT_PROOFS", "4")))
    adapters = random_adapters(tmp_path, Dtype.bfloat16, strengths.tolist())
    shifts = [adapter.shift for adapter in adapters]
    lines: list[str] = []
    server = real_server(tmp_path, Dtype.bfloat16, lines.append)
    try:
        server.serve(base_checkpoint())
        served = []
        for adapter in adapters:
            server.serve(adapter.checkpoint)
            [replica] = server.replicas
            assert adapter.checkpoint.proof is not None
            name = replica.model_name(adapter.checkpoint)
            served.append(
                [replica.connection.log_probabilities(ids, name) for ids in adapter.checkpoint.proof.token_ids]
            )
        strongest, other = adapters[-1].checkpoint, adapters[0].checkpoint
        swapped = Checkpoint("t-swapped", 9, "d9", adapter=other.adapter, proof=strongest.proof, base=base_checkpoint())
        with pytest.raises(CrescentError, match="does not serve t-swapped"):
            server.serve(swapped)
    finally:
        server.stop()
    found = findings(tmp_path)
    assert [line["checkpoint"] for line in found] == [a.checkpoint.name for a in adapters] + ["t-swapped"]
    measured = float(str(found[0]["measured_noise"]))
    assert 0.005 < measured < NOISE_LIMIT[Dtype.bfloat16], "two engines differ in bfloat16"
    outcomes = [line["outcome"] for line in found]
    assert Outcome.wrong.value not in outcomes[:-1], "no correct child is refused"
    assert outcomes[-1] == Outcome.wrong.value
    detectable = DETECTABLE / NOISE * measured
    assert shifts[-1] > detectable, "the strongest one can be told apart"
    for outcome, shift in zip(outcomes, shifts, strict=False):
        assert outcome == Outcome.proven.value or shift < detectable

    caught = {"weaker": 0, "stronger": 0}
    for expected in (adapter for adapter in adapters if adapter.shift > detectable):
        proof = expected.checkpoint.proof
        assert proof is not None
        for adapter, values in zip(adapters, served, strict=True):
            if adapter is not expected:
                outcome = find(values, proof.child, proof.parent, measured).outcome
                assert outcome is Outcome.wrong, (adapter.shift, expected.shift)
                caught["weaker" if adapter.shift < expected.shift else "stronger"] += 1
    assert caught["weaker"]
    counted = Counter(outcomes[:-1])
    print(
        f"noise {measured:.4f} nats, shifts {min(shifts):.4f} to {max(shifts):.4f}: {dict(counted)}, caught: {caught}"
    )
