"""libbpf through ctypes: the calls that the data path needs, each raising OSError with the kernel's errno.

Debian's bcc depends on `libbpf.so.1` too, so one library serves both loaders. This is a long list of calls.
"""

import ctypes as ct
import errno
import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any, Self, TypeVar

from trafficmond.datapath import libbpf_structs as structs
from trafficmond.datapath.libbpf_structs import LinkInfo, LinkOptions, MapInfo, ProgInfo
from trafficmond.errors import DatapathError

XDP, TC_INGRESS_TCX, TC_EGRESS_TCX = 37, 46, 47  # enum bpf_attach_type: BPF_XDP, BPF_TCX_INGRESS, _EGRESS
XDP_FLAGS_SKB, XDP_FLAGS_DRV = 1 << 1, 1 << 2
TCX_FIRST = 1 << 3  # BPF_F_BEFORE without another program: before all
EXISTING = 2  # BPF_EXIST, of an update
MAP_ARRAY = 2
_PROGRAM_EXTENSION = 28  # BPF_PROG_TYPE_EXT
_BTF_FUNCTION = 12  # BTF_KIND_FUNC
F_MMAPABLE, F_INNER_MAP = 1 << 10, 1 << 12
_LOG_BYTES = 1 << 16
# The verifier's objection, and how far it came (BPF_LOG_STATS). With every step logged, kernels before 6.4 fill
# the log and give "No space left on device" as their reason.
_LOG_LEVEL = 4

_Info = TypeVar("_Info", MapInfo, LinkInfo, ProgInfo)


@functools.cache
def library() -> ct.CDLL:
    """The one handle on libbpf.so.1. Raises DatapathError if it is not installed."""
    try:
        lib = ct.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise DatapathError(f"libbpf is missing: {error}", hint="install the package libbpf1") from error
    for name in (
        "bpf_object__open_file",
        "bpf_object__find_program_by_name",
        "bpf_object__find_map_by_name",
        "bpf_map__initial_value",
        "bpf_object__next_program",
        "btf__load_from_kernel_by_id",
    ):
        getattr(lib, name).restype = ct.c_void_p
    lib.bpf_program__name.restype = ct.c_char_p
    lib.libbpf_set_print.restype = ct.c_void_p
    lib.libbpf_set_print(None)  # the same is in errno and in the verifier's log
    return lib


def call(name: str, *arguments: Any) -> int:
    """Calls `name`; a negative result is raised as OSError(errno)."""
    result: int = getattr(library(), name)(*arguments)
    if result < 0:
        raise OSError(-result, f"{name}: {os.strerror(-result)}")
    return result


def update(map_fd: int, key: bytes, value: bytes, flags: int = 0) -> None:
    call("bpf_map_update_elem", map_fd, key, value, ct.c_uint64(flags))


def lookup(map_fd: int, key: bytes, value_size: int) -> bytes | None:
    """The element at `key`, None if there is none."""
    return _answer("bpf_map_lookup_elem", map_fd, key, value_size)


def lookup_each(map_fd: int, keys: bytes, key_size: int, value_size: int) -> Iterator[bytes | None]:
    """`lookup` of each of the consecutive keys; for thousands of them."""
    function, value = library().bpf_map_lookup_elem, ct.create_string_buffer(value_size)
    for at in range(0, len(keys), key_size):
        result = function(map_fd, keys[at : at + key_size], value)
        if result not in (0, -errno.ENOENT):
            raise OSError(-result, f"bpf_map_lookup_elem: {os.strerror(-result)}")
        yield None if result else value.raw


def delete(map_fd: int, key: bytes) -> bool:
    """Removes the element at `key`; False if there was none."""
    try:
        call("bpf_map_delete_elem", map_fd, key)
    except FileNotFoundError:
        return False
    return True


def next_key(map_fd: int, key: bytes | None, key_size: int) -> bytes | None:
    """The key after `key` (None: the first), None at the end."""
    return _answer("bpf_map_get_next_key", map_fd, key, key_size)


def _answer(name: str, map_fd: int, key: bytes | None, size: int) -> bytes | None:
    answer = ct.create_string_buffer(size)
    try:
        call(name, map_fd, key, answer)
    except FileNotFoundError:
        return None
    return answer.raw


def create_array(name: str, value_size: int, entries: int, flags: int) -> int:
    """A new BPF array; returns its descriptor."""
    options = structs.MapOptions(sz=ct.sizeof(structs.MapOptions), map_flags=flags)
    return call("bpf_map_create", MAP_ARRAY, name.encode(), 4, value_size, entries, ct.byref(options))


def map_info(fd: int) -> MapInfo:
    return _filled(MapInfo(), fd)


def link_info(fd: int) -> LinkInfo:
    """Program and interface of a link; ifindex 0 once the interface is gone."""
    return _filled(LinkInfo(), fd)


def program_info(fd: int, **given: int) -> ProgInfo:
    """The kernel's information on a program; `given`: the struct to fill."""
    return _filled(ProgInfo(**given), fd)


def _filled(info: _Info, fd: int) -> _Info:
    call("bpf_obj_get_info_by_fd", fd, ct.byref(info), ct.byref(ct.c_uint32(ct.sizeof(info))))
    return info


def program_name(prog_id: int) -> str:
    """Name of a loaded program by its id, "" if unknown."""
    try:
        fd = call("bpf_prog_get_fd_by_id", ct.c_uint32(prog_id))
    except OSError:
        return ""
    try:
        return bytes(program_info(fd).name).decode(errors="replace")
    finally:
        os.close(fd)


def program_map_ids(fd: int) -> set[int]:
    count = int(program_info(fd).nr_map_ids)
    ids = (ct.c_uint32 * count)()
    program_info(fd, nr_map_ids=count, map_ids=ct.addressof(ids))
    return set(ids)


def pin(fd: int, path: str) -> None:
    call("bpf_obj_pin", fd, path.encode())


def open_pin(path: str) -> int:
    """Opens the object pinned at `path`; returns its descriptor. Raises FileNotFoundError."""
    return call("bpf_obj_get", path.encode())


def link_create(prog_fd: int, target: int, attach_type: int, flags: int = 0) -> int:
    """Attaches a program to an interface, or the cgroup of an open folder, while the descriptor or its pin lives."""
    options = LinkOptions(sz=ct.sizeof(LinkOptions), flags=flags)
    return call("bpf_link_create", prog_fd, target, attach_type, ct.byref(options))


def xdp_id(ifindex: int) -> int:
    """Id of the XDP program of an interface, 0 if it has none or is gone."""
    found = ct.c_uint32(0)
    try:
        call("bpf_xdp_query_id", ifindex, 0, ct.byref(found))
    except OSError:
        return 0
    return int(found.value)


def link_update(link_fd: int, prog_fd: int) -> None:
    """Replaces the program of an attachment; every packet is seen by the old one or the new one."""
    call("bpf_link_update", link_fd, prog_fd, None)


def link_detach(link_fd: int) -> None:
    """Ends an attachment now, even if others have descriptors or pins of it."""
    call("bpf_link_detach", link_fd)


def test_run(prog_fd: int, packet: bytes) -> int:
    """Runs a program once over `packet`; returns its verdict."""
    options = structs.TestRunOptions(
        sz=ct.sizeof(structs.TestRunOptions),
        data_in=ct.cast(ct.c_char_p(packet), ct.c_void_p),
        data_size_in=len(packet),
        repeat=1,
    )
    call("bpf_prog_test_run_opts", prog_fd, ct.byref(options))
    return int(options.retval)


# ---- programs that replace a function of another program (BPF_PROG_TYPE_EXT); for root: ids of others are used ----


def function_id(fd: int, name: str) -> int:
    """Number of a function of a loaded program in that program's BTF."""
    btf = library().btf__load_from_kernel_by_id(ct.c_uint32(program_info(fd).btf_id))
    if not btf:
        raise OSError(ct.get_errno(), f"the BTF of a program: {os.strerror(ct.get_errno())}")
    try:
        return call("btf__find_by_name_kind", ct.c_void_p(btf), name.encode(), ct.c_uint32(_BTF_FUNCTION))
    finally:
        library().btf__free(ct.c_void_p(btf))


def link_into(prog_fd: int, target_fd: int, function: int) -> int:
    """Links a program of type EXT in place of a function of another program, by number (function_id)."""
    options = LinkOptions(sz=ct.sizeof(LinkOptions), target_btf_id=function)
    return call("bpf_link_create", prog_fd, target_fd, 0, ct.byref(options))


def xdp_replace(ifindex: int, prog_fd: int, old_fd: int, flags: int) -> None:
    """Replaces a program attached without a link. Raises FileExistsError if it is no longer attached."""
    options = structs.XdpOptions(sz=ct.sizeof(structs.XdpOptions), old_prog_fd=old_fd)
    call("bpf_xdp_attach", ifindex, prog_fd, ct.c_uint32(flags), ct.byref(options))


class Object:
    """A BPF object file being loaded: opened, sized, constants set, then loaded."""

    def __init__(self, path: str) -> None:
        handle = library().bpf_object__open_file(path.encode(), None)
        if not handle:
            number = ct.get_errno()
            raise DatapathError(f"cannot open BPF object {path}: {os.strerror(number)}", hint="run make build")
        self._object = ct.c_void_p(handle)

    @classmethod
    def of(cls, handle: int) -> Self:
        """An object that another library has opened with this libbpf."""
        made = cls.__new__(cls)
        made._object = ct.c_void_p(handle)
        return made

    @property
    def handle(self) -> int:
        return self._object.value or 0

    def programs(self) -> list[str]:
        names, at = [], library().bpf_object__next_program(self._object, None)
        while at:
            names.append(library().bpf_program__name(ct.c_void_p(at)).decode())
            at = library().bpf_object__next_program(self._object, ct.c_void_p(at))
        return names

    def map(self, name: str) -> ct.c_void_p:
        """libbpf's handle of a map. Raises DatapathError if the object has none of that name."""
        return self._find("map", name)

    def program(self, name: str) -> ct.c_void_p:
        return self._find("program", name)

    def _find(self, kind: str, name: str) -> ct.c_void_p:
        handle = getattr(library(), f"bpf_object__find_{kind}_by_name")(self._object, name.encode())
        if not handle:
            raise DatapathError(f"the BPF object has no {kind} {name}", hint="build it again with make build")
        return ct.c_void_p(handle)

    def resize(self, name: str, entries: int) -> None:
        """Sets a map's max_entries before the load."""
        call("bpf_map__set_max_entries", self.map(name), ct.c_uint32(entries))

    def value_size(self, name: str) -> int:
        return call("bpf_map__value_size", self.map(name))

    def load_only(self, wanted: Sequence[str], programs: Sequence[str]) -> None:
        """Excludes those of `programs` that are not `wanted` from the load."""
        for name in programs:
            call("bpf_program__set_autoload", self.program(name), ct.c_bool(name in wanted))

    def set_flags(self, name: str, flags: int) -> None:
        call("bpf_program__set_flags", self.program(name), ct.c_uint32(flags))

    def extend(self, target_fd: int, function: str, name: str) -> None:
        """Makes a program replace a function of a loaded one, before the load."""
        program = self.program(name)
        call("bpf_program__set_attach_target", program, target_fd, function.encode())
        call("bpf_program__set_type", program, _PROGRAM_EXTENSION)
        call("bpf_program__set_expected_attach_type", program, 0)

    def reuse(self, name: str, fd: int) -> None:
        """Makes the programs use an existing map instead of a new one."""
        call("bpf_map__reuse_fd", self.map(name), fd)

    def set_constants(self, section: str, values: bytes) -> None:
        """Sets the content of a section of constants, before the load."""
        call("bpf_map__set_initial_value", self.map(section), values, ct.c_size_t(len(values)))

    def load(self, programs: tuple[str, ...]) -> None:
        """Loads maps and programs. Raises DatapathError with the end of the verifier's log."""
        logs = {}
        for name in programs:
            logs[name] = ct.create_string_buffer(_LOG_BYTES)
            call("bpf_program__set_log_buf", self.program(name), logs[name], ct.c_size_t(_LOG_BYTES))
            call("bpf_program__set_log_level", self.program(name), ct.c_uint32(_LOG_LEVEL))
        try:
            call("bpf_object__load", self._object)
        except OSError as error:
            output = "\n".join(
                f"{n}: {log.value.decode(errors='replace')[-800:]}" for n, log in logs.items() if log.value
            )
            forbidden = error.errno in (1, 13) and not output  # no log means that the load was not permitted
            hint = "run as root or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON" if forbidden else ""
            raise DatapathError(
                f"the kernel refused the data path: {error.strerror}\n{output}".rstrip(), hint=hint
            ) from error

    def map_fd(self, name: str) -> int:
        """A descriptor of our own for a loaded map."""
        return os.dup(call("bpf_map__fd", self.map(name)))

    def program_fd(self, name: str) -> int:
        """A descriptor of our own for a loaded program."""
        return os.dup(call("bpf_program__fd", self.program(name)))

    def close(self) -> None:
        """Frees libbpf's side; descriptors taken from it stay valid."""
        library().bpf_object__close(self._object)
