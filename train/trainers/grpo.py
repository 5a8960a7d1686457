"""Reinforcement learning with the vote as reward (TRL's GRPOTrainer, arXiv 2402.03300).

A step takes `train.batch / train.grpo.generations` questions and samples a group of answers to each, with the prompt
and the chat template the vote was taken with. (With `pairs.prompt=bare` that is the question alone: what is rewarded
then includes giving a final answer that can be read, unasked.) An answer is read and compared exactly as in the vote.
It is learnt from by how much its reward is above its group's mean: a group without any spread teaches nothing.

Answers are sampled once for each optimizer step, so that none is stale and none is left over: a checkpoint needs to
hold nothing of them. With transformers, a run that was killed and goes on samples the answers it would have sampled,
because each checkpoint holds the random state of each process. vLLM's random state is in no checkpoint: with
`train.grpo.vllm` a resumed run samples other answers than it would have undisturbed. Nor are the answers the same on
another number of processes, each of which draws for its own share; the questions of each step are.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from transformers import set_seed
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import RepeatSampler

from crescent.config import AnswerStyle, Reward, TrainJob, Tuning
from crescent.errors import BadConfig, DataSaysNo
from crescent.records import Completion, Pair
from crescent.synthesis.consensus import SILENCE, read_final, standings
from crescent.tasks import Task, open_task
from train.dataset import tokenize
from train.start import load_start
from train.trainers.prepared import Prepared, common_arguments
from train.trainers.reference import ReferenceNotSaved, drop_needless_copy


@dataclass(frozen=True)
class Prompts:
    kept: list[Pair]
    """One pair for each prompt."""
    texts: list[list[int]]
    """Prompt and voted response of each, as token ids."""
    without_final: int
    """Pairs left out because nobody voted on them: general instructions."""
    repeated: int
    """Pairs left out because another one has the same prompt (`pairs.responses`)."""
    too_long: int
    """Prompts left out because they leave less than `train.grpo.max_tokens` of `train.max_length`."""


def prepare_grpo(job: TrainJob, pairs: Sequence[Pair], base: Path, tokenizer: Any) -> Prepared:
    """TRL's trainer around the model and its prompts, with TRL's own loss (`loss_type=dapo`: a mean over tokens).

    Raises:
        BadConfig: the task or this machine cannot do it.
        DataSaysNo: too few prompts for a step.
    """
    cfg, grpo = job.train, job.train.grpo
    refuse_impossible(job)
    groups = cfg.batch // grpo.generations
    prompts = to_prompts(pairs, tokenizer, job)
    if len(prompts.kept) < groups:
        raise DataSaysNo(
            f"train.batch={cfg.batch}: a step takes {groups} questions with train.grpo.generations={grpo.generations} "
            f"answers each, and there are {len(prompts.kept)} ({prompts.without_final} pairs without a voted answer, "
            f"{prompts.repeated} with the same prompt as another, {prompts.too_long} too long); use "
            f"train.batch={len(prompts.kept) * grpo.generations} or ask more questions (bait.questions)"
        )
    sampled = len(prompts.kept) // groups * cfg.batch
    args = GRPOConfig(
        **common_arguments(job, sampled, base),
        num_generations=grpo.generations,
        max_completion_length=grpo.max_tokens,
        temperature=grpo.temperature,
        beta=grpo.beta,
        use_vllm=grpo.vllm,
        vllm_mode="colocate",
        vllm_gpu_memory_utilization=grpo.vllm_memory_share,
        vllm_max_model_length=cfg.max_length if grpo.vllm else None,
        # One generation for each optimizer step, as TRL does by itself: said here because resuming rests on it.
        generation_batch_size=cfg.batch,
        num_iterations=1,
    )
    set_seed(job.seed)
    model = load_start(job, base)  # after `args`: by them, ZeRO-3 splits the weights while they are read
    opened = ExitStack()
    task = opened.enter_context(open_task(job.task, job.grading_timeout_s))
    trainer = VoteTrainer(
        model=model,
        reward_funcs=reward_function(grpo.reward, task, grpo.generations, lambda ids: ends(ids, trainer.eos_token_ids)),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(
            [{"prompt": [{"role": "user", "content": pair.prompt}], "final": pair.final} for pair in prompts.kept]
        ),
        args=args,
    )
    trainer.opened = opened
    drop_needless_copy(trainer, job, held=grpo.beta > 0)
    hold_to_start(trainer)
    counts: dict[str, float] = {
        "rows": len(prompts.kept),
        "without_final": prompts.without_final,
        "repeated": prompts.repeated,
        "too_long": prompts.too_long,
    }
    return Prepared(trainer, prompts.texts[:4], counts)


def refuse_impossible(job: TrainJob) -> None:
    """Refuse what would only show, or never show, once answers are sampled."""
    grpo = job.train.grpo
    if job.task.answer_style is AnswerStyle.code:
        raise BadConfig(
            "train.trainer=grpo: programs are known by what they return for the inputs of their vote, which training "
            "pairs do not carry (task.answer_style=code); use train.trainer=sft or dpo"
        )
    if grpo.vllm and not torch.cuda.is_available():
        raise BadConfig(
            "train.grpo.vllm=true: vLLM inside the trainer needs a GPU, and there is none; use train.grpo.vllm=false"
        )
    if grpo.max_tokens >= job.train.max_length:
        raise BadConfig(
            f"train.grpo.max_tokens={grpo.max_tokens}: leaves no room for a prompt within train.max_length="
            f"{job.train.max_length}; lower the one or raise the other"
        )


def to_prompts(pairs: Sequence[Pair], tokenizer: Any, job: TrainJob) -> Prompts:
    """One pair for each prompt that was voted on and leaves room for an answer, in the order of `pairs`.

    Raises:
        BadConfig: the tokenizer has no chat template.
        DataSaysNo: nothing was voted on, or no prompt is short enough.
    """
    voted = [pair for pair in pairs if pair.source == "vote" and pair.final]
    if not voted:
        raise DataSaysNo(
            f"train.trainer=grpo: none of {len(pairs)} pairs has a voted final answer to reward; use train.trainer=sft"
        )
    firsts: dict[str, Pair] = {}
    for pair in voted:
        firsts.setdefault(pair.prompt, pair)
    different = list(firsts.values())
    asked = [[{"role": "user", "content": pair.prompt}] for pair in different]
    lengths = [len(ids) for ids in tokenize(asked, tokenizer, ask=True)]
    room = job.train.max_length - job.train.grpo.max_tokens
    short = [index for index, length in enumerate(lengths) if length <= room]
    if not short:
        least = min(lengths) + job.train.grpo.max_tokens
        raise DataSaysNo(
            f"train.max_length={job.train.max_length}: all {len(different)} prompts are longer than the {room} tokens "
            f"that train.grpo.max_tokens={job.train.grpo.max_tokens} leaves (the shortest has {min(lengths)}); use "
            f"train.max_length={least} or more, or lower train.grpo.max_tokens"
        )
    answered = [[*asked[index], {"role": "assistant", "content": different[index].completion}] for index in short[:4]]
    return Prompts(
        kept=[different[index] for index in short],
        texts=tokenize(answered, tokenizer),
        without_final=len(pairs) - len(voted),
        repeated=len(voted) - len(different),
        too_long=len(different) - len(short),
    )


def ends(ids: Sequence[int], end_tokens: Sequence[int]) -> bool:
    """Whether an answer ended by itself: it is silent when it was cut."""
    return len(ids) > 0 and ids[-1] in end_tokens


def reward_function(
    reward: Reward, task: Task, generations: int, ended: Callable[[Sequence[int]], bool]
) -> Callable[..., list[float]]:
    """What TRL calls with the answers of this process: 1 for each that is right, else 0."""

    def vote(completions: Sequence[Any], completion_ids: Sequence[Any], final: Sequence[str], **_: Any) -> list[float]:
        texts = [conversation[0]["content"] for conversation in completions]
        found = [
            read_final(Completion(text, "stop" if ended(ids) else "length", len(ids)), task)
            for text, ids in zip(texts, completion_ids, strict=True)
        ]
        match reward:
            case Reward.voted:
                return [like(its, label, task) for its, label in zip(found, final, strict=True)]
            case Reward.group:
                # A group may lie in several processes, one after the other.
                everywhere: list[str | None] = gather_object(found)
                first = torch.distributed.get_rank() * len(found) if torch.distributed.is_initialized() else 0
                earned: list[float] = []
                for start in range(0, len(everywhere), generations):
                    earned += with_majority(everywhere[start : start + generations], task)
                return earned[first : first + len(found)]

    return vote


def like(final: str | None, label: str, task: Task) -> float:
    """1 for an answer in the label's class, as the vote would have put it there."""
    return float(final is not None and len(set(task.classes([label, final]))) == 1)


def with_majority(finals: Sequence[str | None], task: Task) -> list[float]:
    """1 for each answer that most of them agree on; a tie, and silence, earn nothing."""
    classes = task.classes(finals)
    leader, leads, follows = standings(classes)
    return [float(its != SILENCE and its == leader and leads > follows) for its in classes]


def hold_to_start(trainer: Any) -> None:
    """Give the reference of a full training the weights that it starts from.

    TRL reads the reference from the folder the model was read from, which is not where a merged start comes from.
    """
    if trainer.ref_model is None:
        return
    plugin = trainer.args.deepspeed_plugin
    if trainer.is_fsdp_enabled or (plugin is not None and plugin.zero_stage == 3):
        raise BadConfig(
            f"train.grpo.beta={trainer.beta}: a reference whose weights are split among processes cannot be set to the "
            f"start; use train.grpo.beta=0 or train.tuning={Tuning.lora.value}"
        )
    trainer.accelerator.unwrap_model(trainer.ref_model).load_state_dict(trainer.model.state_dict())


class VoteTrainer(ReferenceNotSaved, GRPOTrainer):  # type: ignore[misc]  # TRL has no types
    """TRL's trainer with our order of questions."""

    opened: ExitStack
    """What the reward needs while it trains: the processes that compare formulas."""

    def _get_train_sampler(self, dataset: Any = None) -> RepeatSampler:
        args = self.args
        groups = args.generation_batch_size // self.num_generations
        steps_an_epoch = len(self.train_dataset) // groups
        sampler = ShuffledAnew(
            data_source=self.train_dataset,
            mini_repeat_count=self.num_generations,
            batch_size=groups,
            repeat_count=args.steps_per_generation,
            seed=args.seed,
        )
        sampler.epoch = lambda: self.state.global_step // steps_an_epoch
        return sampler

    def train(self, *args: Any, **settings: Any) -> Any:
        with self.opened:
            return super().train(*args, **settings)


class ShuffledAnew(RepeatSampler):  # type: ignore[misc]  # TRL has no types
    """TRL's sampler, in an order that depends on the epoch alone and not on how many came before: TRL's own would begin
    with the first epoch's order again in a run that goes on."""

    epoch: Callable[[], int]

    def __iter__(self) -> Iterator[int]:
        self.generator.manual_seed(self.seed * 1_000_003 + self.epoch())
        return super().__iter__()  # type: ignore[no-any-return]
