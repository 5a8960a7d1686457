"""How often the proof of the served weights errs: `python -m benchmarks proof`.

Simulates rounds in which a trainer and a server compute log-probabilities with noise (`crescent.engine.proof`), and
counts what is decided when the child is served, when its parent is served by mistake, and when a third model is. It
uses no engine.
"""

import argparse
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from benchmarks import save
from benchmarks.tables import Row, show
from crescent.engine.proof import LogProbabilities, Outcome, Values, find, noise

TEXTS, TOKENS = 4, 96
"""Texts of a proof, and tokens of each."""
NOISE = 0.05
"""Root mean square, in nats, that two correct engines in bfloat16 differ by."""
SHIFTS = (0.0, 0.005, 0.02, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 1.0)
"""Root mean square, in nats, of what training changes."""
DETECTABLE = 3 * NOISE
"""Shift from which every child and its parent can be told apart with so many tokens, and not just most of them."""
Kind = Literal["even", "uneven", "heavy", "louder"]
KINDS: tuple[Kind, ...] = ("even", "uneven", "heavy", "louder")
"""`even`: normal noise, the same on each token. `uneven`: larger on improbable tokens. `heavy`: tails of Student's t
with 4 degrees of freedom. `louder`: half as large again under the child as on the base, where it is measured (adapters
add roundings of their own)."""
SERVED = ("child", "parent", "stranger")


class Simulated:
    """Log-probabilities of base, parent and child by a trainer, and by a server that holds one of them.

    Training changes few tokens much and most a little.
    """

    def __init__(self, seed: int, shift: float, level: float = NOISE, kind: Kind = "even") -> None:
        """
        Args:
            shift: Root mean square, in nats, of what training changes.
            level: Root mean square, in nats, that two engines differ by on the same weights.
        """
        self.dice = np.random.default_rng(seed)
        self.level = level
        self.kind = kind
        self.parent = -self.dice.exponential(1.0, TEXTS * TOKENS)
        self.child = self.parent + self._change(shift)
        self.stranger = self.parent + self._change(shift)
        """Another child of the same parent."""

    def outcome(self, served: Values) -> Outcome:
        """What is decided when these weights are served in place of the child's."""
        measured = noise(self._seen(self.parent), self._seen(self.parent))
        if self.kind == "louder":
            self.level *= 1.5
        return find(self._seen(served), self._seen(self.child), self._seen(self.parent), measured).outcome

    def _change(self, shift: float) -> Values:
        raw = self.dice.standard_t(3, TEXTS * TOKENS)
        return np.asarray(shift * raw / np.sqrt(np.mean(raw**2)))

    def _seen(self, true: Values) -> LogProbabilities:
        """What one engine computes; the difference of two has the size of the noise."""
        size = np.sqrt(np.abs(true) + 0.05) if self.kind == "uneven" else np.ones_like(true)
        drawn = self.dice.standard_t(4, len(true)) / np.sqrt(2) if self.kind == "heavy" else None
        error = (self.dice.standard_normal(len(true)) if drawn is None else drawn) * size / np.sqrt(np.mean(size**2))
        values = true + self.level / np.sqrt(2) * error
        return [[None, *row] for row in values.reshape(TEXTS, TOKENS).tolist()]


def count(shift: float, served: str, outcome: Outcome, kind: Kind, seeds: Iterable[int]) -> int:
    """In how many simulated rounds the outcome is this one; `served` is one of `SERVED`."""
    rounds = (Simulated(seed, shift, kind=kind) for seed in seeds)
    return sum(simulated.outcome(getattr(simulated, served)) is outcome for simulated in rounds)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks proof", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1_000, help="simulated rounds per row (default: 1000)")
    parser.add_argument("--first-seed", type=int, default=1_000_000, help="seed of the first round (default: 1000000)")
    given = parser.parse_args(arguments)
    seeds = range(given.first_seed, given.first_seed + given.rounds)
    rows = [shares(shift, kind, seeds) for kind in KINDS for shift in SHIFTS]
    title = f"outcomes of {given.rounds:,} simulated proofs, {TEXTS * TOKENS} tokens, noise {NOISE} nats"
    show(title, rows)
    print(f"saved: {save('proof', {'rounds': given.rounds, 'first_seed': given.first_seed, 'rows': rows})}")


def shares(shift: float, kind: Kind, seeds: Sequence[int]) -> Row:
    """How often each outcome occurs, as numbers of rounds."""
    row: Row = {"noise": kind, "shift, nats": f"{shift:g}"}
    row["child refused"] = count(shift, "child", Outcome.wrong, kind, seeds)
    row["child proven"] = count(shift, "child", Outcome.proven, kind, seeds)
    row["parent caught"] = count(shift, "parent", Outcome.wrong, kind, seeds)
    row["parent taken for child"] = count(shift, "parent", Outcome.proven, kind, seeds)
    row["third model caught"] = count(shift, "stranger", Outcome.wrong, kind, seeds)
    return row
