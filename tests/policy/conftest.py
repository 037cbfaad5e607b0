"""The kernel's own walk of a verdict table, compiled for this host."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from policy_loading import ROOT, Judge

from trafficmond.model import Direction
from trafficmond.npt import U32, U64


@pytest.fixture(scope="session")
def kernel_judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """(words, family, direction, hi, lo, jiffies, services or one for all) -> verdict words, and (rate, burst) rows."""
    compiler = shutil.which("cc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("needs a C compiler to build bpf/table.h for this host; run: make deps")
    library = tmp_path_factory.mktemp("walk") / "walk.so"
    source = Path(__file__).parent / "kernel_walk.c"
    command = [compiler, "-O2", "-shared", "-fPIC", f"-I{ROOT / 'bpf'}", source, "-o", library]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    function = ctypes.CDLL(str(library)).judge
    function.restype = None

    def judge(
        words: U32, family: int, direction: Direction, hi: U64, lo: U64, jiffies: int, what: U32 | int = 0
    ) -> tuple[U32, U32]:
        hi, lo = np.ascontiguousarray(hi), np.ascontiguousarray(lo)
        asked = np.ascontiguousarray(np.broadcast_to(np.asarray(what, np.uint32), hi.shape))
        verdict, limit = np.zeros(len(hi), np.uint32), np.zeros((len(hi), 2), np.uint32)
        function(
            ctypes.c_void_p(words.ctypes.data),
            ctypes.c_uint32(len(words) // 1024),
            ctypes.c_uint32(2 * direction + (family == 6)),
            ctypes.c_void_p(hi.ctypes.data),
            ctypes.c_void_p(lo.ctypes.data),
            ctypes.c_void_p(asked.ctypes.data),
            ctypes.c_uint64(jiffies),
            ctypes.c_uint32(len(hi)),
            ctypes.c_void_p(verdict.ctypes.data),
            ctypes.c_void_p(limit.ctypes.data),
        )
        return verdict, limit

    return judge
