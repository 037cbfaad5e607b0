"""The structs that libbpf and the kernel read and write, as ctypes.

Their layouts are those of libbpf 1.0's public headers and of linux/bpf.h, which are a stable ABI: every options struct
begins with its own size, and the kernel fills as much of an info struct as there is room for.
"""

import ctypes as ct


class MapInfo(ct.Structure):
    """struct bpf_map_info, as far as it is read."""

    _fields_ = (
        *((name, ct.c_uint32) for name in ("type", "id", "key_size", "value_size", "max_entries", "map_flags")),
        ("name", ct.c_char * 16),
    )


class LinkInfo(ct.Structure):
    """struct bpf_link_info for XDP and tcx links (`type` 6 and 11: ifindex is the first word of the union)."""

    _fields_ = (
        *((name, ct.c_uint32) for name in ("type", "id", "prog_id", "pad", "ifindex")),
        ("rest", ct.c_uint8 * 60),
    )


class ProgInfo(ct.Structure):
    """struct bpf_prog_info up to the BTF."""

    _fields_ = (
        ("type", ct.c_uint32),
        ("id", ct.c_uint32),
        ("tag", ct.c_uint8 * 8),
        ("jited_len", ct.c_uint32),
        ("xlated_len", ct.c_uint32),
        *((name, ct.c_uint64) for name in ("jited_insns", "xlated_insns", "load_time")),
        ("created_by_uid", ct.c_uint32),
        ("nr_map_ids", ct.c_uint32),
        ("map_ids", ct.c_uint64),
        ("name", ct.c_char * 16),
        ("ifindex", ct.c_uint32),
        ("pad", ct.c_uint32),
        *((name, ct.c_uint64) for name in ("netns_dev", "netns_ino")),
        *((name, ct.c_uint32) for name in ("nr_jited_ksyms", "nr_jited_func_lens")),
        *((name, ct.c_uint64) for name in ("jited_ksyms", "jited_func_lens")),
        *((name, ct.c_uint32) for name in ("btf_id", "func_info_rec_size")),
    )


class TestRunOptions(ct.Structure):
    """struct bpf_test_run_opts."""

    _fields_ = (
        ("sz", ct.c_size_t),
        ("data_in", ct.c_void_p),
        ("data_out", ct.c_void_p),
        ("data_size_in", ct.c_uint32),
        ("data_size_out", ct.c_uint32),
        ("ctx_in", ct.c_void_p),
        ("ctx_out", ct.c_void_p),
        *((name, ct.c_uint32) for name in ("ctx_size_in", "ctx_size_out", "retval")),
        ("repeat", ct.c_int),
        *((name, ct.c_uint32) for name in ("duration", "flags", "cpu", "batch_size")),
    )


class LinkOptions(ct.Structure):
    """struct bpf_link_create_opts, as far as it is used."""

    _fields_ = (
        ("sz", ct.c_size_t),
        ("flags", ct.c_uint32),
        ("iter_info", ct.c_void_p),
        ("iter_info_len", ct.c_uint32),
        ("target_btf_id", ct.c_uint32),
    )


class MapOptions(ct.Structure):
    """struct bpf_map_create_opts."""

    _fields_ = (
        ("sz", ct.c_size_t),
        *((name, ct.c_uint32) for name in ("btf_fd", "btf_key_type_id", "btf_value_type_id")),
        *((name, ct.c_uint32) for name in ("btf_vmlinux_value_type_id", "inner_map_fd", "map_flags")),
        ("map_extra", ct.c_uint64),
        ("numa_node", ct.c_uint32),
        ("map_ifindex", ct.c_uint32),
    )


class XdpOptions(ct.Structure):
    """struct bpf_xdp_attach_opts"""

    _fields_ = (("sz", ct.c_size_t), ("old_prog_fd", ct.c_int), ("pad", ct.c_uint32))
