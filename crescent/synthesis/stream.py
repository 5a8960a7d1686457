"""Paper steps I, II and III as one stream over one engine: ask → diversify → solve → vote.

There are no barriers: a question that passes self-deduplication gets its first answers while others are still being
written. Two rules make the outcome independent of timing. The seed of a request is computed from its purpose; and
decisions that depend on order are made in request order: all originals, then all first rewrites, then all second ones.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from crescent.config import BaitConfig, ConsensusConfig, DiversifyConfig, Recheck, TaskConfig
from crescent.engine.client import Engine
from crescent.models.embedders import Embed, Vectors
from crescent.records import (
    Answer,
    Bait,
    BaitCount,
    Candidate,
    Completion,
    Outcome,
    Question,
    Request,
    SeedQuestion,
    Vote,
    digest,
)
from crescent.run_folder.metric_names import DROPPED_NEAR_DUPLICATES
from crescent.synthesis.bait import bait_request
from crescent.synthesis.bait_pool import baits_of_round, open_pool, open_schedule, weights
from crescent.synthesis.consensus import (
    SILENCE,
    entropy,
    is_kept,
    is_unanimous,
    margin,
    read_answer,
    sample_request,
    samples_to_ask,
    vote,
)
from crescent.synthesis.diversify import (
    Decision,
    Memory,
    Neighbour,
    accept_unchecked,
    decide,
    decide_released,
    rewrite_request,
)
from crescent.synthesis.extraction import extract_question
from crescent.synthesis.progress import Progress
from crescent.synthesis.seeds import COPY, Copies
from crescent.tasks import Task
from crescent.tasks.code import inputs_request, read_inputs

BLOCK = 32
"""Number of candidates embedded and compared at once; never varied, because rounding depends on the block."""
RAW = 2000
"""Characters of an unusable completion that are kept for a person to read."""


@dataclass(frozen=True)
class SynthesisConfig:
    """All that a round's synthesis depends on, besides the engine."""

    task: TaskConfig
    bait: BaitConfig
    diversify: DiversifyConfig
    consensus: ConsensusConfig
    seed: int
    """Seed of the run."""
    round: int
    """Number of the round, from 1."""


@dataclass(frozen=True)
class Synthesis:
    """A round's questions and votes, in request order."""

    votes: list[Vote]
    candidates: list[Candidate]
    """Every question as invented or rewritten, with its outcome."""
    baits: list[BaitCount]
    """Counts of each bait's questions."""
    vectors: Vectors
    """Embeddings of the voted questions, shape (questions, dimensions)."""
    metrics: dict[str, float]


Watch = Callable[[Progress], None]
"""Called after each step of a round."""


async def synthesise(
    engine: Engine,
    embed: Embed,
    task: Task,
    cfg: SynthesisConfig,
    memory: Memory,
    watch: Watch,
    counts: Sequence[BaitCount] = (),
    ahead: int = 256,
    seeds: Sequence[SeedQuestion] = (),
) -> Synthesis:
    """Make one round's votes. `memory` holds the questions of earlier rounds; this round's are added to it.

    Args:
        counts: Counts of the baits in earlier rounds: those baits are used again, in proportion to their success.
        ahead: Number of questions requested at once, so that answers do not wait until the last question is written.
        seeds: Questions that bait prompts with `{seed}` show to the model.
    """
    known = len(memory)
    pool = list({count.bait.name: count.bait for count in counts}.values())
    pool = pool or await open_pool(engine, cfg.bait, cfg.round, cfg.seed, seeds)
    stream = _Stream(engine, embed, task, cfg, memory, watch, pool, counts, ahead, Copies(cfg.bait, seeds))
    async with asyncio.TaskGroup() as tasks:
        await stream.run(tasks)
    votes = sorted(stream.votes, key=lambda decided: decided.question.index)
    # `memory` got the questions in the order of acceptance, the votes are in the order of requests.
    in_request_order = known + np.argsort(stream.accepted, kind="stable")
    candidates = sorted(stream.candidates, key=lambda each: (each.question.index, each.question.rewrites))
    bait_counts = count_baits(pool, candidates, votes, cfg)
    return Synthesis(votes, candidates, bait_counts, memory.vectors(in_request_order), stream.metrics(votes))


def count_baits(
    pool: Sequence[Bait], candidates: Sequence[Candidate], votes: Sequence[Vote], cfg: SynthesisConfig
) -> list[BaitCount]:
    """Counts of each bait's questions, in the order of `pool`."""
    asked_by, voted_by = defaultdict[str, list[Candidate]](list), defaultdict[str, list[Vote]](list)
    for candidate in candidates:
        if candidate.question.rewrites == 0:
            asked_by[candidate.question.bait].append(candidate)
    for decided in votes:
        voted_by[decided.question.bait].append(decided)
    counts = []
    for bait in pool:
        asked, voted = asked_by[bait.name], voted_by[bait.name]
        agreed = [decided for decided in voted if is_kept(decided, cfg.consensus)]
        counts.append(
            BaitCount(
                bait,
                asked=len(asked),
                usable=sum(candidate.outcome != "unusable" for candidate in asked),
                accepted=len(voted),
                agreed=len(agreed),
                unanimous=sum(is_unanimous(decided, cfg.consensus.samples) for decided in agreed),
                agreement=_mean(decided.agreement for decided in voted),
            )
        )
    return counts


Wave = Sequence[asyncio.Task[Question | None]]
"""Questions being written, in request order."""


class _Stream:
    def __init__(
        self,
        engine: Engine,
        embed: Embed,
        task: Task,
        cfg: SynthesisConfig,
        memory: Memory,
        watch: Watch,
        pool: Sequence[Bait],
        counts: Sequence[BaitCount],
        ahead: int,
        copies: Copies,
    ) -> None:
        self.engine = engine
        self.embed = embed
        self.task = task
        self.cfg = cfg
        self.memory = memory
        self.watch = watch
        self.ahead = asyncio.Semaphore(ahead)
        self.progress = Progress(candidates=cfg.bait.questions)
        self.pool = pool
        self.copies = copies
        self.baits = baits_of_round(pool, cfg.bait, cfg.round)
        self.schedule = open_schedule(self.baits, weights(self.baits, counts, cfg.bait), cfg.round, cfg.seed)
        self.candidates: list[Candidate] = []
        self.accepted: list[int] = []
        """Index of each accepted question, in the order in which they were added to `memory`."""
        self.votes: list[Vote] = []
        """Decided votes, in the order of decision."""
        self.answers_cut = 0
        self.problems_dropped = 0

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        if self.cfg.diversify.recheck is Recheck.never:
            await self.commit_released(self.invented(tasks, self.cfg.diversify.batch), tasks)
            return
        wave = await self.commit(self.invented(tasks, BLOCK), tasks)
        while wave:
            wave = await self.commit(_blocks(wave, BLOCK), tasks)

    async def invented(self, tasks: asyncio.TaskGroup, size: int) -> AsyncIterator[Wave]:
        """All questions in request order, in blocks of `size`; at most `ahead` of them are being written."""
        count = self.cfg.bait.questions
        started: asyncio.Queue[asyncio.Task[Question | None]] = asyncio.Queue()

        async def start_all() -> None:
            # Only now: a task for each of a million questions at once would take gigabytes.
            for index in range(count):
                await self.ahead.acquire()
                started.put_nowait(tasks.create_task(self.invent(index)))

        tasks.create_task(start_all())
        for start in range(0, count, size):
            yield [await started.get() for _ in range(min(size, count - start))]

    async def complete(self, request: Request) -> Completion:
        completion = await self.engine.complete(request)
        self.progress.tokens += completion.tokens
        return completion

    async def invent(self, index: int) -> Question | None:
        cfg = self.cfg
        bait = self.baits[self.schedule[index]]
        request = bait_request(bait, index, cfg.bait, cfg.round, cfg.seed)
        try:
            completion = await self.complete(request)
        finally:
            self.ahead.release()
        self.progress.asked += 1
        blank = Question("", "", cfg.round, index, bait.name, request.seed)
        return self.read(blank, completion)

    async def rewrite(self, question: Question, neighbour: Neighbour) -> Question | None:
        cfg = self.cfg
        request = rewrite_request(question, neighbour, cfg.diversify, cfg.bait, cfg.round, cfg.seed)
        completion = await self.complete(request)
        rewrites = question.rewrites + 1
        return self.read(replace(question, seed=request.seed, rewrites=rewrites, parent=question.id), completion)

    def read(self, question: Question, completion: Completion) -> Question | None:
        """The question with the text found in a completion; `None` when the completion is unusable."""
        found = extract_question(completion, self.cfg.bait.min_characters)
        self.problems_dropped += found.dropped
        why = found.why
        if found.text is not None and not self.task.accepts(found.text):
            why = f"no question for task={self.cfg.task.name}"
        if found.text is not None and self.copies.is_copy(question.bait, found.text):
            why = COPY
        if found.text is None or why:
            self.progress.unusable += 1
            raw = completion.text[:RAW].encode("utf-8", "replace").decode()
            identity = digest(question.round, question.index, question.rewrites, raw)
            self.candidates.append(Candidate(replace(question, id=identity, text=raw), "unusable", why))
            self.watch(self.progress)
            return None
        self.watch(self.progress)
        return replace(
            question, id=digest(question.round, question.index, question.rewrites, found.text), text=found.text
        )

    async def commit(
        self, blocks: AsyncIterator[Wave], tasks: asyncio.TaskGroup
    ) -> list[asyncio.Task[Question | None]]:
        """Decide a wave of candidates in request order; returns the rewrites of the near-duplicates."""
        rewrites: list[asyncio.Task[Question | None]] = []
        async for written in blocks:
            block, vectors = await self.embedded(written)
            decisions = await asyncio.to_thread(decide, block, vectors, self.memory, self.cfg.diversify)
            rewrites += self.carry_out(block, decisions, tasks)
        return rewrites

    async def commit_released(self, batches: AsyncIterator[Wave], tasks: asyncio.TaskGroup) -> None:
        """Decide all candidates as the authors' released code does: batch after batch, rewrites accepted unchecked."""
        cfg = self.cfg.diversify
        async for written in batches:
            batch, vectors = await self.embedded(written)
            decisions = await asyncio.to_thread(decide_released, batch, vectors, self.memory, cfg)
            rewritten, vectors = await self.embedded(self.carry_out(batch, decisions, tasks))
            unchecked = await asyncio.to_thread(accept_unchecked, rewritten, vectors, self.memory)
            self.carry_out(rewritten, unchecked, tasks)

    async def embedded(self, wave: Wave) -> tuple[list[Question], Vectors]:
        """The usable questions of a wave, with their vectors."""
        block = [question for task in wave if (question := await task) is not None]
        if not block:
            return [], np.zeros((0, 0), dtype=np.float32)
        return block, await asyncio.to_thread(self.embed, [question.text for question in block])

    def carry_out(
        self, block: Sequence[Question], decisions: Sequence[Decision], tasks: asyncio.TaskGroup
    ) -> list[asyncio.Task[Question | None]]:
        """Start solving the accepted questions; returns the rewrites that were started."""
        rewrites: list[asyncio.Task[Question | None]] = []
        for question, decision in zip(block, decisions, strict=True):
            nearest = decision.neighbour.id if decision.neighbour else None
            decided = replace(question, neighbour=nearest, similarity=decision.similarity)
            outcome: Outcome
            match decision.action:
                case "accept":
                    outcome = "accepted"
                    self.accepted.append(question.index)
                    tasks.create_task(self.solve(decided))
                    self.progress.questions += 1
                case "rewrite":
                    assert decision.neighbour is not None
                    rewrites.append(tasks.create_task(self.rewrite(question, decision.neighbour)))
                    outcome = "rewritten"
                case "drop":
                    self.progress.rejected += 1
                    outcome = "near-duplicate"
            self.candidates.append(Candidate(decided, outcome))
        self.watch(self.progress)
        return rewrites

    async def solve(self, question: Question) -> None:
        """Ask for answers until the vote is decided."""
        cfg = self.cfg.consensus
        answers: list[Answer] = []
        classes: Sequence[int] = ()
        inputs = await self.inputs(question)
        # Programs that cannot be run on anything cannot agree: such a question gets no answers and no winner.
        while more := samples_to_ask(classes, cfg) if inputs is not None else 0:
            samples = range(len(answers), len(answers) + more)
            if inputs:
                # Programs run in several processes at once, each as soon as it is written.
                answers += await asyncio.gather(*(self.ran(question, sample, inputs) for sample in samples))
                classes = await asyncio.to_thread(self.classes, answers)
            else:
                completions = await asyncio.gather(*(self.answer(question, sample) for sample in samples))
                # One thread reads and compares all of them: handing over each by itself costs more than reading it.
                answers, classes = await asyncio.to_thread(self.read_and_compare, question, answers, completions)
        decided = vote(question, answers, classes, cfg.keep_ties, inputs or ())
        self.votes.append(decided)
        self.progress.voted += 1
        self.progress.agreement += decided.agreement
        self.progress.agreed += is_kept(decided, cfg)
        self.watch(self.progress)

    def read_and_compare(
        self, question: Question, answers: Sequence[Answer], completions: Sequence[tuple[int, Completion]]
    ) -> tuple[list[Answer], Sequence[int]]:
        """The answers with the next ones, and the class of each."""
        more = [
            read_answer(question, sample, seed, completion, self.task)
            for sample, (seed, completion) in enumerate(completions, start=len(answers))
        ]
        read = [*answers, *more]
        return read, self.classes(read)

    def classes(self, answers: Sequence[Answer]) -> Sequence[int]:
        return self.task.classes([answer.final for answer in answers])

    async def inputs(self, question: Question) -> tuple[str, ...] | None:
        """Inputs for the programs, written by the model: empty for other tasks, `None` if the model wrote none."""
        task = self.cfg.task
        if task.inputs_prompt is None:
            return ()
        request = inputs_request(question, task, self.cfg.consensus, self.cfg.seed)
        return read_inputs(await self.complete(request), task.inputs) or None

    async def answer(self, question: Question, sample: int) -> tuple[int, Completion]:
        """The seed of a sample, and its completion."""
        request = sample_request(question, sample, self.cfg.task, self.cfg.consensus, self.cfg.seed)
        completion = await self.complete(request)
        self.answers_cut += completion.finish_reason == "length"
        return request.seed, completion

    async def ran(self, question: Question, sample: int, inputs: Sequence[str]) -> Answer:
        """One answer, whose program is run on the inputs."""
        seed, completion = await self.answer(question, sample)
        return await asyncio.to_thread(read_answer, question, sample, seed, completion, self.task, inputs)

    def metrics(self, votes: Sequence[Vote]) -> dict[str, float]:
        answers = sum(len(decided.answers) for decided in votes)
        planned = len(votes) * self.cfg.consensus.samples
        outcomes = Counter(candidate.outcome for candidate in self.candidates)
        reasons = Counter(candidate.why for candidate in self.candidates if candidate.outcome == "unusable")
        return {
            "candidates": self.progress.candidates,
            "baits": len(self.pool),
            "unusable": outcomes["unusable"],
            **{f"unusable/{why}": count for why, count in sorted(reasons.items())},
            "problems_dropped": self.problems_dropped,
            "rewrites": outcomes["rewritten"],
            DROPPED_NEAR_DUPLICATES.name: outcomes["near-duplicate"],
            "questions": len(votes),
            "without_inputs": sum(not decided.answers for decided in votes),
            "answers": answers,
            "answers_saved": planned - answers,
            "answers_cut": self.answers_cut,
            "answers_silent": sum(decided.classes.count(SILENCE) for decided in votes),
            "agreement": _mean(decided.agreement for decided in votes),
            "margin": _mean(margin(decided) for decided in votes),
            "entropy": _mean(entropy(decided) for decided in votes),
            "ties": sum(decided.winner is None and decided.votes > 0 for decided in votes),
            "unanimous": sum(is_unanimous(decided, self.cfg.consensus.samples) for decided in votes),
            "tokens": self.progress.tokens,
            "undecided": self.task.undecided,
        }


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return round(float(np.mean(numbers)), 6) if numbers else 0.0


async def _blocks(wave: Wave, size: int) -> AsyncIterator[Wave]:
    for start in range(0, len(wave), size):
        yield wave[start : start + size]
