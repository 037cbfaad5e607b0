/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Captures for the host build: what is known of one while it is read, its packets on their way into the ledger, and
 * the records of pcap (libpcap's savefile format, both byte orders, micro- and nanoseconds, the "modified" variant).
 *
 * Nothing in a file is believed: what cannot be is noted with its offset, and reading goes on.
 */
#ifndef TM_HOST_CAPTURE_H
#define TM_HOST_CAPTURE_H

#include "host_ledger.h"
#include "host_link.h"

#define TM_CAPTURE_INTERFACES 256
#define TM_CAPTURE_NAME 32
#define TM_CAPTURE_LENGTH_MAX 262144u /* MAXIMUM_SNAPLEN of libpcap */
#define TM_BLOCK_LENGTH_MAX (16u << 20)
#define TM_NOTES_MAX 64

/* Something wrong in the file, for the damage section of the report. */
enum tm_note_kind {
	TM_NOTE_BAD_RECORD = 1,	  /* value: the length that cannot be */
	TM_NOTE_BAD_BLOCK = 2,	  /* value: the length that cannot be */
	TM_NOTE_TRUNCATED = 3,	  /* value: bytes missing, or left over */
	TM_NOTE_NO_INTERFACE = 4, /* value: the interface number no block described */
	TM_NOTE_LINK_TYPE = 5,	  /* value: the link type that is not read */
	TM_NOTE_RESUMED = 6,	  /* value: bytes skipped; offset: where reading goes on */
	TM_NOTE_VERSION = 7,	  /* value: the file's version, major << 16 | minor */
	TM_NOTE_INTERFACES = 8,	  /* value: the interface number beyond what is kept */
	TM_NOTE_TIME = 9, /* value: the interface whose packet has a time that cannot be; it gets the last one's */
};

struct tm_note {
	__u64 offset, value;
	__u32 kind, pad;
};

struct tm_interface {
	double per_tick, offset_s;
	__u64 ticks_per_s; /* 0: a power of two that does not fit */
	__u32 link;
	char name[TM_CAPTURE_NAME];
};

enum tm_format { TM_UNKNOWN, TM_PCAP, TM_PCAPNG };

struct tm_capture {
	struct tm_ledger *ledger;
	struct tm_interface interface[TM_CAPTURE_INTERFACES];
	__u32 interfaces;    /* of the present pcapng section; 1 for pcap */
	__u32 first_ifindex; /* of that section: names go on counting over sections */
	__u32 format, swapped, record_header;
	__u64 offset;  /* in the file, of the next byte to use */
	__u64 skip;    /* bytes to pass over */
	__u64 lost_at; /* where framing was lost, while searching */
	double last;   /* time of the latest packet, to judge candidates by */
	__u32 searching, notes;
	__u64 notes_lost;
	struct tm_note note[TM_NOTES_MAX];
	char name[TM_MAX_INTERFACES][TM_CAPTURE_NAME]; /* by ifindex - 1 */
};

static __u32 tm_get32(const struct tm_capture *c, const __u8 *p)
{
	__u32 v;

	memcpy(&v, p, sizeof(v));
	return c->swapped ? __builtin_bswap32(v) : v;
}

static __u16 tm_get16(const struct tm_capture *c, const __u8 *p)
{
	__u16 v;

	memcpy(&v, p, sizeof(v));
	return c->swapped ? __builtin_bswap16(v) : v;
}

static void tm_note(struct tm_capture *c, __u32 kind, __u64 offset, __u64 value)
{
	if (c->notes == TM_NOTES_MAX) {
		c->notes_lost++;
		return;
	}
	c->note[c->notes++] = (struct tm_note){offset, value, kind, 0};
}

/* One packet, captured in part or whole. tm_ledger_begin() has made room. */
static void tm_capture_packet(struct tm_capture *c, const struct tm_interface *in, __u32 ifindex, double at,
			      const __u8 *data, __u32 captured, __u32 length)
{
	struct tm_host_totals *totals = &c->ledger->totals;
	struct tm_packet p;
	struct tm_seen seen;
	int kind;

	if (captured > length) /* a frame is not longer than it was: the rest is the writer's padding */
		captured = length;
	memset(&p, 0, sizeof(p));
	p.wire_len = length;
	tm_note_seen(totals, length, at);
	if (captured < length)
		totals->snapped++;
	c->last = at;
	kind = tm_parse_frame(data, data + captured, &p, in->link);
	if (kind == TM_IS_MALFORMED) {
		tm_count_add(&totals->malformed, length);
		totals->malformed_by[p.malformed]++;
	} else if (kind == TM_IS_IP) {
		seen = (struct tm_seen){at, length, p.payload_len, p.tcp_ack, p.tcp_flags, p.bits, p.ttl};
		p.key.ifindex = ifindex;
		p.key.verdict = (__u32)TM_MONITOR << TM_ACTION_SHIFT;
		tm_ledger_add(c->ledger, &p.key, &seen);
	} else {
		tm_count_add(&totals->not_ip, length);
		if (kind < 0)
			totals->unknown_link++;
	}
}

static int tm_pcap_magic(struct tm_capture *c, const __u8 *p)
{
	static const struct {
		__u32 magic, header, ticks;
	} known[] = {
		{0xa1b2c3d4, 16, 1000000},
		{0xa1b23c4d, 16, 1000000000},
		{0xa1b2cd34, 24, 1000000}, /* Kuznetzov's: eight more bytes a record */
	};
	__u32 i, magic;

	for (c->swapped = 0; c->swapped < 2; c->swapped++) {
		magic = tm_get32(c, p);
		for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
			if (magic == known[i].magic) {
				c->record_header = known[i].header;
				c->interface[0].ticks_per_s = known[i].ticks;
				c->interface[0].per_tick = 1.0 / known[i].ticks;
				return 1;
			}
	}
	return 0;
}

static void tm_pcap_begin(struct tm_capture *c, const __u8 *p)
{
	__u32 link = tm_get32(c, p + 20) & 0xffff; /* above: length of a frame check sequence, and reserved */

	c->format = TM_PCAP;
	c->interfaces = 1;
	c->first_ifindex = 1;
	c->interface[0].link = link;
	if (tm_get16(c, p + 4) != 2)
		tm_note(c, TM_NOTE_VERSION, 4, (__u64)tm_get16(c, p + 4) << 16 | tm_get16(c, p + 6));
}

/* Whether a record header can be true: lengths within bounds, a fraction below one second. */
static int tm_pcap_plausible(const struct tm_capture *c, const __u8 *p)
{
	__u32 captured = tm_get32(c, p + 8);

	return captured <= TM_CAPTURE_LENGTH_MAX && tm_get32(c, p + 4) < c->interface[0].ticks_per_s;
}

/* While searching, more is asked: a time near the last packet's, and a wire length as should be. */
static int tm_pcap_convincing(const struct tm_capture *c, const __u8 *p)
{
	double at = tm_get32(c, p);
	__u32 captured = tm_get32(c, p + 8), length = tm_get32(c, p + 12);

	return tm_pcap_plausible(c, p) && captured && captured <= length && length <= TM_CAPTURE_LENGTH_MAX &&
	       at > c->last - 3600 && at < c->last + 86400;
}

#endif
