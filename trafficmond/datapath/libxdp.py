"""libxdp through ctypes: the chain of programs that its dispatcher runs on an interface, ours included.

libxdp uses the ids of programs that others loaded, as only root may: the daemon does not import this.
"""

import ctypes as ct
import errno
import functools
import os
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager

from trafficmond.compiled import fields
from trafficmond.dataclass import dataclass
from trafficmond.datapath import libbpf
from trafficmond.datapath.dispatcher import Component, begin, end, replace, try_replacing
from trafficmond.datapath.interfaces import XdpMode
from trafficmond.datapath.loader import PROGRAMS, XDP_PROGRAM
from trafficmond.errors import DatapathError, ForeignProgramError

# Before other programs, so that all incoming packets are counted. xdp-filter has 10, the default is 50.
PRIORITY = 5
_UNSPECIFIED = 0
_MODES = {XdpMode.NATIVE: 1, XdpMode.GENERIC: 2}  # enum xdp_attach_mode
_MODE_NAMES = {number: name for name, number in _MODES.items()}
_ERRORS = (1 << 64) - 4096  # a pointer from here on is an errno (linux/err.h)
_TRIES = 5  # attempts while another program changes the same chain
DOCUMENTED = 'see "Beside other XDP programs" in operations.md'

_warnings: list[str] = []  # libxdp's warnings since the last call
_vsnprintf = ct.CDLL(None).vsnprintf


def _print(level: int, form: bytes, arguments: int | None) -> int:
    if level == 0:
        text = ct.create_string_buffer(512)
        _vsnprintf(text, ct.c_size_t(len(text)), form, ct.c_void_p(arguments))
        _warnings.append(text.value.decode(errors="replace").strip().removeprefix("libxdp: "))
    return 0


_print_callback = ct.CFUNCTYPE(ct.c_int, ct.c_int, ct.c_char_p, ct.c_void_p)(_print)


class _ProgramOptions(ct.Structure):
    """struct xdp_program_opts"""

    _fields_ = fields(
        (ct.c_size_t, "sz"),
        (ct.c_void_p, "object open_options"),
        (ct.c_char_p, "program find_filename open_filename pin_path"),
        (ct.c_uint32, "id"),
        (ct.c_int, "fd"),
    )


@functools.cache
def library() -> ct.CDLL:
    """The one handle on libxdp.so.1. Raises DatapathError if there is none, or it is too old."""
    libbpf.library()  # the same libbpf.so.1, with its warnings enabled
    try:
        lib = ct.CDLL("libxdp.so.1", use_errno=True)
        for name in (
            "xdp_program__create",
            "xdp_program__find_file",
            "xdp_program__bpf_obj",
            "xdp_multiprog__get_from_ifindex",
            "xdp_multiprog__next_prog",
            "xdp_multiprog__main_prog",
        ):
            getattr(lib, name).restype = ct.c_void_p
        lib.xdp_program__name.restype = ct.c_char_p
        lib.xdp_program__id.restype = lib.xdp_program__run_prio.restype = ct.c_uint32
        lib.xdp_multiprog__is_legacy.restype = ct.c_bool
    except (OSError, AttributeError) as error:
        raise DatapathError(
            f'xdp_share = "libxdp" needs libxdp 1.3 or later: {error}',
            hint="install it (apt-get install xdp-tools), or take xdp_share out of the settings",
        ) from error
    os.environ.pop("LIBXDP_SKIP_DISPATCHER", None)
    lib.libxdp_set_print(_print_callback)
    return lib


@dataclass(frozen=True, slots=True)
class Chain:
    """The programs of a dispatcher, first to last. `handle` and those of the components are valid within `chain`."""

    ifindex: int
    dispatcher: int  # its program's id, which netlink gives for the interface too
    mode: XdpMode
    components: tuple[Component, ...]
    handle: ct.c_void_p
    main_fd: int

    def described(self) -> list[str]:
        """ "PRIORITY NAME" of each."""
        return [f"{each.priority} {each.name}" for each in self.components]

    def of(self, maps: Set[int]) -> list[Component]:
        """The components that use one of these maps, by id."""
        return [each for each in self.components if maps & libbpf.program_map_ids(each.fd)]


@contextmanager
def chain(ifindex: int) -> Iterator[Chain | None]:
    """The chain of an interface; None: it has no XDP program. Raises ForeignProgramError if that has no dispatcher."""
    lib = library()
    found = lib.xdp_multiprog__get_from_ifindex(ifindex)
    if not found or found >= _ERRORS:
        yield None
        return
    handle = ct.c_void_p(found)
    try:
        main = ct.c_void_p(lib.xdp_multiprog__main_prog(handle))
        if lib.xdp_multiprog__is_legacy(handle):
            name = (lib.xdp_program__name(main) or b"").decode(errors="replace")
            raise ForeignProgramError(
                f'XDP program "{name}" (id {lib.xdp_program__id(main)}) is attached alone, not through libxdp',
                hint="load that one through libxdp as well (xdp-loader load), or take xdp_share out of the settings",
            )
        yield Chain(
            ifindex,
            lib.xdp_program__id(main),
            _MODE_NAMES.get(lib.xdp_multiprog__attach_mode(handle), XdpMode.NONE),
            tuple(_components(lib, handle)),
            handle,
            lib.xdp_program__fd(main),
        )
    finally:
        lib.xdp_multiprog__close(handle)


def _components(lib: ct.CDLL, handle: ct.c_void_p) -> Iterator[Component]:
    at = lib.xdp_multiprog__next_prog(None, handle)
    while at:
        each = ct.c_void_p(at)
        name = (lib.xdp_program__name(each) or b"").decode(errors="replace")
        yield Component(
            name, lib.xdp_program__id(each), lib.xdp_program__run_prio(each), lib.xdp_program__fd(each), each
        )
        at = lib.xdp_multiprog__next_prog(each, handle)


def join(
    ifindex: int, modes: Sequence[XdpMode], opened: Callable[[], libbpf.Object], maps: Set[int], direct: int | None
) -> None:
    """Puts tm_xdp of the object from `opened` into the chain of an interface, or a new one, for which it tries `modes`.
    It replaces the program that uses one of `maps` atomically, or our link `direct`, which has the interface alone.

    Raises DatapathError, ForeignProgramError; then a chain is unchanged.
    """
    if direct is not None:
        check_kernel(opened)
        if begin(ifindex, direct, PRIORITY, opened(), _dispatcher(), modes):
            return
        libbpf.link_detach(direct)
    for _ in range(_TRIES):
        with chain(ifindex) as now:
            ours = now.of(maps) if now else []
            if now is None or not ours:
                check_kernel(opened)
                _attach(ifindex, [now.mode] if now else modes, opened)
                return
            if replace(now.ifindex, now.main_fd, now.components, ours[0], opened(), _dispatcher(), now.mode):
                return
    raise DatapathError("other programs keep changing the same chain", hint="restart trafficmond when they stop")


def check_kernel(opened: Callable[[], libbpf.Object]) -> None:
    """Raises DatapathError if this kernel accepts no tm_xdp in a dispatcher: libxdp would attach it alone, or fail."""
    target = _dispatcher()
    try:
        try_replacing(target, opened())
    except (DatapathError, OSError) as error:
        lines = str(error.args[0] if isinstance(error, DatapathError) else error).splitlines()
        raise DatapathError(
            f"this kernel refuses trafficmon's program in a dispatcher ({lines[0]})",
            hint="Debian's kernels since 6.1 accept it; use one, or take xdp_share out of the settings",
        ) from error


def leave(ifindex: int, maps: Set[int], program: int | None) -> int | None:
    """Removes the program that uses one of these maps from the chain of an interface; the last one ends the dispatcher.
    `program`: attached alone in the place of the last one; returns its link, None if it is not.

    Raises DatapathError; OSError if others have changed the chain meanwhile.
    """
    link = None
    try:
        with chain(ifindex) as now:
            ours = now.of(maps) if now else []
            if now and program is not None and len(ours) == len(now.components):
                link = end(ifindex, now.main_fd, now.mode, program)
            elif now:
                for each in ours:
                    _detach(now, each)
        library().libxdp_clean_references(ifindex)  # pins of a dispatcher, or of a removed interface
    except ForeignProgramError:  # no dispatcher, so no program of ours in it
        pass
    return link


def _dispatcher() -> libbpf.Object:
    """libxdp's dispatcher, from libxdp's search path."""
    lib = library()
    found = lib.xdp_program__find_file(b"xdp-dispatcher.o", None, None)
    if not found or found >= _ERRORS:
        raise DatapathError("libxdp does not find its xdp-dispatcher.o", hint="reinstall the package libxdp1")
    return libbpf.Object.of(lib.xdp_program__bpf_obj(ct.c_void_p(found)))


def _attach(ifindex: int, modes: Sequence[XdpMode], opened: Callable[[], libbpf.Object]) -> None:
    lib, refusals = library(), []
    for mode in modes:
        target = opened()
        target.load_only((XDP_PROGRAM,), PROGRAMS)
        options = _ProgramOptions(sz=ct.sizeof(_ProgramOptions), object=target.handle, program=XDP_PROGRAM.encode())
        program = ct.c_void_p(lib.xdp_program__create(ct.byref(options)))
        _warnings.clear()
        if not program:
            raise DatapathError(f"libxdp cannot load the data path: {os.strerror(ct.get_errno())}")
        try:
            lib.xdp_program__set_run_prio(program, ct.c_uint32(PRIORITY))
            result = lib.xdp_program__attach(program, ifindex, _MODES[mode], 0)
            if result < 0:
                refusals.append(f"{mode} mode: {_why(-result)}")
                continue
            return
        finally:
            lib.xdp_program__close(program)
    what = f"cannot join the XDP programs of the interface: {'; '.join(refusals)}"
    raise DatapathError(what, hint=f"xdp-loader status shows them; {DOCUMENTED}")


def _detach(now: Chain, each: Component) -> None:
    _warnings.clear()
    result = library().xdp_program__detach(each.handle, now.ifindex, _MODES.get(now.mode, _UNSPECIFIED), 0)
    if result < 0 and -result != errno.ENOENT:
        what = f"cannot take {each.name} (id {each.id}) out of the dispatcher: {_why(-result)}"
        raise DatapathError(what, hint=f"xdp-loader unload INTERFACE --id {each.id}; {DOCUMENTED}")


def _why(number: int) -> str:
    return ": ".join([os.strerror(number), *dict.fromkeys(_warnings)])
