"""Proves that a server answers with the weights it should, by its log-probabilities (`crescent.engine.proof`)."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from crescent.config import Dtype, ModelConfig, Start, TrainConfig
from crescent.engine.connection import Connection
from crescent.engine.proof import ASSUMED_NOISE, LEAST_NOISE, NOISE_LIMIT, Finding, Outcome, distance, find, noise
from crescent.errors import CrescentError
from crescent.records import Checkpoint, Proof, to_line


class Prover:
    """Compares what one server answers with what the trainer recorded."""

    def __init__(
        self,
        connection: Connection,
        model: ModelConfig,
        train: TrainConfig,
        findings: Path,
        say: Callable[[str], None],
    ) -> None:
        """`findings`: file of the run to which each finding is appended."""
        self.connection = connection
        self.model = model
        self.train = train
        self.findings = findings
        self.say = say
        self._base_proofs: dict[str, Proof] = {}
        """Proof of the last child that was trained from a base, by digest of the base. It holds the base's
        log-probabilities, too, so the base can be recognised by it."""
        self._measured: float | None = None
        """Noise that this server showed on the base, in nats."""

    def measure_noise(self, checkpoint: Checkpoint, base_name: str) -> None:
        """Measure how far engine and trainer are apart on the base, which is served now, on the child's texts.

        Raises:
            CrescentError: they do not hold the same base.
        """
        if checkpoint.proof is None or not self._trained_from_base(checkpoint):
            return
        found = noise(self._answers(checkpoint.proof, base_name), checkpoint.proof.parent)
        if found > (limit := NOISE_LIMIT[self.model.dtype]):
            raise CrescentError(
                f"{self.connection.url} does not serve the base of {checkpoint.name}: its log-probabilities differ by "
                f"{found:.3f} nats (root mean square; at most {limit} is rounding) from those by the trainer; it must "
                f"serve {checkpoint.origin.weights} in {self.model.dtype.value}, not quantised"
            )
        self._measured = found

    def needs_base_for(self, checkpoint: Checkpoint) -> bool:
        """Whether the noise is still to be measured, on the base, before this child can be proven. In float32 what is
        assumed is far below what training changes."""
        if self.model.dtype is Dtype.float32 or checkpoint.proof is None or not self._trained_from_base(checkpoint):
            return False
        return self._measured is None and last_noise(self.findings) is None

    def prove(self, checkpoint: Checkpoint, name: str) -> None:
        """Compare the log-probabilities of the checkpoint, served under `name`, with those that the trainer recorded.

        Raises:
            CrescentError: the server does not answer with the checkpoint's weights.
        """
        proof = checkpoint.proof or self._base_proofs.get(checkpoint.digest)
        if proof is None:
            return  # a base of which no child was trained yet
        expected, other = (proof.child, proof.parent) if checkpoint.proof else (proof.parent, proof.child)
        url, served = self.connection.url, self._answers(proof, name)
        found = find(served, expected, other, self.noise())
        if found.outcome is Outcome.proven and checkpoint.proof is None:
            self._measured = noise(served, expected)
        line = {"checkpoint": checkpoint.name, "url": url, **asdict(found), "measured_noise": self._measured}
        line |= {"from_own": distance(served, expected), "from_other": distance(served, other)}
        with self.findings.open("ab") as findings:
            findings.write(to_line(line))
        if found.outcome is Outcome.wrong:
            raise CrescentError(refusal(url, checkpoint.name, found))
        if found.outcome is Outcome.unknown:
            self.say(
                f"{checkpoint.name} cannot be told from its parent or child: training changed log-probabilities by "
                f"{found.shift:.2g} nats, and engine and trainer differ by {found.noise:.2g} on the same weights"
            )
        if checkpoint.proof and self._trained_from_base(checkpoint):
            self._base_proofs[checkpoint.origin.digest] = checkpoint.proof

    def noise(self) -> float:
        """The engine's noise as measured on the base: now, or earlier in this run; or else as assumed."""
        measured = self._measured if self._measured is not None else last_noise(self.findings)
        least = LEAST_NOISE[self.model.dtype]
        return ASSUMED_NOISE[self.model.dtype] if measured is None else max(measured, least)

    def _trained_from_base(self, checkpoint: Checkpoint) -> bool:
        return self.train.start is Start.base or checkpoint.round == 1

    def _answers(self, proof: Proof, name: str) -> list[list[float | None]]:
        # One text at a time: vLLM 0.32 on CPU fails on prompt_logprobs of several LoRA requests in one batch.
        return [self.connection.log_probabilities(ids, name) for ids in proof.token_ids]


def refusal(url: str, name: str, found: Finding) -> str:
    """Why a server is not trusted to serve a checkpoint, and what to do."""
    lines = [f"{url} does not serve {name}"]
    if found.slope is not None:
        lines.append(
            f"regression slope {found.slope:.2f} ± {found.standard_error:.2f}, where 1 stands for its weights and 0 "
            "for those of its parent or child"
        )
    lines.append(
        f"log-probabilities differ by {found.left:.4f} nats from the recorded ones, and by {found.noise:.4f} between "
        "engine and trainer on the same weights"
    )
    return f"{'; '.join(lines)}; serve children by serving.child=restart, which is slower and safer"


def last_noise(proofs: Path) -> float | None:
    """The noise that was measured last in a run; `None` if none was."""
    found = None
    for line in proofs.read_bytes().splitlines() if proofs.exists() else []:
        with suppress(ValueError):  # a torn line
            found = json.loads(line).get("measured_noise") or found
    return found
