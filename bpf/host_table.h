/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * The inner loops of the compiler of verdict tables: sorted prefixes, the boundaries between them, and the blocks of
 * the trie. trafficmond/policy/table.py, flatten.py and trie.py explain what they do; policy/compiled.py is the only
 * caller. tests/policy/policy_referee.py does the same with numpy.
 */
#pragma once

#include <stdlib.h>
#include <string.h>

#include <linux/types.h>

#include "host_state.h"

#define TM_RUN_LEAST 16 /* rows that are sorted by insertion */
#define TM_BLOCK 256	/* slots of a block */
#define TM_NO_CODE (-1)
#define TM_NOTHING (-1)
#define TM_SEEN_BITS 10
#define TM_SEEN (1 << TM_SEEN_BITS) /* leaves whose code is remembered */

/* ---- order ---- */

struct tm_sorted {
	__u64 hi;
	__u32 tail; /* length, then the other criteria */
	__u32 row;
};

/* `lo`, which rarely differs if `hi` does not, by row. */
static int tm_before(const struct tm_sorted *one, const struct tm_sorted *other, const __u64 *lo)
{
	if (one->hi != other->hi)
		return one->hi < other->hi;
	if (lo[one->row] != lo[other->row])
		return lo[one->row] < lo[other->row];
	return one->tail < other->tail;
}

static void tm_merge(const struct tm_sorted *left, __u64 lefts, const struct tm_sorted *right, __u64 rights,
		     struct tm_sorted *to, const __u64 *lo)
{
	while (lefts && rights) {
		if (tm_before(right, left, lo)) {
			*to++ = *right++;
			rights--;
		} else {
			*to++ = *left++;
			lefts--;
		}
	}
	memcpy(to, left, lefts * sizeof(*to));
	memcpy(to + lefts, right, rights * sizeof(*to));
}

/* The end of the run that begins at `from`; a short run is made longer. */
static __u64 tm_run(struct tm_sorted *rows, __u64 from, __u64 count, const __u64 *lo)
{
	__u64 end = from + 1, at;

	while (end < count && !tm_before(&rows[end], &rows[end - 1], lo))
		end++;
	for (; end < count && end - from < TM_RUN_LEAST; end++) {
		struct tm_sorted moved = rows[end];

		for (at = end; at > from && tm_before(&moved, &rows[at - 1], lo); at--)
			rows[at] = rows[at - 1];
		rows[at] = moved;
	}
	return end;
}

/* Sorts rows, equal ones in their order, by merging runs that are in order already: most of a list is. `spare` has the
 * same size, `ends` room for the end of each run. Returns where the sorted rows are: `rows` or `spare`. */
static struct tm_sorted *tm_in_order(struct tm_sorted *rows, struct tm_sorted *spare, __u64 *ends, __u64 count,
				     const __u64 *lo)
{
	struct tm_sorted *other = spare;
	__u64 runs = 0, run, kept;

	for (__u64 at = 0; at < count; at = ends[runs++])
		ends[runs] = tm_run(rows, at, count, lo);
	for (; runs > 1; runs = kept) {
		for (__u64 at = run = kept = 0; run < runs; at = ends[kept++]) {
			__u64 middle = ends[run], end = run + 1 < runs ? ends[run + 1] : middle;

			tm_merge(rows + at, middle - at, rows + middle, end - middle, other + at, lo);
			run += 2;
			ends[kept] = end;
		}
		struct tm_sorted *from = rows;

		rows = other;
		other = from;
	}
	return rows;
}

struct tm_prefixes {
	__u64 *hi, *lo;
	__u8 *plen, *family;
};

/* Sorts prefixes by family, address, length and `tail`; stores them and their former indexes. 0: no memory. */
TM_EXPORT int tm_prefix_order(const struct tm_prefixes *of, const __u8 *tail, __u64 count, __s64 *order,
			      const struct tm_prefixes *to)
{
	struct tm_sorted *rows = malloc((2 * count + 1) * sizeof(*rows)), *sorted;
	__u64 *ends = malloc((count / TM_RUN_LEAST + 2) * sizeof(*ends)), i, found, begin = 0;

	if (!rows || !ends) {
		free(rows);
		free(ends);
		return 0;
	}
	for (__u8 wanted = 4; wanted <= 6; wanted += 2) {
		for (i = found = 0; i < count; i++) {
			if (of->family[i] == wanted)
				rows[found++] =
					(struct tm_sorted){of->hi[i], (__u32)of->plen[i] << 8 | tail[i], (__u32)i};
		}
		sorted = tm_in_order(rows, rows + found, ends, found, of->lo);
		for (i = 0; i < found; i++, begin++) {
			order[begin] = sorted[i].row;
			to->hi[begin] = sorted[i].hi;
			to->lo[begin] = of->lo[sorted[i].row];
			to->plen[begin] = (__u8)(sorted[i].tail >> 8);
			to->family[begin] = wanted;
		}
	}
	free(rows);
	free(ends);
	return 1;
}

/* ---- boundaries ---- */

struct tm_bounds {
	__u64 *at;
	__u64 count;
};

/* The index of a boundary; boundaries come in ascending order. */
static __s64 tm_bound(struct tm_bounds *bounds, __u64 at)
{
	if (bounds->at[bounds->count - 1] != at)
		bounds->at[bounds->count++] = at;
	return (__s64)bounds->count - 1;
}

/* Ends the open prefixes that end by `until`, from the innermost one, `open`, on. Returns the one that is innermost
 * then. While the end of a prefix is not known, `end` has the prefix around it. */
static __s64 tm_close(struct tm_bounds *bounds, __s64 open, const __u64 *past, __s64 *end, __u64 until)
{
	while (open != TM_NOTHING && past[open] && past[open] <= until) {
		__s64 below = end[open];

		end[open] = tm_bound(bounds, past[open]);
		open = below;
	}
	return open;
}

/*
 * Finds the boundaries between prefixes and single addresses. A prefix goes from `first` up to `past` (0: beyond the
 * last address); prefixes are sorted by address and length, the addresses `group` by value. Stores the boundaries in
 * `at` (room: twice the number of both, plus 1), and where each prefix begins and ends. Returns their number.
 */
TM_EXPORT __u64 tm_bounds_of(const __u64 *first, const __u64 *past, __u64 count, const __u64 *group, __u64 groups,
			     __u64 *at, __s64 *begin, __s64 *end)
{
	struct tm_bounds bounds = {at, 1};
	__s64 open = TM_NOTHING, below;
	__u64 g;

	at[0] = 0;
	for (__u64 i = g = 0; i < count || g < groups;) {
		if (i < count && (g == groups || first[i] <= group[g])) {
			open = tm_close(&bounds, open, past, end, first[i]);
			begin[i] = tm_bound(&bounds, first[i]);
			end[i] = open;
			open = (__s64)i++;
			continue;
		}
		open = tm_close(&bounds, open, past, end, group[g]);
		tm_bound(&bounds, group[g]);
		if (group[g] + 1) {
			open = tm_close(&bounds, open, past, end, group[g] + 1);
			tm_bound(&bounds, group[g] + 1);
		}
		g++;
	}
	open = tm_close(&bounds, open, past, end, ~(__u64)0);
	for (; open != TM_NOTHING; open = below) {
		below = end[open];
		end[open] = (__s64)bounds.count;
	}
	return bounds.count;
}

/* ---- blocks of the trie ---- */

/* Nodes of one level, as in trie.py. */
struct tm_nodes {
	const __u64 *start;
	const __s64 *first, *count, *base;
	__u64 nodes;
};

static __s16 tm_code(__u32 entry, const __u32 *palette, __u64 colours)
{
	__u64 low = 0, high = colours;

	while (low < high) {
		__u64 middle = (low + high) / 2;

		if (palette[middle] < entry)
			low = middle + 1;
		else
			high = middle;
	}
	return low < colours && palette[low] == entry ? (__s16)low : TM_NO_CODE;
}

/* The index of each leaf in the palette, which is ascending; TM_NO_CODE if it is not there. */
TM_EXPORT void tm_codes(const __u32 *entry, __u64 count, const __u32 *palette, __u64 colours, __s16 *code)
{
	struct {
		__u32 entry;
		__s16 code;
		__u16 known;
	} seen[TM_SEEN] = {{0, 0, 0}}, *here;
	__u64 i;

	for (i = 0; i < count; i++) {
		here = &seen[entry[i] * 0x9e3779b1U >> (32 - TM_SEEN_BITS)];
		if (!here->known || here->entry != entry[i]) {
			here->entry = entry[i];
			here->code = tm_code(entry[i], palette, colours);
			here->known = 1;
		}
		code[i] = here->code;
	}
}

/* Which nodes have nothing below the slots of their block, after `shift` address bits, and a code for each leaf. */
TM_EXPORT void tm_codable(const __u64 *at, const __s16 *code, const struct tm_nodes *of, __u32 shift, __u8 *codable)
{
	__u64 inside = ((__u64)1 << (64 - 8 - shift)) - 1, node;

	for (node = 0; node < of->nodes; node++) {
		__s64 end = of->first[node] + of->count[node];
		int fits = code[of->base[node]] != TM_NO_CODE;

		for (__s64 i = of->first[node]; fits && i < end; i++)
			fits = !((at[i] - of->start[node]) & inside) && code[i] != TM_NO_CODE;
		codable[node] = (__u8)fits;
	}
}

/* The block of bytes of each node that can be encoded. */
TM_EXPORT void tm_bytes(const __u64 *at, const __s16 *code, const struct tm_nodes *of, __u32 shift, __u8 *block)
{
	for (__u64 node = 0; node < of->nodes; node++, block += TM_BLOCK) {
		__s64 end = of->first[node] + of->count[node];
		__u8 byte = (__u8)code[of->base[node]];
		__u64 slot = 0;

		for (__s64 i = of->first[node]; i < end; i++) {
			__u64 next = (at[i] - of->start[node]) >> (64 - 8 - shift);

			memset(block + slot, byte, next - slot);
			byte = (__u8)code[i];
			slot = next;
		}
		memset(block + slot, byte, TM_BLOCK - slot);
	}
}

/* Of each of the 2^bits slots of each node the boundaries inside (`first`, `count`) and the one that holds where it
 * begins (`base`); `shift` address bits are consumed below them. */
TM_EXPORT void tm_slots(const __u64 *at, const struct tm_nodes *of, __u32 bits, __u32 shift, __s32 *first, __s32 *count,
			__s32 *base)
{
	__u64 slots = (__u64)1 << bits, inside = ((__u64)1 << (64 - shift)) - 1, node, slot;
	__s64 i;

	for (node = 0; node < of->nodes; node++, first += slots, count += slots, base += slots) {
		__s64 end = of->first[node] + of->count[node];
		__s32 holds = (__s32)of->base[node];

		for (i = of->first[node], slot = 0; slot < slots; slot++) {
			__u64 begins = slot << (64 - shift);

			if (i < end && at[i] - of->start[node] == begins)
				holds = (__s32)i++;
			base[slot] = holds;
			first[slot] = 0;
			count[slot] = 0;
			if (i == end || ((at[i] - of->start[node]) ^ begins) & ~inside)
				continue;
			first[slot] = (__s32)i;
			while (i < end && !(((at[i] - of->start[node]) ^ begins) & ~inside))
				i++;
			count[slot] = (__s32)i - first[slot];
			holds = (__s32)i - 1;
		}
	}
}

/* target[begin[i]..end[i]) = value[i] */
TM_EXPORT void tm_paint(__u32 *target, const __s64 *begin, const __s64 *end, const __u32 *value, __u64 count)
{
	for (__u64 i = 0; i < count; i++)
		for (__s64 at = begin[i]; at < end[i]; at++)
			target[at] = value[i];
}
