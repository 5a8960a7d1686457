"""What each default buys: `python -m benchmarks ablations`. Recorded sums, whose truth is known; no engine, a minute.

With `--embedders lexical` it takes seconds.

One thing is varied at a time; the rest is K=8, agreement ≥ 0.5, ties dropped, no cap on unanimous questions, and every
different question answered. "label" is the share of right winners among the kept questions that are a plain sum.
"""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from statistics import median

from benchmarks import save
from benchmarks.replay import ARITHMETIC, NO_REPEATS, replay
from benchmarks.tables import Row, rate, show
from benchmarks.truth import truth
from benchmarks.votes import first
from crescent.config import ConsensusConfig, DiversifyConfig, Embedder, PairsConfig
from crescent.errors import Missing
from crescent.models.embedders import Embed, Vectors, open_embedder
from crescent.models.packaged_model import packaged_model
from crescent.records import Answer, Vote
from crescent.selection.pairs import cap_unanimous, choose_responses, winning_answers
from crescent.synthesis.consensus import is_kept, is_unanimous
from crescent.tasks.equivalence import as_number

ASKED = ARITHMETIC.bait.questions
DEFAULT = ConsensusConfig(samples=8, min_agreement=0.5)
THRESHOLDS = {
    Embedder.lexical: (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.97, 1.0),
    Embedder.minilm: (0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.99, 1.0),
    Embedder.self: (0.8, 0.85, 0.9, 0.95, 0.97, 0.99, 1.0),
}


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks ablations", description=__doc__)
    names = [its.value for its in Embedder]
    parser.add_argument("--embedders", default=",".join(names), help=f"of the self-deduplication table: {names}")
    options = parser.parse_args(arguments)
    votes = replay(ARITHMETIC.engine(), ARITHMETIC.synthesis(diversify=NO_REPEATS)).votes
    tables = {
        "samples": by_samples(votes),
        "agreement cut": by_cut(votes),
        "unanimous cap": by_cap(votes),
        "ties": by_ties(votes),
        "winner": by_winner(votes),
        "self-deduplication": [row for name in options.embedders.split(",") for row in by_threshold(Embedder(name))],
    }
    known = sum(truth(its.question.text) is not None for its in votes)
    print(f"{ASKED} bait completions, {len(votes)} different questions, {known} of them plain sums")
    for title, rows in tables.items():
        if rows:
            show(title, rows)
    print(f"saved: {save('ablations', {'asked': ASKED, 'questions': len(votes), 'sums': known, **tables})}")


def by_samples(votes: Sequence[Vote]) -> list[Row]:
    """A single answer is trained on as it is: the arm without a vote."""
    rows = []
    for samples in (1, 3, 4, 5, 8):
        cfg = replace(DEFAULT, samples=max(2, samples))
        few = [first(its, samples) for its in votes]
        rows.append({"K": samples, **outcome([its for its in few if is_kept(its, cfg)], few)})
    return rows


def by_cut(votes: Sequence[Vote]) -> list[Row]:
    cuts = [number / 10 for number in range(10)]
    kept = {cut: [its for its in votes if is_kept(its, replace(DEFAULT, min_agreement=cut))] for cut in cuts}
    return [{"agreement ≥": cut, **outcome(kept[cut], votes)} for cut in cuts]


def by_cap(votes: Sequence[Vote]) -> list[Row]:
    """Unanimous: the first ⌊K/2⌋+1 answers agree."""
    kept = [its for its in votes if is_kept(its, DEFAULT)]
    easy = [its for its in kept if is_unanimous(its, DEFAULT.samples)]
    rows = [{"unanimous ≤": share, **outcome(cap_unanimous(kept, 8, share), votes)} for share in (0.0, 0.2, 0.4, 1.0)]
    hard = [its for its in kept if its not in easy]
    return [
        *rows,
        {"unanimous ≤": "only these", **outcome(easy, votes)},
        {"unanimous ≤": "the rest", **outcome(hard, votes)},
    ]


def by_ties(votes: Sequence[Vote]) -> list[Row]:
    """Where a tie can be kept: at K=3 without a cut, as in the authors' released code, and at our K and cut."""
    rows = []
    for samples, cut in ((3, 0.0), (8, 0.0), (8, 0.5)):
        cfg = replace(DEFAULT, samples=samples, min_agreement=cut)
        for ties in (False, True):
            decided = [first(its, samples, keep_ties=ties) for its in votes]
            kept = [its for its in decided if is_kept(its, cfg)]
            rows.append({"ties": "kept" if ties else "dropped", "K": samples, "cut": cut, **outcome(kept, decided)})
    return rows


def by_winner(votes: Sequence[Vote]) -> list[Row]:
    """Which of the winning responses is trained on decides how long the next round's answers are."""
    kept = [its for its in votes if is_kept(its, DEFAULT)]

    def chosen(decided: Vote, rule: str) -> Answer:
        answers = sorted(winning_answers(decided), key=lambda its: (len(its.text), its.sample))
        match rule:
            case "shortest":
                return answers[0]
            case "longest":
                return answers[-1]
        return choose_responses(answers, PairsConfig())[0]

    rows: list[Row] = []
    of_all = [median(len(answer.text) for answer in winning_answers(its)) for its in kept]
    for rule in ("shortest", "median", "longest"):
        lengths = [len(chosen(its, rule).text) for its in kept]
        tokens = [chosen(its, rule).tokens for its in kept]
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


def by_threshold(embedder: Embedder) -> list[Row]:
    """Without rewrites: what is too near is dropped. A repeat is a sum that an accepted question asks already."""
    rows = []
    with ExitStack() as opened:
        try:
            weights = str(packaged_model()) if embedder is Embedder.self else None
            embed = once(opened.enter_context(open_embedder(DiversifyConfig(embedder=embedder), weights)))
            embed(["2 + 3"])
        except Missing as error:
            print(f"{embedder.value}: left out: {error}")
            return []
        for threshold in THRESHOLDS[embedder]:
            diversify = DiversifyConfig(embedder=embedder, threshold=threshold, max_rewrites=0)
            votes = replay(ARITHMETIC.engine(), ARITHMETIC.synthesis(diversify=diversify), embed).votes
            sums = [its.written for vote in votes if (its := truth(vote.question.text))]
            found = outcome([its for its in votes if is_kept(its, DEFAULT)], votes)
            row = {"embedder": embedder.value, "cosine <": threshold, "questions": len(votes)}
            rows.append({**row, "sums": len(sums), "different": len(set(sums)), **found})
    return rows


def once(embed: Embed) -> Embed:
    """The same blocks of questions come at each threshold."""
    known: dict[tuple[str, ...], Vectors] = {}

    def remembering(texts: Sequence[str]) -> Vectors:
        if tuple(texts) not in known:
            known[tuple(texts)] = embed(texts)
        return known[tuple(texts)]

    return remembering


def outcome(kept: Sequence[Vote], votes: Sequence[Vote]) -> Row:
    """Of the kept ones among all votes."""
    truths = [(its.winner, found.value) for its in kept if (found := truth(its.question.text))]
    right = sum(winner is not None and as_number(winner) == value for winner, value in truths)
    tokens = sum(answer.tokens for its in votes for answer in its.answers)
    return {
        "pairs / 100 asked": 100 * len(kept) / ASKED,
        "label": rate(right, len(truths)),
        "tokens a pair": tokens / len(kept) if kept else None,
    }
