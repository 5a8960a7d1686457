"""Which voted answers are worth training on."""

from collections.abc import Sequence

from crescent.config import ConsensusConfig, PairsConfig, TaskConfig, TrainPrompt
from crescent.consensus import fill, standings
from crescent.errors import DataSaysNo
from crescent.records import Answer, Pair, Vote, digest


def select(votes: Sequence[Vote], task: TaskConfig, consensus: ConsensusConfig, cfg: PairsConfig) -> list[Pair]:
    """A pair for every vote that makes the agreement cut.

    Raises:
        DataSaysNo: fewer than `pairs.minimum` do.
    """
    agreed = [its for its in votes if its.winner is not None and its.agreement >= consensus.min_agreement]
    if len(agreed) < cfg.minimum:
        raise DataSaysNo(_why_too_few(votes, len(agreed), consensus, cfg))
    return [pair_of(its, task, cfg) for its in agreed]


def pair_of(decided: Vote, task: TaskConfig, cfg: PairsConfig) -> Pair:
    """The question with its winning response of median length.

    The shortest would teach ever shorter answers, round after round; the longest, rambling.
    """
    assert decided.winner is not None
    response = median_length(winning_answers(decided))
    question = decided.question
    prompt = fill(task.answer_prompt, question.text) if cfg.prompt is TrainPrompt.answer else question.text
    identity = digest(question.id, response.sample, prompt)
    return Pair(identity, question.id, question.round, prompt, response.text, decided.winner, decided.agreement)


def winning_answers(decided: Vote) -> list[Answer]:
    """The answers in the winner's class, in sample order."""
    leader, _, _ = standings(decided.classes)
    return [answer for answer, its in zip(decided.answers, decided.classes, strict=True) if its == leader]


def median_length(answers: Sequence[Answer]) -> Answer:
    """The answer of median length in characters (the shorter of the two middle ones), the earliest among equals."""
    by_length = sorted(answers, key=lambda answer: (len(answer.text), answer.sample))
    return by_length[(len(by_length) - 1) // 2]


def _why_too_few(votes: Sequence[Vote], agreed: int, consensus: ConsensusConfig, cfg: PairsConfig) -> str:
    finals = [answer.final for its in votes for answer in its.answers]
    silent = sum(final is None for final in finals)
    ties = sum(its.winner is None and its.votes > 0 for its in votes)
    hint = "ask more questions (bait.questions) or lower consensus.min_agreement"
    if not votes:
        hint = (
            "no question was left: all were unusable (cut at bait.max_tokens, too short) or near-duplicates "
            "(diversify.threshold); metrics.jsonl counts them"
        )
    elif silent > len(finals) / 2:
        hint = "most answers have no final answer: raise consensus.max_tokens or change task.answer_prompt"
    return (
        f"{agreed} of {len(votes)} questions have a winner with agreement >= {consensus.min_agreement}, and "
        f"pairs.minimum={cfg.minimum} are needed to train "
        f"({ties} ties, {silent} of {len(finals)} answers silent); {hint}"
    )
