/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* The maps of the data path, and the constants that its loaders set. */
#ifndef TM_MAPS_H /* tests/policy/kernel_walk.c walks a table without maps */
#define TM_MAPS_H

#include "dialect.h"
#include "parse.h"

/* Set at load time; see struct tm_constants. With bcc, each is given by -D. */
#ifndef TM_BCC
const volatile struct tm_constants tm_constants SEC(".rodata.tm") = {}; /* apart from what clang puts in .rodata */
#define c_seed tm_constants.seed
#define c_set_mask tm_constants.set_mask
#define c_ring_mask tm_constants.ring_mask
#define c_hz tm_constants.hz
#endif

/* Sizes that depend on the machine: libbpf's loader sets them before the load, bcc's passes them with -D. */
#ifndef TM_NUM_CPUS
#define TM_NUM_CPUS 1
#define TM_NUM_SETS 1
#define TM_NUM_EVICTED 1
#define TM_NUM_INNERS 1
#endif

/* Whether tunnels are read inside: compiled once for each value; with the setting off, no instruction of it runs. */
#ifndef TM_LOOK_INSIDE
#define TM_LOOK_INSIDE 0
#endif
#ifndef TM_OWNERS
#define TM_OWNERS 0
#endif

/* bound: bans | a new ban is refused with an error */
#define TM_BANS_MAX 65536
/* bound: entries of `established`, two a connection | the one used longest ago is evicted; its replies need a rule */
#define TM_CONNS_MAX 65536
/* bound: token buckets of rules with `limit` | the source seen longest ago loses its bucket; its next bucket is full */
#define TM_BUCKETS_MAX 65536

enum tm_place { TM_OUTER = 0, TM_INSIDE = 1 }; /* in tm_scratch: of a CPU's packet, and of what is inside it */

TM_MAP(tm_config, "array", ARRAY, __u32, struct tm_config, 1, BPF_F_MMAPABLE)
TM_MAP(tm_scratch, "percpu_array", PERCPU_ARRAY, __u32, struct tm_packet, 2, 0)
TM_MAP(tm_shadow, "percpu_array", PERCPU_ARRAY, __u32, struct tm_shadow, 1, 0)
TM_MAP(tm_clock, "array", ARRAY, __u32, struct tm_clock, 1, BPF_F_MMAPABLE)
TM_MAP(tm_ifslots, "array", ARRAY, __u32, struct tm_ifslots, 16, BPF_F_MMAPABLE)
TM_MAP(tm_totals, "array", ARRAY, __u32, struct tm_totals, TM_NUM_CPUS * 2 * TM_MAX_INTERFACES, BPF_F_MMAPABLE)
TM_MAP(tm_sets, "array", ARRAY, __u32, struct tm_set, TM_NUM_SETS, BPF_F_MMAPABLE)
TM_MAP(tm_taken, "array", ARRAY, __u32, struct tm_taken, 2 * TM_NUM_SETS, BPF_F_MMAPABLE)
TM_MAP(tm_rings, "array", ARRAY, __u32, struct tm_ring, TM_NUM_CPUS, BPF_F_MMAPABLE)
TM_MAP(tm_evicted, "array", ARRAY, __u32, struct tm_flow, TM_NUM_EVICTED, BPF_F_MMAPABLE)
/*
 * The verdict table in force is in one of three slots. Look-ups in an inner map of known size are compiled into the
 * program; with unknown size, each is a call through a pointer and takes five times as long. So most tables are padded
 * to one of two sizes, and only larger ones pay. The first slot in use counts. Each slot has a second place, for a
 * table on probation (tm_config.until).
 */
TM_TEMPLATE(tm_small, TM_SMALL_PAGES, BPF_F_MMAPABLE)
TM_TEMPLATE(tm_large, TM_LARGE_PAGES, BPF_F_MMAPABLE)
TM_TEMPLATE(tm_huge, 1, BPF_F_MMAPABLE | BPF_F_INNER_MAP)
TM_MAP_OF(tm_table_small, tm_small)
TM_MAP_OF(tm_table_large, tm_large)
TM_MAP_OF(tm_table_huge, tm_huge)
TM_MAP(tm_ban_services, "array", ARRAY, __u32, struct tm_ban_set, TM_BAN_SETS, BPF_F_MMAPABLE)
TM_MAP(tm_bans, "lpm_trie", LPM_TRIE, struct tm_ban_key, struct tm_ban, TM_BANS_MAX, BPF_F_NO_PREALLOC)
TM_MAP(tm_conns, "lru_hash", LRU_HASH, struct tm_conn_key, __u64, TM_CONNS_MAX, 0)
TM_MAP(tm_buckets, "lru_hash", LRU_HASH, struct tm_bucket_key, struct tm_bucket, TM_BUCKETS_MAX, 0)
TM_MAP(tm_inners, "lru_hash", LRU_HASH, __u64, struct tm_inner, TM_NUM_INNERS, 0)

#endif
