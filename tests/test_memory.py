"""Freed memory that a process keeps for itself, and imports during which nobody looks for garbage."""

import gc
import subprocess
import sys

import pytest

from activekd.memory import without_collection

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


def test_no_garbage_is_looked_for_in_a_block() -> None:
    seen: list[str] = []
    gc.callbacks.append(lambda phase, info: seen.append(phase))
    try:
        with without_collection():
            made = [[] for _ in range(100_000)]
            assert not seen
        assert gc.isenabled()
        assert gc.get_freeze_count() > len(made)
        made += [[] for _ in range(100_000)]
        assert seen
        gc.disable()
        with without_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.callbacks.pop()
        gc.unfreeze()
        gc.enable()


COLLECTIONS = """
import gc
import importlib
import sys

seen = []
gc.callbacks.append(lambda phase, info: seen.append(phase))
importlib.import_module(sys.argv[1])
print(len(seen))
"""


def test_the_process_of_a_trial_does_not_look_for_garbage_while_it_imports() -> None:
    found = {}
    for module in ("torch", "bench.cluster.running"):
        command = [sys.executable, "-c", COLLECTIONS, module]
        found[module] = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["torch"] > 100
    assert found["bench.cluster.running"] < 0.1 * found["torch"], found
