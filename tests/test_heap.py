"""Memory that is freed goes back to the system."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import threading, numpy as np
from trafficmond import heap

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) >> 8  # MiB

def work():
    for size in (4, 8, 16, 24, 16, 24):
        np.ones(size << 17)
        np.ones(size << 14)

heap.keep_large_apart()
before = resident()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
heap.give_back()
print(resident() - before)
"""


def test_what_was_large_is_given_back_by_every_thread() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 8
