"""A large model never trains on the CPU unasked."""

from crescent.config import Config, Trainer
from crescent.errors import Missing
from crescent.machine.nvidia import gpu_problem
from crescent.models.estimates import model_parameters

LARGE = 1e9
"""Number of parameters from which training on a CPU takes days."""
ON_CPU = ("cpu", "two_cpus")
"""Files in train/accelerate that ask for a CPU."""


def refuse_days_on_cpu(cfg: Config) -> None:
    """Refuse to train a large model on the CPU, unless that is asked for.

    Raises:
        Missing: the trainer would find no GPU that it can use.
    """
    parameters = model_parameters(cfg) or 0.0
    asked = cfg.train.accelerate in ON_CPU or cfg.train.trainer is Trainer.fake
    elsewhere = bool(cfg.launch.nodes) or cfg.launch.ray is not None
    if parameters <= LARGE or asked or elsewhere:
        return
    problem = gpu_problem()
    if problem is not None:
        raise Missing(
            f"a model of {parameters / 1e9:.1f} billion parameters would train on the CPU for days, because {problem}; "
            "use a GPU, or train.accelerate=cpu if you mean it (`crescent doctor` says more)"
        )
