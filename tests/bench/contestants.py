"""What the data path is measured against, each a loaded program: the trivial pass, xdp-filter, the usual design."""

from __future__ import annotations

import ctypes
import ipaddress
import os
import random
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tmlab import LabError, bpf
from tmlab.daemon import BPFFS, ROOT, remove_pins

from trafficmond.datapath.loader import possible_cpus

OBJECTS = ROOT / "build" / "tests"
TRACE_LENGTH = 1 << 20
LISTS = 16  # that prefixes are dealt to, so that neighbours with one verdict cannot all be joined
_DROP = 1 << 31
_DENY_SOURCE = struct.pack("=Q", 1 << 0 | 1 << 5)  # MAP_FLAG_SRC, MAP_FLAG_DENY of xdp-filter's common_kern_user.h

Prefix = tuple[int, int]  # IPv4 network and length


class Contestants:
    """Everything loaded in a folder of pins of its own, gone when left. `trace` puts any program before many flows."""

    def __init__(self) -> None:
        self.pins = Path(tempfile.mkdtemp(prefix="tmlab-bench", dir=BPFFS))
        try:
            for name in ("pass", "usual", "trace"):
                bpf.load(OBJECTS / f"{name}.bpf.o", self.pins / name)
            self.trivial = bpf.pinned(self.pins / "pass" / "pass")
            self.trivial_out = bpf.pinned(self.pins / "pass" / "pass_out")
            self.usual = bpf.pinned(self.pins / "usual" / "usual")
            self.trace = bpf.pinned(self.pins / "trace" / "trace")
            self._next = bpf.pinned(self.pins / "trace" / "trace_next")
            self._steps = bpf.pinned(self.pins / "trace" / "trace_steps")
            self._at = bpf.pinned(self.pins / "trace" / "trace_at")
            self._rules = bpf.pinned(self.pins / "usual" / "usual_rules")
        except BaseException:
            remove_pins(self.pins)
            raise

    def __enter__(self) -> Contestants:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        remove_pins(self.pins)

    def usual_rules(self, prefixes: Sequence[Prefix], drop: bool = False) -> None:
        """Give the usual design its rules."""
        keys = b"".join(struct.pack("=I", length) + struct.pack("!I", network) for network, length in prefixes)
        values = b"".join(struct.pack("=I", (_DROP if drop else 0) | number) for number in range(1, len(prefixes) + 1))
        bpf.update_many(self._rules, keys, values, len(prefixes))

    def follow(self, steps: bytes) -> None:
        """Set the trace, as `packed` makes it."""
        with bpf.mapped(self._steps, len(steps)) as memory:
            memory[:] = steps
        self.rewind()

    def rewind(self) -> None:
        """Go back to the trace's beginning."""
        bpf.update(self._at, bytes(4), bytes(8 * possible_cpus()))

    def before(self, program: int) -> int:
        """The program that walks the trace and then jumps into `program`."""
        bpf.update(self._next, bytes(4), struct.pack("=I", program))
        return self.trace


def packed(steps: Sequence[tuple[int, int, int, int]]) -> bytes:
    """A trace of (source, target, source port, target port), repeated to its length."""
    some = b"".join(struct.pack("!IIHHI", *step, 0) for step in steps)
    return (some * (TRACE_LENGTH // len(steps) + 1))[: TRACE_LENGTH * 16]


def xdp_filter(address: str, pins: Path) -> int:
    """xdp-tools' own filter program (allow by default, deny by address), with one rule: deny `address`.

    Loaded through libbpf without libxdp's dispatcher, which would only make it slower. Raises LabError.
    """
    path = next(Path("/usr/lib").glob("*/bpf/xdpfilt_alw_ip.o"), None)
    if path is None:
        raise LabError("xdpfilt_alw_ip.o is not installed; run: apt-get install xdp-tools")
    libbpf = ctypes.CDLL("libbpf.so.1")
    libbpf.libbpf_set_print(None)
    for function in ("bpf_object__open_file", "bpf_object__next_program"):
        getattr(libbpf, function).restype = ctypes.c_void_p
    root = ctypes.create_string_buffer(os.fsencode(pins))
    # struct bpf_object_open_opts: size, object_name, relaxed_maps, pin_root_path.
    options = ctypes.create_string_buffer(struct.pack("=QQQQ", 32, 0, 0, ctypes.addressof(root)))
    handle = libbpf.bpf_object__open_file(os.fsencode(path), options)
    if not handle or libbpf.bpf_object__load(ctypes.c_void_p(handle)):
        raise LabError(f"libbpf cannot load {path}")
    program = libbpf.bpf_object__next_program(ctypes.c_void_p(handle), None)
    bpf.update(bpf.pinned(pins / "filter_ipv4"), ipaddress.ip_address(address).packed, _DENY_SOURCE * possible_cpus())
    return int(libbpf.bpf_program__fd(ctypes.c_void_p(program)))


def mixed_prefixes(count: int, seed: int = 1) -> list[Prefix]:
    """Distinct IPv4 prefixes with the lengths of block lists: half /32, a third /24, the rest /22 to /16."""
    source = random.Random(seed)
    lengths = source.choices([32, 24, 22, 20, 16], [50, 30, 10, 7, 3], k=count)
    chosen: dict[Prefix, None] = {}
    for length in lengths:
        while True:
            network = source.randrange(1 << 24, 224 << 24) >> (32 - length) << (32 - length)
            if (network, length) not in chosen:
                chosen[network, length] = None
                break
    return list(chosen)


def skewed_flows(prefixes: Sequence[Prefix], flows: int, seed: int = 2) -> list[tuple[int, int, int, int]]:
    """A trace over `flows` flows, half of them from within the prefixes, few of them busy and most of them idle."""
    source = random.Random(seed)
    population = [_flow(source, prefixes) for _ in range(flows)]
    return [population[int(source.random() ** 3 * flows)] for _ in range(TRACE_LENGTH)]


def fresh_flows(prefixes: Sequence[Prefix], seed: int = 3) -> list[tuple[int, int, int, int]]:
    """A trace in which no flow comes twice, all from within the prefixes."""
    source = random.Random(seed)
    return [
        (*_flow(source, prefixes, share=1.0)[:2], number >> 16 | 1024, number & 0xFFFF)
        for number in range(TRACE_LENGTH)
    ]


def _flow(source: random.Random, prefixes: Sequence[Prefix], share: float = 0.5) -> tuple[int, int, int, int]:
    if prefixes and source.random() < share:
        network, length = prefixes[source.randrange(len(prefixes))]
        address = network | source.getrandbits(32) >> length if length < 32 else network
    else:
        address = source.randrange(1 << 24, 224 << 24)
    return address, 0x0A000001 + source.randrange(256), source.randrange(1024, 65536), source.randrange(1, 1024)
