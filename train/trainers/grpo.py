"""Reinforcement learning with the vote as reward (TRL's GRPOTrainer, arXiv 2402.03300).

A step takes `train.batch / train.grpo.generations` questions and samples a group of answers to each, with the prompt
and the chat template of the vote. (With `pairs.prompt=bare` the prompt is the question alone. The reward then also
covers giving a readable final answer without being asked for one.) An answer is read and compared exactly as in the
vote. Its advantage is its reward minus its group's mean, so a group whose answers all earn the same teaches nothing.

Answers are sampled anew for each optimizer step, so none is stale, none is left over, and a checkpoint holds none. With
transformers, a run that was killed and resumes samples the same answers that it would have sampled, because each
checkpoint holds the random state of each process. No checkpoint holds vLLM's random state: with `train.grpo.vllm`, a
resumed run samples different answers. On another number of processes the questions of each step are the same, but the
answers are not, because each process samples for its own share.
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
from crescent.synthesis.consensus import SILENCE, read_vote, standings
from crescent.tasks import Task, open_task
from train.dataset import tokenize
from train.start import load_start
from train.template import assistant_turn, user_turn
from train.trainers.order import epoch_seed
from train.trainers.prepared import Prepared, common_arguments
from train.trainers.reference import ReferenceNotSaved, drop_needless_copy


@dataclass(frozen=True)
class Prompts:
    """Prompts for reinforcement learning."""

    kept: list[Pair]
    """One pair for each prompt."""
    texts: list[list[int]]
    """Token ids of prompt and voted response of the first few."""
    without_final: int
    """Number of pairs left out because they have no vote: general instructions."""
    repeated: int
    """Number of pairs left out because another pair has the same prompt (`pairs.responses`)."""
    too_long: int
    """Number of prompts left out because they leave less than `train.grpo.max_tokens` of `train.max_length`."""


def prepare_grpo(job: TrainJob, pairs: Sequence[Pair], base: Path, tokenizer: Any) -> Prepared:
    """TRL's trainer with the model and its prompts, and with TRL's own loss (`loss_type=dapo`: a mean over tokens).

    Raises:
        BadConfig: the task, the settings or this machine do not allow it.
        DataSaysNo: there are fewer prompts than a step takes.
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
        # One generation per optimizer step. It is TRL's default, but spelled out because resuming depends on it.
        generation_batch_size=cfg.batch,
        num_iterations=1,
    )
    set_seed(job.seed)
    model = load_start(job, base)  # after `args`, which make ZeRO-3 split the weights while they are read
    opened = ExitStack()
    task = opened.enter_context(open_task(job.task, job.grading_timeout_s))
    trainer = VoteTrainer(
        model=model,
        reward_funcs=reward_function(grpo.reward, task, grpo.generations, lambda ids: ends(ids, trainer.eos_token_ids)),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(
            [{"prompt": user_turn(pair.prompt), "final": pair.final} for pair in prompts.kept]
        ),
        args=args,
    )
    trainer.opened = opened
    drop_needless_copy(trainer, job, needs_reference=grpo.beta > 0)
    set_reference_to_start(trainer)
    counts: dict[str, float] = {
        "rows": len(prompts.kept),
        "without_final": prompts.without_final,
        "repeated": prompts.repeated,
        "too_long": prompts.too_long,
    }
    return Prepared(trainer, prompts.texts[:4], counts)


def refuse_impossible(job: TrainJob) -> None:
    """Refuse settings that would fail only while answers are sampled, or never visibly."""
    grpo = job.train.grpo
    if job.task.answer_style is AnswerStyle.code:
        raise BadConfig(
            "train.trainer=grpo: programs are compared by their results for the inputs of their vote, and training "
            "pairs do not hold these inputs (task.answer_style=code); use train.trainer=sft or dpo"
        )
    if grpo.vllm and not torch.cuda.is_available():
        raise BadConfig(
            "train.grpo.vllm=true: vLLM inside the trainer needs a GPU, and torch finds none; use train.grpo.vllm=false"
        )
    if grpo.max_tokens >= job.train.max_length:
        raise BadConfig(
            f"train.grpo.max_tokens={grpo.max_tokens}: leaves no room for a prompt within train.max_length="
            f"{job.train.max_length}; lower train.grpo.max_tokens or raise train.max_length"
        )


def to_prompts(pairs: Sequence[Pair], tokenizer: Any, job: TrainJob) -> Prompts:
    """One pair for each prompt that was voted on and leaves room for an answer, in the order of `pairs`.

    Raises:
        BadConfig: the tokenizer has no chat template.
        DataSaysNo: no pair has a vote, or no prompt is short enough.
    """
    voted = [pair for pair in pairs if pair.source == "vote" and pair.final]
    if not voted:
        raise DataSaysNo(
            f"train.trainer=grpo: none of {len(pairs)} pairs has a voted final answer to reward; use train.trainer=sft"
        )
    first_by_prompt: dict[str, Pair] = {}
    for pair in voted:
        first_by_prompt.setdefault(pair.prompt, pair)
    different = list(first_by_prompt.values())
    lengths = [len(ids) for ids in tokenize([user_turn(pair.prompt) for pair in different], tokenizer, ask=True)]
    room = job.train.max_length - job.train.grpo.max_tokens
    fitting = [pair for pair, length in zip(different, lengths, strict=True) if length <= room]
    if not fitting:
        least = min(lengths) + job.train.grpo.max_tokens
        raise DataSaysNo(
            f"train.max_length={job.train.max_length}: all {len(different)} prompts are longer than the {room} tokens "
            f"that train.grpo.max_tokens={job.train.grpo.max_tokens} leaves (the shortest has {min(lengths)}); use "
            f"train.max_length={least} or more, or lower train.grpo.max_tokens"
        )
    answered = [user_turn(pair.prompt) + assistant_turn(pair.completion) for pair in fitting[:4]]
    return Prompts(
        kept=fitting,
        texts=tokenize(answered, tokenizer),
        without_final=len(pairs) - len(voted),
        repeated=len(voted) - len(different),
        too_long=len(different) - len(fitting),
    )


def ends(ids: Sequence[int], end_tokens: Sequence[int]) -> bool:
    """Whether an answer ended by itself. An answer that was cut has no final answer."""
    return len(ids) > 0 and ids[-1] in end_tokens


def reward_function(
    reward: Reward, task: Task, generations: int, ended: Callable[[Sequence[int]], bool]
) -> Callable[..., list[float]]:
    """Function that TRL calls with the answers of this process. It returns 1 for each answer that is right, else 0."""

    def rewards(
        completions: Sequence[Any], completion_ids: Sequence[Any], final: Sequence[str], **_: Any
    ) -> list[float]:
        texts = [conversation[0]["content"] for conversation in completions]
        finals = [
            read_vote(Completion(text, "stop" if ended(ids) else "length", len(ids)), task)
            for text, ids in zip(texts, completion_ids, strict=True)
        ]
        match reward:
            case Reward.voted:
                return [voted_reward(own, label, task) for own, label in zip(finals, final, strict=True)]
            case Reward.group:
                # The answers of a group may be spread over several processes with consecutive ranks.
                everywhere: list[str | None] = gather_object(finals)
                first = torch.distributed.get_rank() * len(finals) if torch.distributed.is_initialized() else 0
                earned: list[float] = []
                for start in range(0, len(everywhere), generations):
                    earned += group_rewards(everywhere[start : start + generations], task)
                return earned[first : first + len(finals)]

    return rewards


def voted_reward(final: str | None, label: str, task: Task) -> float:
    """1 for a final answer that the vote would have put into the same class as the label, else 0."""
    return float(final is not None and len(set(task.classes([label, final]))) == 1)


def group_rewards(finals: Sequence[str | None], task: Task) -> list[float]:
    """1 for each answer of a group whose final answer is the most frequent one, else 0. Nothing is earned in a group
    with a tie for the most frequent one, or without any final answer."""
    classes = task.classes(finals)
    leader, leads, follows = standings(classes)
    return [float(class_ != SILENCE and class_ == leader and leads > follows) for class_ in classes]


def set_reference_to_start(trainer: Any) -> None:
    """Give the reference model of a full training the weights that training starts from.

    TRL loads the reference from the folder of the base. A start merged from base and parent is in no folder.
    """
    if trainer.ref_model is None:
        return
    plugin = trainer.args.deepspeed_plugin
    if trainer.is_fsdp_enabled or (plugin is not None and plugin.zero_stage == 3):
        raise BadConfig(
            f"train.grpo.beta={trainer.beta}: a reference whose weights are split among processes cannot be set to the "
            f"weights that training starts from; use train.grpo.beta=0 or train.tuning={Tuning.lora.value}"
        )
    trainer.accelerator.unwrap_model(trainer.ref_model).load_state_dict(trainer.model.state_dict())


class VoteTrainer(ReferenceNotSaved, GRPOTrainer):  # type: ignore[misc]  # TRL has no types
    """TRL's trainer with our order of questions."""

    opened: ExitStack
    """Holds the processes that compare formulas open while training needs rewards."""

    def _get_train_sampler(self, dataset: Any = None) -> RepeatSampler:
        args = self.args
        groups = args.generation_batch_size // self.num_generations
        steps_per_epoch = len(self.train_dataset) // groups
        sampler = ShuffledAnew(
            data_source=self.train_dataset,
            mini_repeat_count=self.num_generations,
            batch_size=groups,
            repeat_count=args.steps_per_generation,
            seed=args.seed,
        )
        sampler.epoch = lambda: self.state.global_step // steps_per_epoch
        return sampler

    def train(self, *args: Any, **settings: Any) -> Any:
        with self.opened:
            return super().train(*args, **settings)


class ShuffledAnew(RepeatSampler):  # type: ignore[misc]  # TRL has no types
    """TRL's sampler, but with an order that depends on the epoch alone. TRL's own order depends on how often it was
    iterated over, so a resumed run would begin with the first epoch's order again."""

    epoch: Callable[[], int]

    def __iter__(self) -> Iterator[int]:
        self.generator.manual_seed(epoch_seed(self.seed, self.epoch()))
        return super().__iter__()  # type: ignore[no-any-return]
