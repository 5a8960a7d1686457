"""Two real rounds: vLLM serves SmolLM2-135M-Instruct, TRL trains it, and the child writes the second round."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
import pytest

from crescent.config import Child, Dtype, LoraConfig, ModelConfig, ServingConfig, TrainConfig
from crescent.engine.client import Endpoint
from crescent.engine.server import Server
from crescent.models.packaged_model import packaged_model
from crescent.records import Checkpoint, Pair, Proof, Response, Verdict, Vote, read_lines
from crescent.run_folder.manifest import verified_manifest
from launch.local import LocalLaunch

# The bare question, on which the base rambles until it is cut: the child learns from so few pairs to answer it in a
# sentence, and is significantly better. That gain is format, not arithmetic; the verdict and all around it are real.
TINY = (
    "bait.questions=30",
    "diversify=minilm",
    "diversify.threshold=0.995",
    "consensus.samples=3",
    "consensus.min_agreement=0.3",
    "pairs.minimum=1",
    "pairs.prompt=bare",
    "train.max_steps=6",
    "train.learning_rate=1e-3",
    "eval.benchmarks.sums_dev.items=40",
    "eval.benchmarks.sums_dev.prompt='{question}'",
    "~eval.benchmarks.sums_test",
)


def crescent(root: Path, failpoint: str = "") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "crescent.loop", "+experiment=instruct_sums", f"run.root={root}", *TINY]
    environment = {**os.environ, "CRESCENT_FAILPOINT": failpoint, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)


@dataclass(frozen=True)
class TwoRounds:
    folder: Path
    ended: "subprocess.CompletedProcess[str]"


@pytest.fixture(scope="module")
def two_rounds(tmp_path_factory: pytest.TempPathFactory) -> TwoRounds:
    """A run that was killed in the middle of its first synthesis, and then run to its end."""
    root = tmp_path_factory.mktemp("runs")
    killed = crescent(root, failpoint="journal.append:45=kill9")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = root / "instruct-sums"
    journal = folder / "round-1" / "synthesis.partial" / "scratch" / "journal.jsonl"
    assert journal.read_bytes().count(b"\n") == 45
    return TwoRounds(folder, crescent(root))


@pytest.mark.real
@pytest.mark.timeout(1500)
def test_two_real_rounds_survive_a_kill_and_the_second_is_written_by_the_first_rounds_child(
    two_rounds: TwoRounds,
) -> None:
    folder, ended = two_rounds.folder, two_rounds.ended
    assert ended.returncode == 0, ended.stderr
    assert "round-1/synthesis: resumes" in ended.stdout
    for part in ("the engine answers after", "best checkpoint", "crescent sync", "Round 2 "):
        assert part in ended.stdout

    # The server that wrote round 2 gave the trained child's log-probabilities, which are not the base's.
    served = [json.loads(line) for line in (folder / "logs" / "served.jsonl").read_text().splitlines()]
    trained = {n: verified_manifest(folder / f"round-{n}" / "train") for n in (1, 2)}
    synthesis = verified_manifest(folder / "round-2" / "synthesis")
    assert trained[1] is not None
    assert trained[2] is not None
    assert synthesis is not None
    names = [f"instruct-sums-r{n:02d}-{manifest['digest'][:8]}" for n, manifest in trained.items() if manifest]
    assert [line["checkpoint"] for line in served] == names
    for line in served:
        assert line["outcome"] == "proven"
        assert line["from_own"] < 0.001
        assert line["from_other"] > 20 * line["from_own"]
    assert synthesis["made_from"]["inputs"]["parent"] == trained[1]["digest"]

    # What was trained on is what was voted for; nothing was asked twice over both rounds.
    votes = {n: read_lines(folder / f"round-{n}" / "synthesis" / "votes.jsonl", Vote) for n in (1, 2)}
    pairs = read_lines(folder / "round-2" / "pairs" / "pairs.jsonl", Pair)
    winners = {vote.question.id: vote.winner for vote in (*votes[1], *votes[2])}
    assert {pair.round for pair in pairs} == {1, 2}
    assert all(winners[pair.question] == pair.final for pair in pairs)
    assert len(winners) == len(votes[1]) + len(votes[2])

    # The parent and its child answered the same items.
    evaluations = [folder / "base/eval", folder / "round-1/eval", folder / "round-2/eval"]
    responses = [read_lines(evaluation / "responses.jsonl", Response) for evaluation in evaluations]
    assert len({tuple(response.item for response in some) for some in responses}) == 1
    assert len(responses[0]) == 40

    # The first child was accepted because it is better, and not because the gate was open.
    verdict = read_lines(folder / "round-1" / "verdict" / "verdict.json", Verdict)[0]
    assert verdict.action == "accept", verdict.reason
    assert verdict.p_value <= 0.05
    assert "significantly better" in verdict.reason

    # The supervisor's own log is readable, the noise is elsewhere, and W&B was written offline.
    assert not re.search(r"WARNING|INFO \d", ended.stdout + ended.stderr)
    assert list((folder / "wandb").glob("offline-run-*/run-*.wandb"))

    again = crescent(folder.parent)
    assert again.returncode == 0
    assert "starts" not in again.stdout
    assert again.stdout in ended.stdout, "the same table"


def the_server_reads_what_the_trainer_wrote(endpoint: Endpoint, pairs: Path) -> None:
    """Voting and evaluation ask for chat completions; the tokens they become are those the trainer learns after."""
    from transformers import AutoTokenizer

    from train.dataset import to_rows, tokenize

    tokenizer = AutoTokenizer.from_pretrained(packaged_model())
    rows = to_rows(read_lines(pairs, Pair), tokenizer, 2048)
    prompts = tokenize([row["prompt"] for row in rows.kept], tokenizer, ask=True)
    for row, prompt, whole in zip(rows.kept, prompts, rows.tokens, strict=True):
        served = httpx.post(
            endpoint.urls[0].removesuffix("/v1") + "/tokenize",
            json={"model": endpoint.model, "messages": row["prompt"]},
            headers={"Authorization": f"Bearer {endpoint.key}"},
        ).json()["tokens"]
        assert served == prompt == whole[: len(prompt)]


@pytest.mark.real
@pytest.mark.timeout(600)
def test_the_real_server_takes_the_child_as_an_adapter_beside_its_base(two_rounds: TwoRounds, tmp_path: Path) -> None:
    """The GPU's default way, here on a CPU."""
    trained = two_rounds.folder / "round-1" / "train"
    serving = ServingConfig(child=Child.adapter, concurrency=8, cpu_cache_gib=1, eager=True)
    model = ModelConfig(dtype=Dtype.float32, context=512)
    train = TrainConfig(lora=LoraConfig(rank=16, alpha=32))
    server = Server(serving, model, train, LocalLaunch(grace_s=20), "t", tmp_path / "server.log")
    base = Checkpoint("t-base", 0, "base", weights=str(packaged_model()))
    proof = msgspec.json.decode((trained / "proof.json").read_bytes(), type=Proof)
    try:
        the_server_reads_what_the_trainer_wrote(
            server.serve(base), two_rounds.folder / "round-1" / "pairs" / "pairs.jsonl"
        )
        server.serve(Checkpoint("t-r01", 1, "child", adapter=str(trained / "adapter"), proof=proof, base=base))
        server.serve(base)
    finally:
        server.stop()
    proofs = [json.loads(line) for line in (tmp_path / "served.jsonl").read_text().splitlines()]
    assert [proof["checkpoint"] for proof in proofs] == ["t-r01", "t-base"]
    assert all(proof["from_own"] < 0.001 and proof["from_other"] > 0.01 for proof in proofs)
