"""Job files: everything that a child process needs, in one file that a person can run again by hand."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from crescent.config.checks import require
from crescent.config.evaluation import EvalConfig, check_sources
from crescent.config.model import ModelConfig
from crescent.config.synthesis import ConsensusConfig, TaskConfig
from crescent.config.training import TrainConfig
from crescent.config.yaml_files import load_plain_yaml
from crescent.errors import BadConfig

C = TypeVar("C")


@dataclass
class TrainJob:
    """Everything that `python -m train job.yaml` needs."""

    model: ModelConfig
    train: TrainConfig
    pairs: str
    """Path of the training data, JSON lines of `crescent.records.Pair`."""
    output: str
    """Folder for the results; training resumes from a checkpoint in it."""
    seed: int = 0
    parent: str | None = None
    """Folder that `train.start=parent` and `merge` start from: of an adapter, or of complete weights if all weights are
    trained; null means the base."""
    merge: bool = False
    """Whether to write `weights/` too, base and adapter merged, for servers that reload or restart."""
    task: TaskConfig = field(default_factory=TaskConfig)
    """Task by which `trainer=grpo` reads and compares final answers."""
    grading_timeout_s: float = 5.0
    """Value of `consensus.grading_timeout_s`."""
    lineage: dict[str, str] = field(default_factory=dict)
    """Origin for the model card: run, round, digests. No result depends on it."""
    chat_template: str | None = None
    """Chat template, as Jinja text, in the place of the model's own, for training and for the weights that come out."""


@dataclass
class EvalJob:
    """Everything that `python -m eval job.yaml` needs, except the endpoint's key: that is in CRESCENT_API_KEY."""

    eval: EvalConfig
    task: TaskConfig
    urls: list[str]
    """OpenAI-compatible endpoints, `http://host:port/v1`."""
    model: str
    """Name under which the endpoint serves the checkpoint."""
    output: str
    concurrency: int = 64
    request_timeout_s: float = 600.0
    seed: int = 0
    grading_timeout_s: float = 5.0
    max_refused: float = 0.02
    """Value of `serving.max_refused`."""

    def __post_init__(self) -> None:
        check_sources(self.eval, self.task)


@dataclass
class ReliabilityJob:
    """Everything that `python -m eval --reliability job.yaml` needs, except the endpoint's key (CRESCENT_API_KEY)."""

    eval: EvalConfig
    """Benchmarks, of which the dev ones are asked, `reliability` items each."""
    task: TaskConfig
    consensus: ConsensusConfig
    """Number of samples and temperature; voting is never adaptive here."""
    urls: list[str]
    model: str
    output: str
    concurrency: int = 64
    request_timeout_s: float = 600.0
    seed: int = 0
    max_refused: float = 0.02
    """Value of `serving.max_refused`."""

    def __post_init__(self) -> None:
        check_sources(self.eval, self.task)
        require(self.eval.reliability >= 1, "eval.reliability", self.eval.reliability, "no items to ask", "e.g. 200")


def read_job(path: Path, kind: type[C]) -> C:
    """Read and check one of the job files above.

    Raises:
        BadConfig: the file is missing or not YAML, or a key or value is wrong; the message names it.
    """
    if not path.is_file():
        raise BadConfig(f"{path}: no such job file; the loop writes one beside each stage's log")
    try:
        loaded = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), load_plain_yaml(path)))
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        raise BadConfig(f"{path}: {str(error).splitlines()[0]}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        # OmegaConf's word for a file with a single number.
        raise BadConfig(f"{path}: holds no settings; write `key: value` lines") from error
    assert isinstance(loaded, kind)
    return loaded


def write_job(path: Path, job: object) -> None:
    """Write a job file that `read_job` reads back to an equal job."""
    path.parent.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.structured(job), path)


def as_settings(config: object) -> Any:
    """The config as plain JSON values with enums by name, as digests, manifests and trackers use it."""
    return OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True)
