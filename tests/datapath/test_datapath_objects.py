"""A setting that is off costs nothing: its object has the instructions of a source without the setting's code."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from trafficmond.datapath import loader

ROOT = Path(__file__).parents[2]
# What flows.units adds to the data path.
OF_UNITS = (
    r"\tif \(TM_OWNERS\)\n\t\tf->owner = skb \? tm_owner\(skb\) : 0;\n",
    r" else if \(TM_OWNERS && skb &&[^{]+\{\n\t\ttm_own_again\(f, skb\);\n\t\}",
)


def instructions(built: Path, folder: Path) -> dict[str, bytes]:
    """The instructions of each kind of program in an object."""
    found = {}
    for section in ("xdp", "tc", ".text"):
        into = folder / "section"
        subprocess.run(["llvm-objcopy", f"--dump-section={section}={into}", built, folder / "copy.o"], check=True)
        found[section] = into.read_bytes()
    return found


@pytest.mark.skipif(not shutil.which("clang") or not shutil.which("llvm-objcopy"), reason="needs clang and llvm")
@pytest.mark.parametrize("look_inside", [False, True])
def test_without_units_the_programs_are_those_of_a_source_that_has_none(tmp_path: Path, look_inside: bool) -> None:
    source, made = tmp_path / "bpf", tmp_path / "made.o"
    shutil.copytree(ROOT / "bpf", source)
    text = (source / "ledger.h").read_text()
    for code in OF_UNITS:
        text, count = re.subn(code, "", text)
        assert count == 1
    assert "TM_OWNERS" not in text
    (source / "ledger.h").write_text(text)
    headers = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True, check=True).stdout.strip()
    flags = ["-O2", "-target", "bpf", "-mcpu=v3", f"-DTM_LOOK_INSIDE={int(look_inside)}"]
    flags += [f"-I{source}", "-idirafter", f"/usr/include/{headers}"]
    subprocess.run(["clang", *flags, "-c", source / "trafficmon.bpf.c", "-o", made], check=True)
    without = instructions(made, tmp_path)
    assert all(map(len, without.values()))
    assert instructions(loader.find_object(look_inside), tmp_path) == without
    assert instructions(loader.find_object(look_inside, owners=True), tmp_path)["tc"] != without["tc"]
