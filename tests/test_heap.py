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


_FLOOD = """
import resource, numpy as np
from trafficmond import heap

def faults(size):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(size << 17)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

heap.keep_large_apart()
flood = heap.Flood()
calm = faults(2)
over = [flood.passed(1000) for _ in range(20)] + [flood.passed(rows) for rows in (100_000, 10, 100_000)]
np.ones(2 << 17)
flooded = faults(2)
ended = [flood.passed(10) for _ in range(20)]
print(calm, flooded, faults(2), sum(over), ended.index(True), sum(ended))
"""


def test_what_a_flood_took_stays_for_the_next_batch_until_it_is_over() -> None:
    done = subprocess.run([sys.executable, "-c", _FLOOD], capture_output=True, text=True, check=True)
    calm, flooded, after, early, ended, times = map(int, done.stdout.split())
    assert flooded < calm / 4
    assert after > calm / 2
    assert (early, ended, times) == (0, 9, 1)
