/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Longest prefix match in the verdict table: a multibit trie with range chunks, one structure for both families.
 *
 * The first 16 bits of an address are the index in the root. Each further step goes through a block (256 entries, 8
 * bits) or, if a subtree has few boundaries, a chunk that is searched in place. A block whose entries are all frequent
 * leaves has bytes as entries: a large list takes a quarter of the size, and more of it is in the caches. An IPv4
 * address is in the upper half of `hi`, so it takes at most three steps after the root; IPv6 at most sixteen. If rules
 * have services, one more step goes through a row of leaves, one for each class of services.
 */
#pragma once

#include "maps.h"

/* Unrolled, the verifier sees each step of a walk in one state; in a loop it checks each way there separately. */
#ifdef __clang__
#define TM_UNROLL _Pragma("clang loop unroll(full)")
#else
#define TM_UNROLL
#endif

#define TM_STEPS_SMALL 3 /* all that an IPv4 address needs */
#define TM_STEPS 16

/*
 * Boundary search in a chunk: u32 n, pad; u64 key[n]; u32 entry[n + 1]. `g` is its word offset in the page. With
 * `early` it stops when nothing is left, which is faster. Without, the result is the same, with one path to verify.
 */
static __always_inline __u32 tm_chunk(const struct tm_page *page, __u32 g, __u64 k, int early)
{
	__u32 n = page->w[g & (TM_PAGE_WORDS - 1)];
	__u32 first = (g >> 1) + 1, index = 0, left = n, half;
	__u64 x, less;
	int i;

	for (i = 0; i < 6; i++) { /* 2^6 > TM_CHUNK_MAX */
		if (early && !left)
			break;
		half = (left + 1) >> 1;
		x = page->key[(first + index + half - 1) & (TM_PAGE_WORDS / 2 - 1)];
		less = (~k & x) |
		       (~(k ^ x) & (k - x)); /* top bit: k < x; without a branch that could be guessed wrong */
		index += half & (__u32) ~((__s64)less >> 63);
		left -= half;
	}
	return page->w[(g + 2 + 2 * n + index) & (TM_PAGE_WORDS - 1)];
}

/* The leaf for the service `what`, in the row of leaves at `entry`. */
static __always_inline __u32 tm_serve(void *table, const struct tm_page *head, __u32 entry, __u32 what)
{
	__u32 g = (head->w[TM_HDR_CLASSES] << 5) + what, index = g / (4 * TM_PAGE_WORDS);
	const struct tm_page *page = bpf_map_lookup_elem(table, &index);

	if (!page)
		return 0;
	g = ((entry & TM_ENTRY_UNIT) << 3) + page->byte[g & (4 * TM_PAGE_WORDS - 1)];
	index = g / TM_PAGE_WORDS;
	page = bpf_map_lookup_elem(table, &index);
	return page ? page->w[g & (TM_PAGE_WORDS - 1)] : 0;
}

/*
 * The leaf for an address and a service (TM_WHAT_*), in at most `steps` after the root; 0 (allow by default) if the
 * table is damaged. `early` is faster in the usual case. If it would need more steps, or the lower half of the address,
 * it returns TM_LEAF_RECORD, and tm_decide() finds the leaf.
 */
static __always_inline __u32 tm_walk(void *table, __u32 which, __u64 hi, __u64 lo, int steps, int early, __u32 what)
{
	__u32 zero = 0, g, index, entry;
	const struct tm_page *head = bpf_map_lookup_elem(table, &zero), *page;
	__u64 k = hi << TM_ROOT_BITS;
	int i;

	if (!head)
		return 0;
	g = (head->w[TM_HDR_ROOT + (which & 3)] << 3) + (__u32)(hi >> (64 - TM_ROOT_BITS));
	index = g / TM_PAGE_WORDS;
	page = bpf_map_lookup_elem(table, &index);
	if (!page)
		return 0;
	entry = page->w[g & (TM_PAGE_WORDS - 1)];
	TM_UNROLL
	for (i = 0; i < steps; i++) {
		if (!(entry & TM_ENTRY_POINTER))
			return entry;
		if ((entry & TM_ENTRY_SERVICE) == TM_ENTRY_SERVICE)
			break;
		if (entry & TM_ENTRY_CROSS) {
			if (early)
				break;
			k = lo;
		}
		g = (entry & TM_ENTRY_UNIT) << 3;
		if (!(entry & (TM_ENTRY_CHUNK | TM_ENTRY_BYTES))) {
			g += (__u32)(k >> 56);
			k <<= 8;
		}
		index = g / TM_PAGE_WORDS;
		page = bpf_map_lookup_elem(table, &index);
		if (!page)
			return 0;
		if (entry & TM_ENTRY_BYTES) {
			g = 4 * g + (__u32)(k >> 56);
			entry = head->w[TM_HDR_PALETTE + page->byte[g & (4 * TM_PAGE_WORDS - 1)]];
			break;
		}
		if (entry & TM_ENTRY_CHUNK)
			entry = tm_chunk(page, g & (TM_PAGE_WORDS - 1), k, early);
		else
			entry = page->w[g & (TM_PAGE_WORDS - 1)];
	}
	if (!(entry & TM_ENTRY_POINTER))
		return entry;
	if ((entry & TM_ENTRY_SERVICE) != TM_ENTRY_SERVICE)
		return early ? TM_LEAF_RECORD : 0;
	return tm_serve(table, head, entry, what);
}

/* More than the deepest nesting in real rule sets (nine); a longer chain of expired rules ends at the last record. */
#define TM_PARENTS_MAX 16

/*
 * The leaf's verdict word. An expired record leads to the record that encloses it. If the strongest rule that has not
 * expired is in shadow, the word has TM_SHADOWED, and the rule is stored in tm_shadow with its pair number.
 */
static __always_inline __u32 tm_settle(void *table, __u32 leaf, __u64 now)
{
	__u32 zero = 0, unit, index;
	struct tm_shadow *shadow = bpf_map_lookup_elem(TM_REF(tm_shadow), &zero);
	const struct tm_record *record;
	const struct tm_page *page;
	int i, alive;

	if (!shadow)
		return 0;
	shadow->would = 0;
	for (i = 0; i < TM_PARENTS_MAX; i++) {
		if (!(leaf & TM_LEAF_RECORD))
			break;
		page = bpf_map_lookup_elem(table, &zero);
		if (!page)
			return 0;
		unit = page->w[TM_HDR_RECORDS] + (leaf & TM_LEAF_INDEX);
		index = unit / TM_PAGE_UNITS;
		page = bpf_map_lookup_elem(table, &index);
		if (!page)
			return 0;
		record = &page->record[unit % TM_PAGE_UNITS];
		alive = now <= record->expires - 1; /* 0: it has no end */
		if (alive && !record->shadow) {
			struct tm_packet *p = bpf_map_lookup_elem(TM_REF(tm_scratch), &zero);

			if (p) {
				p->rate_per_s = record->rate_per_s;
				p->burst_packets = record->burst_packets;
			}
			leaf = record->verdict;
			break;
		}
		shadow->pair += 2;
		if (alive && !shadow->would) {
			shadow->would = record->shadow;
			shadow->rate_per_s = record->rate_per_s;
			shadow->burst_packets = record->burst_packets;
			shadow->pair = record->verdict;
		}
		leaf = record->parent;
	}
	return leaf & TM_LEAF_RECORD ? 0 : leaf | (shadow->would ? TM_SHADOWED : 0);
}

/* The leaf's verdict, by the table that the leaf is from: both must be of one generation. */
static __always_inline __u32 tm_decide_by(void *table, __u32 which, __u64 hi, __u64 lo, __u64 now, __u32 what)
{
	__u32 leaf = tm_walk(table, which, hi, lo, TM_STEPS, 0, what);

	return leaf & TM_LEAF_RECORD ? tm_settle(table, leaf, now) : leaf;
}

/*
 * The verdict word for an address and a service (if its action is TM_LIMIT, the rate is stored in the CPU's packet).
 * `which` is the root: 2 * egress + is IPv6, plus TM_ON_TRIAL for the tables on probation. A separate function, which
 * the verifier checks once.
 */
#define TM_ON_TRIAL 4
TM_SUBFN __u32 tm_decide(__u32 which, __u64 hi, __u64 lo, __u64 now, __u32 what)
{
	__u32 place = which & TM_ON_TRIAL ? TM_TRIAL : TM_CONFIRMED;
	void *table;

	table = bpf_map_lookup_elem(TM_REF(tm_table_small), &place);
	if (table)
		return tm_decide_by(table, which, hi, lo, now, what);
	table = bpf_map_lookup_elem(TM_REF(tm_table_large), &place);
	if (table)
		return tm_decide_by(table, which, hi, lo, now, what);
	table = bpf_map_lookup_elem(TM_REF(tm_table_huge), &place);
	if (table)
		return tm_decide_by(table, which, hi, lo, now, what);
	return 0;
}

/*
 * The common case, a small table, inline: where returns are guarded against speculation, a call costs more than the
 * walk. Returns a verdict word, or TM_LEAF_RECORD: then tm_decide() must decide, by the table at that moment.
 */
static __always_inline __u32 tm_decide_small(__u32 which, __u64 hi, __u32 place, __u32 what)
{
	void *table = bpf_map_lookup_elem(TM_REF(tm_table_small), &place);

	return table ? tm_walk(table, which, hi, 0, TM_STEPS_SMALL, 1, what) : TM_LEAF_RECORD;
}

static __always_inline __u64 tm_host64(const __u8 *address)
{
	return __builtin_bswap64(*(const __u64 *)address);
}
