"""A real Ray cluster of several nodes on this machine, in a process of its own: Ray reads its environment, the token's
variables included, when it is imported.

python tests/launching/ray_nodes.py CORES...     starts a head node and worker nodes with so many cores, in this order,
                                                 and prints the cluster's address

Each line of input is a command, answered by a line: `add CORES` adds a node, `lose` lets the oldest worker node vanish
with all that works on it. The cluster ends with the input.
"""

import sys
from typing import Any

FAST = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 10}
"""A node that vanished is noticed within five seconds, not 15."""


def main(cores: list[str]) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(shutdown_at_exit=True)
    workers: list[Any] = []

    def add(count: str) -> Any:
        return cluster.add_node(num_cpus=int(count))

    try:
        cluster.add_node(num_cpus=int(cores[0]), include_dashboard=False, _system_config=FAST)
        workers += map(add, cores[1:])
        print(cluster.address, flush=True)
        for line in sys.stdin:
            match line.split():
                case ["add", count]:
                    workers.append(add(count))
                case ["lose"]:
                    cluster.remove_node(workers.pop(0), allow_graceful=False)
            print("done", flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
