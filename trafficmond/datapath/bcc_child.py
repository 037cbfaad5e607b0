"""Compiles and loads the data path with bcc, pins what came of it, and ends: `python -m ...bcc_child` (see bcc_loader).

Standard input is a JSON object: `source` (file), `headers` (folder that stands for a kernel tree), `pins` (folder on a
bpffs), `flags` (for clang) and `programs` (name -> "xdp" or "tc"). What goes wrong is said on standard error.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path

_BPF_XDP = 37  # enum bpf_attach_type


def main() -> None:
    """Load, check, pin."""
    job = json.load(sys.stdin)
    os.environ["BCC_KERNEL_SOURCE"] = job["headers"]
    import bcc

    library = bcc.lib
    library.bpf_obj_pin.argtypes = [ctypes.c_int, ctypes.c_char_p]
    with open(job["source"]) as file:
        module = bcc.BPF(text=file.read(), cflags=job["flags"])
    # A link takes a new program in place of the old only if both name the same attach type; libbpf's name this one.
    kinds = {"xdp": (bcc.BPF.XDP, _BPF_XDP), "tc": (bcc.BPF.SCHED_CLS, -1)}
    pins = Path(job["pins"])
    for name, kind in job["programs"].items():
        program_type, attach_type = kinds[kind]
        program = module.load_func(name.encode(), program_type, attach_type=attach_type)
        if library.bpf_obj_pin(program.fd, bytes(pins / name)):
            raise SystemExit(f"cannot pin {name}")


if __name__ == "__main__":
    main()
