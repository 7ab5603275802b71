"""Freed memory that a process keeps for itself."""

import subprocess
import sys

import pytest

CYCLES, BLOCKS, MEGABYTE = 50, 20, 2**20
PAGE = 4096

CHURN = f"""
import resource
import sys
from activekd.memory import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def cycle():
    blocks = [bytearray({MEGABYTE}) for _ in range({BLOCKS})]
    for block in blocks:
        block[::{PAGE}] = bytes(len(block[::{PAGE}]))

if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit("no glibc")
cycle()
before = faults()
for _ in range({CYCLES}):
    cycle()
print(faults() - before)
"""


def test_a_process_that_keeps_what_it_frees_does_not_fault_it_in_anew() -> None:
    faults = {}
    for way in ("give", "keep"):
        result = subprocess.run([sys.executable, "-c", CHURN, way], capture_output=True, text=True, check=False)
        if "no glibc" in result.stderr:
            pytest.skip("the allocator is not glibc's")
        faults[way] = int(result.stdout)
    assert faults["give"] > CYCLES * BLOCKS * MEGABYTE / PAGE / 4
    assert faults["keep"] < 0.01 * faults["give"]
