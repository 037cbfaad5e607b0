/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* The detectors' inner loops, for trafficmond/detect/windows.py; tests/detect/detect_referee.py has them in numpy. */
#pragma once

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <linux/types.h>

#include "host_state.h"

#define TM_WAYS 8
#define TM_HEAVIEST ((1 << 20) - 1)
#define TM_NOWHERE (-1)
#define TM_NO_ROW 0xffffffff
#define TM_DIGIT 11  /* bits that are sorted at a time */
#define TM_BLOCK 256 /* rows that the cache holds */
#define TM_AHEAD 16  /* rows whose places in a large table are being fetched from memory */

/* Table of windows.py: buckets of TM_WAYS places; a row begins with its `since`. */
struct tm_table {
	__u64 *key; /* 0: a free place */
	double *worth, *evidence;
	__u8 *row;
	__u64 row_size, buckets;
	double credit, window;
	__u64 evicted, refused;
};

static __u64 tm_bucket(const struct tm_table *t, __u64 key)
{
	return key >> 40 & (t->buckets - 1);
}

/* What keeps a place from a newcomer. Free places have nothing; their memory is not written before they are taken. */
static double tm_worth(const struct tm_table *t, __s64 slot)
{
	return t->key[slot] ? t->worth[slot] : -INFINITY;
}

static void tm_begin(struct tm_table *t, __s64 slot, double now)
{
	__u8 *row = t->row + (__u64)slot * t->row_size;

	memset(row, 0, t->row_size);
	memcpy(row, &now, sizeof(now));
}

static void tm_settled(struct tm_table *t, __s64 slot, double evidence, double now)
{
	t->evidence[slot] = evidence;
	t->worth[slot] = now + t->credit * log2(1 + evidence);
}

static __s64 tm_place_of(const struct tm_table *t, __u64 key)
{
	__s64 at = tm_bucket(t, key) * TM_WAYS;

	for (int way = 0; way < TM_WAYS; way++)
		if (t->key[at + way] == key)
			return at + way;
	return TM_NOWHERE;
}

static void tm_admit_known(struct tm_table *t, __s64 slot, double weight, double now)
{
	double since;

	memcpy(&since, t->row + (__u64)slot * t->row_size, sizeof(since));
	if (fabs(now - since) > t->window)
		tm_begin(t, slot, now);
	tm_settled(t, slot, t->evidence[slot] + weight, now);
}

static __u32 tm_heaviness(double weight)
{
	return weight < TM_HEAVIEST ? (__u32)weight : TM_HEAVIEST;
}

/* Gives the places of a bucket to the newcomers in its list, the heaviest first; returns how many got one. */
static __u32 tm_settle(struct tm_table *t, __u64 bucket, __u32 first, const __u32 *next, const __u64 *key,
		       const double *weight, const double *now, __s64 *slot)
{
	__u32 heaviest[TM_WAYS], newcomers = 0, taken = 0, row;

	for (row = first; row != TM_NO_ROW; row = next[row]) {
		__u32 heavy = tm_heaviness(weight[row]), at = newcomers;

		if (newcomers < TM_WAYS)
			newcomers++;
		else if (heavy <= tm_heaviness(weight[heaviest[--at]]))
			continue;
		for (; at && tm_heaviness(weight[heaviest[at - 1]]) < heavy; at--)
			heaviest[at] = heaviest[at - 1];
		heaviest[at] = row;
	}
	for (__u32 turn = 0; turn < newcomers; turn++) {
		__s64 at = bucket * TM_WAYS, least = at;

		row = heaviest[turn];
		for (int way = 1; way < TM_WAYS; way++)
			if (tm_worth(t, at + way) < tm_worth(t, least))
				least = at + way;
		if (now[row] + t->credit * log2(1 + weight[row]) <= tm_worth(t, least))
			continue;
		t->evicted += t->key[least] != 0;
		t->key[least] = key[row];
		tm_settled(t, least, weight[row], now[row]);
		tm_begin(t, least, now[row]);
		slot[row] = least;
		taken++;
	}
	return taken;
}

struct tm_keyed {
	__u64 key;
	__s64 at;
};

/* Sorts keys by their digits from bit `shift` on, where they differ; `to` has room for all. Returns where they are. */
static struct tm_keyed *tm_by_digits(struct tm_keyed *from, struct tm_keyed *to, __u32 n, __u64 differ, int shift)
{
	__u32 count[1 << TM_DIGIT], digit, at;

	for (; shift < 64; shift += TM_DIGIT) {
		struct tm_keyed *sorted = to;

		if (!(differ >> shift & ((1 << TM_DIGIT) - 1)))
			continue;
		memset(count, 0, sizeof(count));
		for (__u32 i = 0; i < n; i++)
			count[from[i].key >> shift & ((1 << TM_DIGIT) - 1)]++;
		for (__u32 sum = digit = 0; digit < 1 << TM_DIGIT; digit++) {
			at = count[digit];
			count[digit] = sum;
			sum += at;
		}
		for (__u32 i = 0; i < n; i++)
			sorted[count[from[i].key >> shift & ((1 << TM_DIGIT) - 1)]++] = from[i];
		to = from;
		from = sorted;
	}
	return from;
}

/* Sorts keys that are nearly in order. Returns 0, with some moved, if that takes many steps. */
static int tm_nearly_sorted(struct tm_keyed *key, __u32 n)
{
	__u32 steps = n, to;

	for (__u32 i = 1; i < n; i++) {
		struct tm_keyed one = key[i];

		for (to = i; to && key[to - 1].key > one.key && steps; to--, steps--)
			key[to] = key[to - 1];
		key[to] = one;
	}
	return steps > 0;
}

/*
 * Sorts keys, those that are equal by their place. Keys are moved with their indexes: reading each one from its place
 * would cost a cache line. The highest three digits put hashes nearly in order. Returns 0 if there is no memory.
 */
static int tm_key_order(const __u64 *key, __u32 n, __s64 *order)
{
	struct tm_keyed *both = malloc(2 * ((size_t)n + 1) * sizeof(*both)), *from = both;
	__u64 differ = 0;
	int shift = 0;

	if (!both)
		return 0;
	for (__u32 i = 0; i < n; i++) {
		from[i] = (struct tm_keyed){key[i], i};
		differ |= key[i] ^ key[0];
	}
	while (differ >> shift >> 3 * TM_DIGIT)
		shift++;
	from = tm_by_digits(from, both + n, n, differ, shift);
	if (shift && !tm_nearly_sorted(from, n))
		from = tm_by_digits(from, from == both ? both + n : both, n, differ, 0);
	for (__u32 i = 0; i < n; i++)
		order[i] = from[i].at;
	free(both);
	return 1;
}

/* Adds one word to a hash: SplitMix64's finaliser, like mix() in windows.py. */
static __u64 tm_mixed(__u64 total, __u64 word)
{
	total = (total ^ word) + 0x9e3779b97f4a7c15ull;
	total = (total ^ total >> 30) * 0xbf58476d1ce4e5b9ull;
	total = (total ^ total >> 27) * 0x94d049bb133111ebull;
	return total ^ total >> 31;
}

/* Copies a field of `count` rows to a column. */
static void tm_column(const __u8 *at, __u32 count, __u64 row_size, __u32 size, __u8 *to)
{
	switch (size) {
	case 1:
		for (__u32 i = 0; i < count; i++, at += row_size)
			to[i] = *at;
		return;
	case 2:
		for (__u32 i = 0; i < count; i++, at += row_size)
			memcpy(to + 2 * (__u64)i, at, 2);
		return;
	case 4:
		for (__u32 i = 0; i < count; i++, at += row_size)
			memcpy(to + 4 * (__u64)i, at, 4);
		return;
	default:
		for (__u32 i = 0; i < count; i++, at += row_size)
			memcpy(to + 8 * (__u64)i, at, 8);
	}
}

static __u32 tm_scattered(__u64 key)
{
	return key * 0x9e3779b97f4a7c15ull >> 32;
}

/*
 * Finds the place of each key among the `count` keys in `known`, which has room for `n` more. New keys get the next
 * places, and their rows are stored in `fresh`. `places` has the number of a place plus 1, by hash. Its size is a power
 * of two, at least twice the largest number of keys. Returns the number of new keys.
 */
TM_EXPORT __u32 tm_places(__u64 *known, __u32 count, __u32 *places, __u32 size, const __u64 *key, __u32 n, __s64 *place,
			  __s64 *fresh)
{
	__u32 at, begun = count;

	for (__u32 i = 0; i < n; i++) {
		if (i + TM_AHEAD < n)
			__builtin_prefetch(&places[tm_scattered(key[i + TM_AHEAD]) & (size - 1)]);
		at = tm_scattered(key[i]) & (size - 1);
		while (places[at] && known[places[at] - 1] != key[i])
			at = (at + 1) & (size - 1);
		if (!places[at]) {
			known[count] = key[i];
			fresh[count - begun] = i;
			places[at] = ++count;
		}
		place[i] = places[at] - 1;
	}
	return count - begun;
}

/* Adds the values of each row (`columns` of them) to those of its group. If `of` is longer, the rows repeat. */
TM_EXPORT void tm_sums(const __s64 *of, __u32 n, const __u64 *value, __u32 rows, __u32 columns, __u64 *sum)
{
	__u32 row;

	for (__u32 i = row = 0; i < n; i++) {
		for (__u32 column = 0; column < columns; column++)
			sum[(size_t)of[i] * columns + column] += value[(size_t)row * columns + column];
		if (++row == rows)
			row = 0;
	}
}

/*
 * Each slot has a byte map, in which a thing has a place. Stores the mark of each row (1 if `mark` is NULL) there, and
 * in `before` the mark that the row found, perhaps of a row before it. Rows without a slot are ignored.
 */
TM_EXPORT void tm_mark(__u8 *map, __u64 slots, __u64 stride, __u32 width, const __s64 *slot, const __u64 *thing,
		       const __u8 *mark, __u32 n, __u8 *before)
{
	for (__u32 i = 0; i < n; i++) {
		__u8 *at = map + (__u64)slot[i] * stride + thing[i] % width;

		before[i] = 0;
		if ((__u64)slot[i] >= slots)
			continue;
		before[i] = *at;
		*at = mark ? mark[i] : 1;
	}
}

/*
 * Adds the amounts of all rows of a slot, in one sum, to a field of the slot: a float of `size` bytes. Rows without a
 * slot are ignored. Returns 0 if memory is short; then nothing was done.
 */
TM_EXPORT int tm_add(__u8 *field, __u64 slots, __u64 stride, __u32 size, const __s64 *slot, const double *amount,
		     __u32 n)
{
	double *sum = calloc(slots, sizeof(*sum));

	if (!sum)
		return 0;
	for (__u32 i = 0; i < n; i++)
		if ((__u64)slot[i] < slots)
			sum[slot[i]] += amount[i];
	for (__u32 i = 0; i < n; i++) {
		__u8 *at = field + (__u64)slot[i] * stride;
		double wide;
		float narrow;

		if ((__u64)slot[i] >= slots)
			continue;
		if (size == sizeof(narrow)) {
			memcpy(&narrow, at, sizeof(narrow));
			narrow = (float)(narrow + sum[slot[i]]);
			memcpy(at, &narrow, sizeof(narrow));
		} else {
			memcpy(&wide, at, sizeof(wide));
			wide += sum[slot[i]];
			memcpy(at, &wide, sizeof(wide));
		}
		sum[slot[i]] = 0;
	}
	free(sum);
	return 1;
}
