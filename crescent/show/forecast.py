"""How long the round and the whole run still take, by what the finished stages took, and what they have cost."""

LONG = ("synthesis", "train", "eval")
"""Stages of a round that take long: of one that is not known, the forecast says that it comes on top."""
SHORT = ("pairs", "harness", "verdict")
"""Stages of a round that take seconds, or that few runs have."""
ORDER = ("synthesis", "pairs", "train", "eval", "harness", "verdict")


class Forecast:
    """Every stage is expected to take as long as the last finished one of its kind; the base's evaluation counts."""

    def __init__(self, rounds: int, rate: float | None = None) -> None:
        self.rounds = rounds
        """Rounds that the run has if no verdict stops it."""
        self.rate = rate
        """Price of a machine-hour (`tracking.hourly_rate`)."""
        self._seconds: dict[str, float] = {}
        self._spent: dict[str, float] = {}

    def finished(self, stage: str, seconds: float, here: bool = True) -> None:
        """A stage took so long, in this or in an earlier start of the run.

        Args:
            here: Whether this run made it. What another run made tells how long such a stage takes, and costs nothing.
        """
        kind = stage.rpartition("/")[2]
        if kind in ORDER:
            self._seconds[kind] = seconds
        if here:
            self._spent[stage] = seconds

    def text(self, stage: str, left: float | None) -> str:
        """`round 5 min, run 21 min left`, or `round 5 min left + train` before anything was trained; empty while too
        little is known.

        Args:
            left: Seconds that the stage under way still takes; `None` if unknown.
        """
        place, _, kind = stage.partition("/")
        number = place.removeprefix("round-")
        if left is None or not number.isdecimal() or kind not in ORDER:
            return ""
        following = ORDER[ORDER.index(kind) + 1 :]
        long = [other for other in following if other in LONG]
        unknown = [other for other in long if other not in self._seconds]
        if long and unknown == long:
            return ""
        more = "".join(f" + {other}" for other in unknown)
        of_round = left + sum(self._seconds.get(other, 0.0) for other in following)
        to_come = self.rounds - int(number)
        if to_come <= 0:
            return f"run {duration(of_round)} left{more}"
        # The stage under way has no length yet in the first round: what it has done so far is not counted here.
        if any(other not in self._seconds for other in LONG):
            return f"round {duration(of_round)} left{more}"
        of_run = of_round + to_come * sum(self._seconds.values())
        return f"round {duration(of_round)}, run {duration(of_run)} left"

    def cost(self, under_way_s: float) -> str:
        """`cost 1.23 so far`, of what this run made and of the stage under way; empty without a price.

        Args:
            under_way_s: Seconds since the stage under way was started.
        """
        hours = (sum(self._spent.values()) + under_way_s) / 3600
        return f"cost {hours * self.rate:,.2f} so far" if self.rate else ""


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 10_800 else f"{seconds / 3600:.1f} h"
