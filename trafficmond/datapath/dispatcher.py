"""Atomic replacement of one component of a libxdp dispatcher.

libxdp adds a program and removes one in two steps: with both of ours in the chain packets would count twice, with none
they would pass. So a new dispatcher is made from the present one's configuration, with the same components linked to it
again except ours, and replaces it at once, with the lock and the names of libxdp's protocol (protocol.org of
xdp-tools).
"""

from __future__ import annotations

import ctypes as ct
import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from trafficmond.datapath import extensions, libbpf
from trafficmond.datapath.loader import PROGRAMS, XDP_PROGRAM
from trafficmond.datapath.pins import remove_tree
from trafficmond.errors import DatapathError

DISPATCHER = "xdp_dispatcher"  # the program's name
_NOTHING = "xdp_pass"
_MAGIC, _FRAGS_AT = 236, 3  # struct xdp_dispatcher_config: magic, version, programs, whether all take fragments
_XDP_HAS_FRAGS = 1 << 5


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
    generic: bool,
) -> bool:
    """Replaces `old` by tm_xdp of `new`. False if the chain was changed by another program meanwhile.

    Raises DatapathError; then the chain is unchanged.
    """
    try:
        with ExitStack() as stack:
            stack.callback(new.close)
            stack.callback(dispatcher.close)
            fd = _load_dispatcher(dispatcher, _configuration(main_fd, dispatcher.value_size(".rodata")))
            stack.callback(os.close, fd)
            linked = []
            for number, each in enumerate(components):
                entry = DISPATCHER if len(components) == 1 else f"prog{number}"
                if each is old:
                    new.extend(fd, entry, XDP_PROGRAM)
                    new.load_only((XDP_PROGRAM,), PROGRAMS)
                    new.load((XDP_PROGRAM,))
                    program = new.program_fd(XDP_PROGRAM)
                    stack.callback(os.close, program)
                else:
                    program = each.fd
                link = extensions.link_into(program, fd, extensions.function_id(fd, entry))
                stack.callback(os.close, link)
                linked.append((f"prog{number}", program, link))
            return _put(ifindex, main_fd, fd, linked, generic)
    except OSError as error:
        what = f"cannot replace trafficmon in the dispatcher: {error.strerror or error}"
        raise DatapathError(what, hint="the program in place continues; see xdp-loader status") from error


def stand_in(target: libbpf.Object, ours: libbpf.Object) -> None:
    """Replaces an empty program of the dispatcher's file `target` by tm_xdp of `ours`, as a test.

    Raises OSError or DatapathError if the kernel refuses that.
    """
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
        os.close(extensions.link_into(program, fd, extensions.function_id(fd, _NOTHING)))


def _configuration(main_fd: int, size: int) -> bytes:
    """The configuration of the present dispatcher. Raises DatapathError if another libxdp made it."""
    for number in libbpf.program_map_ids(main_fd):
        fd = extensions.map_by_id(number)
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


def _put(ifindex: int, old_fd: int, fd: int, linked: Sequence[tuple[str, int, int]], generic: bool) -> bool:
    """Pins the new dispatcher's components as libxdp does, attaches it, and removes the old one's pins."""
    with _locked() as folder:
        made, former = (folder / f"dispatch-{ifindex}-{libbpf.program_info(each).id}" for each in (fd, old_fd))
        made.mkdir(mode=0o700)
        try:
            for name, program, link in linked:
                libbpf.pin(link, str(made / f"{name}-link"))
                libbpf.pin(program, str(made / f"{name}-prog"))
            flags = libbpf.XDP_FLAGS_SKB if generic else libbpf.XDP_FLAGS_DRV
            extensions.xdp_replace(ifindex, fd, old_fd, flags)
        except OSError as error:
            remove_tree(made)
            if error.errno in (errno.EEXIST, errno.ENOENT):
                return False
            raise
        remove_tree(former)
    return True


@contextmanager
def _locked() -> Iterator[Path]:
    """libxdp's folder of pins, with the lock that libxdp takes while it reads or changes them."""
    folder = Path(os.environ.get("LIBXDP_BPFFS", "/sys/fs/bpf")) / "xdp"
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(fd)
