"""abi.py is what clang makes of bpf/abi.h today, and nothing is trusted that has another layout."""

from __future__ import annotations

import runpy
import shutil
import subprocess
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trafficmond import abi
from trafficmond.datapath import loader
from trafficmond.datapath.btf import Btf
from trafficmond.errors import DatapathError

ROOT = Path(__file__).resolve().parents[2]
CLANG = shutil.which("clang")
needs_clang = pytest.mark.skipif(CLANG is None, reason="needs clang; run: make deps")


def _compiler() -> list[str]:
    where = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True, check=False).stdout.strip()
    return [CLANG or "", "-O2", "-g", "-target", "bpf", "-mcpu=v3", "-idirafter", f"/usr/include/{where}"]


def _made(folder: Path, source: str) -> Path:
    made = folder / "made.o"
    subprocess.run([*_compiler(), "-x", "c", "-c", "-", "-o", str(made)], input=source, text=True, check=True)
    return made


@needs_clang
def test_abi_py_is_generated_from_abi_h() -> None:
    made: dict[str, Any] = {}
    render = runpy.run_path(str(ROOT / "packaging/generate/layouts.py"))["render"]
    exec(render(_compiler(), ROOT / "bpf" / "abi.h"), made)
    assert made["__getattr__"]("STRUCTS") == abi.STRUCTS
    for name, value in made.items():
        if name.isupper():
            assert getattr(abi, name) == value, f"abi.{name} is not what abi.h says; run: make abi"
    assert {name for name in vars(abi) if name.isupper()} == {name for name in made if name.isupper()}


@pytest.mark.parametrize(("look_inside", "owners"), [*product([False, True], repeat=2)])
def test_the_built_object_has_that_layout(look_inside: bool, owners: bool) -> None:
    try:
        built = loader.find_object(look_inside, owners)
    except DatapathError as error:
        pytest.skip(str(error))
    found = Btf(built).structs(abi.STRUCTS)
    assert found
    assert {name: abi.STRUCTS[name] for name in found} == found
    assert {"tm_flow", "tm_ring", "tm_totals", "tm_constants", "tm_config"} <= set(found)


@needs_clang
def test_an_object_of_another_layout_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = _made(tmp_path, "struct tm_count { unsigned int packets, bytes; };\nstruct tm_count c;\n")
    monkeypatch.setattr(loader, "find_object", lambda *_: other)
    with pytest.raises(DatapathError, match=r"disagree about struct tm_count.*make build"):
        loader.load_libbpf(loader.Sizes(1, 16, 16), {}, None)


@needs_clang
def test_what_btf_tells_of_a_struct(tmp_path: Path) -> None:
    source = """
    typedef unsigned short __be16; typedef unsigned char u8; struct in { u8 a; long b; };
    struct out { const __be16 port; u8 octets[3]; union { int one; unsigned long other; }; struct in in[2]; };
    struct out o;
    """
    dtype = Btf(_made(tmp_path, source)).structs(["out"])["out"]
    assert dtype.fields is not None
    assert {name: dtype.fields[name][1] for name in dtype.fields} == {
        "port": 0,
        "octets": 2,
        "one": 8,
        "other": 8,
        "in": 16,
    }
    assert (dtype["port"].str, dtype["octets"].shape, dtype["other"].str) == (">u2", (3,), "<u8")
    assert dtype["in"].subdtype == (np.dtype({"names": ["a", "b"], "formats": ["u1", "<i8"], "offsets": [0, 8]}), (2,))
    assert dtype.itemsize == 48


# What earlier versions left in the kernel is read by the structs of today (pins._EARLIER): whoever moves one of these
# has to say there which versions lie otherwise.
LEFT = {
    "tm_key": (48, {"src": 0, "dst": 16, "sport": 32, "dport": 34, "proto": 36, "scope": 37, "verdict": 44}),
    "tm_flow": (128, {"packets": 48, "bytes": 56, "first": 64, "last": 72, "payload_bytes": 80, "sequence": 88}),
    "tm_taken": (32, {"packets": 0, "bytes": 8, "payload_bytes": 16, "payload_packets": 24, "sequence": 28}),
    "tm_ring": (128, {"head": 0, "tail": 64, "recovered": 72}),
    "tm_totals": (256, {"seen": 0, "not_ip": 16, "malformed": 32, "unattributed": 48, "dropped": 64, "evicted": 80}),
    "tm_config": (64, {"flags": 0, "seed": 8}),
    "tm_ban_key": (20, {"prefixlen": 0, "addr": 4}),
    "tm_ban": (16, {"expires": 0, "verdict": 8}),
    "tm_conn_key": (40, {"remote": 0, "local": 16, "remote_port": 32, "local_port": 34, "proto": 36}),
}
LEFT_OF_FLOW = {"slot": 92, "first_len": 96, "tcp_flags": 100, "ttl": 103, "payload_packets": 104, "inner": 112}


@pytest.mark.parametrize("name", LEFT)
def test_what_earlier_versions_left_lies_where_it_is_looked_for(name: str) -> None:
    size, places = LEFT[name]
    if name == "tm_flow":
        places = places | LEFT_OF_FLOW
    dtype = abi.STRUCTS[name]
    assert dtype.fields is not None
    assert (dtype.itemsize, {field: dtype.fields[field][1] for field in places}) == (size, places)


@needs_clang
def test_what_has_no_place_in_a_shared_struct_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatapathError, match="does not belong"):
        Btf(_made(tmp_path, "struct out { void *p; };\nstruct out o;\n")).structs(["out"])


@pytest.mark.parametrize("content", [b"", b"\x7fELF\x01\x01", b"text" * 20])
def test_what_is_no_bpf_object_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.o"
    path.write_bytes(content)
    with pytest.raises(DatapathError, match=f"{path} is not a little-endian ELF64 file; build it again"):
        Btf(path)


@needs_clang
def test_an_object_without_btf_is_said(tmp_path: Path) -> None:
    made = tmp_path / "made.o"
    plain = [flag for flag in _compiler() if flag != "-g"]
    subprocess.run([*plain, "-x", "c", "-c", "-", "-o", str(made)], input="int x;", text=True, check=True)
    with pytest.raises(DatapathError, match=r"no \.BTF section"):
        Btf(made)


def test_sizes_follow_the_machine() -> None:
    sizes = loader.Sizes(cpus=4, capacity=1024, ring=256)
    entries = sizes.entries()
    assert entries["tm_taken"] == 2 * entries["tm_sets"] == 4096
    assert (entries["tm_rings"], entries["tm_evicted"]) == (4, 1024)
    flows = (4096 + 1024) * abi.FLOW.itemsize
    fixed = 4 * 128 + entries["tm_totals"] * abi.TOTALS.itemsize
    assert sizes.memory_bytes() == flows + 4096 * 32 + fixed + 120
    assert not sizes.look_inside
    inside = replace(sizes, inners=1 << 17)  # as `bpftool map show` has it, but for a page
    assert (inside.look_inside, inside.memory_bytes() - sizes.memory_bytes()) == (True, ((1 << 17) - 1) * 120)
    literal = np.frombuffer(abi.packed("CONSTANTS", **loader.constants(sizes, 7)), abi.CONSTANTS)[0]
    assert (literal["set_mask"], literal["ring_mask"], literal["seed"]) == (511, 255, 7)
    assert literal["hz"] in (100, 250, 300, 1000)


@needs_clang
@pytest.mark.parametrize("program", ["trafficmon", "dns", "process"])
def test_no_program_is_built_for_big_endian_machines(program: str) -> None:
    compiler = ["bpfeb" if word == "bpf" else word for word in _compiler()]
    source = ROOT / "bpf" / f"{program}.bpf.c"
    made = subprocess.run(
        [*compiler, f"-I{ROOT / 'bpf'}", "-c", source, "-o", "/dev/null"], capture_output=True, text=True, check=False
    )
    assert "trafficmon is written for little-endian machines" in made.stderr
