"""Compiles and loads the data path with bcc, pins what came of it, and ends: `python -m ...bcc.child` (see loader.py).

Standard input is a JSON object: `source` (file), `headers` (folder that stands for a kernel tree), `pins` (folder on a
bpffs), `kept` (map name -> pin of the map to use in place of the one that bcc makes), `flags` (for clang) and
`programs` (name -> one of `_KINDS`). Errors go to standard error.
"""

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

# Kind of a program -> enum bpf_prog_type and bpf_attach_type (-1: it has none). A link takes a new program in place of
# the old only if both name the same attach type, and for XDP libbpf's name this one.
_CGROUP_SOCK, _CGROUP_SOCK_ADDR = 9, 18
_KINDS = {
    "xdp": (6, 37),
    "tc": (3, -1),
    "post_bind4": (_CGROUP_SOCK, 12),
    "post_bind6": (_CGROUP_SOCK, 13),
    "connect4": (_CGROUP_SOCK_ADDR, 10),
    "connect6": (_CGROUP_SOCK_ADDR, 11),
    "sendmsg4": (_CGROUP_SOCK_ADDR, 14),
    "sendmsg6": (_CGROUP_SOCK_ADDR, 15),
}
_LD_IMM64, _PSEUDO_MAP_FD = 0x18, 1  # the instruction that names a map: opcode, and source register


def main() -> None:
    job = json.load(sys.stdin)
    os.environ["BCC_KERNEL_SOURCE"] = job["headers"]
    import bcc

    library = bcc.lib
    library.bpf_obj_pin.argtypes = [ctypes.c_int, ctypes.c_char_p]
    library.bpf_obj_get.argtypes = [ctypes.c_char_p]
    with open(job["source"]) as file:
        module = bcc.BPF(text=file.read(), cflags=job["flags"])
    pins = Path(job["pins"])
    kept = {
        library.bpf_table_fd(module.module, name.encode()): _open(library, path) for name, path in job["kept"].items()
    }
    for name, kind in job["programs"].items():
        _use(library, module, name.encode(), kept)
        program_type, attach_type = _KINDS[kind]
        program = module.load_func(name.encode(), program_type, attach_type=attach_type)
        if library.bpf_obj_pin(program.fd, bytes(pins / name)):
            raise SystemExit(f"cannot pin {name}")


def _open(library: Any, pin: str) -> int:
    fd: int = library.bpf_obj_get(pin.encode())
    if fd < 0:
        raise SystemExit(f"cannot open {pin}")
    return fd


class _Instruction(ctypes.Structure):
    """struct bpf_insn."""

    _fields_ = (
        ("code", ctypes.c_uint8),
        ("dst", ctypes.c_uint8, 4),
        ("src", ctypes.c_uint8, 4),
        ("off", ctypes.c_int16),
        ("imm", ctypes.c_int32),
    )


def _use(library: Any, module: Any, name: bytes, kept: dict[int, int]) -> None:
    """Has a compiled program name other maps, by descriptor. bcc reuses what is pinned by asking for its id, which
    takes CAP_SYS_ADMIN; the daemon does not have that."""
    count = library.bpf_function_size(module.module, name) // ctypes.sizeof(_Instruction)
    program = ctypes.cast(library.bpf_function_start(module.module, name), ctypes.POINTER(_Instruction))
    for at in range(count):
        step = program[at]
        if step.code == _LD_IMM64 and step.src == _PSEUDO_MAP_FD:
            step.imm = kept.get(step.imm, step.imm)


if __name__ == "__main__":
    main()
