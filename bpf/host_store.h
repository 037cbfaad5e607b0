/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Rows of flows.db straight from a batch: the pages of a small database with one table (sqlite.org/fileformat2.html),
 * whose records SQLite copies as they are. So no value becomes a Python object, and SQLite makes no record.
 * trafficmond/store/image.py is the only caller; tests/store/store_tuples.py does the same with Python.
 */
#pragma once

#include <arpa/inet.h>
#include <math.h>

#include "host_state.h"
#include "host_texts.h"

#define TM_COLUMNS_MOST 32
#define TM_PAGE 65536
#define TM_VALUES_MOST (TM_PAGE - 512) /* of a record that one page holds */

enum { TM_VALUE_INTEGER = -1, TM_VALUE_NULL = -2 };

/* The value for a number: `length` bytes of text, or one of TM_VALUE_*. */
struct tm_value {
	__u64 number;
	const char *text;
	__s64 integer;
	__s64 length;
};

enum { TM_IS_REAL, TM_IS_INTEGER, TM_IS_NAMED, TM_IS_ADDRESS, TM_IS_COMMUNITY };

struct tm_column {
	__u32 is;
	__u32 at, width; /* of the field in a row; an address: of its upper half, which the lower one follows */
	__u32 values_count;
	const struct tm_value *values; /* in the order of `number`, every number that occurs */
};

/* The beginning of every row in a batch: the fields of batch.ENDPOINTS that are needed here. */
struct tm_ends {
	__u64 src_hi, src_lo, dst_hi, dst_lo;
	__u16 sport, dport;
	__u8 proto, family;
} __attribute__((packed));

struct tm_batch {
	const __u8 *row;
	__u64 rows, size;
	__u32 columns, ends; /* where the endpoints are in a row */
	const __s16 *mate;   /* as in struct tm_flow_rules */
	const __u8
		*ports; /* [256]: a protocol's ports are part of its Community ID (1), which is nothing without (2) */
	struct tm_column column[TM_COLUMNS_MOST];
};

static __u64 tm_field(const __u8 *at, __u32 width)
{
	__u64 value = 0;

	memcpy(&value, at, width);
	return value;
}

static const struct tm_value *tm_value_of(const struct tm_column *c, __u64 number)
{
	__u32 low = 0, high = c->values_count;

	while (low < high) {
		__u32 middle = low + (high - low) / 2;

		if (c->values[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low < c->values_count && c->values[low].number == number ? &c->values[low] : NULL;
}

static int tm_address_text(char *out, const __u8 *at, __u8 family)
{
	__u32 wide[TM_V4_TEXT], i;
	__u64 half[2];

	memcpy(half, at, sizeof(half));
	if (family == 4) {
		tm_v4_text(wide, (__u32)half[1]);
		for (i = 0; i < TM_V4_TEXT && wide[i]; i++)
			out[i] = (char)wide[i];
		return (int)i;
	}
	half[0] = __builtin_bswap64(half[0]);
	half[1] = __builtin_bswap64(half[1]);
	inet_ntop(AF_INET6, half, out, INET6_ADDRSTRLEN);
	return (int)strlen(out);
}

/* The same as flows/canonical.py and flows/community_id.py; returns the length of the text. */
static int tm_community(char *out, const struct tm_ends *e, const struct tm_batch *g)
{
	int swap = e->src_hi != e->dst_hi   ? e->src_hi > e->dst_hi
		   : e->src_lo != e->dst_lo ? e->src_lo > e->dst_lo
					    : e->sport > e->dport;
	__u16 dport = e->dport, port[2];
	__u32 wide[TM_COMMUNITY_TEXT], used = 2, half = e->family == 4 ? 4 : 16, i;
	__u64 end[2][2] = {{e->src_hi, e->src_lo}, {e->dst_hi, e->dst_lo}};
	__u8 text[40] = {0}, digest[20];

	if (g->ports[e->proto] & 2 && !e->sport && !e->dport)
		return 0;
	if (tm_is_icmp(e->proto)) {
		__u32 kind = e->sport < TM_TYPE_UNKNOWN ? e->sport : TM_TYPE_UNKNOWN;
		__s16 mate = g->mate[e->proto * (TM_TYPE_UNKNOWN + 1) + kind];

		if (mate >= 0 && e->src_hi == e->dst_hi && e->src_lo == e->dst_lo)
			swap = kind > (__u32)mate;
		if (mate >= 0)
			dport = (__u16)mate;
		else
			swap = 0;
	}
	for (i = 0; i < 2; i++) {
		__u64 words[2] = {__builtin_bswap64(end[i ^ swap][0]), __builtin_bswap64(end[i ^ swap][1])};

		memcpy(text + used, (__u8 *)words + sizeof(words) - half, half);
		used += half;
	}
	text[used] = e->proto;
	used += 2;
	if (g->ports[e->proto]) {
		port[swap] = __builtin_bswap16(e->sport);
		port[!swap] = __builtin_bswap16(dport);
		memcpy(text + used, port, sizeof(port));
		used += sizeof(port);
	}
	tm_sha1(text, used, digest);
	tm_community_text(wide, digest);
	for (i = 0; i < TM_COMMUNITY_TEXT; i++)
		out[i] = (char)wide[i];
	return TM_COMMUNITY_TEXT;
}

/* A record (section 2.1): the types of its values, and the values. */
struct tm_stored {
	__u8 types[3 * TM_COLUMNS_MOST], values[TM_VALUES_MOST];
	__u32 types_length, length;
};

/* The table of an image: its root page, and the leaves after it. */
struct tm_image {
	__u8 *root;
	__u32 room; /* for so many leaves */
	__u32 leaves;
	__u32 cells, begin; /* of the last leaf: their number, and where the last one begins */
	__u64 rows;
};

static __u32 tm_varint(__u8 *out, __u64 value)
{
	__u32 length = 1;

	for (__u64 rest = value >> 7; rest; rest >>= 7)
		length++;
	for (__u32 i = length; i-- > 0; value >>= 7)
		out[i] = (value & 0x7f) | (i + 1 < length ? 0x80 : 0);
	return length;
}

static void tm_big16(__u8 *out, __u32 value)
{
	out[0] = value >> 8;
	out[1] = value;
}

static int tm_put(struct tm_stored *r, __u64 type, const void *value, __u64 length)
{
	if (r->length + length > sizeof(r->values))
		return 0;
	r->types_length += tm_varint(r->types + r->types_length, type);
	memcpy(r->values + r->length, value, length);
	r->length += length;
	return 1;
}

static int tm_put_integer(struct tm_stored *r, __s64 value)
{
	static const __u8 width[] = {0, 1, 2, 3, 4, 6, 8};
	__u64 big = __builtin_bswap64(value);
	__u32 type = 1;

	if (value == 0 || value == 1)
		return tm_put(r, 8 + value, &big, 0);
	while (type < 6 && value >> (8 * width[type] - 1) != 0 && value >> (8 * width[type] - 1) != -1)
		type++;
	return tm_put(r, type, (__u8 *)&big + 8 - width[type], width[type]);
}

static int tm_put_text(struct tm_stored *r, const char *text, __u64 length)
{
	return tm_put(r, 13 + 2 * length, text, length);
}

/* Adds the value of a column; 0 if SQLite cannot store it. */
static int tm_put_column(struct tm_stored *r, const struct tm_batch *b, const struct tm_column *c, const __u8 *row)
{
	const struct tm_ends *ends = (const struct tm_ends *)(row + b->ends);
	__u64 number = tm_field(row + c->at, c->width);
	const struct tm_value *value;
	char text[INET6_ADDRSTRLEN];
	double real;

	switch (c->is) {
	case TM_IS_REAL:
		memcpy(&real, &number, sizeof(real));
		number = __builtin_bswap64(number);
		return !isnan(real) && tm_put(r, 7, &number, sizeof(number));
	case TM_IS_INTEGER:
		return !(number >> 63) && tm_put_integer(r, (__s64)number);
	case TM_IS_NAMED:
		value = tm_value_of(c, number);
		if (!value || value->length == TM_VALUE_NULL)
			return tm_put(r, 0, row, 0);
		if (value->length == TM_VALUE_INTEGER)
			return tm_put_integer(r, value->integer);
		return tm_put_text(r, value->text, value->length);
	case TM_IS_ADDRESS:
		return tm_put_text(r, text, tm_address_text(text, row + c->at, ends->family));
	default:
		return tm_put_text(r, text, tm_community(text, ends, b));
	}
}

/* Adds a record as the next row; 0 if there is no room. */
static int tm_add_record(struct tm_image *m, const struct tm_stored *r)
{
	__u32 all = r->types_length + 1 + (r->types_length + 1 > 0x7f), length = all + r->length, size;
	__u8 begin[20], *leaf, *cell;

	size = tm_varint(begin, length);
	size += tm_varint(begin + size, ++m->rows);
	size += tm_varint(begin + size, all);
	length = size + r->types_length + r->length;
	if (!m->leaves || 8 + 2 * (m->cells + 1) + length > m->begin) {
		if (m->leaves == m->room)
			return 0;
		leaf = m->root + (__u64)++m->leaves * TM_PAGE;
		memset(leaf, 0, 8);
		leaf[0] = 13; /* a leaf of a table */
		m->cells = 0;
		m->begin = TM_PAGE;
	}
	leaf = m->root + (__u64)m->leaves * TM_PAGE;
	m->begin -= length;
	cell = leaf + m->begin;
	memcpy(cell, begin, size);
	memcpy(cell + size, r->types, r->types_length);
	memcpy(cell + size + r->types_length, r->values, r->length);
	tm_big16(leaf + 8 + 2 * m->cells, m->begin);
	tm_big16(leaf + 3, ++m->cells);
	tm_big16(leaf + 5, m->begin);
	return 1;
}
