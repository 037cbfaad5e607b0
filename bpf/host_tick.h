/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * A tick in one call: it does what FlowTable.update and FlowTable.due do (trafficmond/flows/table.py), without reports.
 * In an unusual case, tm_tick() returns before it changes anything, and these two methods process the tick.
 * trafficmond/flows/ticks.py is the only caller; tests/flows/test_flows_compiled.py compares the two.
 */
#pragma once

#include "host_detect.h"
#include "host_flows.h"

#define TM_TICK_ROWS 32768 /* deltas of a tick, and flows whose deadline has passed */

/* Marks of rows that are removed, in place of their deadline. */
#define TM_WAS_CLOSED (-1e300)
#define TM_WENT_IDLE (-1e301)

/* The table of a FlowTable: rows in any order, and their sorted ids. */
struct tm_flows {
	struct tm_state *row;
	double *deadline;
	__u8 *quiet;
	__u64 *id;
	__u32 *slot;
	__u32 count, room, capacity, most_quiet;
	double next; /* no deadline is earlier */
};

struct tm_tick {
	struct tm_row row[TM_TICK_ROWS]; /* the deltas, sorted */
	__u64 given[TM_TICK_ROWS], id[TM_TICK_ROWS];
	__s64 order[TM_TICK_ROWS], slot[TM_TICK_ROWS];
	__u8 side[TM_TICK_ROWS], swapped[TM_TICK_ROWS], found[TM_TICK_ROWS], initial[TM_TICK_ROWS];
	__u32 start[TM_TICK_ROWS + 1];
	struct tm_state reopened[TM_TICK_ROWS], reported[TM_TICK_ROWS];
	__u32 moved[2 * TM_TICK_ROWS];
	struct tm_flow_row out[4 * TM_TICK_ROWS];
	__u32 outs, due;
};

/* Where this id is in the sorted ids of the table, or would be: not before `from`. */
static __u32 tm_flows_at(const struct tm_flows *t, __u64 id, __u32 from)
{
	__u32 low = from, step = 1, high;

	while (low + step <= t->count && t->id[low + step - 1] < id) {
		low += step;
		step *= 2;
	}
	high = low + step - 1 < t->count ? low + step - 1 : t->count;
	while (low < high) {
		__u32 middle = low + (high - low) / 2;

		if (t->id[middle] < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* A FLOW row that says only that a flow has ended. */
static void tm_tick_over(struct tm_tick *w, const struct tm_flow_row *f)
{
	struct tm_flow_row *out = &w->out[w->outs++];

	*out = *f;
	out->d_packets = out->d_bytes = out->d_reply_packets = out->d_reply_bytes = 0;
	out->is_new = 0;
	out->ended = 1;
}

static int tm_tick_closing(const struct tm_flow_row *f)
{
	return (f->tcp_flags | f->reply_tcp_flags) & (TM_TCP_FIN | TM_TCP_RST);
}

/* What was not reported is dropped, because reports are not needed. */
static void tm_tick_unreported(struct tm_flows *t, __u32 slot, int quiet, const struct tm_flow_rules *r)
{
	struct tm_state *s = &t->row[slot];

	s->since = INFINITY;
	s->p_packets = s->p_bytes = s->p_reply_packets = s->p_reply_bytes = 0;
	t->deadline[slot] = tm_deadline(s, r);
	t->quiet[slot] = quiet;
}

/* Removes the `n` rows whose deadline is this mark; the last rows fill the holes. Gives detectors only
 * those that went idle while closing: the others are no evidence. */
static void tm_tick_remove(struct tm_flows *t, struct tm_tick *w, double mark, __u32 n)
{
	__u32 left = t->count - n, hole = 0, to = 0;

	for (__u32 i = left; i < t->count; i++) {
		if (t->deadline[i] == mark)
			continue;
		while (t->deadline[hole] != mark)
			hole++;
		w->moved[i - left] = hole++;
	}
	for (__u32 i = 0; i < t->count; i++) {
		__u32 slot = t->slot[i];

		if (t->deadline[slot] == mark) {
			if (mark == TM_WENT_IDLE && tm_tick_closing(&t->row[slot].flow))
				tm_tick_over(w, &t->row[slot].flow);
			continue;
		}
		t->id[to] = t->id[i];
		t->slot[to++] = slot < left ? slot : w->moved[slot - left];
	}
	for (__u32 i = left; i < t->count; i++) {
		if (t->deadline[i] == mark)
			continue;
		hole = w->moved[i - left];
		t->row[hole] = t->row[i];
		t->deadline[hole] = t->deadline[i];
		t->quiet[hole] = t->quiet[i];
	}
	t->count = left;
}

static void tm_tick_expire(struct tm_flows *t, struct tm_tick *w, const struct tm_flow_rules *r, double now)
{
	__u32 closed = 0, idle = 0;

	for (__u32 i = 0; i < t->count; i++) {
		struct tm_state *s = &t->row[i];

		if (t->deadline[i] > now)
			continue;
		if (s->flow.last + tm_kept(s, r) <= now) {
			closed += s->closed;
			idle += !s->closed;
			t->deadline[i] = s->closed ? TM_WAS_CLOSED : TM_WENT_IDLE;
		} else if (s->flow.last + r->idle <= now) {
			tm_tick_unreported(t, i, 1, r);
		}
	}
	if (closed)
		tm_tick_remove(t, w, TM_WAS_CLOSED, closed);
	if (idle)
		tm_tick_remove(t, w, TM_WENT_IDLE, idle);
}

static void tm_tick_waits(struct tm_flows *t, __u32 slot)
{
	t->next = t->deadline[slot] < t->next ? t->deadline[slot] : t->next;
}

/* Adds the `n` new flows, whose rows follow the others in the order of their ids. */
static void tm_tick_insert(struct tm_flows *t, __u32 n, const struct tm_flow_rules *r)
{
	const struct tm_state *fresh = &t->row[t->count];
	__u32 from = t->count, to = t->count + n;

	for (__u32 i = n; i--;) {
		for (; from && t->id[from - 1] > fresh[i].flow.id; from--) {
			t->id[--to] = t->id[from - 1];
			t->slot[to] = t->slot[from - 1];
		}
		t->id[--to] = fresh[i].flow.id;
		t->slot[to] = t->count + i;
	}
	for (__u32 i = 0; i < n; i++) {
		t->deadline[t->count + i] = tm_deadline(&fresh[i], r);
		t->quiet[t->count + i] = 0;
		tm_tick_waits(t, t->count + i);
	}
	t->count += n;
}

/* Begins to fetch a row from memory: rows of a large table are in no cache, and waiting for many at once is shorter. */
static void tm_tick_fetch(const struct tm_state *s)
{
	const __u8 *line = (const __u8 *)s;

	for (__u32 at = 0; at < sizeof(*s); at += 64)
		__builtin_prefetch(line + at, 1);
}

static void tm_tick_absorb(struct tm_flows *t, struct tm_tick *w, __u32 n, const struct tm_flow_rules *r)
{
	struct tm_flow_row *out = &w->out[w->outs];
	struct tm_merge f = {.row = t->row,
			     .deadline = t->deadline,
			     .quiet = t->quiet,
			     .found = w->found,
			     .slot = w->slot,
			     .start = w->start,
			     .opens = 1,
			     .out = out,
			     .initial = w->initial,
			     .fresh_row = &t->row[t->count],
			     .reopened_row = w->reopened,
			     .reported_row = w->reported};
	__u32 i, at = 0, over = 0;

	for (i = 0; i < n; i++) {
		__u32 g = f.groups;

		if (i && w->id[i] == w->id[i - 1])
			continue;
		at = tm_flows_at(t, w->id[i], at);
		w->start[g] = i;
		w->found[g] = at < t->count && t->id[at] == w->id[i];
		w->slot[g] = w->found[g] ? t->slot[at] : 0;
		if (w->found[g])
			tm_tick_fetch(&t->row[w->slot[g]]);
		f.groups++;
	}
	w->start[f.groups] = n;
	tm_flows_merge(&f, w->row, w->id, w->side, r);
	for (i = 0; i < f.reopened; i++)
		over += !w->reopened[i].closed;
	if (over)
		memmove(out + over, out, f.groups * sizeof(*out));
	for (i = 0; i < f.reopened; i++)
		if (!w->reopened[i].closed)
			tm_tick_over(w, &w->reopened[i].flow);
	for (i = 0; i < f.groups; i++)
		if (w->found[i])
			tm_tick_waits(t, w->slot[i]);
	w->outs += f.groups;
	tm_tick_insert(t, f.fresh, r);
}

/* Whether the tick can be handled here; if so, its deltas are sorted and `earliest` is set. */
static int tm_tick_usual(const struct tm_flows *t, struct tm_tick *w, const struct tm_row *d, __u32 n,
			 const struct tm_flow_rules *r, double now, double *earliest)
{
	__u32 end, due = 0, quiet = 0;

	if (n > TM_TICK_ROWS || t->count + n > t->capacity || t->count + n > t->room)
		return 0;
	/* In a table of few flows, none of them due, there is nothing to count: a tick costs what is in it. */
	if (t->next <= now || t->count + n > t->most_quiet)
		for (__u32 i = 0; i < t->count; i++) {
			due += t->deadline[i] <= now;
			quiet += t->quiet[i];
		}
	w->due = due;
	if (due > TM_TICK_ROWS || quiet + due + n > t->most_quiet)
		return 0;
	for (__u32 i = 0; i < n; i++) {
		double at = tm_begins(&d[i], r->before);

		if (tm_later_fragment(&d[i]))
			return 0;
		w->given[i] = tm_flow_id(&d[i], r, &w->swapped[i]);
		if (at < *earliest)
			*earliest = at;
	}
	if (!tm_key_order(w->given, n, w->order))
		return 0;
	for (__u32 i = 0; i < n; i++) {
		w->row[i] = d[w->order[i]];
		w->id[i] = w->given[w->order[i]];
		w->side[i] = w->swapped[w->order[i]];
	}
	for (__u32 i = 0; i < n; i = end) {
		for (end = i + 1; end < n && w->id[end] == w->id[i]; end++)
			;
		if (tm_takes_turns(w->row + i, w->side + i, end - i, r->before))
			return 0;
	}
	return 1;
}

static void tm_tick_next(struct tm_flows *t)
{
	t->next = INFINITY;
	for (__u32 i = 0; i < t->count; i++)
		tm_tick_waits(t, i);
}

/* Merges a tick at `now` into the table and w->out. Returns the time before which nothing is due; NAN: unusual case. */
static double tm_tick_take(struct tm_flows *t, struct tm_tick *w, const struct tm_row *d, __u32 n,
			   const struct tm_flow_rules *r, double now)
{
	double earliest = now;

	w->outs = 0;
	if (!tm_tick_usual(t, w, d, n, r, now, &earliest))
		return NAN;
	if (n) {
		if (w->due)
			tm_tick_expire(t, w, r, earliest);
		tm_tick_absorb(t, w, n, r);
	}
	if (t->next <= now)
		tm_tick_next(t);
	if (t->next > now)
		return t->next;
	tm_tick_expire(t, w, r, now);
	for (__u32 i = 0; i < t->count; i++)
		if (t->deadline[i] <= now)
			tm_tick_unreported(t, i, 0, r);
	tm_tick_next(t);
	return t->next;
}
