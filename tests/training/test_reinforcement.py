"""Reinforcement learning: what is rewarded, what a step consists of, and how a run resumes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import some_pairs
from job_results import digests, metrics, progress, read_proof, run_apart, steps_reported, trained

from crescent.config import AnswerStyle, GrpoConfig, LoraConfig, Reward, Start, TaskConfig, Trainer, TrainJob, Tuning
from crescent.errors import BadConfig, DataSaysNo
from crescent.records import Pair
from crescent.tasks import Task, open_task
from train.job import attempt

pytestmark = pytest.mark.real
NUMBERS = TaskConfig(answer_style=AnswerStyle.number)
END = 2


def six() -> list[Pair]:
    """Six pairs whose voted answer is one that the model `counting` gives now and then."""
    return [replace(pair, final="2") for pair in some_pairs(6)]


@pytest.fixture(scope="module")
def counting(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that writes 1, writes 2 or ends its answer, each about equally likely. So some of its answers are
    right by chance.

    One direction of its hidden state is constant, and the head turns it into those three tokens.
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
    """Makes jobs. A step has two questions with four answers each, so six steps are two passes over six questions."""

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


def questions_of(trainer: Any, steps: int) -> list[list[str]]:
    """Questions of each of the first `steps` steps, in order."""
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


def test_neither_a_cut_answer_nor_one_that_spells_a_chat_token_earns_anything(numbers: Task) -> None:
    answers = ["#### 4", "#### 4", "#### 4<|im_end|>"]
    assert rewards(numbers, Reward.voted, answers, ["4"] * 3, cut=[1]) == [1, 0, 0]


def test_letters_are_rewarded_as_well() -> None:
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


def test_each_prompt_is_asked_once_and_pairs_without_a_vote_are_left_out(grpo: Callable[..., TrainJob]) -> None:
    pairs = some_pairs(3)
    again = replace(pairs[0], id="again", completion="Another one. #### 1")
    general = replace(pairs[0], id="general", prompt="Write a poem.", source="replay", final="", agreement=0.0)
    long = replace(pairs[0], id="long", prompt="word " * 200)
    mixed = [*pairs, again, general, long]
    ready = prepared(grpo(mixed), mixed)
    assert [row["prompt"][0]["content"] for row in ready.trainer.train_dataset] == [pair.prompt for pair in pairs]
    assert ready.counts == {"rows": 3, "without_final": 1, "repeated": 1, "too_long": 1}
    text = ready.trainer.processing_class.decode(ready.texts[0])
    assert pairs[0].prompt in text
    assert pairs[0].completion in text


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


def test_each_pass_has_its_own_order_that_a_resumed_run_finds_again(grpo: Callable[..., TrainJob]) -> None:
    first, later, again = (prepared(grpo(), six()).trainer for _ in range(3))
    later.state.global_step = again.state.global_step = 3
    assert questions_of(later, 3) == questions_of(again, 3) != questions_of(first, 3)


def test_only_the_adapter_is_trained_and_its_start_is_the_reference(
    grpo: Callable[..., TrainJob], reference: Path
) -> None:
    held = GrpoConfig(generations=4, max_tokens=6, beta=0.1)
    parent = str(reference / "adapter")
    continued = replace(grpo(start=Start.parent), parent=parent)
    jobs = [grpo(), grpo(grpo=held), continued, replace(grpo(start=Start.parent, grpo=held), parent=parent)]
    adapters = []
    for job in jobs:
        model = prepared(job, six()).trainer.model
        adapters.append(list(model.peft_config))
        trained = {name.split(".")[-2] for name, weight in model.named_parameters() if weight.requires_grad}
        assert trained == {"default"}
    assert adapters == [["default"], ["default"], ["default"], ["default", "ref"]]


def test_the_reference_of_a_full_training_is_its_merged_start(
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
    return trained(grpo())


def test_a_job_reports_its_rewards(reference: Path) -> None:
    found = metrics(reference)
    assert (found["rows"], found["steps"]) == (6, 6)
    assert 0 < found["reward_mean"] < 1
    assert 0 <= found["answers_cut_mean"] < 0.5
    assert 0 <= found["groups_without_spread_mean"] < 1
    assert steps_reported(reference) == [1, 2, 3, 4, 5, 6]
    assert {"reward", "groups_without_spread", "answers_cut"} <= progress(reference)[0].keys()
    proof = read_proof(reference)
    assert len(proof.token_ids) == 4
    assert proof.child != proof.parent


def test_the_voted_answer_becomes_likelier(grpo: Callable[..., TrainJob]) -> None:
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


def test_a_killed_trainer_samples_the_same_answers_and_ends_the_same(
    grpo: Callable[..., TrainJob], reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is killed in its second pass. It started from a parent, which is also its reference."""
    held = GrpoConfig(generations=4, max_tokens=6, beta=0.1)
    jobs = [replace(grpo(start=Start.parent, grpo=held), parent=str(reference / "adapter")) for _ in range(2)]
    undisturbed, killed = (Path(job.output) for job in jobs)
    attempt(jobs[0])
    assert len({line["reward"] for line in progress(undisturbed)}) > 1, "otherwise any answers would pass"
    assert run_apart(jobs[1], CRESCENT_FAILPOINT="train.step:6=kill9").returncode == -9
    attempt(jobs[1])
    assert "checkpoint-4" in capsys.readouterr().out
    assert digests(killed) == digests(undisturbed)


def test_programs_cannot_be_rewarded(grpo: Callable[..., TrainJob]) -> None:
    task = TaskConfig(answer_style=AnswerStyle.code, inputs_prompt="{question} Inputs?")
    with pytest.raises(BadConfig, match=r"train.trainer=grpo: programs .*answer_style=code.*trainer=sft or dpo"):
        attempt(grpo(task=task))


def test_vllm_needs_a_gpu(grpo: Callable[..., TrainJob]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(BadConfig, match=r"train.grpo.vllm=true: .*needs a GPU.*train.grpo.vllm=false"):
        attempt(grpo(grpo=GrpoConfig(generations=4, max_tokens=6, vllm=True)))


def test_with_too_few_questions_for_a_step_the_error_names_a_batch_that_fits(
    grpo: Callable[..., TrainJob],
) -> None:
    with pytest.raises(DataSaysNo, match=r"train.batch=8: a step takes 2 questions .*there are 1 .*use train.batch=4 "):
        attempt(grpo(some_pairs(1)))


def test_when_all_prompts_are_too_long_the_error_names_the_length_needed(grpo: Callable[..., TrainJob]) -> None:
    with pytest.raises(DataSaysNo, match=r"train.max_length=40: all 3 prompts .* the 34 tokens .*max_tokens=6"):
        attempt(grpo([replace(pair, prompt=pair.prompt + " please" * 30) for pair in some_pairs(3)], max_length=40))
    with pytest.raises(BadConfig, match=r"train.grpo.max_tokens=128: leaves no room"):
        attempt(grpo(grpo=GrpoConfig(generations=4, max_tokens=128)))


def test_without_any_vote_the_error_names_another_trainer(grpo: Callable[..., TrainJob]) -> None:
    general = [replace(pair, source="replay", final="") for pair in some_pairs(3)]
    with pytest.raises(DataSaysNo, match=r"none of 3 pairs has a voted final answer.*trainer=sft"):
        attempt(grpo(general))


def test_a_batch_of_broken_groups_is_refused(grpo: Callable[..., TrainJob]) -> None:
    with pytest.raises(BadConfig, match=r"train.batch=10: .*multiple of train.grpo.generations=4"):
        grpo(batch=10, micro_batch=2)
