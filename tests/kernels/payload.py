"""Runs inside each kernel, as root, in a copy of the tree; writes one JSON object to standard output."""

from __future__ import annotations

import ctypes
import json
import os
import sys

lib = ctypes.CDLL("libbpf.so.1")
lib.bpf_object__open_file.restype = ctypes.c_void_p
lib.bpf_object__open_file.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
lib.bpf_object__load.argtypes = [ctypes.c_void_p]
obj = lib.bpf_object__open_file(b"build/trafficmon.bpf.o", None)
load = lib.bpf_object__load(obj) if obj else -1
json.dump(
    {"release": os.uname().release, "features": {}, "checks": {"load": "ok" if load == 0 else f"libbpf says {load}"}},
    sys.stdout,
)
