"""The structs that libbpf and the kernel read and write, as ctypes.

Their layouts are those of libbpf 1.0's public headers and of linux/bpf.h, which are a stable ABI: every options struct
begins with its own size, and the kernel fills as much of an info struct as there is room for.
"""

import ctypes as ct

from trafficmond.compiled import fields

_INT, _U32, _U64, _SIZE, _POINTER = ct.c_int, ct.c_uint32, ct.c_uint64, ct.c_size_t, ct.c_void_p


class MapInfo(ct.Structure):
    """struct bpf_map_info, as far as it is read."""

    _fields_ = fields((_U32, "type id key_size value_size max_entries map_flags"), (ct.c_char * 16, "name"))


class LinkInfo(ct.Structure):
    """struct bpf_link_info for XDP and tcx links (`type` 6 and 11: ifindex is the first word of the union)."""

    _fields_ = fields((_U32, "type id prog_id pad ifindex"), (ct.c_uint8 * 60, "rest"))


class ProgInfo(ct.Structure):
    """struct bpf_prog_info up to the BTF."""

    _fields_ = fields(
        (_U32, "type id"),
        (ct.c_uint8 * 8, "tag"),
        (_U32, "jited_len xlated_len"),
        (_U64, "jited_insns xlated_insns load_time"),
        (_U32, "created_by_uid nr_map_ids"),
        (_U64, "map_ids"),
        (ct.c_char * 16, "name"),
        (_U32, "ifindex pad"),
        (_U64, "netns_dev netns_ino"),
        (_U32, "nr_jited_ksyms nr_jited_func_lens"),
        (_U64, "jited_ksyms jited_func_lens"),
        (_U32, "btf_id func_info_rec_size"),
    )


class TestRunOptions(ct.Structure):
    """struct bpf_test_run_opts."""

    _fields_ = fields(
        (_SIZE, "sz"),
        (_POINTER, "data_in data_out"),
        (_U32, "data_size_in data_size_out"),
        (_POINTER, "ctx_in ctx_out"),
        (_U32, "ctx_size_in ctx_size_out retval"),
        (_INT, "repeat"),
        (_U32, "duration flags cpu batch_size"),
    )


class LinkOptions(ct.Structure):
    """struct bpf_link_create_opts, as far as it is used."""

    _fields_ = fields((_SIZE, "sz"), (_U32, "flags"), (_POINTER, "iter_info"), (_U32, "iter_info_len target_btf_id"))


class MapOptions(ct.Structure):
    """struct bpf_map_create_opts."""

    _fields_ = fields(
        (_SIZE, "sz"),
        (_U32, "btf_fd btf_key_type_id btf_value_type_id btf_vmlinux_value_type_id inner_map_fd"),
        (_U32, "map_flags"),
        (_U64, "map_extra"),
        (_U32, "numa_node map_ifindex"),
    )


class XdpOptions(ct.Structure):
    """struct bpf_xdp_attach_opts"""

    _fields_ = fields((_SIZE, "sz"), (_INT, "old_prog_fd"), (_U32, "pad"))
