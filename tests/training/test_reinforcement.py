"""Reinforcement learning: what is rewarded, what a step is made of, and how a run goes on."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes import some_pairs
from test_train import digests, run_apart

from crescent.config import AnswerStyle, GrpoConfig, LoraConfig, Reward, Start, TaskConfig, Trainer, TrainJob, Tuning
from crescent.errors import BadConfig, DataSaysNo
from crescent.records import Pair, Proof
from crescent.tasks import Task, open_task
from train.job import attempt

pytestmark = pytest.mark.real
NUMBERS = TaskConfig(answer_style=AnswerStyle.number)
END = 2


def six() -> list[Pair]:
    """Questions whose vote said what `counting` says now and then."""
    return [replace(pair, final="2") for pair in some_pairs(6)]


@pytest.fixture(scope="module")
def counting(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that says 1 or 2, about as likely as it ends: some of its answers are right by chance.

    One direction of its hidden state is always the same, and the head reads it as those three tokens.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    model = AutoModelForCausalLM.from_pretrained(tiny, tie_word_embeddings=False)
    torch.manual_seed(0)
    with torch.no_grad():
        model.lm_head.weight = torch.nn.Parameter(0.2 * torch.randn_like(model.lm_head.weight))
        model.lm_head.weight[:, 0] = -6.0
        model.lm_head.weight[[*tokenizer.convert_tokens_to_ids(["1", "2"]), END], 0] = 6.0
        model.model.embed_tokens.weight[:, 0] = 4.0
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = 0.0
            layer.mlp.down_proj.weight[0] = 0.0
    folder = tmp_path_factory.mktemp("counting")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def grpo(make_job: Callable[..., TrainJob], counting: Path) -> Callable[..., TrainJob]:
    """Makes jobs; two questions of four answers each are a step, and six steps two passes over the six questions."""

    def make(pairs: list[Pair] | None = None, task: TaskConfig = NUMBERS, **train: Any) -> TrainJob:
        usual: dict[str, Any] = {
            "trainer": Trainer.grpo,
            "grpo": GrpoConfig(generations=4, max_tokens=6),
            "batch": 8,
            "micro_batch": 4,
            "max_length": 128,
            "save_steps": 2,
        }
        job = make_job(six() if pairs is None else pairs, **{**usual, **train})
        return replace(job, task=task, model=replace(job.model, path=str(counting)))

    return make


@pytest.fixture
def numbers() -> Iterator[Task]:
    with open_task(NUMBERS, 5.0) as task:
        yield task


def prepared(job: TrainJob, pairs: Sequence[Pair]) -> Any:
    from transformers import AutoTokenizer

    from train.trainers.grpo import prepare_grpo

    base = Path(job.model.path)
    return prepare_grpo(job, pairs, base, AutoTokenizer.from_pretrained(base))


def rewards(task: Task, reward: Reward, answers: Sequence[str], labels: Sequence[str], cut: Sequence[int] = ()) -> Any:
    from train.trainers.grpo import ends, reward_function

    reward_of = reward_function(reward, task, 4, lambda ids: ends(ids, [END]))
    return reward_of(
        completions=[[{"role": "assistant", "content": text}] for text in answers],
        completion_ids=[[5, 6] if n in cut else [5, END] for n in range(len(answers))],
        final=labels,
        prompts=answers,
    )


def progress(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "progress.jsonl").read_text().splitlines()]


def questions_of(trainer: Any, steps: int) -> list[list[str]]:
    """The questions of each of the first steps, in order."""
    batches = iter(trainer.get_train_dataloader())
    found = []
    for _ in range(steps):
        micro = [next(batches) for _ in range(trainer.args.gradient_accumulation_steps)]
        assert all(batch == micro[0] for batch in micro), "one generation serves the whole step"
        found.append([row["prompt"][0]["content"] for row in micro[0]])
    return found


def test_an_answer_that_means_the_voted_one_earns_one(numbers: Task) -> None:
    answers = ["So it is 0.5. #### 1/2", "#### 0.50", "#### 5", "I do not know.", "#### 1,000", "The answer is 1000."]
    found = rewards(numbers, Reward.voted, answers, ["1/2"] * 4 + ["1000"] * 2)
    assert found == [1, 1, 0, 0, 1, 1]


def test_a_cut_answer_earns_nothing_nor_does_one_that_spells_a_chat_token(numbers: Task) -> None:
    answers = ["#### 4", "#### 4", "#### 4<|im_end|>"]
    assert rewards(numbers, Reward.voted, answers, ["4"] * 3, cut=[1]) == [1, 0, 0]


def test_letters_are_rewarded_too() -> None:
    with open_task(TaskConfig(answer_style=AnswerStyle.choice), 5.0) as task:
        assert rewards(task, Reward.voted, ["Answer: B", "Answer: C", "(B)", "no idea"], ["B"] * 4) == [1, 0, 1, 0]


def test_the_majority_of_a_group_earns_one_and_a_tie_nothing(numbers: Task) -> None:
    groups = [
        ["#### 1/2", "#### 0.5", "#### 2", "#### 3"],
        ["#### 1", "#### 1", "#### 2", "#### 2"],
        ["?", "?", "?", "#### 7"],
        ["?", "?", "?", "?"],
    ]
    found = rewards(numbers, Reward.group, [text for group in groups for text in group], ["9"] * 16)
    assert found == [1, 1, 0, 0] + [0] * 4 + [0, 0, 0, 1] + [0] * 4


def test_each_prompt_is_asked_once_and_what_has_no_vote_is_left_out(grpo: Callable[..., TrainJob]) -> None:
    pairs = some_pairs(3)
    again = replace(pairs[0], id="again", completion="Another one. #### 1")
    general = replace(pairs[0], id="general", prompt="Write a poem.", source="replay", final="", agreement=0.0)
    long = replace(pairs[0], id="long", prompt="word " * 200)
    mixed = [*pairs, again, general, long]
    ready = prepared(grpo(mixed), mixed)
    assert [row["prompt"][0]["content"] for row in ready.trainer.train_dataset] == [pair.prompt for pair in pairs]
    assert ready.counts == {"rows": 3, "without_final": 1, "repeated": 1, "too_long": 1}
    spoken = ready.trainer.processing_class.decode(ready.texts[0])
    assert pairs[0].prompt in spoken
    assert pairs[0].completion in spoken


def test_a_step_takes_whole_groups_whatever_the_micro_batch(grpo: Callable[..., TrainJob]) -> None:
    steps = []
    for micro_batch in (1, 2, 8):
        trainer = prepared(grpo(micro_batch=micro_batch), six()).trainer
        assert trainer.args.generation_batch_size == 8
        steps.append(questions_of(trainer, 3))
    assert steps[0] == steps[1] == steps[2]
    for asked in steps[0]:
        assert asked == [asked[0]] * 4 + [asked[4]] * 4
        assert asked[0] != asked[4]
    assert {question for asked in steps[0] for question in asked} == {pair.prompt for pair in six()}


def test_each_pass_has_an_order_of_its_own_that_a_run_going_on_finds_again(grpo: Callable[..., TrainJob]) -> None:
    first, later, again = (prepared(grpo(), six()).trainer for _ in range(3))
    later.state.global_step = again.state.global_step = 3
    assert questions_of(later, 3) == questions_of(again, 3) != questions_of(first, 3)


def test_the_adapter_is_trained_alone_and_held_to_its_start(grpo: Callable[..., TrainJob], reference: Path) -> None:
    held = GrpoConfig(generations=4, max_tokens=6, beta=0.1)
    parent = str(reference / "adapter")
    going_on = replace(grpo(start=Start.parent), parent=parent)
    jobs = [grpo(), grpo(grpo=held), going_on, replace(grpo(start=Start.parent, grpo=held), parent=parent)]
    adapters = []
    for job in jobs:
        model = prepared(job, six()).trainer.model
        adapters.append(list(model.peft_config))
        assert {name.split(".")[-2] for name, its in model.named_parameters() if its.requires_grad} == {"default"}
    assert adapters == [["default"], ["default"], ["default"], ["default", "ref"]]


def test_a_full_training_is_held_to_a_merged_start(
    grpo: Callable[..., TrainJob], reference: Path, counting: Path
) -> None:
    from safetensors.torch import load_file

    held = GrpoConfig(generations=4, max_tokens=6, beta=0.1)
    job = grpo(grpo=held, tuning=Tuning.full, start=Start.merge, alpha=0.5)
    trainer = prepared(replace(job, parent=str(reference / "weights")), six()).trainer
    start, base = trainer.model.state_dict(), load_file(counting / "model.safetensors")
    assert all((weight == start[name]).all() for name, weight in trainer.ref_model.state_dict().items())
    assert any((weight != start[name]).any() for name, weight in base.items())


@pytest.fixture(scope="module")
def reference(grpo: Callable[..., TrainJob]) -> Path:
    """Output of an undisturbed job."""
    job = grpo()
    attempt(job)
    return Path(job.output)


def test_a_job_says_what_was_rewarded(reference: Path) -> None:
    metrics = json.loads((reference / "metrics.json").read_text())
    assert (metrics["rows"], metrics["steps"]) == (6, 6)
    assert 0 < metrics["reward_mean"] < 1
    assert 0 <= metrics["answers_cut_mean"] < 0.5
    assert 0 <= metrics["groups_without_spread_mean"] < 1
    lines = progress(reference)
    assert [line["done"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert {"reward", "groups_without_spread", "answers_cut"} <= lines[0].keys()
    proof = msgspec.json.decode((reference / "proof.json").read_bytes(), type=Proof)
    assert len(proof.token_ids) == 4
    assert proof.child != proof.parent


def test_what_the_vote_said_becomes_likelier(grpo: Callable[..., TrainJob]) -> None:
    pairs = [replace(pair, final="1") for pair in some_pairs(4)]
    job = grpo(
        pairs,
        grpo=GrpoConfig(generations=8, max_tokens=3),
        batch=32,
        micro_batch=32,
        max_steps=8,
        learning_rate=0.02,
        lora=LoraConfig(rank=4, alpha=8),
    )
    trainer = prepared(job, pairs).trainer
    trainer.train()
    earned = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
    assert sum(earned[-3:]) / 3 > sum(earned[:3]) / 3 + 0.1


def test_a_killed_trainer_samples_what_it_would_have_sampled_and_ends_the_same(
    grpo: Callable[..., TrainJob], reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed in its second pass, from a parent that it is held to."""
    held = GrpoConfig(generations=4, max_tokens=6, beta=0.1)
    jobs = [replace(grpo(start=Start.parent, grpo=held), parent=str(reference / "adapter")) for _ in range(2)]
    undisturbed, killed = (Path(job.output) for job in jobs)
    attempt(jobs[0])
    assert len({line["reward"] for line in progress(undisturbed)}) > 1, "else any answers would do"
    assert run_apart(jobs[1], CRESCENT_FAILPOINT="train.step:6=kill9").returncode == -9
    attempt(jobs[1])
    assert "checkpoint-4" in capsys.readouterr().out
    for part in ("adapter", "weights"):
        assert digests(killed / part) == digests(undisturbed / part)
    for name in ("proof.json", "metrics.json"):
        assert (killed / name).read_bytes() == (undisturbed / name).read_bytes()


def test_programs_cannot_be_rewarded(grpo: Callable[..., TrainJob]) -> None:
    task = TaskConfig(answer_style=AnswerStyle.code, inputs_prompt="{question} Inputs?")
    with pytest.raises(BadConfig, match=r"train.trainer=grpo: programs .*answer_style=code.*trainer=sft or dpo"):
        attempt(grpo(task=task))


def test_vllm_needs_a_gpu(grpo: Callable[..., TrainJob]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(BadConfig, match=r"train.grpo.vllm=true: .*needs a GPU.*train.grpo.vllm=false"):
        attempt(grpo(grpo=GrpoConfig(generations=4, max_tokens=6, vllm=True)))


def test_fewer_questions_than_a_step_takes_name_the_batch_that_fits(grpo: Callable[..., TrainJob]) -> None:
    with pytest.raises(DataSaysNo, match=r"train.batch=8: a step takes 2 questions .*there are 1 .*use train.batch=4 "):
        attempt(grpo(some_pairs(1)))


def test_prompts_that_are_all_too_long_name_the_length_it_takes(grpo: Callable[..., TrainJob]) -> None:
    with pytest.raises(DataSaysNo, match=r"train.max_length=40: all 3 prompts .* the 34 tokens .*max_tokens=6"):
        attempt(grpo([replace(pair, prompt=pair.prompt + " please" * 30) for pair in some_pairs(3)], max_length=40))
    with pytest.raises(BadConfig, match=r"train.grpo.max_tokens=128: leaves no room"):
        attempt(grpo(grpo=GrpoConfig(generations=4, max_tokens=128)))


def test_nothing_voted_on_ends_with_the_way_out(grpo: Callable[..., TrainJob]) -> None:
    general = [replace(pair, source="replay", final="") for pair in some_pairs(3)]
    with pytest.raises(DataSaysNo, match=r"none of 3 pairs has a voted final answer.*trainer=sft"):
        attempt(grpo(general))


def test_a_batch_of_broken_groups_is_refused(grpo: Callable[..., TrainJob]) -> None:
    with pytest.raises(BadConfig, match=r"train.batch=10: .*multiple of train.grpo.generations=4"):
        grpo(batch=10, micro_batch=2)
