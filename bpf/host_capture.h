/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Captures for the host build: the state of a capture while it is read, the path of its packets into the ledger, and
 * the records of pcap (libpcap's savefile format, both byte orders, micro- and nanoseconds, and its variants).
 *
 * Nothing in a file is trusted: an invalid value is noted with its offset, and reading continues.
 */
#pragma once

#include "host_ledger.h"
#include "host_link.h"

#define TM_CAPTURE_INTERFACES 65536 /* of all sections of a file */
#define TM_CAPTURE_NAME 32
#define TM_CAPTURE_LENGTH_MAX 262144u /* MAXIMUM_SNAPLEN of libpcap */
#define TM_BLOCK_LENGTH_MAX (16u << 20)
#define TM_WIRE_LENGTH_MAX (16u << 20)
#define TM_NOTES_MAX 64
#define TM_PCAP_DIGITAL (543u << 16) /* the version of Digital's Unix */
#define TM_CHAIN 4		     /* records that are examined to distinguish the variants of pcap */
#define TM_CHAIN_SIZE 65536	     /* bytes in which these are searched */
#define TM_CHAIN_SECONDS 86400u	     /* how far apart they are at most */

/* A problem in the file, for the damage section of the report. */
enum tm_note_kind {
	TM_NOTE_BAD_RECORD = 1,	  /* value: the invalid length */
	TM_NOTE_BAD_BLOCK = 2,	  /* value: the invalid length */
	TM_NOTE_TRUNCATED = 3,	  /* value: bytes missing, or left over */
	TM_NOTE_NO_INTERFACE = 4, /* value: the interface number no block described */
	TM_NOTE_LINK_TYPE = 5,	  /* value: a link type that cannot be read */
	TM_NOTE_RESUMED = 6,	  /* value: bytes skipped; offset: where reading continues */
	TM_NOTE_VERSION = 7,	  /* value: the file's version, major << 16 | minor */
	TM_NOTE_INTERFACES = 8,	  /* value: the interface number, which is above the maximum */
	TM_NOTE_TIME = 9,	  /* value: the interface of a packet with an invalid time; it gets the last one */
	TM_NOTE_FRACTION = 10,	  /* value: a fraction of more than a second; added to the seconds, or ignored */
	TM_NOTE_NANOSECONDS = 11, /* value: a fraction that shows that a file of microseconds has nanoseconds */
	TM_NOTE_UNTIMED = 12,	  /* value: packets before any time; they get the next one */
	TM_NOTE_LENGTH = 13,	  /* value: an invalid length on the wire; the captured length is used */
};

struct tm_note {
	__u64 offset, value;
	__u32 kind, pad;
};

struct tm_interface {
	double per_tick, offset_s;
	__u64 ticks_per_s; /* 0: a power of two that does not fit */
	__u32 link, snap;  /* bytes captured of a packet at most; 0: all */
	char name[TM_CAPTURE_NAME];
};

enum tm_format { TM_UNKNOWN, TM_PCAP, TM_PCAPNG };

struct tm_capture {
	struct tm_ledger *ledger;
	struct tm_interface *interface; /* of all sections, by ifindex - 1; `room` of them */
	__u32 room;
	__u32 interfaces;    /* of the present pcapng section; 1 for pcap */
	__u32 first_ifindex; /* of that section: numbers of interfaces continue over sections */
	__u32 strict;	     /* reads only what the kernel program reads */
	__u32 format, swapped, record_header;
	__u32 old;     /* before version 2.4, whose records may have their two lengths swapped */
	__u64 offset;  /* in the file, of the next byte to use */
	__u64 skip;    /* bytes to pass over */
	__u64 lost_at; /* where framing was lost, while searching */
	double last;   /* time of the latest packet, to judge candidates by */
	__u32 timed;   /* whether there was one */
	__u32 searching, notes;
	__u64 notes_lost;
	struct tm_note note[TM_NOTES_MAX];
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

/* Interface `number` of the present section, which may not be described yet; NULL if there are too many. */
static struct tm_interface *tm_interface_at(struct tm_capture *c, __u32 number)
{
	__u32 at = c->first_ifindex - 1 + number, room = c->room ? c->room : 8;
	struct tm_interface *more;

	if (at >= TM_CAPTURE_INTERFACES)
		return NULL;
	while (room <= at)
		room *= 2;
	if (room > c->room) {
		more = realloc(c->interface, room * sizeof(*more));
		if (!more)
			return NULL;
		memset(more + c->room, 0, (room - c->room) * sizeof(*more));
		c->interface = more;
		c->room = room;
	}
	return &c->interface[at];
}

/* Counts one packet of a frame. Returns its size if others, sent together with it, follow; otherwise 0. */
static __u32 tm_capture_one(struct tm_capture *c, __u32 link, __u32 ifindex, double at, const __u8 *data,
			    __u32 captured, __u32 length)
{
	struct tm_host_totals *totals = &c->ledger->totals;
	const __u8 *end = data + captured;
	struct tm_packet p;
	struct tm_seen seen;
	__u32 more;
	int kind;

	memset(&p, 0, sizeof(p));
	p.wire_len = length;
	kind = tm_parse_frame(data, &end, &p, link, (int)c->strict);
	more = end - data < captured ? (__u32)(end - data) : 0;
	length = more ? more : p.wire_len;
	tm_note_seen(totals, length, at);
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
		if (kind == TM_LINK_UNREAD)
			totals->unknown_link++;
		else
			tm_count_type(totals, p.ethertype);
	}
	return more;
}

/* Whether headers of IP that were captured are longer than what was on the wire. */
static int tm_cuts_headers(__u32 link, const __u8 *data, __u32 captured, __u32 length)
{
	const __u8 *end = data + length, *whole = data + captured;
	struct tm_packet p = {.wire_len = length}, q = {.wire_len = captured};

	return tm_parse_frame(data, &whole, &q, link, 0) == TM_IS_IP &&
	       (tm_parse_frame(data, &end, &p, link, 0) != TM_IS_IP || memcmp(&p.key, &q.key, sizeof(p.key)) != 0);
}

/* One frame, captured in part or whole. tm_ledger_begin() has made room. */
static void tm_capture_packet(struct tm_capture *c, const struct tm_interface *in, __u32 ifindex, double at,
			      const __u8 *data, __u32 captured, __u32 length)
{
	__u32 size;

	if (length > TM_WIRE_LENGTH_MAX || (length < captured && tm_cuts_headers(in->link, data, captured, length))) {
		tm_note(c, TM_NOTE_LENGTH, c->offset, length);
		length = captured;
	}
	if (captured > length) /* a frame is not longer than on the wire: the rest is padding by the writer */
		captured = length;
	if (captured < length)
		c->ledger->totals.snapped++;
	c->last = at;
	c->timed = 1;
	size = tm_capture_one(c, in->link, ifindex, at, data, captured, length);
	for (int others = 1; size; others++) {
		data += size;
		captured -= size;
		length -= size;
		size = tm_msdu_size(data, data + captured);
		if (size + 14 > captured || others == TM_TOGETHER_MAX) /* the last one, perhaps with a checksum */
			size = 0;
		tm_capture_one(c, TM_LINK_ETHERNET, ifindex, at, data, size ? size : captured, size ? size : length);
	}
}

struct tm_pcap_kind {
	__u32 magic, header, ticks;
};

/* The kind of the pcap file that begins at `p`, by its magic number, and whether it is swapped; NULL: none. */
static const struct tm_pcap_kind *tm_pcap_kind(const __u8 *p, __u32 *swapped)
{
	static const struct tm_pcap_kind kinds[] = {
		{0xa1b2c3d4, 16, 1000000},
		{0xa1b23c4d, 16, 1000000000},
		{0xa1b2cd34, 24, 1000000}, /* Kuznetzov's: eight more bytes a record */
	};
	__u32 i, magic;

	memcpy(&magic, p, sizeof(magic));
	for (*swapped = 0; *swapped < 2; ++*swapped, magic = __builtin_bswap32(magic))
		for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
			if (magic == kinds[i].magic)
				return &kinds[i];
	return NULL;
}

static __u32 tm_pcap_captured(const struct tm_capture *c, const __u8 *p)
{
	__u32 captured = tm_get32(c, p + 8), length = tm_get32(c, p + 12);

	return c->old && length < captured ? length : captured;
}

static __u32 tm_pcap_length(const struct tm_capture *c, const __u8 *p)
{
	__u32 captured = tm_get32(c, p + 8), length = tm_get32(c, p + 12);

	return c->old && length < captured ? captured : length;
}

/* Recognises a pcap file by the magic number at `p`, and stores its kind; 0 if it is none. */
static int tm_pcap_magic(struct tm_capture *c, const __u8 *p)
{
	__u32 swapped;
	const struct tm_pcap_kind *kind = tm_pcap_kind(p, &swapped);
	struct tm_interface *in = kind ? tm_interface_at(c, 0) : NULL;

	if (!in)
		return 0;
	c->swapped = swapped;
	c->record_header = kind->header;
	in->ticks_per_s = kind->ticks;
	in->per_tick = 1.0 / kind->ticks;
	return 1;
}

/* AIX writes version 2.2, nanoseconds, and the kinds of interfaces of RFC 1573 for link types. */
static __u32 tm_pcap_of_aix(struct tm_interface *in, __u32 link)
{
	static const __u8 links[][2] = {
		{6, TM_LINK_ETHERNET}, {9, TM_LINK_TOKEN_RING}, {15, TM_LINK_FDDI}, {24, TM_LINK_NULL}};
	__u32 i;

	for (i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		if (link == links[i][0]) {
			in->ticks_per_s = 1000000000;
			in->per_tick = 1e-9;
			return links[i][1];
		}
	return link;
}

/* How many records follow each other from `p` on if each has a header of `header` bytes; all, if they fill `size`. */
static __u32 tm_pcap_chain(const struct tm_capture *c, const __u8 *p, __u64 size, __u32 header)
{
	__u32 first = size < header ? 0 : tm_get32(c, p), records, length;

	for (records = 0; records < TM_CHAIN && size >= header; records++, p += length, size -= length) {
		length = tm_pcap_captured(c, p);
		if (!length || length > tm_pcap_length(c, p) || tm_pcap_length(c, p) > TM_CAPTURE_LENGTH_MAX ||
		    tm_get32(c, p + 4) >= c->interface[c->first_ifindex - 1].ticks_per_s ||
		    tm_get32(c, p) - first + TM_CHAIN_SECONDS > 2 * TM_CHAIN_SECONDS)
			return records;
		length += header;
		if (length >= size)
			return length == size ? TM_CHAIN : records + 1;
	}
	return records;
}

/*
 * Patched versions of tcpdump wrote longer headers of records under the usual magic number: Nokia's has 4 bytes more,
 * Red Hat 6.1's 8, SuSE 6.3's 12 (libwiretap distinguishes them in the same way).
 */
static void tm_pcap_patched(struct tm_capture *c, const __u8 *p, __u64 size)
{
	__u32 header, most = tm_pcap_chain(c, p, size, c->record_header), records;

	for (header = 16; header <= 28; header += 4) {
		records = tm_pcap_chain(c, p, size, header);
		if (records > most) {
			most = records;
			c->record_header = header;
		}
	}
}

/* The file header of 24 bytes at `p`, whose magic number was recognised, before `size` bytes of records. */
static void tm_pcap_begin(struct tm_capture *c, const __u8 *p, __u64 size)
{
	__u32 version = (__u32)tm_get16(c, p + 4) << 16 | tm_get16(c, p + 6);
	__u32 link = tm_get32(c, p + 20) & 0xffff; /* above: length of a frame check sequence, and reserved */

	c->format = TM_PCAP;
	c->interfaces = 1;
	c->old = (version >> 16 == 2 && version < (2 << 16 | 4)) || version == TM_PCAP_DIGITAL;
	if (version == (2 << 16 | 2))
		link = tm_pcap_of_aix(tm_interface_at(c, 0), link);
	tm_interface_at(c, 0)->link = link;
	tm_pcap_patched(c, p + 24, size);
	if (version >> 16 != 2 && version != TM_PCAP_DIGITAL)
		tm_note(c, TM_NOTE_VERSION, c->offset + 4, version);
	if (!tm_link_known(link))
		tm_note(c, TM_NOTE_LINK_TYPE, c->offset + 20, link);
}

/* Whether 24 bytes at the place of a record are the header of another file: captures joined by cat. */
static int tm_pcap_joined(const __u8 *p)
{
	__u32 swapped;
	__u16 major;

	if (p[0] != 0xa1 && p[0] != 0xd4 && p[0] != 0x4d && p[0] != 0x34) /* none of the magic numbers */
		return 0;
	memcpy(&major, p + 4, sizeof(major));
	return tm_pcap_kind(p, &swapped) && (swapped ? __builtin_bswap16(major) : major) == 2;
}

/* Whether a record header is plausible: its length is within bounds, and it is not what a full disk left, zeros. */
static int tm_pcap_plausible(const struct tm_capture *c, const __u8 *p)
{
	return tm_pcap_captured(c, p) <= TM_CAPTURE_LENGTH_MAX && (tm_get32(c, p) || tm_get32(c, p + 12));
}

/* While searching, also: a fraction below one second, a time near the last packet's, a plausible length. */
static int tm_pcap_convincing(const struct tm_capture *c, const __u8 *p)
{
	double at = tm_get32(c, p);
	__u32 captured = tm_pcap_captured(c, p), length = tm_pcap_length(c, p);

	return tm_pcap_plausible(c, p) && tm_get32(c, p + 4) < c->interface[c->first_ifindex - 1].ticks_per_s &&
	       captured && captured <= length && length <= TM_CAPTURE_LENGTH_MAX && at > c->last - 3600 &&
	       at < c->last + 86400;
}

/*
 * The time of a pcap record. libpcap does not check the fraction of a second, so writers use any value. If it is less
 * than two seconds, it is added to the seconds. If it is more, but below 10^9, a file of
 * microseconds is taken as one of nanoseconds. Otherwise the fraction is ignored.
 */
static double tm_pcap_time(struct tm_capture *c, const __u8 *p)
{
	struct tm_interface *in = &c->interface[c->first_ifindex - 1];
	__u32 seconds = tm_get32(c, p), fraction = tm_get32(c, p + 4);

	if (fraction >= in->ticks_per_s) {
		if (fraction >= 2 * in->ticks_per_s && in->ticks_per_s == 1000000 && fraction < 1000000000) {
			tm_note(c, TM_NOTE_NANOSECONDS, c->offset, fraction);
			in->ticks_per_s = 1000000000;
			in->per_tick = 1e-9;
		} else {
			tm_note(c, TM_NOTE_FRACTION, c->offset, fraction);
			if (fraction >= 2 * in->ticks_per_s)
				fraction = 0;
		}
	}
	return (double)seconds + (double)fraction * in->per_tick;
}
