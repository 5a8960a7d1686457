"""Runs one node's part of a training on several: `accelerate launch` with the rank the scheduler gave this node.

srun --nodes=2 --ntasks-per-node=1 python -P -m launch.node --config_file FILE -m train JOB.YAML
"""

import os
import sys
from collections.abc import Mapping, Sequence

RANKS = ("SLURM_NODEID", "NODE_RANK", "GROUP_RANK")
"""Environment variables in which schedulers number the nodes from 0: SLURM (https://slurm.schedmd.com/srun.html),
several cloud services, torchrun."""


def node_command(arguments: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Command that this node runs. Without any of `RANKS` this is the first node."""
    rank = next((environment[name] for name in RANKS if name in environment), "0")
    return [sys.executable, "-P", "-m", "accelerate.commands.launch", "--machine_rank", rank, *arguments]


def main(arguments: Sequence[str]) -> None:
    """Replace this process by `accelerate launch`."""
    command = node_command(arguments, os.environ)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
