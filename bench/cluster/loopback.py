"""The network interface of a Ray that the grid starts: loopback, open to this machine alone."""

import os

LOCAL = "local"
"""As an address: start a Ray on this machine."""

SINGLE_NODE_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's documented switch between one node on loopback (0) and a cluster on the machine's address (1)."""


def use_loopback(address: str) -> None:
    """Make a Ray started on this machine listen on loopback; call before Ray is imported.

    By default, Ray on Linux takes the machine's network address and listens on every interface.
    """
    if address == LOCAL:
        os.environ.setdefault(SINGLE_NODE_VARIABLE, "0")
