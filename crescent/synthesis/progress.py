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
    answers: int = 0
    """Number of answers to the voted questions."""
    tokens: int = 0
    """Number of tokens generated."""

    @property
    def acceptance(self) -> float:
        """Estimated share, in [0, 1], of the candidates that are usable and no near-duplicates."""
        decided = self.questions + self.rejected
        usable = max(0.0, 1 - self.unusable / self.asked) if self.asked else 1.0
        return usable * (self.questions / decided if decided else 1.0)

    def completions(self, samples: int) -> tuple[int, int]:
        """Number of completions so far, and the number expected in all if acceptance stays as it is."""
        expected = max(self.questions, self.candidates * self.acceptance)
        per_question = self.answers / self.voted if self.voted else samples
        return self.asked + self.answers, self.candidates + round(expected * per_question)

    def note(self) -> str:
        """One line, the most important counts first."""
        voted = f"{self.voted} of {self.questions} voted"
        agreed = f", {self.agreed / self.voted:.0%} agreed" if self.voted else ""
        lost = f"{self.rejected} near-duplicates, {self.unusable} unusable"
        return f"{self.acceptance:.0%} accepted, {voted}{agreed}; {lost}; {self.tokens:,} tokens"
