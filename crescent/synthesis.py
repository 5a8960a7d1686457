"""Paper steps I, II and III as one stream over one engine: ask → diversify → solve → vote.

There are no barriers: a question that passes self-deduplication gets its first answers while others are still being
written. Two rules keep the outcome independent of timing. Each request's seed comes from what it is for; and decisions
that depend on order are committed in request order, all originals first, then all first rewrites, then all second ones.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from crescent.bait import bait_name, bait_request, read_question
from crescent.client import Engine
from crescent.config import BaitConfig, ConsensusConfig, DiversifyConfig, Recheck, TaskConfig
from crescent.consensus import SILENCE, answer_request, read_answer, samples_to_ask, vote
from crescent.diversify import (
    Decision,
    Embed,
    Memory,
    Neighbour,
    Vectors,
    accept_unchecked,
    decide,
    decide_released,
    rewrite_request,
)
from crescent.records import Answer, Completion, Question, Request, Vote, digest
from crescent.tasks import Task

BLOCK = 32
"""Candidates embedded and compared at once. Always the same ones: how sums are rounded depends on the block."""


@dataclass(frozen=True)
class SynthesisConfig:
    """What a round's synthesis depends on, besides the engine."""

    task: TaskConfig
    bait: BaitConfig
    diversify: DiversifyConfig
    consensus: ConsensusConfig
    seed: int
    """The run's seed."""
    round: int


@dataclass(frozen=True)
class Synthesis:
    """A round's questions and votes, in request order."""

    votes: list[Vote]
    rejected: list[Question]
    """Near-duplicates that stayed near after all rewrites."""
    vectors: Vectors
    """Of the voted questions, shape (questions, dimensions)."""
    metrics: dict[str, float]


@dataclass
class Progress:
    """Counts for whoever watches."""

    asked: int = 0
    """Candidate questions received."""
    candidates: int = 0
    """Candidate questions asked for."""
    unusable: int = 0
    questions: int = 0
    """Accepted by self-deduplication so far."""
    rejected: int = 0
    voted: int = 0
    agreed: int = 0
    """Votes that make the agreement cut."""
    agreement: float = 0.0
    """Sum over votes; divide by `voted`."""
    tokens: int = 0


Watch = Callable[[Progress], None]


async def synthesise(
    engine: Engine, embed: Embed, task: Task, cfg: SynthesisConfig, memory: Memory, watch: Watch, ahead: int = 256
) -> Synthesis:
    """Make one round's votes. `memory` holds the questions of earlier rounds and gets this round's too.

    At most `ahead` questions are under way at once, so that answers do not wait until the last question is written.
    """
    known = len(memory)
    stream = _Stream(engine, embed, task, cfg, memory, watch, ahead)
    async with asyncio.TaskGroup() as tasks:
        await stream.run(tasks)
    votes = sorted((task.result() for task in stream.solving), key=lambda its: its.question.index)
    in_order = known + np.argsort(stream.accepted, kind="stable")
    return Synthesis(votes, stream.rejected, memory.vectors(in_order), stream.metrics(votes))


class _Stream:
    def __init__(
        self,
        engine: Engine,
        embed: Embed,
        task: Task,
        cfg: SynthesisConfig,
        memory: Memory,
        watch: Watch,
        ahead: int,
    ) -> None:
        self.engine = engine
        self.embed = embed
        self.task = task
        self.cfg = cfg
        self.memory = memory
        self.watch = watch
        self.ahead = asyncio.Semaphore(ahead)
        self.progress = Progress(candidates=cfg.bait.questions)
        self.rejected: list[Question] = []
        self.accepted: list[int] = []
        """Index of each accepted question, in the order in which `memory` got them."""
        self.solving: list[asyncio.Task[Vote]] = []
        self.rewritten = 0
        self.answers_cut = 0

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        wave = [tasks.create_task(self.invent(index)) for index in range(self.cfg.bait.questions)]
        if self.cfg.diversify.recheck is Recheck.never:
            await self.commit_released(wave, tasks)
            return
        while wave:
            wave = await self.commit(wave, tasks)

    async def complete(self, request: Request) -> Completion:
        completion = await self.engine.complete(request)
        self.progress.tokens += completion.tokens
        return completion

    async def invent(self, index: int) -> Question | None:
        cfg = self.cfg
        request = bait_request(index, cfg.bait, cfg.round, cfg.seed)
        async with self.ahead:
            text = read_question(await self.complete(request), cfg.bait.min_characters)
        self.progress.asked += 1
        self.progress.unusable += text is None
        self.watch(self.progress)
        if text is None:
            return None
        name = bait_name(index, cfg.bait)
        identity = digest(cfg.round, index, text)
        return Question(identity, text, cfg.round, index, bait=name, seed=request.seed)

    async def rewrite(self, question: Question, neighbour: Neighbour) -> Question | None:
        cfg = self.cfg
        request = rewrite_request(question, neighbour, cfg.diversify, cfg.bait, cfg.round, cfg.seed)
        text = read_question(await self.complete(request), cfg.bait.min_characters)
        self.progress.unusable += text is None
        if text is None:
            return None
        identity, attempt = digest(cfg.round, question.index, text), question.rewrites + 1
        return replace(question, id=identity, text=text, seed=request.seed, rewrites=attempt, parent=question.id)

    async def commit(
        self, wave: Sequence[asyncio.Task[Question | None]], tasks: asyncio.TaskGroup
    ) -> list[asyncio.Task[Question | None]]:
        """Decide a wave of candidates in request order; returns the rewrites of those that were too near."""
        rewrites: list[asyncio.Task[Question | None]] = []
        for start in range(0, len(wave), BLOCK):
            block, vectors = await self.embedded(wave[start : start + BLOCK])
            decisions = await asyncio.to_thread(decide, block, vectors, self.memory, self.cfg.diversify)
            rewrites += self.carry_out(block, decisions, tasks)
        return rewrites

    async def commit_released(self, wave: Sequence[asyncio.Task[Question | None]], tasks: asyncio.TaskGroup) -> None:
        """Decide all candidates as the authors' released code does: batch after batch, rewrites accepted unchecked."""
        cfg = self.cfg.diversify
        for start in range(0, len(wave), cfg.batch):
            batch, vectors = await self.embedded(wave[start : start + cfg.batch])
            decisions = await asyncio.to_thread(decide_released, batch, vectors, self.memory, cfg)
            rewritten, vectors = await self.embedded(self.carry_out(batch, decisions, tasks))
            unchecked = await asyncio.to_thread(accept_unchecked, rewritten, vectors, self.memory)
            self.carry_out(rewritten, unchecked, tasks)

    async def embedded(self, wave: Sequence[asyncio.Task[Question | None]]) -> tuple[list[Question], Vectors]:
        """The usable ones among some candidates, with their vectors."""
        block = [question for task in wave if (question := await task) is not None]
        if not block:
            return [], np.zeros((0, 0), dtype=np.float32)
        return block, await asyncio.to_thread(self.embed, [question.text for question in block])

    def carry_out(
        self, block: Sequence[Question], decisions: Sequence[Decision], tasks: asyncio.TaskGroup
    ) -> list[asyncio.Task[Question | None]]:
        """Have the accepted ones solved; returns the rewrites under way."""
        rewrites: list[asyncio.Task[Question | None]] = []
        for question, decision in zip(block, decisions, strict=True):
            nearest = decision.neighbour.id if decision.neighbour else None
            decided = replace(question, neighbour=nearest, similarity=decision.similarity)
            match decision.action:
                case "accept":
                    self.accepted.append(question.index)
                    self.solving.append(tasks.create_task(self.solve(decided)))
                    self.progress.questions += 1
                case "rewrite":
                    assert decision.neighbour is not None
                    rewrites.append(tasks.create_task(self.rewrite(question, decision.neighbour)))
                    self.rewritten += 1
                case "drop":
                    self.rejected.append(decided)
                    self.progress.rejected += 1
        self.watch(self.progress)
        return rewrites

    async def solve(self, question: Question) -> Vote:
        """Ask until the vote is decided."""
        answers: list[Answer] = []
        classes: Sequence[int] = ()
        while more := samples_to_ask(classes, self.cfg.consensus):
            samples = range(len(answers), len(answers) + more)
            answers += await asyncio.gather(*(self.answer(question, sample) for sample in samples))
            finals = [answer.final for answer in answers]
            classes = await asyncio.to_thread(self.task.classes, finals)
        decided = vote(question, answers, classes)
        self.progress.voted += 1
        self.progress.agreement += decided.agreement
        self.progress.agreed += decided.winner is not None and decided.agreement >= self.cfg.consensus.min_agreement
        self.watch(self.progress)
        return decided

    async def answer(self, question: Question, sample: int) -> Answer:
        request = answer_request(question, sample, self.cfg.task, self.cfg.consensus, self.cfg.seed)
        completion = await self.complete(request)
        self.answers_cut += completion.finish_reason == "length"
        return await asyncio.to_thread(read_answer, question, sample, request.seed, completion, self.task)

    def metrics(self, votes: Sequence[Vote]) -> dict[str, float]:
        answers = sum(len(its.answers) for its in votes)
        planned = len(votes) * self.cfg.consensus.samples
        unanimous = [its for its in votes if its.winner is not None and its.votes == its.of]
        return {
            "candidates": self.progress.candidates,
            "unusable": self.progress.unusable,
            "rewrites": self.rewritten,
            "near_duplicates": len(self.rejected),
            "questions": len(votes),
            "answers": answers,
            "answers_saved": planned - answers,
            "answers_cut": self.answers_cut,
            "answers_silent": sum(its.classes.count(SILENCE) for its in votes),
            "agreement": _mean(its.agreement for its in votes),
            "ties": sum(its.winner is None and its.votes > 0 for its in votes),
            # Adaptive asking stops at ⌊K/2⌋+1 equal answers: all K might have agreed less often.
            "unanimous_so_far": len(unanimous),
            "tokens": self.progress.tokens,
            "graded_undecided": self.task.undecided,
        }


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return round(float(np.mean(numbers)), 6) if numbers else 0.0
