"""numpy without the parts that nothing here uses: they come when something else takes them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from trafficmond.later import numpy_alone

BEGIN = """
import sys
from trafficmond.later import numpy_alone
with numpy_alone():
    from trafficmond.detect import engine
parts = {"numpy.fft", "numpy.ma", "numpy.polynomial", "numpy.random", "numpy.core._add_newdocs", "pickle"}
assert not parts & sys.modules.keys()
import os
assert "NUMPY_EXPERIMENTAL_ARRAY_FUNCTION" not in os.environ
import numpy
"""


@pytest.mark.parametrize(
    "use",
    [
        "assert not {each for each in sys.modules if each.startswith('numpy.random')}",
        "assert numpy.random.default_rng(1).integers(9) < 9",
        "import numpy.ma; assert numpy.ma.masked is not None and numpy.ma.core",
        "from numpy.fft import fft; assert len(fft([1, 2])) == 2",
        "from numpy import polynomial; assert polynomial.Polynomial([1, 2])(2) == 5",
        "import pickle; assert pickle.loads(pickle.dumps(numpy.arange(3))).tolist() == [0, 1, 2]",
        "import copy; assert copy.deepcopy(numpy.dtype([('a', '<u4')])).names == ('a',)",
        "assert numpy.ma.masked_equal([1, 2], 2).sum() == 1 and numpy.sum(numpy.ma.masked_equal([1, 2], 2)) == 1",
        "assert numpy.unique([2, 1, 2]).tolist() == [1, 2] and numpy.linalg.det(numpy.eye(2)) == 1",
    ],
)
def test_a_part_is_there_when_it_is_used(use: str) -> None:
    done = subprocess.run([sys.executable, "-c", BEGIN + use], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_all_is_as_usual_if_numpy_is_there_already() -> None:
    code = """
import sys
import numpy
before = {each for each in sys.modules if each.startswith("numpy.")}
from trafficmond.later import numpy_alone
with numpy_alone():
    from trafficmond.detect import engine
assert before <= sys.modules.keys()
assert numpy.random.default_rng(1)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_failure_in_the_block_leaves_nothing() -> None:
    before = dict(sys.modules)
    with pytest.raises(OSError, match="no room"), numpy_alone():
        raise OSError("no room")
    assert sys.modules == before
    assert "NUMPY_EXPERIMENTAL_ARRAY_FUNCTION" not in os.environ
