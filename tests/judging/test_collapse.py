"""The signs of collapse: what is measured, what raises each alarm, and what raises none."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from crescent.config import CollapseConfig
from crescent.errors import BadConfig
from crescent.judging.collapse import (
    VARIETY_SAMPLE,
    alarms,
    effective_number,
    monitors,
    most_common_share,
    response_monitors,
)
from crescent.models.embedders import Vectors
from crescent.records import Answer, Candidate, Comparison, Outcome, Question, Response, Vote
from crescent.synthesis.consensus import vote

CFG = CollapseConfig()


def question(index: int, text: str = "What is 3 + 4?", rewrites: int = 0) -> Question:
    return Question(f"q{index}", text, 1, index, bait="paper", seed=0, rewrites=rewrites)


def voted(index: int, finals: Sequence[str | None], tokens: int = 10, text: str = "What is 3 + 4?") -> Vote:
    """A vote on answers of one length; equal finals are one class."""
    asked = question(index, text)
    kinds = list(dict.fromkeys(final for final in finals if final is not None))
    answers = [Answer(asked.id, k, 0, "…", final, "stop", tokens) for k, final in enumerate(finals)]
    return vote(asked, answers, [-1 if final is None else kinds.index(final) for final in finals])


def candidates(**counts: int) -> list[Candidate]:
    """Candidates of each outcome, in the numbers given, as in `near_duplicate=3`."""
    found = []
    for outcome, count in counts.items():
        named: Outcome = outcome.replace("_", "-")  # type: ignore[assignment]
        found += [Candidate(question(len(found) + index), named) for index in range(count)]
    return found


def directions(many: int, kinds: int, dimensions: int = 64) -> Vectors:
    """Unit vectors of `kinds` different directions, at right angles."""
    return np.eye(dimensions, dtype=np.float32)[[index % kinds for index in range(many)]]


def fallen(points: float, items: int = 1000, discordance: float = 0.2) -> Comparison:
    """The child against the best on the dev items, worse by `points`."""
    differing = round(items * discordance)
    lost = round((differing + items * points / 100) / 2)
    return Comparison("", "best", -points / 100, -1, 1, 0.5, 0.5, differing - lost, lost, items)


def healthy(**changed: float) -> dict[str, float]:
    """Monitors of a healthy round of 1,000 questions."""
    return {
        "questions": 1000,
        "agreement": 0.47,
        "near_duplicate_rate": 0.2,
        "commonest": 0.05,
        "silent": 0.03,
        "answer_tokens": 120,
        "variety": 80,
        **changed,
    }


def raised(now: dict[str, float], *before: dict[str, float], dev: Comparison | None = None, **cfg: Any) -> list[str]:
    return [alarm.name for alarm in alarms(now, before, dev, CollapseConfig(**cfg))]


def test_agreement_is_counted_over_the_answers_every_question_is_asked() -> None:
    votes = [voted(0, "77777"), voted(1, ["7", "7", "7", "8", None, "8", "8", "8"]), voted(2, "12345")]
    found = monitors(votes, directions(3, 3), [], samples=8)
    assert found["agreement"] == pytest.approx((1 + 3 / 5 + 1 / 5) / 3, abs=1e-6)
    histogram = [found[f"agreement_{lead}_of_5"] for lead in range(6)]
    assert histogram == pytest.approx([0, 1 / 3, 0, 1 / 3, 0, 1 / 3], abs=1e-6)
    assert found["unanimous"] == pytest.approx(1 / 3, abs=1e-6)
    assert found["silent"] == pytest.approx(1 / 15, abs=1e-6)


def test_asking_adaptively_changes_no_monitor_of_agreement() -> None:
    asked_all = [voted(0, "77777888"), voted(1, "12345678")]
    adaptively = [voted(0, "77777"), voted(1, "12345")]
    full, short = (monitors(votes, directions(2, 2), [], samples=8) for votes in (asked_all, adaptively))
    same = [name for name in full if name.startswith("agreement") or name in ("silent", "unanimous", "answer_tokens")]
    assert {name: full[name] for name in same} == {name: short[name] for name in same}


def test_length_is_that_of_answers_that_were_read() -> None:
    votes = [voted(0, "777", tokens=20), voted(1, [None, None, None], tokens=2048), voted(2, "888", tokens=30)]
    found = monitors(votes, directions(3, 3), [], samples=4)
    assert found["answer_tokens"] == 25
    assert found["question_characters"] == len("What is 3 + 4?")


def test_near_duplicates_are_counted_among_inventions_and_rewrites_are_none() -> None:
    invented = candidates(accepted=6, rewritten=3, near_duplicate=1, unusable=5)
    rewrites = [Candidate(question(90 + index, rewrites=1), "near-duplicate") for index in range(3)]
    found = monitors([voted(0, "777")], directions(1, 1), [*invented, *rewrites], samples=4)
    assert found["near_duplicate_rate"] == pytest.approx(0.4)
    assert "near_duplicate_rate" not in monitors([voted(0, "777")], directions(1, 1), [], samples=4)


def test_the_gap_between_greedy_and_majority_is_there_when_both_were_measured() -> None:
    votes, vectors = [voted(0, "777")], directions(1, 1)
    found = monitors(votes, vectors, [], samples=4, dev={"greedy": 0.40, "majority": 0.52})
    assert found["majority_gap"] == pytest.approx(0.12)
    assert "majority_gap" not in monitors(votes, vectors, [], samples=4, dev={"greedy": 0.40})


def test_a_round_without_votes_has_monitors_and_no_alarm() -> None:
    found = monitors([], np.zeros((0, 0), dtype=np.float32), [], samples=8)
    assert found["questions"] == found["agreement"] == found["variety"] == found["commonest"] == 0
    assert raised(found, healthy()) == []


def test_a_question_that_got_no_answers_is_no_disagreement() -> None:
    votes = [voted(0, "77777"), voted(1, [])]
    assert monitors(votes, directions(2, 2), [], samples=8)["agreement"] == 1


@pytest.mark.parametrize(
    ("finals", "share"),
    [(["1/2", "0.5", "$0.50", "3"], 0.75), (["Paris", "paris", "Rome"], 2 / 3), (["A"], 1.0), ([], 0.0)],
)
def test_the_most_common_answer_is_one_answer_however_it_is_written(finals: list[str], share: float) -> None:
    assert most_common_share(finals) == pytest.approx(share, abs=1e-6)


def test_orthogonal_questions_all_count_and_equal_ones_count_once() -> None:
    assert effective_number(directions(12, 12)) == pytest.approx(12)
    assert effective_number(directions(12, 1)) == pytest.approx(1)
    assert effective_number(directions(60, 5)) == pytest.approx(5)
    assert effective_number(np.zeros((0, 64), dtype=np.float32)) == 0


def test_the_effective_number_is_the_exponential_of_the_entropy_of_the_similarity_matrix() -> None:
    # Two questions with cosine c have the eigenvalues (1 ± c) / 2.
    vectors = np.array([[1, 0], [0.6, 0.8]], dtype=np.float32)
    by_hand = math.exp(-0.8 * math.log(0.8) - 0.2 * math.log(0.2))
    assert effective_number(vectors) == pytest.approx(by_hand, abs=1e-6)


def test_the_effective_number_is_the_same_with_more_questions_than_dimensions_or_fewer() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 30)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    padded = np.hstack([vectors, np.zeros((40, 50), dtype=np.float32)])
    assert effective_number(vectors) == pytest.approx(effective_number(padded))


def test_beyond_enough_questions_more_of_the_same_kind_are_not_more_varied() -> None:
    rng = np.random.default_rng(0)

    def invented(many: int) -> Vectors:
        vectors = rng.normal(size=(many, 16)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    few, many = effective_number(invented(VARIETY_SAMPLE)), effective_number(invented(7 * VARIETY_SAMPLE))
    assert many == pytest.approx(few, rel=0.02)
    more = VARIETY_SAMPLE + 200
    assert effective_number(directions(more, more, more)) == pytest.approx(VARIETY_SAMPLE)


def test_a_healthy_round_raises_no_alarm() -> None:
    later = healthy(agreement=0.55, near_duplicate_rate=0.3, commonest=0.06, silent=0.04, answer_tokens=100, variety=70)
    assert raised(healthy()) == []
    assert raised(later, healthy(), dev=fallen(-3)) == []


def test_agreement_that_rises_while_accuracy_falls_is_an_alarm() -> None:
    now = healthy(agreement=0.92)
    found = alarms(now, [healthy()], fallen(6), CFG)
    assert [alarm.name for alarm in found] == ["agreement without accuracy"]
    assert found[0].value == pytest.approx(0.45)
    assert "(0.47 in the first round, now 0.92) and solves 6.0 points fewer" in found[0].sentence
    assert raised(now, healthy(), dev=fallen(-6)) == []
    assert raised(healthy(agreement=0.50), healthy(), dev=fallen(6)) == []
    assert raised(now, healthy()) == []


def test_a_fall_within_chance_raises_no_alarm() -> None:
    now = healthy(agreement=0.92)
    assert raised(now, healthy(), dev=fallen(6, items=100)) == []
    assert raised(now, healthy(), dev=fallen(0.9, items=100_000)) == []


def test_inventing_what_was_invented_before_is_an_alarm() -> None:
    found = alarms(healthy(near_duplicate_rate=0.6), [], None, CFG)
    assert [alarm.name for alarm in found] == ["near-duplicates"]
    assert found[0].sentence == "60% of the questions it invents resemble earlier ones (limit 53%)"


def test_one_answer_to_everything_is_an_alarm_unless_it_always_was_frequent() -> None:
    assert raised(healthy(commonest=0.6), healthy()) == ["one answer"]
    assert raised(healthy(commonest=0.6)) == ["one answer"]
    assert raised(healthy(commonest=0.6), healthy(commonest=0.5)) == []


def test_half_as_varied_questions_are_an_alarm_but_fewer_questions_are_not() -> None:
    assert raised(healthy(variety=39), healthy(variety=80)) == ["less variety"]
    assert raised(healthy(variety=39, questions=400), healthy(variety=80)) == []
    assert raised(healthy(variety=41), healthy(variety=80)) == []


def test_answers_half_as_long_are_an_alarm_even_in_small_steps() -> None:
    rounds = [healthy(answer_tokens=tokens) for tokens in (120, 90, 70)]
    assert raised(rounds[2], *rounds[:2]) == []
    assert raised(healthy(answer_tokens=50), *rounds) == ["shorter answers"]


def test_twice_as_much_silence_is_an_alarm_once_it_is_much() -> None:
    assert raised(healthy(silent=0.12), healthy(silent=0.03)) == ["silence"]
    assert raised(healthy(silent=0.05), healthy(silent=0.005)) == []
    assert raised(healthy(silent=0.30), healthy(silent=0.20)) == []


def test_few_questions_prove_nothing() -> None:
    collapsed = healthy(questions=19, commonest=1.0, near_duplicate_rate=1.0, answer_tokens=1)
    assert raised(collapsed, healthy()) == []
    assert raised(healthy(questions=40, near_duplicate_rate=0.6)) == []
    assert raised(healthy(answer_tokens=50), healthy(questions=19), healthy(answer_tokens=120)) == ["shorter answers"]
    assert raised(healthy(answer_tokens=50), healthy(questions=19)) == []


def test_a_share_outside_its_range_is_refused() -> None:
    with pytest.raises(BadConfig, match=r"verdict.collapse.length=2"):
        CollapseConfig(length=2)


def test_the_collapse_of_a_prototype_raises_the_alarms() -> None:
    """Training on the shortest winners: answers five times shorter, agreement 0.47 to 0.92, in two rounds."""

    def round_of(agreeing: float, tokens: int, kinds: int) -> dict[str, float]:
        rng = np.random.default_rng(1)
        votes = []
        for index in range(300):
            same = rng.random(5) < agreeing
            finals = [str(index % kinds) if agrees else f"{index}.{k}" for k, agrees in enumerate(same)]
            votes.append(voted(index, finals, tokens))
        return monitors(votes, directions(300, kinds), candidates(accepted=300), samples=8)

    base, collapsed = round_of(0.47, 50, 60), round_of(0.92, 10, 20)
    assert base["agreement"] == pytest.approx(0.47, abs=0.05)
    assert raised(base) == []
    names = raised(collapsed, base, dev=fallen(5))
    assert names == ["agreement without accuracy", "less variety", "shorter answers"]


def responses(finals: Sequence[str | None], tokens: int = 8) -> list[Response]:
    return [
        Response(str(index), "dev", "q", "a", final, "1", False, "stop", tokens) for index, final in enumerate(finals)
    ]


def test_benchmark_answers_are_read_without_their_labels() -> None:
    found = response_monitors(responses(["7", "7.0", "8", None], tokens=8))
    assert found == {"questions": 4, "commonest": pytest.approx(2 / 3, abs=1e-6), "silent": 0.25, "answer_tokens": 8}


def test_alarms_say_whose_answers_they_are_about() -> None:
    before = response_monitors(responses([str(index) for index in range(100)]))
    now = response_monitors(responses(["0"] * 100))
    found = alarms(now, [before], None, CFG, of="the dev items", since="under the base")
    assert [alarm.sentence for alarm in found] == ["100% of the dev items have the same final answer (limit 60%)"]
