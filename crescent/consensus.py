"""Paper step III: K sampled answers per question, and the final answer most of them agree on.

Source: majority voting over sampled answers is self-consistency (arXiv 2203.11171), used by Crescent (arXiv 2502.13441)
to choose the training target. Asking adaptively is ours; it never changes which questions are kept or who wins.
"""

from collections import Counter
from collections.abc import Sequence

from crescent.answers import extract_final
from crescent.bait import CHAT_TOKEN
from crescent.config import AnswerStyle, ConsensusConfig, TaskConfig
from crescent.records import Answer, Completion, Question, Request, Vote, request_seed

SILENCE = -1


def fill(template: str, question: str) -> str:
    """Put a question into a prompt template. The question is text: braces in it mean nothing."""
    return template.format(question=question)


def answer_request(question: Question, sample: int, task: TaskConfig, cfg: ConsensusConfig, run_seed: int) -> Request:
    """The request behind one sample."""
    return Request(
        key=f"answer/{question.id}/{sample}",
        prompt=fill(task.answer_prompt, question.text),
        temperature=cfg.temperature,
        max_tokens=cfg.max_tokens,
        seed=request_seed(run_seed, question.round, "answer", question.id, sample),
    )


def read_answer(question: Question, sample: int, seed: int, completion: Completion, style: AnswerStyle) -> Answer:
    """An answer that was cut off, or refused, has no final answer, whatever number stands in it.

    Nor has one that spells out a token of a chat template: trained on, it would become a turn of its own.
    """
    whole = completion.finish_reason == "stop" and not CHAT_TOKEN.search(completion.text)
    return Answer(
        question=question.id,
        sample=sample,
        seed=seed,
        text=completion.text,
        final=extract_final(completion.text, style) if whole else None,
        finish_reason=completion.finish_reason,
        tokens=completion.tokens,
    )


def vote(question: Question, answers: Sequence[Answer], classes: Sequence[int]) -> Vote:
    """Count the classes. Silence never wins, and a tie has no winner."""
    leader, votes, runner_up = standings(classes)
    winner = None
    if leader is not None and votes > runner_up:
        winner = next(a.final for a, its in zip(answers, classes, strict=True) if its == leader)
    return Vote(question, tuple(answers), tuple(classes), winner, votes, of=len(answers))


def standings(classes: Sequence[int]) -> tuple[int | None, int, int]:
    """The leading class, its votes, and the votes of the runner-up."""
    counts = Counter(c for c in classes if c != SILENCE).most_common(2)
    if not counts:
        return None, 0, 0
    return counts[0][0], counts[0][1], counts[1][1] if len(counts) > 1 else 0


def samples_to_ask(classes: Sequence[int], cfg: ConsensusConfig) -> int:
    """How many more samples to ask; 0 when none could change who wins or whether the vote is kept.

    With r samples left and the leader at L, the runner-up at S: nothing can be kept if L + r misses the cut, and
    nothing can change if L has made the cut and L > S + r. Otherwise the fewest that could bring either about.
    """
    asked, samples = len(classes), cfg.samples
    if not cfg.adaptive:
        return samples - asked
    if asked == 0:
        return samples // 2 + 1
    left = samples - asked
    _, leads, follows = standings(classes)
    # By division, as `Vote.agreement` is: 0.7 x 10 need not round to 7.
    cut = next(votes for votes in range(samples + 1) if votes / samples >= cfg.min_agreement)

    def settled(more: int, for_leader: int) -> bool:
        """Whether the vote is decided after `more` samples of which `for_leader` back the leader, the rest silent."""
        then, remaining = leads + for_leader, left - more
        return then + remaining < cut or (then >= cut and then > follows + remaining)

    if settled(0, 0):
        return 0
    return next((more for more in range(1, left) if settled(more, more) or settled(more, 0)), left)
