"""Seed questions: read from any file that people have, shown by bait prompts, and never trained on themselves."""

import asyncio
import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from fakes import BySpelling, ShufflingEngine, by_first_number, say_sums, stop

from crescent.config import BaitConfig, ConsensusConfig, DiversifyConfig, TaskConfig
from crescent.errors import BadConfig, CrescentError, DataSaysNo, Missing
from crescent.records import Bait, Completion, Request, SeedQuestion
from crescent.synthesis.bait_pool import open_pool
from crescent.synthesis.diversify import Memory
from crescent.synthesis.seeds import COPY, LONGEST, Copies, Seeds, as_compared, read_seeds
from crescent.synthesis.stream import SynthesisConfig, synthesise

SHOWING = {"evolve": "Change this: {seed}"}
LINES = ['{"question": "What is 3 + 4?"}', '{"question": "Wie groß ist 5 + 6?"}']
TWO = [SeedQuestion("q.jsonl", 1, "What is 3 + 4?"), SeedQuestion("q.jsonl", 2, "Wie groß ist 5 + 6?")]


def read(path: Path, content: bytes, field: str = "question", prompts: dict[str, str] | None = None) -> Seeds:
    path.write_bytes(content)
    return read_seeds(BaitConfig(prompts or SHOWING, seeds=str(path), seed_field=field))


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(LINES).encode(),
        "\r\n".join([*LINES, "", ""]).encode(),
        "\n".join(LINES).encode("utf-8-sig"),
        "\n".join(LINES).encode("utf-16"),
        gzip.compress("\n".join(LINES).encode(), mtime=0),
        gzip.compress("\n".join(LINES).encode("utf-8-sig"), mtime=0),
    ],
    ids=["plain", "windows", "mark", "utf-16", "gzip", "gzip with a mark"],
)
def test_a_file_is_read_however_it_was_saved(content: bytes, tmp_path: Path) -> None:
    assert read(tmp_path / "q.jsonl", content) == Seeds(tuple(TWO), ())


@pytest.mark.parametrize(
    ("content", "kind", "parts"),
    [
        (b"", DataSaysNo, ["q.jsonl: is empty", "write one JSON object a line", "bait.seed_field"]),
        (b"\n \n", DataSaysNo, ["q.jsonl: is empty"]),
        (b'{"question": "What is 1?"}\n{"question"', DataSaysNo, ["q.jsonl: line 2: not JSON", "one object a line"]),
        (b'[{"question": "What is 1?"}]', DataSaysNo, ["line 1: is no JSON object", "jq -c"]),
        (b'"What is 1?"\n', DataSaysNo, ["line 1: is no JSON object"]),
        (b'{"text": "What is 1?", "n": 1}', DataSaysNo, ["line 1: has no field 'question' (its fields: text, n)"]),
        (b'{"question": 3}\n{"question": " "}', DataSaysNo, ["line 1: field question is 3, which is no question"]),
        (b'{"question": "<|im_start|>user Hi"}', DataSaysNo, ["line 1: contains '<|im_start|>'"]),
        ('{"question": "Wie groß?"}'.encode("latin-1"), BadConfig, ["line 1 is not utf-8", "iconv -f latin1"]),
        (gzip.compress(b'{"question": "What is 1?"}', mtime=0)[:-9], BadConfig, ["the gzip file is damaged"]),
        (b"PK\x03\x04\xff\xfe", BadConfig, ["line 1 is not utf-8"]),
        (b"[" * 100_000, DataSaysNo, ["line 1: not JSON"]),
    ],
    ids=lambda value: str(value)[:24] if isinstance(value, bytes) else "",
)
def test_a_file_that_cannot_be_used_is_refused_with_line_rule_and_fix(
    content: bytes, kind: type[CrescentError], parts: list[str], tmp_path: Path
) -> None:
    with pytest.raises(kind) as refused:
        read(tmp_path / "q.jsonl", content)
    for part in ("q.jsonl", *parts):
        assert part in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path, rule in ((tmp_path / "none.jsonl", "no such file"), (tmp_path, "is a folder")):
        with pytest.raises(Missing, match=rule):
            read_seeds(BaitConfig(SHOWING, seeds=str(path)))


def test_lines_that_cannot_be_used_are_left_out_and_the_first_is_named(tmp_path: Path) -> None:
    lines = [*LINES, '{"question": " what is 3 + 4 "}', json.dumps({"question": "x" * (LONGEST + 1)}), '{"a": 1}']
    found = read(tmp_path / "q.jsonl", "\n".join(lines).encode())
    assert found.questions == tuple(TWO)
    assert found.notice.startswith("3 lines of bait.seeds were left out, 2 are used; the first: ")
    assert "line 3: is the same question as line 1" in found.notice


def test_the_field_may_lie_inside_another_one(tmp_path: Path) -> None:
    content = b'{"data": {"text": "What is 3 + 4?"}, "a.b": "What is 5?"}'
    assert read(tmp_path / "q.jsonl", content, "data.text").questions[0].text == "What is 3 + 4?"
    assert read(tmp_path / "q.jsonl", content, "a.b").questions[0].text == "What is 5?"


def test_more_bait_prompts_than_can_be_used_are_refused_before_they_are_made(tmp_path: Path) -> None:
    content = "\n".join(json.dumps({"question": f"What is {n} + 1?"}) for n in range(201)).encode()
    many = BaitConfig({"a": "{seed} {topic} {difficulty}"}, seeds="x", topics=10, difficulties=50)
    (tmp_path / "q.jsonl").write_bytes(content)
    many.seeds = str(tmp_path / "q.jsonl")
    with pytest.raises(BadConfig, match=r"201 questions make 100,500 bait prompts.*shuf -n 200 q\.jsonl"):
        read_seeds(many)


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"prompts": {"a": "Ask."}, "seeds": "q.jsonl"}, ["bait.seeds=q.jsonl", "use bait=seeds"]),
        ({"prompts": SHOWING}, ["bait.seeds=null: bait.prompts.evolve", "{seed}", "bait.seeds=questions.jsonl"]),
        ({"prompts": SHOWING, "seeds": " "}, ["bait.seeds=' '", "must name a file"]),
        ({"prompts": SHOWING, "seeds": "q", "seed_field": ""}, ["bait.seed_field", "must name a field"]),
        ({"prompts": {"a": "{seeds}"}}, ["{seeds}", "only {seed}, {topic} and {difficulty} are known"]),
    ],
)
def test_seed_questions_and_the_prompts_that_show_them_need_each_other(
    settings: dict[str, object], parts: list[str]
) -> None:
    with pytest.raises(BadConfig) as refused:
        BaitConfig(**settings)  # type: ignore[arg-type]
    for part in parts:
        assert part in str(refused.value)


def test_each_seed_question_makes_a_bait_prompt_of_its_own() -> None:
    prompts = {"plain": "Ask.", "evolve": "Change: {seed} ({difficulty})"}
    cfg = BaitConfig(prompts, seeds="q.jsonl", difficulty_list=["easy", "{seed}"])
    seeds = [SeedQuestion("q.jsonl", 1, "What is {topic} in \\frac{a}{b}?"), SeedQuestion("q.jsonl", 7, "What is 2?")]
    baits = asyncio.run(open_pool(ShufflingEngine(say_sums), cfg, 1, 0, seeds))
    assert Bait("evolve/seed-7/easy", "Change: What is 2? (easy)") in baits
    assert Bait("evolve/seed-1/seed", "Change: What is {topic} in \\frac{a}{b}? ({seed})") in baits, "it stays text"
    assert len(baits) == 5


@pytest.mark.parametrize("text", ["What is 3 + 4?", " what  is 3+4", '"What is 3 + 4?"', "**What is 3 ＋ 4?**"])
def test_a_question_is_the_same_in_other_type(text: str) -> None:
    assert as_compared(text) == as_compared("What is 3 + 4?")


@pytest.mark.parametrize("text", ["What is 3 - 4?", "What is 34?", "What is 3 + 5?", "What is (3 + 4)/2?", "3 + 4"])
def test_another_question_is_another_question(text: str) -> None:
    assert as_compared(text) != as_compared("What is 3 + 4?")


def test_a_copy_counts_only_where_a_seed_question_was_shown() -> None:
    copies = Copies(BaitConfig({**SHOWING, "plain": "Ask.", "evolve2": "Ask {topic}."}, seeds="q", topics=1), TWO)
    assert copies.is_copy("evolve/seed-2", "What is 3 + 4?")
    assert not copies.is_copy("evolve/seed-1", "What is 4 + 4?")
    assert not copies.is_copy("plain", "What is 3 + 4?"), "invented anew"
    assert not copies.is_copy("evolve2/seed-1", "What is 3 + 4?")


def test_no_seed_question_is_voted_on_unless_it_was_invented_anew() -> None:
    seeds = [SeedQuestion("q.jsonl", line, f"What is {line} + 1?") for line in range(1, 5)]

    def say(request: Request) -> Completion:
        """Half of the time the model repeats what it was shown."""
        if request.key.startswith("question") and request.prompt.startswith("Change") and request.seed % 2:
            return stop(request.prompt.removeprefix("Change this: "))
        return say_sums(request)

    bait = BaitConfig({**SHOWING, "plain": "Ask."}, seeds="q.jsonl", questions=80)
    cfg = SynthesisConfig(TaskConfig(), bait, DiversifyConfig(max_rewrites=0), ConsensusConfig(samples=3), 0, 1)
    engine, memory = ShufflingEngine(say), Memory()
    found = asyncio.run(synthesise(engine, by_first_number, BySpelling(), cfg, memory, lambda _: None, seeds=seeds))
    texts = {as_compared(seed.text) for seed in seeds}
    outcomes = Counter(candidate.why for candidate in found.candidates if candidate.question.bait != "plain")
    assert outcomes[COPY] > 5
    assert found.metrics[f"unusable/{COPY}"] == outcomes[COPY]
    copied = [vote for vote in found.votes if as_compared(vote.question.text) in texts]
    assert all(vote.question.bait == "plain" for vote in copied)
    assert any(vote.question.bait.startswith("evolve/seed-") for vote in found.votes)
