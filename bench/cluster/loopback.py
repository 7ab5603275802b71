"""Where the ports of a Ray that the grid starts are open: to this machine alone."""

import os

LOCAL = "local"
"""As an address: start a Ray on this machine."""

SINGLE_NODE_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's documented switch between one node on loopback (0) and a cluster on the machine's address (1)."""


def use_loopback(address: str) -> None:
    """Let a Ray that is to be started on this machine listen on loopback; to be called before Ray is imported.

    By default Ray takes the machine's address in the network and listens on every interface on Linux.
    """
    if address == LOCAL:
        os.environ.setdefault(SINGLE_NODE_VARIABLE, "0")
