"""Every setting with its unit and its rule: one dataclass per stage, one file per part of a round.

`conf/*.yaml` sets values, Hydra composes them, and `__post_init__` checks each value where it is declared. So a setting
that can never work is refused within a second, before anything heavy is imported.
"""

from dataclasses import dataclass, field

from crescent.config.checks import Choice as Choice
from crescent.config.checks import require as require
from crescent.config.checks import require_fields as require_fields
from crescent.config.cluster import RayConfig as RayConfig
from crescent.config.cluster import SlurmConfig as SlurmConfig
from crescent.config.cluster import minutes_of as minutes_of
from crescent.config.evaluation import OWN as OWN
from crescent.config.evaluation import BenchmarkConfig as BenchmarkConfig
from crescent.config.evaluation import EvalConfig as EvalConfig
from crescent.config.evaluation import HarnessConfig as HarnessConfig
from crescent.config.evaluation import Source as Source
from crescent.config.evaluation import Split as Split
from crescent.config.evaluation import can_vote as can_vote
from crescent.config.evaluation import check_sources as check_sources
from crescent.config.evaluation import own_place as own_place
from crescent.config.evaluation import samples_of as samples_of
from crescent.config.evaluation import style_of as style_of
from crescent.config.evaluation import task_of as task_of
from crescent.config.evaluation import temperature_of as temperature_of
from crescent.config.jobs import EvalJob as EvalJob
from crescent.config.jobs import ReliabilityJob as ReliabilityJob
from crescent.config.jobs import TrainJob as TrainJob
from crescent.config.jobs import as_settings as as_settings
from crescent.config.jobs import read_job as read_job
from crescent.config.jobs import write_job as write_job
from crescent.config.model import Dtype as Dtype
from crescent.config.model import ModelConfig as ModelConfig
from crescent.config.pairs import DataPolicy as DataPolicy
from crescent.config.pairs import DecontaminationConfig as DecontaminationConfig
from crescent.config.pairs import Labels as Labels
from crescent.config.pairs import PairsConfig as PairsConfig
from crescent.config.pairs import ReplayConfig as ReplayConfig
from crescent.config.pairs import TrainPrompt as TrainPrompt
from crescent.config.pairs import Winner as Winner
from crescent.config.pairs import check_arm as check_arm
from crescent.config.run import Artifacts as Artifacts
from crescent.config.run import Console as Console
from crescent.config.run import Keep as Keep
from crescent.config.run import LaunchConfig as LaunchConfig
from crescent.config.run import Mode as Mode
from crescent.config.run import RunConfig as RunConfig
from crescent.config.run import TrackingConfig as TrackingConfig
from crescent.config.run import TrackingJob as TrackingJob
from crescent.config.run import Wandb as Wandb
from crescent.config.serving import Child as Child
from crescent.config.serving import EngineKind as EngineKind
from crescent.config.serving import ServingConfig as ServingConfig
from crescent.config.serving import WhileTraining as WhileTraining
from crescent.config.study import Secondary as Secondary
from crescent.config.study import StudyConfig as StudyConfig
from crescent.config.study import check_study as check_study
from crescent.config.sweep import SweepConfig as SweepConfig
from crescent.config.sweep import check_objective as check_objective
from crescent.config.synthesis import AnswerStyle as AnswerStyle
from crescent.config.synthesis import BaitConfig as BaitConfig
from crescent.config.synthesis import Boxes as Boxes
from crescent.config.synthesis import ConsensusConfig as ConsensusConfig
from crescent.config.synthesis import DecimalMark as DecimalMark
from crescent.config.synthesis import DiversifyConfig as DiversifyConfig
from crescent.config.synthesis import Embedder as Embedder
from crescent.config.synthesis import Recheck as Recheck
from crescent.config.synthesis import TaskConfig as TaskConfig
from crescent.config.training import AUTO as AUTO
from crescent.config.training import TRAIN_LAYOUT as TRAIN_LAYOUT
from crescent.config.training import Batching as Batching
from crescent.config.training import DpoConfig as DpoConfig
from crescent.config.training import GrpoConfig as GrpoConfig
from crescent.config.training import LoraConfig as LoraConfig
from crescent.config.training import Reward as Reward
from crescent.config.training import Start as Start
from crescent.config.training import TrainConfig as TrainConfig
from crescent.config.training import Trainer as Trainer
from crescent.config.training import Tuning as Tuning
from crescent.config.verdict import CollapseConfig as CollapseConfig
from crescent.config.verdict import Gate as Gate
from crescent.config.verdict import OnCollapse as OnCollapse
from crescent.config.verdict import VerdictConfig as VerdictConfig

LARGEST_RANK = 512
"""Largest rank of an adapter in vLLM (vllm/config/lora.py)."""


@dataclass
class Config:
    """A whole run."""

    mode: Mode = Mode.run
    """`plan` prints what the run would do and cost, and starts nothing."""
    run: RunConfig = field(default_factory=RunConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    bait: BaitConfig = field(default_factory=BaitConfig)
    diversify: DiversifyConfig = field(default_factory=DiversifyConfig)
    consensus: ConsensusConfig = field(default_factory=ConsensusConfig)
    pairs: PairsConfig = field(default_factory=PairsConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    verdict: VerdictConfig = field(default_factory=VerdictConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    study: StudyConfig | None = None
    """Declaration of the study that the run belongs to (`study=NAME`); null: none. No stage depends on it."""

    def __post_init__(self) -> None:
        check_sources(self.eval, self.task)
        # Not a default in BaitConfig: Hydra merges dicts, so that prompt would be used beside every other one.
        require(bool(self.bait.prompts), "bait.prompts", "{}", "at least one bait prompt is needed", "e.g. bait=llama3")
        longest = max(self.bait.max_tokens, self.consensus.max_tokens, self.eval.max_tokens)
        rule, fix = "must hold prompt and answer", f"raise it or lower max_tokens (now up to {longest})"
        require(self.model.context > longest, "model.context", self.model.context, rule, fix)
        benchmarks = self.eval.benchmarks.values()
        deciding = [benchmark for benchmark in benchmarks if benchmark.split is Split.dev and not benchmark.guard]
        fix = "set split=dev on one benchmark, or verdict.gate=off"
        judged = bool(deciding) or self.verdict.gate is Gate.off
        require(judged, "verdict.gate", self.verdict.gate.value, "needs a dev benchmark to decide on", fix)
        real = self.serving.engine is not EngineKind.fake
        has_states = real or self.diversify.path is not None or self.diversify.embedder is not Embedder.self
        fix = "use diversify.embedder=lexical"
        require(has_states, "diversify.embedder", "self", "the fake engine's model has no hidden states", fix)
        dev = [name for name, benchmark in self.eval.benchmarks.items() if benchmark.split is Split.dev]
        check_objective(self.sweep, dev, self.eval.benchmarks.keys() - set(dev))
        self._check_training()
        fakes = (self.train.trainer is Trainer.fake) == (self.serving.engine is EngineKind.fake)
        rule = "the fake trainer teaches only the fake engine"
        fix = "set both serving.engine=fake and train.trainer=fake, or neither"
        require(fakes, "train.trainer", self.train.trainer.value, rule, fix)

    def _check_training(self) -> None:
        """Check that the trained model can be served, and that the trainer can use the votes."""
        train, serving = self.train, self.serving
        servable = train.tuning is not Tuning.full or serving.child is not Child.adapter
        rule, fix = "full fine-tuning makes no adapter", "use serving.child=restart or reload"
        require(servable, "serving.child", serving.child.value, rule, fix)
        small = serving.child is not Child.adapter or train.lora.rank <= LARGEST_RANK
        rule, fix = f"vLLM serves adapters of at most rank {LARGEST_RANK}", "lower it, or use serving.child=reload"
        require(small, "train.lora.rank", train.lora.rank, rule, fix)
        alone = train.student is None or not serving.urls
        rule = "an external server cannot serve student and teacher in turn"
        require(alone, "train.student", train.student, rule, "leave serving.urls empty")
        gradable = train.trainer is not Trainer.grpo or self.task.answer_style is not AnswerStyle.code
        rule = "needs a known answer, and programs are only compared with each other (task.answer_style=code)"
        require(gradable, "train.trainer", "grpo", rule, "use train.trainer=dpo or sft")
        several = not self.launch.nodes or train.accelerate not in (None, AUTO)
        rule, fix = "several nodes (launch.nodes) need an accelerate file", "see docs/training.md"
        require(several, "train.accelerate", train.accelerate, rule, f"{fix}, or leave launch.nodes empty")
        check_arm(self.pairs, train, self.task)
        if self.study is not None:
            check_study(self.study, self.run, self.eval, self.pairs, self.verdict)
