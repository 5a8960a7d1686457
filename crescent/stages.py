"""The stages of a round, bound to one run folder: each runs once and hands on records and folders.

What a stage computes is written elsewhere, without paths. This module says what each stage reads, what it writes, and
which settings and inputs it is a function of.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from crescent.config import Child, Config, Keep, Labels, Split, Start, TrainJob, Tuning
from crescent.engine.client import Client, Endpoint, EngineDied
from crescent.engine.journal import Journal, Journaled
from crescent.engine.refusals import REFUSED
from crescent.groundwork import (
    accepted_questions,
    ask_eval,
    calibrate,
    check_template,
    find_models,
    list_benchmarks,
    list_others,
    own_data,
    run_harness,
    seed_data,
    write_replay,
)
from crescent.judging import verdict
from crescent.judging.collapse import monitors
from crescent.judging.measurements import Answers
from crescent.machine.nvidia import visible_gpus
from crescent.machine.program import run_async
from crescent.models.embedders import Embed
from crescent.records import (
    BaitCount,
    Checkpoint,
    Done,
    Evaluation,
    Item,
    Pair,
    Proof,
    Question,
    Response,
    Round,
    Score,
    Verdict,
    Vote,
    child_suffix,
    read_lines,
    write_lines,
)
from crescent.run_folder.manifest import SCRATCH
from crescent.run_folder.metric import MONITOR
from crescent.run_folder.metric_names import monitors_among
from crescent.run_folder.places import RESPONSES, SEEDS
from crescent.selection.arms import CAUTIONS
from crescent.selection.decontamination import Benchmarks
from crescent.selection.pairs import in_policy, select
from crescent.synthesis.diversify import Memory
from crescent.synthesis.progress import Progress
from crescent.synthesis.seeds import Seeds, read_seeds
from crescent.synthesis.stream import BLOCK, Synthesis, SynthesisConfig, synthesise
from crescent.tasks import open_task
from crescent.workplace import Workplace, numbers, sized, trainer_command


class Stages(Workplace):
    """The six calls of a round, and what comes before the first one."""

    def base(self) -> Checkpoint:
        """The model the run starts from. A benchmark that cannot be loaded fails here, before anything is served."""
        find_models(self)
        list_benchmarks(self)
        return self.base_model

    def teacher(self, parent: Evaluation) -> Evaluation:
        """The model that asks and answers: the parent itself; or, with `train.student`, a teacher that stays the same;
        or, with `pairs.labels=fixed`, the base."""
        fixed = "teacher" in self.models or self.cfg.pairs.labels is Labels.fixed
        return self.evaluate(self.asking_model) if fixed else parent

    def calibrate(self, base: Checkpoint) -> None:
        """Check that the base learns from what it is asked. If `eval.reliability` is set, measure how far agreement can
        be trusted as a label."""
        check_template(self)
        calibrate(self, base)

    def synthesise(self, number: int, parent: Checkpoint, past: Sequence[Round]) -> Done:
        """The parent's own questions, self-deduplicated, each with a majority vote."""
        cfg = self.cfg
        stage = f"round-{number}/synthesis"
        others = list_others(self)
        inputs = {
            "parent": parent.digest,
            **{f"round-{round_.number}": round_.votes.digest for round_ in past},
            **({"others": others.digest} if others else {}),
            **seed_data(cfg),
        }
        reads = SynthesisConfig(cfg.task, cfg.bait, cfg.diversify, cfg.consensus, cfg.run.seed, number)

        def work(folder: Path) -> Mapping[str, float]:
            seeds = read_seeds(cfg.bait)
            self.notice(stage, seeds.notice)

            def ask(endpoint: Endpoint) -> Synthesis:
                return self._synthesise(endpoint, folder, reads, past, others, seeds, stage)

            found = self.server.ask(parent, ask)
            write_lines(folder / "votes.jsonl", found.votes)
            write_lines(folder / "candidates.jsonl", found.candidates)
            write_lines(folder / "baits.jsonl", found.baits)
            if cfg.bait.seeds is not None:
                write_lines(folder / SEEDS, seeds.questions)
            np.save(folder / "vectors.npy", found.vectors)
            watched = monitors(found.votes, found.vectors, found.candidates, cfg.consensus.samples)
            return {**found.metrics, **{MONITOR + name: value for name, value in watched.items()}}

        return self.do(stage, "synthesis", work, inputs)

    def select(self, number: int, votes: Done, past: Sequence[Round]) -> Done:
        """The pairs to train on: this round's, those of earlier rounds by the data policy, and general ones."""
        cfg = self.cfg
        stage = f"round-{number}/pairs"
        benchmarks, replay = list_benchmarks(self), write_replay(self)
        # Pairs of a rolled-back round are not trained on again; those of a retried round are.
        usable = [round_ for round_ in past if round_.verdict.action != "roll back"]
        earlier = in_policy(usable, cfg.pairs)
        inputs = {
            "votes": votes.digest,
            "benchmarks": benchmarks.digest,
            **({"replay": replay.digest} if replay else {}),
            **{f"round-{round_.number}": round_.pairs.digest for round_ in earlier},
        }

        def work(folder: Path) -> Mapping[str, float]:
            if cfg.pairs.labels in CAUTIONS:
                self.observer.say(f"{stage}: pairs.labels={cfg.pairs.labels.value} {CAUTIONS[cfg.pairs.labels]}")
            voted = read_lines(votes.folder / "votes.jsonl", Vote)
            index = open_benchmarks(benchmarks.folder, cfg)
            near = index.find([vote.question for vote in voted], np.load(votes.folder / "vectors.npy"))
            # Written before pairs are chosen: if too few are left, the unfinished folder shows what was quarantined.
            write_lines(folder / "quarantine.jsonl", near.values())
            old = [read_lines(round_.pairs.folder / "new.jsonl", Pair) for round_ in earlier]
            general = read_lines(replay.folder / "pairs.jsonl", Pair) if replay else []
            found = select(voted, near, cfg.task, cfg.consensus, cfg.pairs, old, general)
            write_lines(folder / "new.jsonl", found.new)
            write_lines(folder / "quarantine.jsonl", found.quarantined)
            write_lines(folder / "pairs.jsonl", found.pairs)
            return found.metrics

        return self.do(stage, "pairs", work, inputs)

    def train(self, number: int, pairs: Done, parent: Checkpoint) -> Checkpoint:
        """The child, trained in a separate process, from the base or from the parent (`train.start`)."""
        cfg = self.cfg
        stage = f"round-{number}/train"
        start = self.base_model if cfg.train.start is Start.base else parent
        inputs = {"pairs": pairs.digest, "start": start.digest}
        if cfg.train.start is Start.merge:
            inputs["base"] = self.base_model.digest

        def work(folder: Path) -> Mapping[str, float]:
            assert self.base_model.weights is not None
            elsewhere = self.trainer_place
            gpus = visible_gpus() if elsewhere is None else elsewhere.gpus
            train, why = sized(cfg, gpus)
            self.notice(stage, why)
            job = TrainJob(
                model=replace(cfg.model, path=self.base_model.weights, parameters_b=None),
                train=replace(train, student=None),
                pairs=str((pairs.folder / "pairs.jsonl").resolve()),
                output=str(folder.resolve()),
                seed=cfg.run.seed,
                parent=trained_part(start, cfg.train.tuning),
                merge=cfg.serving.child is not Child.adapter,
                task=cfg.task,
                grading_timeout_s=cfg.consensus.grading_timeout_s,
                # Digests only, no names: equal runs under two names make equal children.
                lineage={"round": str(number)}
                | {
                    f"digest of the {name}": value for name, value in {"base": self.base_model.digest, **inputs}.items()
                },
            )
            self.server.pause()
            # For train.grpo.vllm: as in our own servers, the sampler that would compile with nvcc.
            environment, launch = {"VLLM_USE_FLASHINFER_SAMPLER": "0"}, None if elsewhere is None else elsewhere.launch
            self.run_child(stage, trainer_command(cfg, gpus), job, folder, environment, launch)
            return numbers(folder / "metrics.json")

        done = self.do(stage, "train", work, inputs)
        folder = done.folder.resolve()
        adapter, weights = folder / "adapter", folder / "weights"
        return Checkpoint(
            name=cfg.run.name + child_suffix(number, done.digest),
            round=number,
            digest=done.digest,
            adapter=str(adapter) if adapter.exists() else None,
            weights=str(weights) if weights.exists() else None,
            base=self.base_model,
            proof=msgspec.json.decode((folder / "proof.json").read_bytes(), type=Proof),
        )

    def evaluate(self, checkpoint: Checkpoint) -> Evaluation:
        """The checkpoint's answers to all benchmarks, with scores."""
        stage = f"{self.place_of(checkpoint)}/eval"

        def work(folder: Path) -> Mapping[str, float]:
            self.server.ask(checkpoint, lambda endpoint: ask_eval(self, stage, endpoint, folder))
            metrics: dict[str, float] = {}
            for score in read_scores(folder):
                shares = {"strict": score.strict, "flexible": score.flexible}
                known = {name: count / score.total for name, count in shares.items() if count is not None}
                voted = {} if score.majority is None else {"majority": score.majority}
                passed = {f"pass@{k}": share for k, share in score.pass_at.items()}
                found = {"accuracy": score.accuracy, "unparsed": score.unparsed, **known, **voted, **passed}
                metrics |= {f"{score.benchmark}/{name}": value for name, value in found.items()}
            return metrics | self._refused(stage, read_lines(folder / RESPONSES, Response))

        done = self.do(stage, "eval", work, {"checkpoint": checkpoint.digest, **own_data(self.cfg)})
        run_harness(self, checkpoint)
        return Evaluation(checkpoint, read_scores(done.folder), done)

    def judge(self, child: Evaluation, parent: Evaluation, votes: Done, past: Sequence[Round]) -> Verdict:
        """Accept, retry, roll back or stop, by the dev benchmarks; the round's votes show whether it collapses."""
        cfg = self.cfg
        base = past[0].parent if past else parent
        best = max([base, *(round_.child for round_ in past)], key=dev_accuracy)
        syntheses = [*(round_.votes for round_ in past), votes]
        dev = {name: benchmark for name, benchmark in cfg.eval.benchmarks.items() if benchmark.split is Split.dev}

        def work(folder: Path) -> Mapping[str, float]:
            found = verdict.judge(
                child.checkpoint,
                parent.checkpoint,
                Answers(*(read_responses(evaluation) for evaluation in (child, parent, base, best))),
                cfg.verdict,
                deciding=dev.keys(),
                guards=[name for name, benchmark in dev.items() if benchmark.guard],
                rounds=[monitored(synthesis) for synthesis in syntheses],
                seed=cfg.run.seed,
            )
            write_lines(folder / "verdict.json", [found])
            decision = {"accepted": float(found.action == "accept"), "alarms": float(len(found.alarms))}
            return {**decision, "difference": found.difference, "p_value": found.p_value}

        inputs = {
            "child": child.done.digest,
            "parent": parent.done.digest,
            "base": base.done.digest,
            "best": best.done.digest,
            **{f"synthesis-{number}": synthesis.digest for number, synthesis in enumerate(syntheses, 1)},
        }
        done = self.do(f"round-{child.checkpoint.round}/verdict", "verdict", work, inputs)
        found = read_lines(done.folder / "verdict.json", Verdict)[0]
        rejected = verdict.rejections_in_a_row([round_.verdict.action for round_ in past])
        return verdict.with_patience(found, rejected, cfg.verdict.patience)

    def conclude(self, finished: Round) -> Round:
        """The round is over: report it, and drop weights that no later stage needs (`run.keep`)."""
        self.observer.round_done(finished)
        accepted = finished.verdict.action == "accept"
        beaten = (finished.parent if accepted else finished.child).checkpoint
        if self.cfg.run.keep is Keep.best and beaten.round:
            self.once.drop(f"round-{beaten.round}/train", "weights")
        return finished

    def _refused(self, stage: str, responses: Sequence[Response]) -> dict[str, float]:
        """Counts of the requests that the engine refused, as metrics; they are shown, too."""
        counts = Counter(response.benchmark for response in responses if response.finish_reason == REFUSED)
        for benchmark, count in counts.items():
            total = sum(response.benchmark == benchmark for response in responses)
            self.notice(stage, f"{count} of {total} requests of {benchmark} were refused and count as wrong answers")
        return {f"{benchmark}/refused": float(count) for benchmark, count in counts.items()}

    def _synthesise(
        self,
        endpoint: Endpoint,
        folder: Path,
        reads: SynthesisConfig,
        past: Sequence[Round],
        others: Done | None,
        seeds: Seeds,
        stage: str,
    ) -> Synthesis:
        cfg = self.cfg.serving
        counts = [count for round_ in past for count in read_lines(round_.votes.folder / "baits.jsonl", BaitCount)]

        def watch(progress: Progress) -> None:
            self.observer.progress(stage, *progress.settled(reads.consensus.samples), progress.note())

        async def stream() -> Synthesis:
            timeout_s, concurrency = cfg.request_timeout_s, cfg.in_flight(len(endpoint.urls))
            async with Client(endpoint.urls, endpoint.model, endpoint.key, concurrency, timeout_s) as client:
                engine = Journaled(client, journal, cfg.max_refused)
                memory = remember(past, others, embed)
                ahead = max(concurrency, BLOCK)
                found = await synthesise(engine, embed, task, reads, memory, watch, counts, ahead, seeds.questions)
            self.notice(stage, engine.refusals.line())
            refused = len(engine.refusals.refused)
            return replace(found, metrics={**found.metrics, **({"refused": refused} if refused else {})})

        with (
            Journal(folder / SCRATCH / "journal.jsonl") as journal,
            self.embedder() as embed,
            open_task(self.cfg.task, self.cfg.consensus.grading_timeout_s) as task,
        ):
            self.notice(stage, journal.notice)
            try:
                return run_async(stream())
            except BaseExceptionGroup as group:
                died, rest = group.split(EngineDied)
                if died is None or rest is not None:
                    raise
                raise EngineDied(f"while asking for {stage}: {leaf(died)}") from group


def trained_part(start: Checkpoint, tuning: Tuning) -> str | None:
    """Folder that training starts from; `None` for a model that was not trained yet."""
    if start.round == 0:
        return None
    return start.weights if tuning is Tuning.full else start.adapter


def remember(past: Sequence[Round], others: Done | None, embed: Embed) -> Memory:
    """The questions of other runs and of all earlier rounds, with their vectors."""
    memory = Memory()
    if others is not None:
        # Another run may have used another embedder.
        questions = read_lines(others.folder / "questions.jsonl", Question)
        for question, vector in zip(questions, embed([question.text for question in questions]), strict=True):
            memory.add(question, vector)
    for round_ in past:
        vectors = np.load(round_.votes.folder / "vectors.npy")
        for question, vector in zip(accepted_questions(round_.votes.folder), vectors, strict=True):
            memory.add(question, vector)
    return memory


def open_benchmarks(folder: Path, cfg: Config) -> Benchmarks:
    """The index that finds questions too similar to a benchmark item."""
    vectors = folder / "vectors.npy"
    items = read_lines(folder / "items.jsonl", Item)
    return Benchmarks(items, cfg.pairs.decontamination, np.load(vectors) if vectors.exists() else None)


def monitored(synthesis: Done) -> dict[str, float]:
    """The collapse monitors among the metrics of a synthesis, without their prefix."""
    return monitors_among(synthesis.metrics)


def read_responses(evaluated: Evaluation) -> list[Response]:
    return read_lines(evaluated.done.folder / RESPONSES, Response)


def dev_accuracy(evaluated: Evaluation) -> float:
    """Mean accuracy on the benchmarks that may decide, in [0, 1]; 0 if none may."""
    deciding = [score.accuracy for score in evaluated.scores if score.decides]
    return sum(deciding) / len(deciding) if deciding else 0.0


def read_scores(folder: Path) -> tuple[Score, ...]:
    return msgspec.json.decode((folder / "scores.json").read_bytes(), type=tuple[Score, ...])


def leaf(group: BaseException) -> BaseException:
    return leaf(group.exceptions[0]) if isinstance(group, BaseExceptionGroup) else group
