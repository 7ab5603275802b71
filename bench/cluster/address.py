"""Where Ray is: started on this machine's loopback, with room for its sockets, or a cluster that answers."""

import os
import socket
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from activekd.errors import InputError, reason

LOCAL = "local"
"""As an address: start a Ray on this machine."""

AUTO = "auto"
"""As an address: the cluster of $RAY_ADDRESS, else the one that runs on this machine."""

SINGLE_NODE_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's documented switch between one node on loopback (0) and a cluster on the machine's address (1)."""

ADDRESS_VARIABLE = "RAY_ADDRESS"
"""Ray's documented variable of the cluster that ``auto`` joins."""

ANSWER_SECONDS = 5.0
"""How long a cluster may take to answer."""

GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""The opening of a connection over HTTP/2, gRPC's protocol: the preface and empty settings (RFC 9113, section 3.4)."""

ANSWERS = (b"\x00", b"\x15")
"""First byte of the answer: of a frame of settings, or of the alert of a cluster that speaks TLS alone."""

TEMPORARY_VARIABLES = ("RAY_TMPDIR", "TMPDIR")
"""Variables of the folder below which Ray keeps its sessions, the first that is set; /tmp by default."""

LOGS = "see Ray's logs, in ray/ below $RAY_TMPDIR, $TMPDIR or /tmp"

REMEDY = "RAY_TMPDIR=/tmp, or --serial"

SOCKET_LONGEST = 107 if sys.platform.startswith("linux") else 103
"""Bytes of the longest path of a Unix socket (unix(7): sun_path)."""

SOCKET = "/ray/session_2026-01-01_00-00-00_000000_{pid}/sockets/plasma_store"
"""Ray's longest path of a socket below the temporary folder, for the process that starts it."""


def use_loopback(address: str) -> None:
    """Make a Ray started on this machine listen on loopback; call before Ray is imported.

    By default, Ray on Linux takes the machine's network address and listens on every interface.
    """
    if address == LOCAL:
        os.environ.setdefault(SINGLE_NODE_VARIABLE, "0")


def check_address(address: str) -> None:
    """Check that Ray can start on this machine, or that a cluster answers, before anything heavy is imported.

    A connection that Ray opens itself cannot be interrupted while it waits; this one can.

    Raises:
        InputError: an address of another form, nobody there, or a temporary folder that Ray cannot use.
    """
    if address == LOCAL:
        _check_temporary_folder()
        return
    given, what = address, f"--address {address}"
    if address == AUTO:
        given = os.environ.get(ADDRESS_VARIABLE, "")
        what = f"--address auto: ${ADDRESS_VARIABLE} is {given}"
        if given in {"", AUTO}:
            return
    host, _, port = given.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16 or "/" in host:
        raise InputError(f"{what}; expected: local, auto, or HOST:PORT")
    nobody = f"{what}: no Ray cluster answers ({{}}); expected: the address of a running cluster (ray start --head)"
    try:
        with closing(socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS)) as connection:
            connection.sendall(GREETING)
            answer = connection.recv(1)
    except TimeoutError as fault:
        raise InputError(nobody.format(f"silence for {ANSWER_SECONDS:.0f} s")) from fault
    except OSError as fault:
        raise InputError(nobody.format(reason(fault))) from fault
    if answer not in ANSWERS:
        raise InputError(nobody.format("another service is there" if answer else "the connection is closed at once"))


def _check_temporary_folder() -> None:
    variable = next((name for name in TEMPORARY_VARIABLES if name in os.environ), None)
    folder = os.environ[variable] if variable else "/tmp"
    named = f"${variable}" if variable else "the temporary folder"
    length, longest = len(os.fsencode(folder)), SOCKET_LONGEST - len(SOCKET.format(pid=os.getpid()))
    if length > longest:
        raise InputError(
            f"{named} is {folder}, {length} bytes long; expected: at most {longest}, since the paths of Ray's sockets "
            f"below it have at most {SOCKET_LONGEST} ({REMEDY})"
        )
    try:
        if not Path(folder).is_absolute():
            raise OSError("not an absolute path")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as fault:
        raise InputError(f"{named} is '{folder}': {reason(fault)}; expected: a writable folder ({REMEDY})") from fault
