"""Freed memory stays in the process, until it is handed back."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource
from lightning_modules.forward.free_memory import hand_back_freed_memory, keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [ctypes.c_void_p(libc.malloc(2**24)) for _ in range(12)]
    for block in blocks:
        ctypes.memset(block, 1, 2**24)
    for block in blocks:
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

found = [faults(), faults()]
keep_freed_memory()
found += [faults(), faults()]
hand_back_freed_memory()
print(*found, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc")
def test_pages_are_asked_for_once():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    first, second, kept_first, kept, after_all = map(int, done.stdout.split())
    assert min(first, second, kept_first, after_all) > 100 * max(kept, 1)
