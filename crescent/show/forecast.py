"""How long the round and the whole run still take, by what the finished stages took."""

LONG = ("synthesis", "train", "eval")
"""Stages of a round that take long: without knowing all of them, nothing is forecast."""
SHORT = ("pairs", "harness", "verdict")
"""Stages of a round that take seconds, or that few runs have."""
ORDER = ("synthesis", "pairs", "train", "eval", "harness", "verdict")


class Forecast:
    """Every stage is expected to take as long as the last finished one of its kind; the base's evaluation counts."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        """Rounds that the run has if no verdict stops it."""
        self._seconds: dict[str, float] = {}

    def finished(self, stage: str, seconds: float) -> None:
        """A stage took so long, in this or in an earlier start of the run."""
        kind = stage.rpartition("/")[2]
        if kind in ORDER:
            self._seconds[kind] = seconds

    def text(self, stage: str, left: float | None) -> str:
        """`round 5 min, run 21 min left`; empty while too little is known.

        Args:
            left: Seconds that the stage under way still takes; `None` if unknown.
        """
        place, _, kind = stage.partition("/")
        number = place.removeprefix("round-")
        if left is None or not number.isdecimal() or kind not in ORDER:
            return ""
        following = ORDER[ORDER.index(kind) + 1 :]
        if any(other in LONG and other not in self._seconds for other in following):
            return ""
        of_round = left + sum(self._seconds.get(other, 0.0) for other in following)
        to_come = self.rounds - int(number)
        if to_come <= 0:
            return f"run {duration(of_round)} left"
        # The stage under way has no length yet in the first round: what it has done so far is not counted here.
        if any(other not in self._seconds for other in LONG):
            return f"round {duration(of_round)} left"
        of_run = of_round + to_come * sum(self._seconds.values())
        return f"round {duration(of_round)}, run {duration(of_run)} left"


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 10_800 else f"{seconds / 3600:.1f} h"
