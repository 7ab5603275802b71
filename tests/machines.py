"""Two machines on this one: namespaces with their own processes, network, name, /dev/shm and local disk.

A process of one machine sees no process of the other, so that ``ray symmetric-run``, which refuses a machine on which a
Ray runs, and ``ray stop``, which ends every Ray that it sees, work as on a cluster. Linux only, as root.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NAMESPACES = ("--mount", "--net", "--pid", "--uts")
TOOLS = ("unshare", "nsenter", "ip", "mount", "hostname")
SETUP = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /dev/shm
mount --bind "$1/disk-$2" "$1/disk"
mount --bind "$1/hosts" /etc/hosts
hostname "$2"
ip link set lo up
touch "$1/ready-$2"
sleep infinity & wait  # bash, unlike sleep, collects processes that lost their parent
"""


def machines_possible() -> bool:
    """Whether this process may make namespaces."""
    if not all(map(shutil.which, TOOLS)):
        return False
    command = ["unshare", *NAMESPACES, "--fork", "--mount-proc", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@dataclass(frozen=True)
class Machine:
    """A machine: its name, its address, and the process that keeps its namespaces."""

    name: str
    address: str
    pid: int

    def prefix(self) -> list[str]:
        """Words before a command that runs on this machine."""
        return ["nsenter", f"--target={self.pid}", *NAMESPACES]


def _first_process(unshare: int) -> int:
    return int(Path(f"/proc/{unshare}/task/{unshare}/children").read_text(encoding="ascii").split()[0])


@contextmanager
def two_machines(folder: Path) -> Iterator[Sequence[Machine]]:
    """Two machines with one network; every process on them ends with the block.

    Each sees its own local disk as ``folder / "disk"``.
    """
    names = ("node1", "node2")
    addresses = dict(zip(names, ("10.99.0.1", "10.99.0.2"), strict=True))
    lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in addresses.items())]
    (folder / "disk").mkdir(exist_ok=True)
    (folder / "hosts").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    holders: list[subprocess.Popen[bytes]] = []
    machines: list[Machine] = []
    try:
        for name in names:
            (folder / f"disk-{name}").mkdir(exist_ok=True)
            (folder / f"ready-{name}").unlink(missing_ok=True)
            command = ["unshare", *NAMESPACES, "--fork", "--mount-proc", "--kill-child", "bash", "-c", SETUP, "bash"]
            holders.append(subprocess.Popen([*command, str(folder), name]))
            while not (folder / f"ready-{name}").is_file():
                assert holders[-1].poll() is None, "a machine did not start"
                time.sleep(0.01)
            machines.append(Machine(name, addresses[name], _first_process(holders[-1].pid)))
        one, two = machines
        inside = ["nsenter", f"--target={one.pid}", "--net", "ip"]
        link = ["link", "add", "lan", "type", "veth", "peer", "name", "lan", "netns", str(two.pid)]
        subprocess.run([*inside, *link], check=True)
        for machine in machines:
            inside = ["nsenter", f"--target={machine.pid}", "--net", "ip"]
            subprocess.run([*inside, "address", "add", f"{machine.address}/24", "dev", "lan"], check=True)
            subprocess.run([*inside, "link", "set", "lan", "up"], check=True)
        yield machines
    finally:
        for machine in machines:
            os.kill(machine.pid, signal.SIGKILL)
        for holder in holders:
            holder.kill()
            holder.wait()
