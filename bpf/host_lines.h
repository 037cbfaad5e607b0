/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Reads the daemon's own log lines for the host build: one flat JSON object on each line, keys in any order. A line in
 * another form (escapes, nested values, missing or invalid fields) is returned by its position, for the caller to read
 * with a full JSON parser.
 */
#pragma once

#include <arpa/inet.h>

#include "host_ledger.h"

#define TM_LINE_NAMES 63
#define TM_LINE_NAME 32
#define TM_REJECTS_MAX 4096
#define TM_TYPE_UNKNOWN 256 /* flows/canonical.py: ICMP whose type is not recorded */

enum tm_field {
	TM_HAS_TIME = 0x01,
	TM_HAS_SRC = 0x02,
	TM_HAS_DST = 0x04,
	TM_HAS_PROTO = 0x08,
	TM_HAS_SIZE = 0x10,
	TM_HAS_ACTION = 0x20,
	TM_HAS_ALL = 0x3f,
};

struct tm_reject {
	__u64 at, length, line; /* offset in this buffer; the line's number in the file, from 1 */
};

struct tm_lines {
	struct tm_ledger *ledger;
	__u64 line; /* numbers of lines used so far */
	__u32 names, last_name, rejects, pad;
	char name[TM_LINE_NAMES + 1][TM_LINE_NAME]; /* by ifindex - 1 */
	struct tm_reject reject[TM_REJECTS_MAX];
};

struct tm_text {
	const char *at;
	__u32 length;
};

struct tm_event {
	struct tm_key key;
	double at;
	struct tm_text interface;
	__u32 size;
	__u8 action, fields;
	__u8 own; /* a field that only this program writes, not the original one */
};

static int tm_is(struct tm_text t, const char *word)
{
	return t.length == strlen(word) && !memcmp(t.at, word, t.length);
}

static const char *tm_blank(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t' || *p == '\r'))
		p++;
	return p;
}

/* An address in text. IPv4, also when mapped into IPv6, becomes v4-mapped without TM_SCOPE_IPV6. */
static int tm_address(struct tm_text t, __u8 *out, __u8 *scope)
{
	static const __u8 mapped[12] = {[10] = 0xff, [11] = 0xff};
	char copy[INET6_ADDRSTRLEN];
	const char *p = t.at, *end = t.at + t.length;
	__u32 value, digits;

	memcpy(out, mapped, sizeof(mapped));
	for (__u32 i = 0; i < 4; i++) {
		for (value = digits = 0; p < end && *p >= '0' && *p <= '9' && digits < 3; p++, digits++)
			value = value * 10 + (__u32)(*p - '0');
		if (!digits || value > 255)
			break;
		out[12 + i] = (__u8)value;
		if (i == 3)
			return p == end;
		if (p == end || *p++ != '.')
			break;
	}
	if (t.length >= sizeof(copy))
		return 0;
	memcpy(copy, t.at, t.length);
	copy[t.length] = 0;
	if (inet_pton(AF_INET6, copy, out) != 1)
		return 0;
	if (memcmp(out, mapped, sizeof(mapped)))
		*scope |= TM_SCOPE_IPV6;
	return 1;
}

static int tm_action_field(struct tm_event *e, struct tm_text value)
{
	static const char *const word[] = {
		[TM_ALLOW] = "ALLOW", [TM_MONITOR] = "LOG", [TM_DROP] = "DROP", [TM_LIMIT] = "LIMIT"};

	for (e->action = 0; e->action < 4; e->action++)
		if (tm_is(value, word[e->action]))
			return 1;
	return 0;
}

/* Reads one string field. Returns 0 if its value is not valid for the field. */
static int tm_string_field(struct tm_event *e, struct tm_text key, struct tm_text value)
{
	if (tm_is(key, "src_ip")) {
		e->fields |= TM_HAS_SRC;
		return tm_address(value, e->key.src, &e->key.scope);
	}
	if (tm_is(key, "dst_ip")) {
		e->fields |= TM_HAS_DST;
		return tm_address(value, e->key.dst, &e->key.scope);
	}
	if (tm_is(key, "action")) {
		e->fields |= TM_HAS_ACTION;
		return tm_action_field(e, value);
	}
	if (tm_is(key, "interface")) {
		e->interface = value;
		return value.length < TM_LINE_NAME;
	}
	if (tm_is(key, "event"))
		e->own = 1;
	if (tm_is(key, "direction")) {
		if (tm_is(value, "egress"))
			e->key.scope |= TM_SCOPE_EGRESS;
		return 1;
	}
	return !tm_is(key, "timestamp"); /* a number, not a string */
}

static int tm_number_field(struct tm_event *e, struct tm_text key, double number)
{
	__u32 value;

	if (tm_is(key, "timestamp")) {
		e->fields |= TM_HAS_TIME;
		e->at = number;
		return number >= 0 && number < TM_TIME_MAX;
	}
	value = number >= 0 && number <= 0xffffffff ? (__u32)number : 0;
	if (number != (double)value)
		return !(tm_is(key, "src_port") || tm_is(key, "dst_port") || tm_is(key, "protocol_num") ||
			 tm_is(key, "packet_size") || tm_is(key, "vlan"));
	if (tm_is(key, "src_port")) {
		e->key.sport = tm_htons((__u16)value);
		return value <= 0xffff;
	}
	if (tm_is(key, "dst_port")) {
		e->key.dport = tm_htons((__u16)value);
		return value <= 0xffff;
	}
	if (tm_is(key, "protocol_num")) {
		e->fields |= TM_HAS_PROTO;
		e->key.proto = (__u8)value;
		return value <= 0xff;
	}
	if (tm_is(key, "packet_size")) {
		e->fields |= TM_HAS_SIZE;
		e->size = value;
		return 1;
	}
	if (tm_is(key, "vlan")) {
		e->key.vlan = (__u16)value;
		return value <= 0xfff;
	}
	return 1;
}

/* A JSON number without exponent. Returns the place behind it, NULL if it is none. */
static const char *tm_number(const char *p, const char *end, double *value)
{
	static const double tenth[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9};
	const char *start;
	__u64 whole = 0, part = 0;
	int negative = p < end && *p == '-', digits = 0;

	p += negative;
	for (start = p; p < end && *p >= '0' && *p <= '9' && p - start < 18; p++)
		whole = whole * 10 + (__u64)(*p - '0');
	if (p == start || (p < end && *p >= '0' && *p <= '9'))
		return NULL;
	if (p < end && *p == '.') {
		for (p++; p < end && *p >= '0' && *p <= '9'; p++)
			if (digits < 9) {
				part = part * 10 + (__u64)(*p - '0');
				digits++;
			}
		if (!digits)
			return NULL;
	}
	if (p < end && (*p == 'e' || *p == 'E'))
		return NULL;
	*value = (double)whole + (double)part / tenth[digits];
	if (negative)
		*value = -*value;
	return p;
}

/* The next quote, or NULL: eight bytes at a time, since most strings are shorter than a call of memchr() takes. */
static const char *tm_quote(const char *p, const char *end)
{
	const __u64 ones = 0x0101010101010101ull;
	__u64 word;

	for (; end - p >= (long)sizeof(word); p += sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		word ^= ones * '"';
		word = (word - ones) & ~word & ones << 7;
		if (word) /* its lowest bit is in the first quote: abi.h refuses big-endian machines */
			return p + __builtin_ctzll(word) / 8;
	}
	for (; p < end; p++)
		if (*p == '"')
			return p;
	return NULL;
}

/* The string at `p`, after the opening quote. NULL if it has no end or an escape. */
static const char *tm_string(const char *p, const char *end, struct tm_text *value)
{
	const char *quote = tm_quote(p, end);

	if (!quote || (quote > p && quote[-1] == '\\'))
		return NULL;
	value->at = p;
	value->length = (__u32)(quote - p);
	return quote + 1;
}

static const char *tm_literal(const char *p, const char *end)
{
	static const char *const word[] = {"null", "true", "false"};

	for (size_t i = 0; i < 3; i++)
		if ((size_t)(end - p) >= strlen(word[i]) && !memcmp(p, word[i], strlen(word[i])))
			return p + strlen(word[i]);
	return NULL;
}

/* Reads one line into *e. Returns 0 if it is not in the plain form. */
static int tm_event_read(const char *p, const char *end, struct tm_event *e)
{
	struct tm_text key, text;
	double number;

	p = tm_blank(p, end);
	if (p == end || *p++ != '{')
		return 0;
	for (;;) {
		p = tm_blank(p, end);
		if (p == end || *p++ != '"' || !(p = tm_string(p, end, &key)))
			return 0;
		p = tm_blank(p, end);
		if (p == end || *p++ != ':')
			return 0;
		p = tm_blank(p, end);
		if (p == end)
			return 0;
		if (*p == '"') {
			p = tm_string(p + 1, end, &text);
			if (!p || !tm_string_field(e, key, text))
				return 0;
		} else if (*p == '-' || (*p >= '0' && *p <= '9')) {
			p = tm_number(p, end, &number);
			if (!p || !tm_number_field(e, key, number))
				return 0;
		} else if (!(p = tm_literal(p, end))) {
			return 0;
		}
		p = tm_blank(p, end);
		if (p == end)
			return 0;
		if (*p == '}')
			break;
		if (*p++ != ',')
			return 0;
	}
	p = tm_blank(p + 1, end);
	if (p < end && *p == ',') /* an element of an array, one on each line */
		p = tm_blank(p + 1, end);
	return p == end && e->fields == TM_HAS_ALL;
}

/*
 * The original program wrote ports, and so 0 and 0 for ICMP: the type is unknown. This program writes types, and
 * `event` in addition. ICMPv6 has no type 0.
 */
static void tm_unknown_type(struct tm_event *e)
{
	if (e->key.sport || e->key.dport)
		return;
	if (e->key.proto == TM_PROTO_ICMPV6 || (e->key.proto == TM_PROTO_ICMP && !e->own))
		e->key.sport = tm_htons(TM_TYPE_UNKNOWN);
}

/* The number of the interface, from 1; 0 if there is none. All beyond TM_LINE_NAMES share one more number. */
static __u32 tm_interface_number(struct tm_lines *l, struct tm_text t)
{
	__u32 i;

	if (!t.length)
		return 0;
	if (l->last_name && !l->name[l->last_name - 1][t.length] && !memcmp(l->name[l->last_name - 1], t.at, t.length))
		return l->last_name;
	for (i = 0; i < l->names; i++)
		if (!l->name[i][t.length] && !memcmp(l->name[i], t.at, t.length))
			break;
	if (i == TM_LINE_NAMES)
		return i + 1;
	if (i == l->names) {
		memcpy(l->name[i], t.at, t.length);
		l->names++;
	}
	l->last_name = i + 1;
	return l->last_name;
}

/*
 * Reads whole lines from `data`; `final` means that the last one needs no newline. Returns the bytes used, which are
 * fewer if rows or rejects must be taken first.
 */
TM_EXPORT __u64 tm_lines_feed(struct tm_lines *l, const char *data, __u64 size, int final)
{
	const char *p = data, *end = data + size, *newline;
	struct tm_event e;
	struct tm_seen seen;

	for (; p < end; p = newline + (newline < end), l->line++) {
		newline = memchr(p, '\n', (size_t)(end - p));
		if (!newline) {
			if (!final)
				break;
			newline = end;
		}
		if (tm_blank(p, newline) == newline)
			continue;
		memset(&e, 0, sizeof(e));
		if (tm_event_read(p, newline, &e)) {
			if (!tm_ledger_begin(l->ledger, e.at))
				break;
			tm_unknown_type(&e);
			e.key.ifindex = tm_interface_number(l, e.interface);
			e.key.verdict = (__u32)e.action << TM_ACTION_SHIFT;
			seen = (struct tm_seen){.at = e.at, .length = e.size};
			tm_note_seen(&l->ledger->totals, e.size, e.at);
			tm_ledger_add(l->ledger, &e.key, &seen);
			continue;
		}
		if (l->rejects == TM_REJECTS_MAX)
			break;
		l->reject[l->rejects++] = (struct tm_reject){(__u64)(p - data), (__u64)(newline - p), l->line + 1};
	}
	return (__u64)(p - data);
}
