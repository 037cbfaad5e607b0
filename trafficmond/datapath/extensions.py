"""Calls for programs that replace a function of another program (BPF_PROG_TYPE_EXT), through libbpf; for root, since
they use the ids of other programs."""

import ctypes as ct
import os

from trafficmond.datapath import libbpf, libbpf_structs

_BTF_FUNCTION = 12  # BTF_KIND_FUNC


class XdpOptions(ct.Structure):
    """struct bpf_xdp_attach_opts"""

    _fields_ = (("sz", ct.c_size_t), ("old_prog_fd", ct.c_int), ("pad", ct.c_uint32))


def function_id(fd: int, name: str) -> int:
    """Number of a function of a loaded program in that program's BTF."""
    btf = libbpf.library().btf__load_from_kernel_by_id(ct.c_uint32(libbpf.program_info(fd).btf_id))
    if not btf:
        raise OSError(ct.get_errno(), f"the BTF of a program: {os.strerror(ct.get_errno())}")
    try:
        return libbpf.call("btf__find_by_name_kind", ct.c_void_p(btf), name.encode(), ct.c_uint32(_BTF_FUNCTION))
    finally:
        libbpf.library().btf__free(ct.c_void_p(btf))


def link_into(prog_fd: int, target_fd: int, function: int) -> int:
    """Links a program of type EXT in place of a function of another program, by number (function_id)."""
    options = libbpf_structs.LinkOptions(sz=ct.sizeof(libbpf_structs.LinkOptions), target_btf_id=function)
    return libbpf.call("bpf_link_create", prog_fd, target_fd, 0, ct.byref(options))


def xdp_replace(ifindex: int, prog_fd: int, old_fd: int, flags: int) -> None:
    """Replaces a program that is attached to an interface without a link. Raises FileExistsError if it is no longer
    attached."""
    options = XdpOptions(sz=ct.sizeof(XdpOptions), old_prog_fd=old_fd)
    libbpf.call("bpf_xdp_attach", ifindex, prog_fd, ct.c_uint32(flags), ct.byref(options))
