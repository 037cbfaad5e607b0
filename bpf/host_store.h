/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Rows of flows.db straight from a batch: an SQLite extension with one virtual table, tm_rows, which is the batch that
 * this thread has set last (tm_rows_give). INSERT ... SELECT from it makes no Python object for any value.
 * trafficmond/store/direct.py is the only caller, trafficmond/store/rows.py does the same with Python.
 */
#pragma once

#include <arpa/inet.h>
#include <stdlib.h>

#include <sqlite3ext.h>

#include "host_state.h"
#include "host_texts.h"

SQLITE_EXTENSION_INIT1

#define TM_COLUMNS_MOST 32
#define TM_ROWS_SCHEMA                                                                                                 \
	"CREATE TABLE x(c0,c1,c2,c3,c4,c5,c6,c7,c8,c9,c10,c11,c12,c13,c14,c15,c16,c17,c18,c19,c20,c21,c22,c23,c24,"    \
	"c25,c26,c27,c28,c29,c30,c31)"

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

struct tm_rows_cursor {
	sqlite3_vtab_cursor base;
	const struct tm_batch *batch;
	__u64 at;
	char text[TM_COLUMNS_MOST][INET6_ADDRSTRLEN]; /* of the present row, for as long as SQLite uses it */
};

static __thread const struct tm_batch *tm_rows_batch;

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

static void tm_result_value(sqlite3_context *to, const struct tm_value *value)
{
	if (!value || value->length == TM_VALUE_NULL)
		sqlite3_result_null(to);
	else if (value->length == TM_VALUE_INTEGER)
		sqlite3_result_int64(to, value->integer);
	else
		sqlite3_result_text(to, value->text, (int)value->length, SQLITE_STATIC);
}

static void tm_result_integer(sqlite3_context *to, __u64 value)
{
	if (value >> 63) {
		sqlite3_result_error(to, "a number has more than 63 bits", -1);
		sqlite3_result_error_code(to, SQLITE_MISMATCH);
	} else {
		sqlite3_result_int64(to, (__s64)value);
	}
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

static int tm_rows_connect(sqlite3 *db, void *aux, int argc, const char *const *argv, sqlite3_vtab **out, char **error)
{
	int failed = sqlite3_declare_vtab(db, TM_ROWS_SCHEMA);

	if (failed)
		return failed;
	sqlite3_vtab_config(db, SQLITE_VTAB_DIRECTONLY); /* not usable by views or triggers of a file */
	*out = sqlite3_malloc(sizeof(**out));
	if (!*out)
		return SQLITE_NOMEM;
	memset(*out, 0, sizeof(**out));
	return SQLITE_OK;
}

static int tm_rows_disconnect(sqlite3_vtab *table)
{
	sqlite3_free(table);
	return SQLITE_OK;
}

static int tm_rows_plan(sqlite3_vtab *table, sqlite3_index_info *info)
{
	return SQLITE_OK;
}

static int tm_rows_open(sqlite3_vtab *table, sqlite3_vtab_cursor **out)
{
	struct tm_rows_cursor *c = sqlite3_malloc(sizeof(*c));

	if (!c)
		return SQLITE_NOMEM;
	memset(c, 0, sizeof(*c));
	*out = &c->base;
	return SQLITE_OK;
}

static int tm_rows_close(sqlite3_vtab_cursor *base)
{
	sqlite3_free(base);
	return SQLITE_OK;
}

static int tm_rows_begin(sqlite3_vtab_cursor *base, int plan, const char *name, int argc, sqlite3_value **argv)
{
	struct tm_rows_cursor *c = (struct tm_rows_cursor *)base;

	c->batch = tm_rows_batch;
	c->at = 0;
	return SQLITE_OK;
}

static int tm_rows_next(sqlite3_vtab_cursor *base)
{
	((struct tm_rows_cursor *)base)->at++;
	return SQLITE_OK;
}

static int tm_rows_end(sqlite3_vtab_cursor *base)
{
	const struct tm_rows_cursor *c = (struct tm_rows_cursor *)base;

	return !c->batch || c->at >= c->batch->rows;
}

static int tm_rows_number(sqlite3_vtab_cursor *base, sqlite3_int64 *out)
{
	*out = (sqlite3_int64)((struct tm_rows_cursor *)base)->at;
	return SQLITE_OK;
}

static int tm_rows_value(sqlite3_vtab_cursor *base, sqlite3_context *to, int number)
{
	struct tm_rows_cursor *c = (struct tm_rows_cursor *)base;
	const struct tm_batch *g = c->batch;
	const struct tm_column *column = &g->column[number];
	const __u8 *row = g->row + c->at * g->size;
	const struct tm_ends *ends = (const struct tm_ends *)(row + g->ends);
	double real;
	int length;

	if (number < 0 || (__u32)number >= g->columns)
		return SQLITE_OK;
	switch (column->is) {
	case TM_IS_REAL:
		memcpy(&real, row + column->at, sizeof(real));
		sqlite3_result_double(to, real);
		break;
	case TM_IS_INTEGER:
		tm_result_integer(to, tm_field(row + column->at, column->width));
		break;
	case TM_IS_NAMED:
		tm_result_value(to, tm_value_of(column, tm_field(row + column->at, column->width)));
		break;
	case TM_IS_ADDRESS:
		length = tm_address_text(c->text[number], row + column->at, ends->family);
		sqlite3_result_text(to, c->text[number], length, SQLITE_STATIC);
		break;
	default:
		length = tm_community(c->text[number], ends, g);
		sqlite3_result_text(to, c->text[number], length, SQLITE_STATIC);
	}
	return SQLITE_OK;
}

static const sqlite3_module tm_rows_module = {
	.xConnect = tm_rows_connect,
	.xBestIndex = tm_rows_plan,
	.xDisconnect = tm_rows_disconnect,
	.xOpen = tm_rows_open,
	.xClose = tm_rows_close,
	.xFilter = tm_rows_begin,
	.xNext = tm_rows_next,
	.xEof = tm_rows_end,
	.xColumn = tm_rows_value,
	.xRowid = tm_rows_number,
};
