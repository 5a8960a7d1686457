"""How far a round's synthesis is, and how much of it is left."""

from dataclasses import dataclass


@dataclass
class Progress:
    """Counts of a round under way, for the progress line."""

    asked: int = 0
    """Number of candidate questions received."""
    candidates: int = 0
    """Number of candidate questions requested."""
    unusable: int = 0
    """Number of completions, rewrites included, without a usable question."""
    questions: int = 0
    """Number of questions accepted by self-deduplication so far."""
    rejected: int = 0
    """Number of near-duplicates dropped."""
    voted: int = 0
    """Number of questions whose vote is decided."""
    agreed: int = 0
    """Number of votes that make the agreement cut."""
    agreement: float = 0.0
    """Sum of the agreement over all votes; divide by `voted` for the mean."""
    tokens: int = 0
    """Number of tokens generated."""

    @property
    def acceptance(self) -> float:
        """Estimated share, in [0, 1], of the candidates that are usable and no near-duplicates."""
        decided = self.questions + self.rejected
        usable = max(0.0, 1 - self.unusable / self.asked) if self.asked else 1.0
        return usable * (self.questions / decided if decided else 1.0)

    def settled(self, samples: int) -> tuple[int, int]:
        """Number of completions that came or are no longer needed, and the largest number that there can be.

        A candidate that is lost needs no answers, and a vote that is decided early needs no more: these count as done.
        So the total stays what it is, and the share done only grows.
        """
        done = self.asked + samples * (self.unusable + self.rejected + self.voted)
        return done, self.candidates * (1 + samples)

    def note(self) -> str:
        """One line, the most important counts first."""
        voted = f"{self.voted} of {self.questions} voted"
        agreed = f", {self.agreed / self.voted:.0%} agreed" if self.voted else ""
        lost = f"{self.rejected} near-duplicates, {self.unusable} unusable"
        return f"{self.acceptance:.0%} accepted, {voted}{agreed}; {lost}; {self.tokens:,} tokens"
