"""Agreement against labels: a set worked out by hand, the statistics checked elsewhere, and the whole measurement."""

import asyncio
import itertools
import json
import random
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from scipy.stats import hypergeom

from crescent.config import (
    AnswerStyle,
    BenchmarkConfig,
    ConsensusConfig,
    EvalConfig,
    ReliabilityJob,
    Source,
    Split,
    TaskConfig,
    read_job,
    write_job,
)
from crescent.engine.journal import Journal, Journaled
from crescent.errors import BadConfig, Missing
from crescent.judging.comparison import wilson
from crescent.judging.reliability import FILE, LabelledVote, Reliability, auroc, curve, pass_at, suggest_cut
from crescent.records import Completion, Item, Request, Vote, read_lines
from crescent.show.reliability import reliability_table, show_reliability
from eval.job import main
from eval.labelled_votes import ask_votes, items_of
from eval.reading import open_readers

# K = 4: three unanimous (two right), three with 3/4 (two right), two with 2/4 (one right), one tie, one silent.
BY_HAND = [
    LabelledVote(4, 4, True, 4),
    LabelledVote(4, 4, True, 4),
    LabelledVote(4, 4, False, 0),
    LabelledVote(3, 4, True, 3),
    LabelledVote(3, 4, True, 3),
    LabelledVote(3, 4, False, 1),
    LabelledVote(2, 4, True, 2),
    LabelledVote(2, 4, False, 0),
    LabelledVote(0, 4, False, 2),
    LabelledVote(0, 4, False, 0),
]


def test_the_bins_of_a_set_worked_out_by_hand() -> None:
    found = curve(BY_HAND)
    assert [(bin_.agreement, bin_.count, bin_.correct) for bin_ in found.bins] == [
        (0.5, 2, 1),
        (0.75, 3, 2),
        (1.0, 3, 2),
    ]
    assert [bin_.kept for bin_ in found.bins] == [0.8, 0.6, 0.3]
    assert [bin_.accuracy for bin_ in found.bins] == [5 / 8, 4 / 6, 2 / 3]
    assert (found.bins[1].low, found.bins[1].high) == wilson(2, 3)
    assert (found.bins[1].accuracy_low, found.bins[1].accuracy_high) == wilson(4, 6)
    assert (found.items, found.samples, found.undecided) == (10, 4, 2)


def test_the_yardsticks_of_a_set_worked_out_by_hand() -> None:
    found = curve(BY_HAND)
    assert found.majority == 0.5
    assert (found.majority_low, found.majority_high) == wilson(5, 10)
    assert found.single == pytest.approx(19 / 40)
    assert found.pass_at.keys() == {1, 2, 4}
    assert found.pass_at[1] == pytest.approx(found.single)
    # Of the six pairs of samples, 3 right ones fill all, 2 fill five, 1 fills three.
    assert found.pass_at[2] == pytest.approx((2 + 2 * 1 + 3 / 6 + 2 * 5 / 6) / 10)
    assert found.pass_at[4] == 0.7
    # Right: 4 4 3 3 2; wrong: 4 3 2. Of 15 pairs 6 are won and 5 tied.
    assert found.auroc == pytest.approx((6 + 5 / 2) / 15)


def test_the_last_k_is_k_itself_even_where_it_is_no_power_of_two() -> None:
    assert list(curve([LabelledVote(3, 6, True, 3)]).pass_at) == [1, 2, 4, 6]
    assert list(curve([LabelledVote(2, 3, True, 2)]).pass_at) == [1, 2, 3]


@pytest.mark.parametrize(("samples", "correct", "k"), [(8, 0, 4), (8, 8, 1), (8, 3, 2), (7, 2, 6), (16, 1, 16)])
def test_pass_at_k_is_the_chance_of_drawing_a_right_sample_without_replacement(
    samples: int, correct: int, k: int
) -> None:
    assert pass_at(k, samples, correct) == pytest.approx(1 - hypergeom(samples, correct, k).pmf(0))
    if samples <= 8:
        draws = [any(sample < correct for sample in draw) for draw in itertools.combinations(range(samples), k)]
        assert pass_at(k, samples, correct) == pytest.approx(sum(draws) / len(draws))


def test_auroc_is_the_share_of_pairs_in_the_right_order() -> None:
    dice = random.Random(0)
    right = [dice.randrange(1, 9) / 8 for _ in range(40)]
    wrong = [dice.randrange(1, 6) / 8 for _ in range(25)]
    pairs = [(a > b) + (a == b) / 2 for a in right for b in wrong]
    assert auroc(right, wrong) == pytest.approx(sum(pairs) / len(pairs))
    assert auroc([1.0], [0.5]) == 1.0
    assert auroc([0.5, 0.5], [0.5]) == 0.5
    assert auroc([], [0.5]) is None
    assert auroc([0.5], []) is None


def test_a_cut_is_suggested_by_the_lower_end_and_only_if_there_is_one() -> None:
    votes = [LabelledVote(8, 8, True, 8)] * 95 + [LabelledVote(8, 8, False, 0)] * 5
    votes += [LabelledVote(5, 8, True, 5)] * 60 + [LabelledVote(5, 8, False, 1)] * 40
    votes += [LabelledVote(3, 8, False, 1)] * 20
    found = curve(votes)
    assert suggest_cut(found, 0.5) == 3 / 8
    assert suggest_cut(found, 0.7) == 5 / 8
    assert suggest_cut(found, 0.88) == 1.0
    # 95 of 100 were right, and it may well be fewer.
    assert suggest_cut(found, 0.95) is None
    assert suggest_cut(curve([LabelledVote(8, 8, True, 8)]), 0.9) is None


def test_a_set_without_a_single_winner_has_no_bins_and_can_be_shown() -> None:
    found = curve([LabelledVote(0, 4, False, 0), LabelledVote(0, 4, False, 1)])
    assert (found.bins, found.auroc, found.undecided, found.majority) == ((), None, 2, 0.0)
    assert reliability_table(found).row_count == 0


def test_votes_over_different_numbers_of_samples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[4, 5\]"):
        curve([LabelledVote(4, 4, True, 4), LabelledVote(4, 5, True, 4)])
    with pytest.raises(ValueError, match="one K"):
        curve([])


TASK = TaskConfig(answer_prompt="{question}\nEnd with ####.", answer_style=AnswerStyle.number)


def job(output: Path, urls: list[str] | None = None, data: Path | None = None, reliability: int = 5) -> ReliabilityJob:
    benchmarks = {
        "dev": BenchmarkConfig(source=Source.svamp, items=8),
        "again": BenchmarkConfig(source=Source.svamp),
        "test": BenchmarkConfig(source=Source.svamp, split=Split.test),
    }
    return ReliabilityJob(
        eval=EvalConfig(benchmarks=benchmarks, data=str(data), reliability=reliability),
        task=TASK,
        consensus=ConsensusConfig(samples=4),
        urls=urls or [],
        model="fake",
        output=str(output),
        seed=3,
    )


def svamp(folder: Path) -> Path:
    problems = [{"Body": f"Bo had {n} figs.", "Question": "How many?", "Answer": float(n)} for n in range(40)]
    (folder / "svamp").mkdir(parents=True)
    (folder / "svamp" / "SVAMP.json").write_text(json.dumps(problems))
    return folder


class Unsure:
    """The first n samples of item n are right, the others answer 99; in item 6 the right answer is 0.5."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.dies_after = 10**9

    async def complete(self, request: Request) -> Completion:
        await asyncio.sleep(0)
        if len(self.asked) >= self.dies_after:
            raise ConnectionError("the engine is dead")
        self.asked.append(request)
        n, sample = int(re.findall(r"item (\d+)", request.prompt)[0]), int(request.key.rpartition("/")[2])
        if n == 5:
            return Completion("#### 1", "length", 3)
        if n == 6:
            return Completion(f"#### {['1/2', '0.5', '.5', '2'][sample]}", "stop", 3)
        return Completion(f"#### {1 if sample < n else 99}", "stop", 3)


ITEMS = [Item(f"i{n}", "dev", f"item {n}", "0.5" if n == 6 else "1") for n in range(7)]


def voted(engine: object, reports: list[int] | None = None) -> list[tuple[Vote, LabelledVote]]:
    report = (reports if reports is not None else []).append
    asked = job(Path("out"))
    with open_readers(asked.eval.benchmarks, asked.task, 5.0) as readers:
        return asyncio.run(ask_votes(engine, ITEMS, asked, readers, report))  # type: ignore[arg-type]


def test_every_item_is_asked_k_times_without_stopping_early_and_its_winner_is_graded() -> None:
    engine, reports = Unsure(), list[int]()
    found = voted(engine, reports)
    assert len({request.key for request in engine.asked}) == len({request.seed for request in engine.asked}) == 28
    assert {request.temperature for request in engine.asked} == {0.8}
    assert engine.asked[0].prompt == "item 0\nEnd with ####."
    assert reports == list(range(1, 29))
    assert [vote.question.id for vote, _ in found] == [item.id for item in ITEMS]
    assert {vote.question.bait for vote, _ in found} == {"dev"}
    assert [labelled for _, labelled in found] == [
        LabelledVote(4, 4, False, 0),
        LabelledVote(3, 4, False, 1),
        LabelledVote(0, 4, False, 2),
        LabelledVote(3, 4, True, 3),
        LabelledVote(4, 4, True, 4),
        LabelledVote(0, 4, False, 0),
        LabelledVote(3, 4, True, 3),
    ]


def test_an_interrupted_measurement_asks_no_sample_twice(tmp_path: Path) -> None:
    dying, healthy = Unsure(), Unsure()
    dying.dies_after = 11
    with Journal(tmp_path / "journal.jsonl") as journal, pytest.raises(ExceptionGroup):
        voted(Journaled(dying, journal))
    with Journal(tmp_path / "journal.jsonl") as journal:
        resumed = voted(Journaled(healthy, journal))
    assert (len(dying.asked), len(healthy.asked)) == (11, 17)
    assert resumed == voted(Unsure())


def test_the_first_items_of_each_dev_benchmarks_choice_are_asked(tmp_path: Path) -> None:
    data = svamp(tmp_path)
    five, seven = items_of(job(tmp_path, data=data)), items_of(job(tmp_path, data=data, reliability=7))
    assert [item.benchmark for item in five] == ["dev"] * 5 + ["again"] * 5
    assert set(five) < set(seven)
    assert len(items_of(job(tmp_path, data=data, reliability=1000))) > 16


def test_the_command_measures_once_and_the_run_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            n = int(re.findall(r"(\d+) figs", body["messages"][0]["content"])[0])
            asked.append(body)
            message = {"role": "assistant", "content": f"#### {n}"}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            reply = {"id": "x", "object": "chat.completion", "created": 0, "model": "fake", "choices": choices}
            payload = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
            pass

    output = tmp_path / "run" / "base" / "reliability"
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        given = job(output, [f"http://127.0.0.1:{server.server_port}/v1"], svamp(tmp_path / "data"))
        write_job(tmp_path / "job.yaml", given)
        assert read_job(tmp_path / "job.yaml", ReliabilityJob) == given
        first = main(["--reliability", str(tmp_path / "job.yaml")]), capsys.readouterr().out
        second = main(["--reliability", str(tmp_path / "job.yaml")]), capsys.readouterr().out
        server.shutdown()
    assert first == second
    assert first[0] == 0
    assert len(asked) == 2 * 5 * 4
    votes = read_lines(output / "votes.jsonl", Vote)
    assert [vote.agreement for vote in votes] == [1.0] * 10
    assert [labelled.correct for labelled in read_lines(output / "labels.jsonl", LabelledVote)] == [True] * 10
    files = ["labels.jsonl", "progress.jsonl", "reliability.json", "votes.jsonl"]
    assert sorted(path.name for path in output.iterdir()) == files
    shown = StringIO()
    show_reliability(tmp_path / "run", Console(file=shown, width=120))
    assert shown.getvalue().count("4/4") == 2
    assert "maj@4 100.0%" in shown.getvalue()


def test_a_run_that_did_not_measure_says_how_to(tmp_path: Path) -> None:
    with pytest.raises(Missing, match=rf"{FILE}: does not exist.*eval\.reliability=200"):
        show_reliability(tmp_path, Console())


def test_a_job_that_cannot_measure_anything_is_refused() -> None:
    def made(split: Split, reliability: int, source: Source = Source.svamp, task: TaskConfig = TASK) -> ReliabilityJob:
        evaluation = EvalConfig({"mine": BenchmarkConfig(source=source, split=split)}, reliability=reliability)
        return ReliabilityJob(evaluation, task, ConsensusConfig(), urls=[], model="m", output="out")

    assert made(Split.dev, 1).eval.reliability == 1
    with pytest.raises(BadConfig, match=r"eval\.reliability=5: needs a dev benchmark"):
        made(Split.test, 5)
    with pytest.raises(BadConfig, match=r"eval\.reliability=0"):
        made(Split.dev, 0)
    code = TaskConfig(answer_style=AnswerStyle.code, inputs_prompt="{question}")
    with pytest.raises(BadConfig, match=r"eval\.reliability=5.*task\.answer_style=code.*set eval\.reliability=0"):
        made(Split.dev, 5, Source.mbpp, code)


def test_what_is_written_is_read_back() -> None:
    found = curve(BY_HAND)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Reliability) == found
