"""A Ray cluster of several raylets on this machine, driven by lines on standard input.

``add`` starts a node and prints its number; ``kill K`` kills node K's raylet alone, whose workers live on for a while;
``lose K`` kills all processes of node K, as when a machine is lost; any other line stops the cluster. It runs in a
separate process, so that no state of Ray stays in the process of the tests.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 150 * 2**20}


def children(parent: int) -> list[int]:
    """Ids of all descendants of a process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text(encoding="utf-8").rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
        except OSError:
            continue
    return [pid for child in found for pid in [child, *children(child)]]


def main() -> None:
    """Start a head without CPUs, print its address, then read commands."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False},
    )
    nodes = []
    print(cluster.address, flush=True)
    for line in sys.stdin:
        words = line.split()
        if words == ["add"]:
            nodes.append(cluster.add_node(**NODE, include_dashboard=False))
            print(len(nodes) - 1, flush=True)
        elif words[:1] == ["kill"]:
            node = nodes[int(words[1])]
            node.all_processes["raylet"][0].process.kill()
            print("killed", flush=True)
        elif words[:1] == ["lose"]:
            raylet = nodes[int(words[1])].all_processes["raylet"][0].process
            for process in [raylet.pid, *children(raylet.pid)]:
                os.kill(process, signal.SIGKILL)
            print("lost", flush=True)
        else:
            break
    cluster.shutdown()


if __name__ == "__main__":
    main()
