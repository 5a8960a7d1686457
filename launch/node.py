"""Runs one node's part of a training on several: `accelerate launch` with the rank that the scheduler gave this node,
and the address of the first one.

srun --nodes=2 --ntasks-per-node=1 python -P -m launch.node --config_file FILE -m train JOB.YAML
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

RANKS = ("SLURM_NODEID", "NODE_RANK", "GROUP_RANK")
"""Environment variables in which schedulers number the nodes from 0: SLURM (https://slurm.schedmd.com/srun.html),
several cloud services, torchrun."""
FIRST = "SLURM_LAUNCH_NODE_IPADDR"
"""Environment variable with the address of the node where srun was called, which is the loop's and the job's first."""


def node_command(arguments: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Command that this node runs. Without any of `RANKS` this is the first node.

    Args:
        arguments: Those of `accelerate launch`, `--config_file FILE` first. A `main_process_ip` in that file counts.
    """
    rank = next((environment[name] for name in RANKS if name in environment), "0")
    first = ["--main_process_ip", environment[FIRST]] if FIRST in environment and not states_first(arguments) else []
    return [sys.executable, "-P", "-m", "accelerate.commands.launch", "--machine_rank", rank, *first, *arguments]


def states_first(arguments: Sequence[str]) -> bool:
    """Whether the configuration says itself which node is the first."""
    file = Path(arguments[arguments.index("--config_file") + 1])
    return any(line.startswith("main_process_ip:") for line in file.read_text(encoding="utf-8").splitlines())


def main(arguments: Sequence[str]) -> None:
    """Replace this process by `accelerate launch`."""
    command = node_command(arguments, os.environ)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
