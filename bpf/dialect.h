/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * One source, two loaders. libbpf loads the object built ahead of time; bcc (with -DTM_BCC) compiles this very
 * source on the host. Where their dialects differ, a macro stands here with both expansions:
 *
 *   TM_MAP ...   a map; bcc numbers its maps -1, -2, ... in order of declaration, hence the enum, and opens or
 *                makes the pin TM_PINS + name
 *   TM_TEMPLATE  what the maps in a TM_MAP_OF look like
 *   TM_RING      a ring buffer of so many bytes
 *   TM_REF(m)    the map's address in a helper call
 *   TM_SUBFN     a function that the verifier checks once (bcc has no calls between functions: inlined there)
 *   TM_PROG      a program
 */
#pragma once

#ifdef TM_BCC
/*
 * bcc's maps have no BTF. The daemon makes inner maps without BTF, and Linux 5.15 to 6.1 refuse these beside a template
 * with BTF (bpf_map_meta_equal() compares where a timer would be: -ENOENT with BTF, -EINVAL without).
 */
#undef BPF_ANNOTATE_KV_PAIR
#define BPF_ANNOTATE_KV_PAIR(...)
/* clang-format off */
#define TM_MAP(name, low, UP, K, V, n, flags) BPF_F_TABLE(low ":" TM_PINS #name, K, V, name, n, flags); enum { name##_ref = -1 - __COUNTER__ };
#define TM_TEMPLATE(name, pages, flags) BPF_F_TABLE("array", __u32, struct tm_page, name, pages, flags); enum { name##_ref = -1 - __COUNTER__ };
#define TM_MAP_OF(name, inner) BPF_F_TABLE("array_of_maps$" #inner ":" TM_PINS #name, __u32, __u32, name, 2, 0); enum { name##_ref = -1 - __COUNTER__ };
#define TM_RING(name, bytes) BPF_F_TABLE("ringbuf:" TM_PINS #name, int, __u32, name, bytes, 0); enum { name##_ref = -1 - __COUNTER__ };
#define TM_REF(m) ((void *)bpf_pseudo_fd(1, m##_ref))
#define TM_PROG(section)
#define TM_SUBFN static inline
#else
#define TM_MAP(name, low, UP, K, V, n, flags) \
	struct { __uint(type, BPF_MAP_TYPE_##UP); __uint(max_entries, n); __uint(map_flags, flags); __type(key, K); __type(value, V); } name SEC(".maps");
#define TM_TEMPLATE(name, pages, flags) \
	struct name { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, pages); __uint(map_flags, flags); __uint(key_size, sizeof(__u32)); __uint(value_size, sizeof(struct tm_page)); };
#define TM_MAP_OF(name, inner) \
	struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 2); __type(key, __u32); __array(values, struct inner); } name SEC(".maps");
#define TM_RING(name, bytes) \
	struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, bytes); } name SEC(".maps");
#define TM_REF(m) (&m)
#define TM_PROG(section) SEC(section)
#define TM_SUBFN __noinline
/* clang-format on */
#endif
