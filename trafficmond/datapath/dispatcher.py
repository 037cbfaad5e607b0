"""Replacement of one component of a libxdp dispatcher, and of a direct attachment by a dispatcher.

libxdp adds a program and removes one in two steps. Between them, packets would count twice (both of our programs in the
chain) or pass (neither). So a new dispatcher with the present one's configuration, to which the same components are
linked again except ours, replaces it at once, with the lock and the names of libxdp's protocol (protocol.org of
xdp-tools). A dispatcher that replaces a direct attachment is complete before that attachment ends.
"""

import ctypes as ct
import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from trafficmond.dataclass import dataclass
from trafficmond.datapath import libbpf
from trafficmond.datapath.interfaces import XdpMode
from trafficmond.datapath.loader import PROGRAMS, XDP_PROGRAM
from trafficmond.datapath.pins import remove_tree
from trafficmond.errors import DatapathError

DISPATCHER = "xdp_dispatcher"  # the program's name
_NOTHING = "xdp_pass"
_MAGIC, _FRAGS_AT = 236, 3  # struct xdp_dispatcher_config: magic, version, programs, whether all take fragments
_VERSION, _PLACES = 2, 10
_CHAIN_CALLS = 1 << 2 | 1 << 31  # what continues with the next program: XDP_PASS, and that there was none in a place
_XDP_HAS_FRAGS = 1 << 5
FLAGS = {XdpMode.NATIVE: libbpf.XDP_FLAGS_DRV, XdpMode.GENERIC: libbpf.XDP_FLAGS_SKB}
_IF_NOEXIST = 1 << 0  # XDP_FLAGS_UPDATE_IF_NOEXIST


@dataclass(frozen=True, slots=True)
class Component:
    name: str
    id: int
    priority: int
    fd: int  # borrowed
    handle: ct.c_void_p  # libxdp's


def replace(
    ifindex: int,
    main_fd: int,
    components: Sequence[Component],
    old: Component,
    new: libbpf.Object,
    dispatcher: libbpf.Object,
    mode: XdpMode,
) -> bool:
    """Replaces `old` by tm_xdp of `new`. False if the chain was changed by another program meanwhile. Raises
    DatapathError; then the chain is unchanged."""
    try:
        with ExitStack() as stack:
            stack.callback(new.close)
            stack.callback(dispatcher.close)
            configuration = _configuration(main_fd, dispatcher.value_size(".rodata"))
            fds = [None if each is old else each.fd for each in components]
            fd, linked = _make(stack, dispatcher, configuration, new, fds)
            return _put(ifindex, main_fd, fd, linked, lambda: libbpf.xdp_replace(ifindex, fd, main_fd, FLAGS[mode]))
    except OSError as error:
        what = f"cannot replace trafficmon in the dispatcher: {error.strerror or error}"
        raise DatapathError(what, hint="the attached program continues; see xdp-loader status") from error


def begin(
    ifindex: int, direct: int, priority: int, new: libbpf.Object, dispatcher: libbpf.Object, modes: Sequence[XdpMode]
) -> bool:
    """A dispatcher with tm_xdp of `new` alone, in the place of our link `direct`. Nothing is attached between two
    system calls: the kernel replaces no link by a program without one. False if this libxdp makes other dispatchers.

    Raises DatapathError; then the link may be detached.
    """
    flags = (0,) * _PLACES
    places = (_CHAIN_CALLS, *flags[1:], priority, *flags[1:], *flags)
    configuration = struct.pack(f"4B{3 * _PLACES}I", _MAGIC, _VERSION, 1, 0, *places)

    def attach() -> None:
        libbpf.link_detach(direct)
        for mode in modes:
            try:
                libbpf.xdp_replace(ifindex, fd, 0, FLAGS[mode] | _IF_NOEXIST)
                break
            except OSError:
                if mode is modes[-1]:
                    raise

    with ExitStack() as stack:
        stack.callback(new.close)
        stack.callback(dispatcher.close)
        if dispatcher.value_size(".rodata") != len(configuration):
            return False
        try:
            fd, linked = _make(stack, dispatcher, configuration, new, [None])
            return _put(ifindex, None, fd, linked, attach)
        except OSError as error:
            what = f"cannot attach the dispatcher: {error.strerror or error}"
            raise DatapathError(what, hint="see xdp-loader status") from error


def end(ifindex: int, main_fd: int, mode: XdpMode, program: int) -> int | None:
    """A link of our `program` in the place of a dispatcher without others, two system calls later; None if the kernel
    refuses it, which says why when the daemon tries again. Raises OSError if there is another dispatcher by now."""
    with _locked():
        libbpf.xdp_replace(ifindex, -1, main_fd, FLAGS[mode])
        with suppress(OSError):
            return libbpf.link_create(program, ifindex, libbpf.XDP, FLAGS[mode])
    return None


def _make(
    stack: ExitStack, dispatcher: libbpf.Object, configuration: bytes, new: libbpf.Object, fds: Sequence[int | None]
) -> tuple[int, list[tuple[str, int, int]]]:
    """Loads a dispatcher, and links the programs `fds` (None: tm_xdp of `new`) to it. Raises OSError, DatapathError."""
    fd = _load_dispatcher(dispatcher, configuration)
    stack.callback(os.close, fd)
    linked = []
    for number, program in enumerate(fds):
        entry = DISPATCHER if len(fds) == 1 else f"prog{number}"
        if program is None:
            new.extend(fd, entry, XDP_PROGRAM)
            new.load_only((XDP_PROGRAM,), PROGRAMS)
            new.load((XDP_PROGRAM,))
            program = new.program_fd(XDP_PROGRAM)
            stack.callback(os.close, program)
        link = libbpf.link_into(program, fd, libbpf.function_id(fd, entry))
        stack.callback(os.close, link)
        linked.append((f"prog{number}", program, link))
    return fd, linked


def try_replacing(target: libbpf.Object, ours: libbpf.Object) -> None:
    """Replaces an empty program of the dispatcher's file `target` by tm_xdp of `ours`, as a test. Raises OSError or
    DatapathError if the kernel refuses that."""
    with ExitStack() as stack:
        stack.callback(ours.close)
        stack.callback(target.close)
        target.load_only((_NOTHING,), target.programs())
        target.load((_NOTHING,))
        fd = target.program_fd(_NOTHING)
        stack.callback(os.close, fd)
        ours.load_only((XDP_PROGRAM,), PROGRAMS)
        ours.extend(fd, _NOTHING, XDP_PROGRAM)
        ours.load((XDP_PROGRAM,))
        program = ours.program_fd(XDP_PROGRAM)
        stack.callback(os.close, program)
        os.close(libbpf.link_into(program, fd, libbpf.function_id(fd, _NOTHING)))


def _configuration(main_fd: int, size: int) -> bytes:
    """The configuration of the present dispatcher. Raises DatapathError if another libxdp made it."""
    for number in libbpf.program_map_ids(main_fd):
        fd = libbpf.call("bpf_map_get_fd_by_id", ct.c_uint32(number))
        try:
            if libbpf.map_info(fd).value_size == size:
                found = libbpf.lookup(fd, bytes(4), size)
                if found and found[0] == _MAGIC:
                    return found
        finally:
            os.close(fd)
    raise DatapathError(
        "the dispatcher in place was made by another version of libxdp than the one installed",
        hint="xdp-loader unload INTERFACE --all, then load the others again and restart trafficmond",
    )


def _load_dispatcher(dispatcher: libbpf.Object, configuration: bytes) -> int:
    dispatcher.set_constants(".rodata", configuration)
    dispatcher.load_only((DISPATCHER,), dispatcher.programs())
    if configuration[_FRAGS_AT]:
        dispatcher.set_flags(DISPATCHER, _XDP_HAS_FRAGS)
    dispatcher.load((DISPATCHER,))
    return dispatcher.program_fd(DISPATCHER)


def _put(
    ifindex: int, old_fd: int | None, fd: int, linked: Sequence[tuple[str, int, int]], attach: Callable[[], None]
) -> bool:
    """Pins the new dispatcher's components as libxdp does, attaches it, and removes the old one's pins."""

    def pins(of: int) -> Path:
        return folder / f"dispatch-{ifindex}-{libbpf.program_info(of).id}"

    with _locked() as folder:
        made = pins(fd)
        made.mkdir(mode=0o700)
        try:
            for name, program, link in linked:
                libbpf.pin(link, str(made / f"{name}-link"))
                libbpf.pin(program, str(made / f"{name}-prog"))
            attach()
        except OSError as error:
            remove_tree(made)
            if old_fd is not None and error.errno in (errno.EEXIST, errno.ENOENT):
                return False
            raise
        if old_fd is not None:
            remove_tree(pins(old_fd))
    return True


@contextmanager
def _locked() -> Iterator[Path]:
    """libxdp's folder of pins, with the lock that libxdp takes while it reads or changes them."""
    folder = Path(os.environ.get("LIBXDP_BPFFS", "/sys/fs/bpf")) / "xdp"
    folder.mkdir(mode=0o700, exist_ok=True)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(fd)
