"""Paper step III: K sampled answers to each question, and the final answer that most of them agree on.

Source: majority voting over sampled answers is self-consistency (arXiv 2203.11171), used by Crescent (arXiv 2502.13441)
to choose the training target. Adaptive voting is ours; it never changes which questions are kept or which answer wins.
"""

import math
from collections import Counter
from collections.abc import Sequence

from crescent.config import ConsensusConfig, TaskConfig
from crescent.config.checks import fill
from crescent.records import Answer, Completion, Question, Request, Vote, request_seed
from crescent.synthesis.chatter import CHAT_TOKEN
from crescent.tasks import Task, read_final

SILENCE = -1
"""Class of an answer without a final answer."""


def sample_request(question: Question, sample: int, task: TaskConfig, cfg: ConsensusConfig, run_seed: int) -> Request:
    """The request for one sampled answer."""
    return Request(
        key=f"answer/{question.id}/{sample}",
        prompt=fill(task.answer_prompt, question.text),
        temperature=cfg.temperature,
        max_tokens=cfg.max_tokens,
        seed=request_seed(run_seed, question.round, "answer", question.id, sample),
    )


def read_answer(
    question: Question, sample: int, seed: int, completion: Completion, task: Task, inputs: Sequence[str] = ()
) -> Answer:
    """One sampled answer, with its final answer read."""
    return Answer(
        question=question.id,
        sample=sample,
        seed=seed,
        text=completion.text,
        final=read_vote(completion, task, inputs),
        finish_reason=completion.finish_reason,
        tokens=completion.tokens,
    )


def read_vote(completion: Completion, task: Task, inputs: Sequence[str] = ()) -> str | None:
    """The final answer that a vote or a reward counts: as everywhere, but only of a text that can be trained on.

    Such a text ended by itself, and spells out no token of a chat template: in training that would become a turn.
    """
    is_whole = completion.finish_reason == "stop" and not CHAT_TOKEN.search(completion.text)
    return read_final(completion, task, inputs) if is_whole else None


def vote(
    question: Question,
    answers: Sequence[Answer],
    classes: Sequence[int],
    keep_ties: bool = False,
    inputs: tuple[str, ...] = (),
) -> Vote:
    """Count the classes. Silence never wins; a tie has no winner, or with `keep_ties` the answer that came first."""
    leader, votes, runner_up = standings(classes)
    winner = None
    if leader is not None and (votes > runner_up or keep_ties):
        winner = answers[classes.index(leader)].final
    return Vote(question, tuple(answers), tuple(classes), winner, votes, len(answers), inputs)


def margin(decided: Vote) -> float:
    """Votes of the winner minus those of the runner-up, as a share of the samples asked, in [0, 1]."""
    _, votes, runner_up = standings(decided.classes)
    return (votes - runner_up) / decided.of if decided.of else 0.0


def entropy(decided: Vote) -> float:
    """Shannon entropy of the classes in bits; 0 when all samples agree. Each silent sample is a class of its own."""
    spoken = [answer_class for answer_class in decided.classes if answer_class != SILENCE]
    shares = [count / decided.of for count in Counter(spoken).values()]
    shares += [1 / decided.of for answer_class in decided.classes if answer_class == SILENCE]
    return -sum(share * math.log2(share) for share in shares) + 0.0


def is_unanimous(decided: Vote, samples: int) -> bool:
    """Whether the first ⌊K/2⌋+1 answers agree; `samples` is K.

    Adaptive voting asks that many of every question. Whether a question is too easy must not depend on adaptive voting.
    """
    first = decided.classes[: samples // 2 + 1]
    return len(set(first)) == 1 and first[0] != SILENCE


def is_kept(decided: Vote, cfg: ConsensusConfig) -> bool:
    """Whether the vote has a winner that makes the agreement cut."""
    return decided.winner is not None and decided.agreement >= cfg.min_agreement


def standings(classes: Sequence[int]) -> tuple[int | None, int, int]:
    """The leading class, its votes, and the votes of the runner-up."""
    counts = Counter(answer_class for answer_class in classes if answer_class != SILENCE).most_common(2)
    if not counts:
        return None, 0, 0
    return counts[0][0], counts[0][1], counts[1][1] if len(counts) > 1 else 0


def samples_to_ask(classes: Sequence[int], cfg: ConsensusConfig) -> int:
    """Number of further samples to ask; 0 when none could change the winner or whether the vote is kept.

    With r samples left, L votes for the leader and S for the runner-up: the vote cannot be kept if L + r misses the
    cut, and cannot change if L has made the cut and L > S + r. Otherwise the smallest number that could settle it.
    """
    asked, samples = len(classes), cfg.samples
    if not cfg.adaptive:
        return samples - asked
    if asked == 0:
        return samples // 2 + 1
    left = samples - asked
    _, votes, runner_up = standings(classes)
    # By division, as `Vote.agreement` is: 0.7 x 10 need not round to 7.
    cut = next(count for count in range(samples + 1) if count / samples >= cfg.min_agreement)

    def settled(more: int, for_leader: int) -> bool:
        """Whether the vote is decided after `more` samples of which `for_leader` back the leader, the rest silent."""
        leading, remaining = votes + for_leader, left - more
        return leading + remaining < cut or (leading >= cut and leading > runner_up + remaining)

    if settled(0, 0):
        return 0
    # What settles a vote earliest: all further samples back the leader, or none does.
    return next((more for more in range(1, left) if settled(more, more) or settled(more, 0)), left)
