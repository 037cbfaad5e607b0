"""Structures that Python hands to libbpf and the kernel: sizes and places as the installed headers have them."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from trafficmond.datapath import libbpf_structs

# Ours, C's name, and names that differ; what is ours alone ("rest", "pad") stands for what is not read.
STRUCTURES = (
    (libbpf_structs.MapInfo, "struct bpf_map_info", {}),
    (libbpf_structs.LinkInfo, "struct bpf_link_info", {"ifindex": "xdp.ifindex"}),
    (libbpf_structs.ProgInfo, "struct bpf_prog_info", {"jited_len": "jited_prog_len", "xlated_len": "xlated_prog_len",
     "jited_insns": "jited_prog_insns", "xlated_insns": "xlated_prog_insns"}),
    (libbpf_structs.TestRunOptions, "struct bpf_test_run_opts", {}),
    (libbpf_structs.LinkOptions, "struct bpf_link_create_opts", {}),
    (libbpf_structs.XdpOptions, "struct bpf_xdp_attach_opts", {}),
    (libbpf_structs.MapOptions, "struct bpf_map_create_opts", {}),
)  # fmt: skip
OURS_ALONE = ("rest", "pad")
GROWS = ("struct bpf_map_info", "struct bpf_prog_info", "struct bpf_link_info")  # with the kernel: ours is a beginning


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """ "struct.field" -> offset, "struct" -> size, by the compiler."""
    if shutil.which("gcc") is None or not Path("/usr/include/bpf/libbpf.h").exists():
        pytest.skip("needs apt-get install gcc libbpf-dev")
    lines = []
    for ours, name, renamed in STRUCTURES:
        lines.append(f'printf("{name} %zu\\n", sizeof({name}));')
        for field, *_ in ours._fields_:
            if field not in OURS_ALONE:
                theirs = renamed.get(field, field)
                lines.append(f'printf("{name}.{field} %zu\\n", offsetof({name}, {theirs}));')
    folder = tmp_path_factory.mktemp("sizes")
    headers = ("stddef.h", "stdio.h", "linux/bpf.h", "bpf/bpf.h", "bpf/libbpf.h")
    includes = "".join(f"#include <{header}>\n" for header in headers)
    (folder / "sizes.c").write_text(includes + "int main(void) {\n" + "\n".join(lines) + "\nreturn 0;\n}\n")
    subprocess.run(["gcc", "-Wall", "-Werror", "-o", folder / "sizes", folder / "sizes.c"], check=True)
    said = subprocess.run([folder / "sizes"], check=True, capture_output=True, text=True).stdout
    return {key: int(value) for key, _, value in (line.rpartition(" ") for line in said.splitlines())}


@pytest.mark.parametrize(("ours", "name"), [(ours, name) for ours, name, _ in STRUCTURES], ids=lambda each: str(each))
def test_every_field_is_where_the_headers_have_it(
    measured: dict[str, int], ours: type[ctypes.Structure], name: str
) -> None:
    places = {f"{name}.{field}": getattr(ours, field).offset for field, *_ in ours._fields_ if field not in OURS_ALONE}
    assert places == {key: value for key, value in measured.items() if key.startswith(f"{name}.")}
    if name in GROWS:
        assert ctypes.sizeof(ours) <= measured[name] + 64
    else:
        # libbpf reads as much as the structure says it has, and what is beyond its own must be zero.
        assert ctypes.sizeof(ours) >= max(places.values())
