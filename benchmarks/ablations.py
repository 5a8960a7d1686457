"""Effect of each default: `python -m benchmarks ablations`. It uses recorded sums whose truth is known and no engine.

It takes a minute, or seconds with `--embedders lexical`.

One setting is varied at a time; the others are K=8, agreement ≥ 0.5, ties dropped, no cap on unanimous questions, and
every different question answered. "label" is the share of right winners among the kept questions that are plain sums.
"""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from statistics import median

from benchmarks import save
from benchmarks.replay import ARITHMETIC, NO_REPEATS, replay
from benchmarks.tables import Row, rate, show
from benchmarks.votes import vote_of_first
from crescent.config import ConsensusConfig, DiversifyConfig, Embedder, Labels, PairsConfig
from crescent.errors import Missing
from crescent.models.embedders import Embed, Vectors, open_embedder
from crescent.models.packaged_model import packaged_model
from crescent.records import Answer, Vote
from crescent.selection.pairs import cap_unanimous, select
from crescent.selection.responses import choose_responses, winning_answers
from crescent.synthesis.consensus import is_kept, is_unanimous
from crescent.tasks.computation import truth
from crescent.tasks.equivalence import as_number

ASKED = ARITHMETIC.bait.questions
"""Number of bait completions in the recording."""
DEFAULT = ConsensusConfig(samples=8, min_agreement=0.5)
THRESHOLDS = {
    Embedder.lexical: (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.97, 1.0),
    Embedder.minilm: (0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.99, 1.0),
    Embedder.self: (0.8, 0.85, 0.9, 0.95, 0.97, 0.99, 1.0),
}


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks ablations", description=__doc__)
    names = [embedder.value for embedder in Embedder]
    parser.add_argument("--embedders", default=",".join(names), help=f"for the self-deduplication table: {names}")
    options = parser.parse_args(arguments)
    votes = replay(ARITHMETIC.engine(), ARITHMETIC.synthesis(diversify=NO_REPEATS)).votes
    tables = {
        "samples": by_samples(votes),
        "agreement cut": by_cut(votes),
        "unanimous cap": by_cap(votes),
        "ties": by_ties(votes),
        "winner": by_winner(votes),
        "arms": by_arm(votes),
        "self-deduplication": [row for name in options.embedders.split(",") for row in by_threshold(Embedder(name))],
    }
    known = sum(truth(vote.question.text) is not None for vote in votes)
    print(f"{ASKED} bait completions, {len(votes)} different questions, {known} of them plain sums")
    for title, rows in tables.items():
        if rows:
            show(title, rows)
    print(f"saved: {save('ablations', {'asked': ASKED, 'questions': len(votes), 'sums': known, **tables})}")


def by_samples(votes: Sequence[Vote]) -> list[Row]:
    """Rows by number of samples. K=1 is the arm without a vote: the single answer is trained on as it is."""
    rows = []
    for samples in (1, 3, 4, 5, 8):
        cfg = replace(DEFAULT, samples=max(2, samples))
        few = [vote_of_first(vote, samples) for vote in votes]
        rows.append({"K": samples, **outcome([vote for vote in few if is_kept(vote, cfg)], few)})
    return rows


def by_cut(votes: Sequence[Vote]) -> list[Row]:
    """Rows by the agreement below which a question is dropped."""
    cuts = [number / 10 for number in range(10)]
    kept = {cut: [vote for vote in votes if is_kept(vote, replace(DEFAULT, min_agreement=cut))] for cut in cuts}
    return [{"agreement ≥": cut, **outcome(kept[cut], votes)} for cut in cuts]


def by_cap(votes: Sequence[Vote]) -> list[Row]:
    """Rows by the largest share of unanimous questions, which are those whose first ⌊K/2⌋+1 answers agree."""
    kept = [vote for vote in votes if is_kept(vote, DEFAULT)]
    easy = [vote for vote in kept if is_unanimous(vote, DEFAULT.samples)]
    rows = [{"unanimous ≤": share, **outcome(cap_unanimous(kept, 8, share), votes)} for share in (0.0, 0.2, 0.4, 1.0)]
    hard = [vote for vote in kept if vote not in easy]
    return [
        *rows,
        {"unanimous ≤": "only these", **outcome(easy, votes)},
        {"unanimous ≤": "the rest", **outcome(hard, votes)},
    ]


def by_ties(votes: Sequence[Vote]) -> list[Row]:
    """Rows with and without ties: at K=3 without a cut, as in the authors' released code, and at our K and cut."""
    rows = []
    for samples, cut in ((3, 0.0), (8, 0.0), (8, 0.5)):
        cfg = replace(DEFAULT, samples=samples, min_agreement=cut)
        for ties in (False, True):
            decided = [vote_of_first(vote, samples, keep_ties=ties) for vote in votes]
            kept = [vote for vote in decided if is_kept(vote, cfg)]
            rows.append({"ties": "kept" if ties else "dropped", "K": samples, "cut": cut, **outcome(kept, decided)})
    return rows


def by_winner(votes: Sequence[Vote]) -> list[Row]:
    """Rows by the winning response that is trained on, which affects how long the next round's answers are."""
    kept = [vote for vote in votes if is_kept(vote, DEFAULT)]

    def chosen(decided: Vote, rule: str) -> Answer:
        answers = sorted(winning_answers(decided), key=lambda answer: (len(answer.text), answer.sample))
        match rule:
            case "shortest":
                return answers[0]
            case "longest":
                return answers[-1]
        return choose_responses(answers, PairsConfig())[0]

    rows: list[Row] = []
    of_all = [median(len(answer.text) for answer in winning_answers(vote)) for vote in kept]
    for rule in ("shortest", "median", "longest"):
        lengths = [len(chosen(vote, rule).text) for vote in kept]
        tokens = [chosen(vote, rule).tokens for vote in kept]
        rows.append(
            {
                "winner": rule,
                "pairs": len(kept),
                "characters (mean)": sum(lengths) / len(lengths),
                "tokens (mean)": sum(tokens) / len(tokens),
                "÷ the winners' median": sum(lengths) / sum(of_all),
            }
        )
    return rows


def by_arm(votes: Sequence[Vote]) -> list[Row]:
    """Rows by control arm (`pairs.labels`, `pairs.noise`): "right" is the share of right answers among those trained on
    to plain sums. In one round, `fixed` is the majority arm."""
    arms = [PairsConfig(labels=labels) for labels in Labels if labels is not Labels.fixed]
    arms.append(PairsConfig(noise=0.25))
    sums = {vote.question.id: known.value for vote in votes if (known := truth(vote.question.text))}
    rows = []
    for arm in arms:
        cfg = replace(arm, max_unanimous=1.0, minimum=1)
        pairs = select(votes, {}, ARITHMETIC.task, DEFAULT, cfg).new
        known_pairs = [pair for pair in pairs if pair.question in sums]
        right = sum(as_number(pair.final) == sums[pair.question] for pair in known_pairs)
        name = f"majority, noise {arm.noise:g}" if arm.noise else arm.labels.value
        rows.append({"arm": name, "pairs": len(pairs), "right": rate(right, len(known_pairs))})
    return rows


def by_threshold(embedder: Embedder) -> list[Row]:
    """Rows by cosine threshold, without rewrites: a near-duplicate is dropped. "different" counts the different sums
    among the accepted questions."""
    rows = []
    with ExitStack() as opened:
        try:
            weights = str(packaged_model()) if embedder is Embedder.self else None
            embed = remembered(opened.enter_context(open_embedder(DiversifyConfig(embedder=embedder), weights)))
            embed(["2 + 3"])
        except Missing as error:
            print(f"{embedder.value}: left out: {error}")
            return []
        for threshold in THRESHOLDS[embedder]:
            diversify = DiversifyConfig(embedder=embedder, threshold=threshold, max_rewrites=0)
            votes = replay(ARITHMETIC.engine(), ARITHMETIC.synthesis(diversify=diversify), embed).votes
            sums = [known.written for vote in votes if (known := truth(vote.question.text))]
            found = outcome([vote for vote in votes if is_kept(vote, DEFAULT)], votes)
            row = {"embedder": embedder.value, "cosine <": threshold, "questions": len(votes)}
            rows.append({**row, "sums": len(sums), "different": len(set(sums)), **found})
    return rows


def remembered(embed: Embed) -> Embed:
    """The embedder with a memory, because the same blocks of questions come again at each threshold."""
    known: dict[tuple[str, ...], Vectors] = {}

    def remembering(texts: Sequence[str]) -> Vectors:
        if tuple(texts) not in known:
            known[tuple(texts)] = embed(texts)
        return known[tuple(texts)]

    return remembering


def outcome(kept: Sequence[Vote], votes: Sequence[Vote]) -> Row:
    """Yield, label quality and cost of the kept votes among all votes."""
    truths = [(vote.winner, known.value) for vote in kept if (known := truth(vote.question.text))]
    right = sum(winner is not None and as_number(winner) == value for winner, value in truths)
    tokens = sum(answer.tokens for vote in votes for answer in vote.answers)
    return {
        "pairs / 100 asked": 100 * len(kept) / ASKED,
        "label": rate(right, len(truths)),
        "tokens a pair": tokens / len(kept) if kept else None,
    }
