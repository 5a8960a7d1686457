"""Requests that an engine refused: counted, and too many of them end the stage.

A refused request has no answer, and no answer counts as a wrong one. A few are the price of prompts that do not fit;
more would shift an accuracy, and both sides of a comparison by different amounts.
"""

import asyncio
from dataclasses import replace

from crescent.engine.client import Engine
from crescent.errors import BadConfig, CrescentError, Missing, TryAgain
from crescent.records import Completion, Request

REFUSED = "error"
"""Finish reason of a request that the engine refused, or that is skipped."""
SKIPPED = "is skipped: the engine died of it twice, first among others, then alone"
"""End of the text of a completion that no engine gave."""
CANARY = Request("canary", "1", temperature=0.0, max_tokens=1, seed=0)
"""Request that any live engine can answer."""
MAX_REFUSED = 0.02
"""Default of `serving.max_refused`."""
FEW = 3
"""Refusals from which their share counts: of few requests, one is already a large share."""


class Refusals:
    """Counts the requests of one attempt at a stage, and those refused."""

    def __init__(self, allowed: float = MAX_REFUSED) -> None:
        """`allowed`: largest share of refused requests, in [0, 1]."""
        self.allowed = allowed
        self.asked = 0
        """Requests begun. In an evaluation all of them are, before the first reply."""
        self.answered = 0
        self.refused: dict[str, str] = {}
        """What was said, by key of the request."""
        self._skipped = 0
        self._one_at_a_time = asyncio.Lock()
        self._canary: Completion | None = None
        """What the engine said to the simplest request; asked when the first reply is a refusal."""

    async def add(self, request: Request, completion: Completion, engine: Engine) -> None:
        """Count a refused request.

        Raises:
            BadConfig: the engine refuses everything.
            Missing, TryAgain: more than the allowed share is refused, or kills the engine.
        """
        async with self._one_at_a_time:
            if self._canary is None and not self.answered:
                # With the settings of the request: they may be what is refused.
                self._canary = await engine.complete(replace(request, key=CANARY.key, prompt=CANARY.prompt))
        if self._canary is not None and self._canary.finish_reason == REFUSED:
            raise BadConfig(f"the engine refuses every request, even the prompt {CANARY.prompt!r}: {self._canary.text}")
        self.refused[request.key] = completion.text
        self._skipped += is_skipped(completion)
        if len(self.refused) >= FEW and len(self.refused) > self.allowed * self.asked:
            raise self._too_many()

    def line(self) -> str:
        """What a person should know about refused requests; empty if there were none."""
        if not self.refused:
            return ""
        return f"{len(self.refused)} of {self.asked} requests were refused and have no answer, e.g. {self._example()}"

    def _too_many(self) -> CrescentError:
        share = f"more than serving.max_refused={self.allowed:g}"
        count = f"{len(self.refused)} of {self.asked} requests so far, {share}"
        fix = "raise serving.max_refused only if refused requests may count as wrong answers"
        if 2 * self._skipped > len(self.refused):
            why = f"the engine died of {count}, e.g. {self._example()}; nothing is lost"
            return TryAgain(f"{why}: look into the engine's log and run the same command again; {fix}")
        why = f"the engine refused {count}, e.g. {self._example()}"
        advice = "if prompts do not fit, raise model.context or the endpoint's, or lower max_tokens"
        return Missing(f"{why}; {advice}; {fix}")

    def _example(self) -> str:
        key, said = next(iter(self.refused.items()))
        return said if said.startswith(key) else f"{key}: {said}"


def is_skipped(completion: Completion) -> bool:
    """Whether no engine is asked for this completion again, because two died of the request."""
    return completion.finish_reason == REFUSED and completion.text.endswith(SKIPPED)
