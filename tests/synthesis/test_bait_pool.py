"""A pool of baits from lists that the model wrote; which baits a round uses, and how often."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from fakes import ShufflingEngine, cut, stop
from hypothesis import given, settings
from hypothesis import strategies as st

from crescent.config import BaitConfig
from crescent.errors import BadConfig, DataSaysNo
from crescent.records import Bait, BaitCount, Completion, Request
from crescent.synthesis.bait_pool import REQUESTS, baits_of_round, choose, open_pool, read_list, weights

TOPICS = ["Algebra", "Number theory", "Probability"]


@pytest.mark.parametrize(
    "text",
    [
        "1. Algebra\n2. Number theory\n3. Probability",
        "1) Algebra\n\n2) Number theory\n\n3) Probability\n\n4) algebra",
        "- Algebra\n- Number theory\n- Probability",
        "* **Algebra**\n* **Number theory**\n* **Probability**",
        "• Algebra.\n• Number theory.\n• Probability.",
        "Algebra\nNumber theory\nProbability",
        "Algebra, number theory, and probability.",
        "Algebra; number theory; probability",
        "1. Algebra 2. Number theory 3. Probability",
        "Sure, here are three topics of mathematics:\n\n1. Algebra\n2. Number theory\n3. Probability\n\nLet me know!",
        "Certainly! Here is a list:\nAlgebra\nNumber theory\nProbability\nI hope this helps!",
        "Here are three: algebra, number theory, probability",
        "## Topics:\n1. **Algebra**: the study of unknowns\n2. **Number theory** - primes\n3. *Probability*: chance",
        "1. Algebra\n2. Number theory\n3. Probability\n4. " + "x" * 61,
        "1. Algebra\n2. Number theory\n3. Probability\n4. Sets<|im_end|>\n5. Si\x1b[31mn\n6. 42\n7.\n8. **",
    ],
)
def test_a_list_is_read_however_it_is_written(text: str) -> None:
    assert [entry.capitalize() for entry in read_list(text)] == TOPICS


def test_what_looks_like_chatter_or_a_field_is_a_topic_in_a_list() -> None:
    entries = ["Absolutely convergent series", "{difficulty}", "Sums of 3 squares", "数论"]
    assert read_list("\n".join(f"- {entry}" for entry in entries)) == entries


@pytest.mark.parametrize("text", ["", " \n ", "Sure! Here are some topics:", "1.\n2.\n3.", "???", "I'm sorry.", "\x00"])
def test_without_entries_a_list_is_empty(text: str) -> None:
    assert read_list(text) == []


@given(st.text(max_size=300))
def test_entries_are_short_distinct_single_lines(text: str) -> None:
    entries = read_list(text)
    assert all(0 < len(entry) <= 60 and entry.isprintable() and entry == entry.strip() for entry in entries)
    assert len({entry.casefold() for entry in entries}) == len(entries)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("part", [" ", "\n", "1. ", "a 1. ", "- ", ",", "**", ": ", "a, ", "\t", "and "])
def test_a_megabyte_of_list_is_read_in_no_time(part: str) -> None:
    read_list(part * (1_000_000 // len(part)))


def listing(replies: dict[str, Sequence[Completion]]) -> ShufflingEngine:
    """A model that answers from `replies`, by kind and number of the request."""

    def say(request: Request) -> Completion:
        kind, _, index = request.key.partition("/")
        return replies[kind][min(int(index), len(replies[kind]) - 1)]

    return ShufflingEngine(say)


def pool(engine: ShufflingEngine, prompts: dict[str, str], topics: int = 0, difficulties: int = 0) -> list[Bait]:
    cfg = BaitConfig(prompts, topics=topics, difficulties=difficulties)
    return asyncio.run(open_pool(engine, cfg, round_number=1, run_seed=0))


def test_prompts_without_fields_are_baits_and_cost_nothing() -> None:
    engine = listing({})
    assert pool(engine, {"b": "Ask {x}.", "a": "Ask A."}, topics=5) == [Bait("a", "Ask A."), Bait("b", "Ask {x}.")]
    assert engine.asked == 0


def test_a_pool_is_every_combination_and_asks_only_for_what_it_needs() -> None:
    engine = listing({"topics": [stop("1. Sums\n2. Prime numbers")], "difficulties": [stop("Easy\nVery hard\nHarder")]})
    baits = pool(engine, {"p": "A {difficulty} one on {topic}, {{}}.", "q": "On {topic}.", "r": "Ask."}, 2, 2)
    assert baits == [
        Bait("p/prime-numbers/easy", "A Easy one on Prime numbers, {{}}."),
        Bait("p/prime-numbers/very-hard", "A Very hard one on Prime numbers, {{}}."),
        Bait("p/sums/easy", "A Easy one on Sums, {{}}."),
        Bait("p/sums/very-hard", "A Very hard one on Sums, {{}}."),
        Bait("q/prime-numbers", "On Prime numbers."),
        Bait("q/sums", "On Sums."),
        Bait("r", "Ask."),
    ]
    assert engine.answered == {"topics/0": 1, "difficulties/0": 1}
    only_topics = listing({"topics": [stop("1. Sums")]})
    pool(only_topics, {"q": "On {topic}."}, 1, 5)
    assert only_topics.answered == {"topics/0": 1}


def test_the_model_is_asked_again_with_another_seed_until_there_are_enough_entries() -> None:
    asked: list[Request] = []

    def say(request: Request) -> Completion:
        asked.append(request)
        return stop(f"1. Sums\n2. sums\n3. Topic {len(asked)}")

    cfg = BaitConfig({"a": "{topic}?"}, topics=4, stop=["\n"], temperature=0.7)
    baits = asyncio.run(open_pool(ShufflingEngine(say), cfg, 1, 0))
    assert [bait.name for bait in baits] == ["a/sums", "a/topic-1", "a/topic-2", "a/topic-3"]
    assert [request.key for request in asked] == ["topics/0", "topics/1", "topics/2"]
    assert len({request.seed for request in asked}) == 3
    assert {(request.prompt, request.temperature, request.stop) for request in asked} == {
        ("List 4 different topics of mathematics. One per line, no explanations.", 0.7, ())
    }


def test_a_model_that_knows_fewer_is_asked_eight_times_and_gives_what_it_has() -> None:
    engine = listing({"topics": [stop("1. Sums\n2. Sets")]})
    assert [bait.name for bait in pool(engine, {"a": "{topic}?"}, topics=20)] == ["a/sets", "a/sums"]
    assert engine.asked == REQUESTS == 8


def test_of_a_list_that_was_cut_the_last_entry_does_not_count() -> None:
    engine = listing({"topics": [cut("1. Sums\n2. Probab"), Completion("1. Refused", "error", 0), stop("1. Sets")]})
    assert [bait.prompt for bait in pool(engine, {"a": "{topic}?"}, topics=2)] == ["Sets?", "Sums?"]


def test_a_topic_never_becomes_a_template() -> None:
    engine = listing({"topics": [stop("- {difficulty}\n- \\1 {0} %s")], "difficulties": [stop("- {topic}")]})
    baits = pool(engine, {"a": "{topic} is {difficulty}"}, 2, 1)
    assert {bait.prompt for bait in baits} == {"{difficulty} is {topic}", "\\1 {0} %s is {topic}"}


def test_names_are_unique_ascii_and_the_same_in_every_run() -> None:
    topics = ["Prime numbers", "Prime-numbers", "数论", "几何", "Géométrie", "Geometrie", "a/b", "A" + "b" * 55]
    engine = listing({"topics": [stop("\n".join(f"- {topic}" for topic in topics))]})
    baits = pool(engine, {"a": "{topic}?"}, len(topics))
    names = [bait.name for bait in baits]
    assert len(set(names)) == len({bait.prompt for bait in baits}) == len(topics)
    assert all(name.isascii() and name.count("/") == 1 and len(name) < 60 for name in names)
    assert names == sorted(names) == [bait.name for bait in pool(engine, {"a": "{topic}?"}, len(topics))]


def test_baits_whose_list_is_missing_are_left_out_while_others_remain() -> None:
    engine = listing({"topics": [stop("Sure!")], "difficulties": [stop("Easy\nHard")]})
    baits = pool(engine, {"a": "{topic}?", "b": "{difficulty}?", "c": "Ask.", "d": "{topic} {difficulty}"}, 3, 2)
    assert [bait.name for bait in baits] == ["b/easy", "b/hard", "c"]


def test_without_any_bait_the_error_quotes_the_model_and_says_how_to_fix_it() -> None:
    engine = listing({"topics": [stop("I'd rather\x1b[2J not say!")]})
    with pytest.raises(DataSaysNo) as caught:
        pool(engine, {"a": "{topic}?"}, topics=3)
    message = str(caught.value)
    assert "bait.topics=3" in message
    assert "bait.topics=0" in message
    assert "bait=llama3" in message
    assert "rather" in message
    assert "\x1b" not in message


def baits(number: int) -> list[Bait]:
    return [Bait(f"b{index:03}", f"Ask {index}.") for index in range(number)]


def test_without_counts_all_baits_weigh_the_same() -> None:
    four = baits(4)
    nothing_kept = [BaitCount(four[0], asked=50, usable=40)]
    for counts in ([], nothing_kept, [BaitCount(Bait("gone", ""), asked=9, agreed=9)]):
        assert weights(four, counts, BaitConfig(explore=0.1)) == pytest.approx([0.25] * 4)


def test_weights_follow_the_kept_questions_shrunk_towards_the_overall_rate() -> None:
    two = baits(2)
    counts = [BaitCount(two[0], asked=10, agreed=5), BaitCount(two[1], asked=10, agreed=0)]
    # Overall 5/20; (5 + 2.5)/20 against (0 + 2.5)/20: three to one.
    assert weights(two, counts, BaitConfig(explore=0.0)) == pytest.approx([0.75, 0.25])
    assert weights(two, counts, BaitConfig(explore=0.2)) == pytest.approx([0.7, 0.3])
    assert weights(two, counts, BaitConfig(explore=1.0)) == pytest.approx([0.5, 0.5])


def test_rounds_add_up_and_a_bait_never_asked_counts_as_average() -> None:
    three = baits(3)
    cfg = BaitConfig(explore=0.0)
    split = [BaitCount(three[0], asked=4, agreed=1), BaitCount(three[0], asked=6, agreed=3), BaitCount(three[1], 10)]
    summed = [BaitCount(three[0], asked=10, agreed=4), BaitCount(three[1], asked=10)]
    assert weights(three, split, cfg) == weights(three, summed, cfg)
    first, second, never = weights(three, split, cfg)
    assert first > never > second
    assert never == pytest.approx(1 / 3)


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=9), st.floats(0, 1))
def test_weights_are_shares(kept: list[tuple[int, int]], explore: float) -> None:
    listed = baits(len(kept))
    counts = [BaitCount(bait, asked=max(pair), agreed=min(pair)) for bait, pair in zip(listed, kept, strict=True)]
    found = weights(listed, counts, BaitConfig(explore=explore))
    assert sum(found) == pytest.approx(1)
    assert all(share >= explore / len(listed) - 1e-12 for share in found)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=40).filter(any), st.integers(1, 120), st.integers(0, 5))
def test_among_the_first_questions_each_bait_has_its_share_give_or_take_one(
    parts: list[int], questions: int, seed: int
) -> None:
    listed, shares = baits(len(parts)), [part / sum(parts) for part in parts]
    chosen = Counter(choose(index, listed, shares, 1, seed).name for index in range(questions))
    for bait, share in zip(listed, shares, strict=True):
        assert abs(chosen[bait.name] - questions * share) < 1 + 1e-6


@pytest.mark.parametrize("number", [1, 2, 3, 7, 16])
def test_few_equal_baits_come_equally_often(number: int) -> None:
    listed = baits(number)
    chosen = Counter(choose(index, listed, [1 / number] * number, 2, 3).name for index in range(40))
    counts = [chosen[bait.name] for bait in listed]
    assert max(counts) - min(counts) <= 1


def test_a_choice_depends_on_its_arguments_alone() -> None:
    listed, shares = baits(5), [0.4, 0.3, 0.1, 0.1, 0.1]
    forward = [choose(index, listed, shares, 1, 0) for index in range(50)]
    for round_number in range(1, 12):
        choose(0, listed, shares, round_number, 1)
    assert [choose(index, listed, shares, 1, 0) for index in reversed(range(50))] == forward[::-1]


def test_rounds_with_fewer_questions_than_baits_use_different_baits() -> None:
    listed = baits(384)
    used = [{choose(index, listed, [1 / 384] * 384, number, 0).name for index in range(40)} for number in (1, 2, 3)]
    assert all(len(names) == 40 for names in used)
    assert len(set.union(*used)) > 90
    assert any(name > "b300" for name in used[0])
    assert any(name < "b080" for name in used[0])


def test_lists_of_ones_own_are_used_as_they_are_and_the_model_lists_nothing() -> None:
    engine = listing({})
    cfg = BaitConfig({"a": "About {topic}, {difficulty}."}, topic_list=["sums", "trains"], difficulty_list=["easy"])
    found = asyncio.run(open_pool(engine, cfg, round_number=1, run_seed=0))
    assert [bait.prompt for bait in found] == ["About sums, easy.", "About trains, easy."]
    assert engine.asked == 0


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        ({"prompts": {"a": "About {topic2}."}}, r"has a field \{topic2\}"),
        ({"prompts": {"a": "About {topic}{levl}."}, "topics": 3}, r"has a field \{levl\}"),
        ({"prompts": {"a": "About {topics}."}}, r"bait\.prompts\.a=.*has a field \{topics\}.*write \{topic\}"),
        (
            {"prompts": {"a": "For {grade} pupils."}},
            r"and only \{seed\}, \{topic\} and \{difficulty\} are known",
        ),
        ({"prompts": {"a": "About {topic}."}}, r"there are none; list them, bait\.topic_list=\[…\], .*bait\.topics=8"),
        ({"prompts": {"a": "{topic}"}, "topic_list": ["x", "x"]}, r"bait\.topic_list=.*different entries"),
        ({"prompts": {"a": "{topic}"}, "topic_list": [" "]}, "not empty"),
    ],
)
def test_fields_that_nothing_fills_are_refused(given_: dict[str, Any], says: str) -> None:
    with pytest.raises(BadConfig, match=says):
        BaitConfig(**given_)


@pytest.mark.parametrize(
    "prompt",
    [r"Use \frac{ab}{cd}.", "Use $x^{ab}$ and $x_{max}$.", 'Write {"question": "…"}.', "A set { red }.", "{1, 2}"],
)
def test_braces_of_formulas_and_json_are_text(prompt: str) -> None:
    assert BaitConfig({"a": prompt}).prompts["a"] == prompt


def test_a_curriculum_asks_for_one_difficulty_a_round_and_then_for_the_last() -> None:
    prompts = {"sum": "Ask for a sum of {difficulty} numbers about {topic}.", "any": "Ask for a product."}
    lists = {"topic_list": ["trains", "apples"], "difficulty_list": ["two", "three"]}
    cfg = BaitConfig(prompts=prompts, **lists, one_difficulty_a_round=True)
    pool = asyncio.run(open_pool(ShufflingEngine(lambda request: stop("unused")), cfg, 1, 0))
    assert len(pool) == 5
    for round_number, word in ((1, "two"), (2, "three"), (9, "three")):
        asked = {bait.prompt for bait in baits_of_round(pool, cfg, round_number)}
        about = {f"Ask for a sum of {word} numbers about {topic}." for topic in ("trains", "apples")}
        assert asked == {"Ask for a product.", *about}
    assert baits_of_round(pool, BaitConfig(prompts=prompts, **lists), 1) == pool


def test_a_curriculum_without_a_difficulty_to_ask_for_is_refused() -> None:
    with pytest.raises(BadConfig, match=r"bait.one_difficulty_a_round=True: needs difficulties in their order"):
        BaitConfig(prompts={"any": "Ask."}, difficulty_list=["two"], one_difficulty_a_round=True)
