// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/*
 * The host build, build/libtmparse.so: captures, read with the kernel's parser, and the daemon's own log lines, both
 * merged into rows for the engine; inner loops of flow table, detectors and verdict tables; rows for SQLite; DNS
 * answers. trafficmond/analyze/native.py, flows/compiled.py, flows/ticks.py, datapath/names_seen.py,
 * policy/compiled.py and store/image.py are its only callers.
 */
#include "host_detect.h"
#include "host_dns.h"
#include "host_flows.h"
#include "host_lines.h"
#include "host_read.h"
#include "host_store.h"
#include "host_table.h"
#include "host_texts.h"
#include "host_tick.h"

/* ---- the ledger ---- */

TM_EXPORT struct tm_ledger *tm_ledger_new(double interval)
{
	struct tm_ledger *l = calloc(1, sizeof(*l));

	if (l)
		l->interval = interval;
	return l;
}

/* Sets the length of intervals from now on, in seconds. */
TM_EXPORT void tm_ledger_pace(struct tm_ledger *l, double interval)
{
	l->interval = interval;
}

TM_EXPORT void tm_ledger_free(struct tm_ledger *l)
{
	free(l);
}

/* Moves the waiting rows to `out` (room for TM_ROWS_MAX); `all` closes the present interval first. */
TM_EXPORT __u32 tm_ledger_take(struct tm_ledger *l, struct tm_row *out, int all)
{
	__u32 rows;

	if (all) {
		tm_ledger_settle(l);
		if (l->rows + l->touched <= TM_ROWS_MAX)
			tm_ledger_flush(l);
	}
	rows = l->rows;
	memcpy(out, l->row, rows * sizeof(*out));
	l->rows = 0;
	return rows;
}

TM_EXPORT __u32 tm_ledger_waiting(const struct tm_ledger *l)
{
	return l->rows;
}

/* What the kernel's records gained since each was last read, as rows; their times are still in jiffies64. */
TM_EXPORT void tm_ledger_gained(const struct tm_flow *record, const struct tm_taken *base, __u32 n, struct tm_row *out)
{
	for (__u32 i = 0; i < n; i++)
		out[i] = tm_gained(&record[i], &base[i]);
}

/* The slots whose records moved on from what had been taken of each, in `out`, which has room for all; how many. */
TM_EXPORT __u32 tm_ledger_moved(const struct tm_flow *slot, const struct tm_taken *taken, __u32 n, __s64 *out)
{
	__u32 moved = 0;

	for (__u32 i = 0; i < n; i++)
		if (slot[i].packets != taken[i].packets || slot[i].sequence != taken[i].sequence)
			out[moved++] = i;
	return moved;
}

TM_EXPORT void tm_ledger_totals(const struct tm_ledger *l, struct tm_host_totals *out)
{
	*out = l->totals;
}

/* ---- captures ---- */

/* `strict` reads only what the kernel program reads, to compare the two. */
TM_EXPORT struct tm_capture *tm_capture_new(struct tm_ledger *ledger, int strict)
{
	struct tm_capture *c = calloc(1, sizeof(*c));

	if (c) {
		c->ledger = ledger;
		c->first_ifindex = 1;
		c->strict = (__u32)strict;
	}
	return c;
}

TM_EXPORT void tm_capture_free(struct tm_capture *c)
{
	if (c)
		free(c->interface);
	free(c);
}

/* Moves up to TM_NOTES_MAX notes to `out`, and stores how many more there were in *lost. */
TM_EXPORT __u32 tm_capture_notes(struct tm_capture *c, struct tm_note *out, __u64 *lost)
{
	__u32 notes = c->notes;

	memcpy(out, c->note, notes * sizeof(*out));
	*lost = c->notes_lost;
	c->notes = 0;
	c->notes_lost = 0;
	return notes;
}

/* The name of interface `ifindex` (from 1); empty if the capture has none. */
TM_EXPORT const char *tm_capture_name(const struct tm_capture *c, __u32 ifindex)
{
	return ifindex && ifindex <= c->room ? c->interface[ifindex - 1].name : "";
}

/* ---- log lines ---- */

TM_EXPORT struct tm_lines *tm_lines_new(struct tm_ledger *ledger)
{
	struct tm_lines *l = calloc(1, sizeof(*l));

	if (l)
		l->ledger = ledger;
	return l;
}

TM_EXPORT void tm_lines_free(struct tm_lines *l)
{
	free(l);
}

/* Moves the positions of lines that were not read to `out` (room for TM_REJECTS_MAX). */
TM_EXPORT __u32 tm_lines_rejects(struct tm_lines *l, struct tm_reject *out)
{
	__u32 rejects = l->rejects;

	memcpy(out, l->reject, rejects * sizeof(*out));
	l->rejects = 0;
	return rejects;
}

TM_EXPORT const char *tm_lines_name(const struct tm_lines *l, __u32 ifindex)
{
	return ifindex > TM_LINE_NAMES ? "(other)" : ifindex && ifindex <= l->names ? l->name[ifindex - 1] : "";
}

/* ---- the flow table ---- */

/* Each delta's id, whether its source is endpoint b, and the first beginning. Returns the later fragments of ICMP. */
TM_EXPORT __u32 tm_flows_identify(const struct tm_row *d, __u32 n, const struct tm_flow_rules *r, __u64 *id,
				  __u8 *swapped, double *earliest)
{
	__u32 later = 0;

	*earliest = INFINITY;
	for (__u32 i = 0; i < n; i++) {
		double at = tm_begins(&d[i], r->before);

		id[i] = tm_flow_id(&d[i], r, &swapped[i]);
		later += tm_later_fragment(&d[i]);
		if (at < *earliest)
			*earliest = at;
	}
	return later;
}

/* The size of tm_tick()'s working memory. */
TM_EXPORT __u32 tm_tick_size(void)
{
	return sizeof(struct tm_tick);
}

/* Handles a tick completely; see tm_tick_take(). Stores `outs` FLOW rows in `out`. */
TM_EXPORT double tm_tick(struct tm_flows *t, struct tm_tick *w, const struct tm_row *d, __u32 n,
			 const struct tm_flow_rules *r, double now, struct tm_flow_row **out, __u32 *outs)
{
	double next = tm_tick_take(t, w, d, n, r, now);

	*out = w->out;
	*outs = w->outs;
	return next;
}

/* Whether sorted deltas must be merged in turns; see tm_takes_turns. */
TM_EXPORT int tm_flows_turns(const struct tm_row *d, const __u64 *id, const __u8 *side, __u32 n, double before)
{
	__u32 end;

	for (__u32 at = 0; at < n; at = end) {
		for (end = at + 1; end < n && id[end] == id[at]; end++)
			;
		if (tm_takes_turns(d + at, side + at, end - at, before))
			return 1;
	}
	return 0;
}

/* When each row must be examined again, and how long it is kept after its last packet. */
TM_EXPORT void tm_flows_deadlines(const struct tm_state *s, __u32 n, const struct tm_flow_rules *r, double *deadline,
				  double *kept)
{
	for (__u32 i = 0; i < n; i++) {
		deadline[i] = tm_deadline(&s[i], r);
		kept[i] = tm_kept(&s[i], r);
	}
}

/* ---- texts ---- */

/* The text of each IPv4 address, TM_V4_TEXT characters each. */
TM_EXPORT void tm_v4_texts(const __u32 *address, __u32 n, __u32 *out)
{
	for (__u32 i = 0; i < n; i++)
		tm_v4_text(out + (size_t)i * TM_V4_TEXT, address[i]);
}

/* The Community ID of what is to be hashed: `length` bytes at the beginning of each `size`, TM_COMMUNITY_TEXT
 * characters each; 0 if they are too many for one block. */
TM_EXPORT int tm_community_texts(const __u8 *text, __u32 n, __u32 size, __u32 length, __u32 *out)
{
	__u8 digest[20];

	if (length > TM_SHA1_MOST || length > size)
		return 0;
	for (__u32 i = 0; i < n; i++) {
		tm_sha1(text + (size_t)i * size, length, digest);
		tm_community_text(out + (size_t)i * TM_COMMUNITY_TEXT, digest);
	}
	return 1;
}

/* ---- detectors ---- */

/* Copies each field of the rows to a column, a few rows at a time: each row is fetched into the cache once. */
TM_EXPORT void tm_columns(const __u8 *row, __u32 n, __u32 row_size, const __u32 *offset, const __u32 *size,
			  __u8 *const *column, __u32 fields)
{
	__u32 count;

	for (__u32 from = 0; from < n; from += count) {
		count = n - from < TM_BLOCK ? n - from : TM_BLOCK;
		for (__u32 field = 0; field < fields; field++)
			tm_column(row + (__u64)from * row_size + offset[field], count, row_size, size[field],
				  column[field] + (__u64)from * size[field]);
	}
}

/* Copies bytes of the rows `at` to rows of another layout; the layouts differ in the offsets of `spans`. */
TM_EXPORT void tm_gather(const __u8 *row, __u32 row_size, const __s64 *at, __u32 n, const __u32 *from, const __u32 *to,
			 const __u32 *size, __u32 spans, __u8 *out, __u32 out_size)
{
	for (__u32 i = 0; i < n; i++)
		for (__u32 span = 0; span < spans; span++)
			memcpy(out + (size_t)i * out_size + to[span], row + (size_t)at[i] * row_size + from[span],
			       size[span]);
}

/* A hash of each row of so many columns of `words`. */
TM_EXPORT void tm_mix(const __u64 *const *column, __u32 words, __u32 n, __u64 *out)
{
	for (__u32 i = 0; i < n; i++) {
		__u64 total = 0;

		for (__u32 word = 0; word < words; word++)
			total = tm_mixed(total, column[word][i]);
		out[i] = total;
	}
}

/*
 * Groups rows by key: `order` sorts them, `of` is the group of each, and the groups begin at `start` in that order.
 * Returns the number of groups; 0, if there are rows, when memory is short.
 */
TM_EXPORT __u32 tm_detect_groups(const __u64 *key, __u32 n, __s64 *order, __s64 *of, __s64 *start)
{
	__u32 groups = 0;

	if (!tm_key_order(key, n, order))
		return 0;
	for (__u32 i = 0; i < n; i++) {
		if (!i || key[order[i]] != key[order[i - 1]])
			start[groups++] = i;
		of[order[i]] = groups - 1;
	}
	return groups;
}

/* BoundedTable.admit of windows.py: the slot of each unique key. Returns 0 if memory is short: nothing was done. */
TM_EXPORT int tm_detect_admit(struct tm_table *t, const __u64 *key, const double *weight, const double *now, __u32 n,
			      __s64 *slot)
{
	__u32 *head = malloc(t->buckets * sizeof(*head)), *next = malloc(((size_t)n + 1) * sizeof(*next)), i;

	if (!head || !next) {
		free(head);
		free(next);
		return 0;
	}
	memset(head, 0xff, t->buckets * sizeof(*head));
	for (i = n; i-- > 0;) {
		slot[i] = tm_place_of(t, key[i]);
		if (slot[i] != TM_NOWHERE) {
			tm_admit_known(t, slot[i], weight[i], now[i]);
		} else if (weight[i] > 0) {
			next[i] = head[tm_bucket(t, key[i])];
			head[tm_bucket(t, key[i])] = i;
			t->refused++;
		}
	}
	for (i = 0; i < t->buckets; i++)
		if (head[i] != TM_NO_ROW)
			t->refused -= tm_settle(t, i, head[i], next, key, weight, now, slot);
	free(head);
	free(next);
	return 1;
}

/* ---- the store ---- */

/* Adds the rows of a batch to the image; 0 if SQLite cannot store one of them, or there is no room. */
TM_EXPORT int tm_image_add(struct tm_image *m, const struct tm_batch *b)
{
	struct tm_stored r;

	for (__u64 i = 0; i < b->rows; i++) {
		r.types_length = r.length = 0;
		for (__u32 column = 0; column < b->columns; column++)
			if (!tm_put_column(&r, b, &b->column[column], b->row + i * b->size))
				return 0;
		if (!tm_add_record(m, &r))
			return 0;
	}
	return 1;
}

/* Makes the root. Returns the number of the table's pages, 0 if they are too many for one root. */
TM_EXPORT __u32 tm_image_close(struct tm_image *m)
{
	__u32 begin = TM_PAGE, cells = 0, size;
	__u8 cell[4 + 10] = {0};
	__u64 last = 0;

	if (m->leaves <= 1) {
		memcpy(m->root, m->root + TM_PAGE, m->leaves * (__u64)TM_PAGE);
		return 1;
	}
	memset(m->root, 0, 12);
	m->root[0] = 5; /* an inner page of a table */
	for (__u32 leaf = 1; leaf < m->leaves; leaf++) {
		const __u8 *page = m->root + (__u64)leaf * TM_PAGE;

		last += page[3] << 8 | page[4];
		tm_big16(cell + 2, leaf + 2);
		size = 4 + tm_varint(cell + 4, last);
		if (12 + 2 * (cells + 1) + size > begin)
			return 0;
		begin -= size;
		memcpy(m->root + begin, cell, size);
		tm_big16(m->root + 12 + 2 * cells++, begin);
	}
	tm_big16(m->root + 3, cells);
	tm_big16(m->root + 5, begin);
	tm_big16(m->root + 10, m->leaves + 2);
	return m->leaves + 1;
}
