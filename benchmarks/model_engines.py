"""Engines without a model, for the stream simulator: how long each request takes, and what goes wrong.

An engine decodes all its running sequences together, a token of each in a step, as servers with continuous batching do.
A step takes `step_ms` and `sequence_ms` more for each sequence; reading a prompt delays all of them.
"""

import asyncio
import heapq
import math
import random
from collections import Counter, deque
from dataclasses import dataclass, field

import msgspec

from crescent.engine.transport import Connections, NoReply, Reply
from crescent.records import digest

BAIT = "Write a word problem."
REWRITE = "Write another problem than {question}, which is like {neighbour}"
"""Prompt for a rewrite, as `diversify.rewrite_prompt`."""
SURE = (0.97, 0.85, 0.65, 0.4)
"""Shares of right answers; each question has one of them."""


@dataclass(frozen=True)
class Speed:
    """Speed of one engine."""

    slots: int = 256
    """Largest number of sequences that run at once; others wait."""
    step_ms: float = 5.0
    """Time of a step without any sequence, in milliseconds: reading the weights."""
    sequence_ms: float = 0.025
    """Time that each running sequence adds to a step."""
    prompt_ms: float = 0.02
    """Time to read one token of a prompt."""
    restart_s: float = 57.0
    """Seconds from the death of an engine until it answers again."""

    def step_s(self, sequences: int) -> float:
        """Seconds of a step in which so many sequences run."""
        return (self.step_ms + self.sequence_ms * sequences) / 1000

    @property
    def tokens_per_s(self) -> float:
        """Tokens per second with all slots taken and no prompts to read."""
        return self.slots / self.step_s(self.slots)

    def work_s(self, prompt_tokens: int, tokens: int) -> float:
        """Share of a full engine's time that a completion takes, in seconds."""
        return tokens / self.tokens_per_s + prompt_tokens * self.prompt_ms / 1000


@dataclass(frozen=True)
class Lengths:
    """Lengths of completions in tokens: lognormal, cut at a maximum."""

    mean: float
    spread: float
    """Standard deviation divided by the mean."""
    most: int
    runaway: float = 0.0
    """Share of completions that do not end before the maximum, in [0, 1]."""

    def draw(self, dice: random.Random) -> int:
        if dice.random() < self.runaway:
            return self.most
        variance = math.log(1 + self.spread**2)
        length = dice.lognormvariate(math.log(self.mean) - variance / 2, math.sqrt(variance))
        return max(4, min(self.most, int(length)))


@dataclass(frozen=True)
class Said:
    """What the model says to a request, whichever engine it is sent to."""

    text: str
    tokens: int
    is_question: bool
    is_cut: bool


@dataclass(frozen=True)
class Model:
    """A model that invents questions about numbered items, and answers them. It depends on nothing but the request."""

    items: int
    """Number of different questions that it can invent."""
    questions: Lengths = Lengths(90, 0.5, 512)
    answers: Lengths = Lengths(250, 0.6, 1024, runaway=0.01)
    prompt_tokens: int = 80
    """Tokens of every prompt."""

    def say(self, prompt: str, seed: int) -> Said:
        dice = random.Random(seed)
        if prompt == BAIT or prompt.startswith(REWRITE[:20]):
            tokens = self.questions.draw(dice)
            text = f"A shop sells item {dice.randrange(self.items)} for 7 dollars. How much do three of them cost?"
            return Said(text, tokens, True, tokens == self.questions.most)
        tokens = self.answers.draw(dice)
        right = dice.random() < SURE[int(digest(prompt), 16) % len(SURE)]
        text = f"#### {21 if right else 21 + dice.randrange(1, 6)}"
        return Said(text, tokens, False, tokens == self.answers.most)


@dataclass(frozen=True)
class Faults:
    """What goes wrong in a simulation."""

    hung_attempts: int = 0
    """Number of attempts at one question, a quarter through the round, that bring no reply. Only the engine that was
    asked first fails so."""
    errors: float = 0.0
    """Share of attempts that are answered with status 503."""
    death_s: float | None = None
    """Seconds after which the first engine dies."""
    hang_s: float | None = None
    """Seconds after which the first engine no longer answers, but does not die."""


class _Sequence:
    def __init__(self, tokens: int, prompt_tokens: int, reply: "asyncio.Future[None]") -> None:
        self.tokens = tokens
        self.prompt_tokens = prompt_tokens
        self.reply = reply
        self.runs = False


@dataclass
class Fleet:
    """The engines of a simulation, and what they did."""

    speed: Speed
    model: Model
    faults: Faults
    client_ms: float
    """CPU time of the process that asks, per completion, in milliseconds."""
    hung_number: int
    """Number of the question whose attempts hang, counted from 1 in the order of requests."""
    wanted: float
    """Number of running sequences below which the engines are not busy."""
    running: int = 0
    busy_until_s: float = 0.0
    """Time until which the process that asks has replies to read."""
    client_s: float = 0.0
    """CPU seconds of the process that asks."""
    useful_s: float = 0.0
    """Seconds of a full engine that all completions take which were received."""
    tokens: int = 0
    completions: int = 0
    full_until_s: float = 0.0
    """Last time at which the engines were busy."""
    dice: random.Random = field(default_factory=lambda: random.Random(0))
    attempts: Counter[int] = field(default_factory=Counter)
    """Number of attempts at each question, by seed."""
    hung: "tuple[int, ModelEngine] | None" = None
    """Seed of the question whose attempts hang, and the engine that was asked first."""

    def changed(self, by: int) -> None:
        """The number of running sequences changed."""
        if self.running >= self.wanted:
            self.full_until_s = asyncio.get_running_loop().time()
        self.running += by

    def hangs(self, seed: int, engine: "ModelEngine") -> bool:
        """Whether this attempt at a question brings no reply."""
        self.attempts[seed] += 1
        if len(self.attempts) == self.hung_number and self.attempts[seed] == 1:
            self.hung = seed, engine
        return (seed, engine) == self.hung and self.attempts[seed] <= self.faults.hung_attempts

    async def receive(self) -> None:
        """Read one reply, after all that came before it."""
        now = asyncio.get_running_loop().time()
        self.client_s += self.client_ms / 1000
        self.busy_until_s = max(now, self.busy_until_s) + self.client_ms / 1000
        await asyncio.sleep(self.busy_until_s - now)


class ModelEngine:
    """One engine in virtual time."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.is_dead = self.is_hung = False
        self._waiting: deque[_Sequence] = deque()
        self._running: list[tuple[float, int, _Sequence]] = []
        """Heap of running sequences, by the step in which each ends; aborted ones are among them."""
        self._count = 0
        self._batch = 0
        """Number of running sequences."""
        self._step = 0.0
        """Number of steps done."""
        self._prompts_s = 0.0
        """Seconds that reading prompts still takes."""
        self._now_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False

    async def generate(self, prompt_tokens: int, tokens: int) -> None:
        """Wait until the engine has generated a completion.

        Raises:
            NoReply: the engine is dead, or dies.
        """
        if self.is_dead:
            raise NoReply("connection refused")
        reply = asyncio.get_running_loop().create_future()
        sequence = _Sequence(tokens, prompt_tokens, reply)
        self._waiting.append(sequence)
        self._look()
        try:
            await reply
        except asyncio.CancelledError:
            self._abort(sequence)  # a server notices that the connection is closed
            raise

    def _abort(self, sequence: _Sequence) -> None:
        sequence.reply.cancel()
        if sequence.runs:
            self._advance()
            self._change(-1)
            sequence.runs = False
            self._look()

    def die(self) -> None:
        """All connections break, and new ones are refused."""
        self.is_dead = True
        self._drop(NoReply("server disconnected"))

    def hang(self) -> None:
        """No further reply, to old requests and new ones."""
        self._advance()
        self.is_hung = True
        self._forget()

    def restart(self) -> None:
        """Start again, without any requests."""
        self._drop(NoReply("server disconnected"))
        self.is_dead = self.is_hung = False

    def _drop(self, error: NoReply) -> None:
        for sequence in self._forget():
            if not sequence.reply.done():
                sequence.reply.set_exception(error)

    def _forget(self) -> list[_Sequence]:
        """Forget all requests, and return them."""
        self._change(-self._batch)
        self._prompts_s = 0.0
        requests = [*self._waiting, *(sequence for _, _, sequence in self._running)]
        self._waiting.clear()
        self._running.clear()
        for sequence in requests:
            sequence.runs = False
        return requests

    def _change(self, by: int) -> None:
        self._batch += by
        self.fleet.changed(by)

    def _look(self) -> None:
        """Look at the requests, once for all that change at this moment."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._settle)

    def _advance(self) -> None:
        """Do the steps since the last look."""
        now = asyncio.get_running_loop().time()
        elapsed, self._now_s = now - self._now_s, now
        if self._batch and not self.is_hung:
            reading = min(elapsed, self._prompts_s)
            self._prompts_s -= reading
            self._step += (elapsed - reading) / self.fleet.speed.step_s(self._batch)

    def _settle(self) -> None:
        self._is_due = False
        self._advance()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.is_dead or self.is_hung:
            return
        while self._running and (self._running[0][0] <= self._step + 1e-6 or self._running[0][2].reply.done()):
            sequence = heapq.heappop(self._running)[2]
            if sequence.runs:
                sequence.runs = False
                self._change(-1)
                sequence.reply.set_result(None)
        while self._waiting and self._batch < self.fleet.speed.slots:
            sequence = self._waiting.popleft()
            if sequence.reply.done():
                continue
            sequence.runs = True
            self._change(1)
            self._count += 1
            heapq.heappush(self._running, (self._step + sequence.tokens, self._count, sequence))
            self._prompts_s += sequence.prompt_tokens * self.fleet.speed.prompt_ms / 1000
        if self._running:
            steps_s = (self._running[0][0] - self._step) * self.fleet.speed.step_s(max(1, self._batch))
            self._timer = asyncio.get_running_loop().call_later(self._prompts_s + max(0.0, steps_s), self._settle)


class ModelConnections(Connections):
    """Connections to a model engine: what the client knows of it."""

    def __init__(self, url: str, api_key: str, engine: ModelEngine) -> None:
        super().__init__(url, api_key)
        self.engine = engine
        self.fleet = engine.fleet

    async def post(self, path: str, body: bytes) -> Reply:
        asked = msgspec.json.decode(body)
        said = self.fleet.model.say(asked["messages"][0]["content"], asked["seed"])
        if said.is_question and self.fleet.faults.hung_attempts and self.fleet.hangs(asked["seed"], self.engine):
            await asyncio.get_running_loop().create_future()
        if self.fleet.faults.errors and self.fleet.dice.random() < self.fleet.faults.errors:
            await asyncio.sleep(0.05)
            return Reply(503, {}, b"overloaded")
        prompt_tokens = self.fleet.model.prompt_tokens
        await self.engine.generate(prompt_tokens, said.tokens)
        await self.fleet.receive()
        self.fleet.completions += 1
        self.fleet.tokens += said.tokens
        self.fleet.useful_s += self.fleet.speed.work_s(prompt_tokens, said.tokens)
        return Reply(200, {}, reply_body(said, prompt_tokens))

    async def close(self) -> None:
        """Nothing is open."""


def reply_body(said: Said, prompt_tokens: int) -> bytes:
    choice = {"message": {"content": said.text}, "finish_reason": "length" if said.is_cut else "stop"}
    return msgspec.json.encode(
        {"choices": [choice], "usage": {"completion_tokens": said.tokens, "prompt_tokens": prompt_tokens}}
    )
