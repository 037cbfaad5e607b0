// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/*
 * The host build, build/libtmparse.so: captures read with the very parser that runs in the kernel, and the
 * daemon's own log lines, both merged into rows for the engine. trafficmond/analyze/native.py is its only caller.
 */
#include <stddef.h>

#include "host_lines.h"
#include "host_read.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the rows are written for little-endian hosts, which all that have XDP drivers in Debian are"
#endif

#define TM_EXPORT __attribute__((visibility("default")))

/* Offset of each field of struct tm_row in its order, then its size: native.py compares them with the dtype. */
TM_EXPORT __u32 tm_row_layout(__u32 *out)
{
#define AT(field) offsetof(struct tm_row, field)
	static const __u32 at[] = {
		AT(src_hi),	   AT(src_lo),		AT(dst_hi),
		AT(dst_lo),	   AT(sport),		AT(dport),
		AT(proto),	   AT(family),		AT(direction),
		AT(vlan),	   AT(ifindex),		AT(verdict),
		AT(inner),	   AT(packets),		AT(bytes),
		AT(payload_bytes), AT(payload_packets), AT(first),
		AT(last),	   AT(first_len),	AT(last_len),
		AT(tcp_flags),	   AT(first_flags),	AT(bits),
		AT(ttl),	   AT(new_record),	sizeof(struct tm_row),
	};
#undef AT
	memcpy(out, at, sizeof(at));
	return sizeof(at) / sizeof(at[0]);
}

/* ---- the ledger ---- */

TM_EXPORT struct tm_ledger *tm_ledger_new(double interval)
{
	struct tm_ledger *l = calloc(1, sizeof(*l));

	if (l)
		l->interval = interval;
	return l;
}

/* Merges over so many seconds from now on. */
TM_EXPORT void tm_ledger_pace(struct tm_ledger *l, double interval)
{
	l->interval = interval;
}

TM_EXPORT void tm_ledger_free(struct tm_ledger *l)
{
	free(l);
}

/* Moves the rows that wait to `out` (room for TM_ROWS_MAX); `all` closes the present interval first. */
TM_EXPORT __u32 tm_ledger_take(struct tm_ledger *l, struct tm_row *out, int all)
{
	__u32 rows;

	if (all && tm_ledger_room(l))
		tm_ledger_flush(l);
	rows = l->rows;
	memcpy(out, l->row, rows * sizeof(*out));
	l->rows = 0;
	return rows;
}

TM_EXPORT __u32 tm_ledger_waiting(const struct tm_ledger *l)
{
	return l->rows;
}

TM_EXPORT void tm_ledger_totals(const struct tm_ledger *l, struct tm_host_totals *out)
{
	*out = l->totals;
}

/* ---- captures ---- */

/* `strict` reads what the kernel's program reads and no more, for comparing the two. */
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

TM_EXPORT __u64 tm_capture_read(struct tm_capture *c, const __u8 *data, __u64 size, int final)
{
	return tm_capture_feed(c, data, size, final);
}

/* Moves up to TM_NOTES_MAX notes to `out` and how many more there were to *lost. */
TM_EXPORT __u32 tm_capture_notes(struct tm_capture *c, struct tm_note *out, __u64 *lost)
{
	__u32 notes = c->notes;

	memcpy(out, c->note, notes * sizeof(*out));
	*lost = c->notes_lost;
	c->notes = 0;
	c->notes_lost = 0;
	return notes;
}

/* Name of interface `ifindex` (from 1), empty if the capture gave it none. */
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

TM_EXPORT __u64 tm_lines_feed(struct tm_lines *l, const char *data, __u64 size, int final)
{
	return tm_lines_read(l, data, size, final);
}

/* Moves the places of lines that were not read to `out` (room for TM_REJECTS_MAX). */
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
