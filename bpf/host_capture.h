/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Captures for the host build: the framing of pcap (libpcap's savefile format, both byte orders, micro- and
 * nanoseconds, the "modified" variant) and pcapng (draft-ietf-opsawg-pcapng). The caller hands over a buffer and gets
 * back how much of it was used; a record is never used by half, so what is left comes again at the front of the next
 * buffer.
 *
 * Nothing in a file is believed: an impossible length is noted with its offset, and the search for the next
 * record that looks like one begins behind it.
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

/* ---- pcap ---- */

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

/* ---- pcapng ---- */

#define TM_BLOCK_SECTION 0x0a0d0d0au
#define TM_BLOCK_INTERFACE 1u
#define TM_BLOCK_PACKET 2u /* obsolete */
#define TM_BLOCK_SIMPLE 3u
#define TM_BLOCK_ENHANCED 6u

static void tm_section_begin(struct tm_capture *c)
{
	c->format = TM_PCAPNG;
	c->first_ifindex += c->interfaces;
	c->interfaces = 0;
}

static void tm_interface_begin(struct tm_capture *c, const __u8 *body, __u32 size)
{
	struct tm_interface *in;
	__u32 at, code, length, ifindex = c->first_ifindex + c->interfaces;
	__u8 resolution = 6;
	__s64 seconds;
	int i;

	if (c->interfaces == TM_CAPTURE_INTERFACES) {
		tm_note(c, TM_NOTE_INTERFACES, c->offset, c->interfaces);
		return;
	}
	in = &c->interface[c->interfaces++];
	memset(in, 0, sizeof(*in));
	in->link = tm_get16(c, body);
	for (at = 8; at + 4 <= size; at += 4 + ((length + 3) & ~3u)) {
		code = tm_get16(c, body + at);
		length = tm_get16(c, body + at + 2);
		if (!code || at + 4 + length > size)
			break;
		if (code == 2) /* if_name */
			memcpy(in->name, body + at + 4, length < TM_CAPTURE_NAME ? length : TM_CAPTURE_NAME - 1);
		else if (code == 9 && length >= 1) /* if_tsresol */
			resolution = body[at + 4];
		else if (code == 14 && length >= 8) { /* if_tsoffset */
			memcpy(&seconds, body + at + 4, sizeof(seconds));
			in->offset_s = (double)(c->swapped ? (__s64)__builtin_bswap64((__u64)seconds) : seconds);
		}
	}
	in->per_tick = 1;
	for (i = 0; i < (resolution & 0x7f); i++)
		in->per_tick /= resolution & 0x80 ? 2 : 10;
	if (!(resolution & 0x80) && resolution <= 18)
		for (in->ticks_per_s = 1, i = 0; i < resolution; i++)
			in->ticks_per_s *= 10;
	if (ifindex <= TM_MAX_INTERFACES)
		memcpy(c->name[ifindex - 1], in->name, TM_CAPTURE_NAME);
	if (!tm_link_known(in->link))
		tm_note(c, TM_NOTE_LINK_TYPE, c->offset, in->link);
}

static double tm_ticks(const struct tm_interface *in, __u64 ticks)
{
	if (in->ticks_per_s) /* exact seconds first: a double has not enough bits for nanoseconds since 1970 */
		return (double)(ticks / in->ticks_per_s) + (double)(ticks % in->ticks_per_s) * in->per_tick +
		       in->offset_s;
	return (double)ticks * in->per_tick + in->offset_s;
}

/* A packet block of `size` bytes (its body). Returns 0 if rows must be taken first. */
static int tm_packet_block(struct tm_capture *c, __u32 type, const __u8 *body, __u32 size)
{
	__u32 number = 0, captured, length, head;
	const struct tm_interface *in;
	double at = c->last; /* a simple packet block carries no time */

	if (type == TM_BLOCK_SIMPLE) {
		head = 4;
		if (size < head)
			goto bad;
		length = tm_get32(c, body);
		captured = length < size - head ? length : size - head;
	} else {
		head = 20;
		if (size < head)
			goto bad;
		number = type == TM_BLOCK_ENHANCED ? tm_get32(c, body) : tm_get16(c, body);
		captured = tm_get32(c, body + 12);
		length = tm_get32(c, body + 16);
		if (captured > size - head || captured > TM_BLOCK_LENGTH_MAX)
			goto bad;
	}
	if (number >= c->interfaces) {
		tm_note(c, TM_NOTE_NO_INTERFACE, c->offset, number);
		return 1;
	}
	in = &c->interface[number];
	if (type != TM_BLOCK_SIMPLE)
		at = tm_ticks(in, (__u64)tm_get32(c, body + 4) << 32 | tm_get32(c, body + 8));
	if (!(at >= 0 && at < TM_TIME_MAX)) {
		tm_note(c, TM_NOTE_TIME, c->offset, number);
		at = c->last;
	}
	if (!tm_ledger_begin(c->ledger, at))
		return 0;
	tm_capture_packet(c, in, c->first_ifindex + number, at, body + head, captured, length);
	return 1;
bad:
	tm_note(c, TM_NOTE_BAD_BLOCK, c->offset, size);
	return 1;
}

/* ---- both ---- */

/* Looks in `p` for a record to go on with. Returns the bytes passed over, all but a header's if there is none. */
static __u64 tm_capture_search(struct tm_capture *c, const __u8 *p, __u64 size, int final)
{
	__u64 at = 0, step = c->format == TM_PCAP ? 1 : 4, need = c->format == TM_PCAP ? 16 : 12;
	__u32 type, length;

	for (; at + need <= size; at += step) {
		if (c->format == TM_PCAP) {
			if (!tm_pcap_convincing(c, p + at))
				continue;
			length = tm_get32(c, p + at + 8) + c->record_header;
			if (at + length + 16 <= size ? !tm_pcap_convincing(c, p + at + length)
						     : !(final && at + length == size))
				continue;
		} else {
			type = tm_get32(c, p + at);
			length = tm_get32(c, p + at + 4);
			if ((type > TM_BLOCK_ENHANCED || !type) && type != TM_BLOCK_SECTION)
				continue;
			if (length < 12 || length % 4 || length > TM_CAPTURE_LENGTH_MAX || at + length > size ||
			    tm_get32(c, p + at + length - 4) != length)
				continue;
		}
		c->searching = 0;
		tm_note(c, TM_NOTE_RESUMED, c->offset + at, c->offset + at - c->lost_at);
		return at;
	}
	return at;
}

static void tm_capture_lose(struct tm_capture *c, __u32 kind, __u64 value)
{
	tm_note(c, kind, c->offset, value);
	c->searching = 1;
	c->lost_at = c->offset;
	c->skip = c->format == TM_PCAP ? 1 : 4;
}

/*
 * Reads records from `data`. `final` says that nothing follows. Returns the bytes used; fewer than could be
 * when rows wait to be taken (ledger.rows), or when the rest is less than a record.
 */
static __u64 tm_capture_feed(struct tm_capture *c, const __u8 *data, __u64 size, int final)
{
	__u64 used = 0, base = c->offset, left;
	__u32 length, type;
	const __u8 *p;

	for (;; c->offset = base + used) {
		left = size - used;
		p = data + used;
		if (c->skip) {
			if (c->skip > left) {
				if (final && !c->searching && c->skip > left)
					tm_note(c, TM_NOTE_TRUNCATED, c->offset, c->skip - left);
				c->skip = final ? 0 : c->skip - left;
				used = size;
				c->offset = base + used;
				return used;
			}
			used += c->skip;
			c->skip = 0;
			continue;
		}
		if (c->format == TM_UNKNOWN) {
			if (left < 24)
				break;
			if (tm_pcap_magic(c, p)) {
				tm_pcap_begin(c, p);
				if (!tm_link_known(c->interface[0].link))
					tm_note(c, TM_NOTE_LINK_TYPE, 20, c->interface[0].link);
				used += 24;
				continue;
			}
			c->format = TM_PCAPNG;
		}
		if (c->searching) {
			__u64 passed = tm_capture_search(c, p, left, final);

			used += passed;
			if (c->searching)
				break;
			continue;
		}
		if (c->format == TM_PCAP) {
			if (left < c->record_header)
				break;
			if (!tm_pcap_plausible(c, p)) {
				tm_capture_lose(c, TM_NOTE_BAD_RECORD, tm_get32(c, p + 8));
				continue;
			}
			length = tm_get32(c, p + 8);
			if (left < c->record_header + length)
				break;
			double at = (double)tm_get32(c, p) + (double)tm_get32(c, p + 4) * c->interface[0].per_tick;

			if (!tm_ledger_begin(c->ledger, at))
				return used;
			tm_capture_packet(c, &c->interface[0], 1, at, p + c->record_header, length,
					  tm_get32(c, p + 12));
			used += c->record_header + length;
			continue;
		}
		if (left < 12)
			break;
		memcpy(&type, p, sizeof(type));
		if (type == TM_BLOCK_SECTION) { /* the same in both orders; the next word tells which */
			memcpy(&length, p + 8, sizeof(length));
			c->swapped = length == __builtin_bswap32(0x1a2b3c4d);
		}
		type = tm_get32(c, p);
		length = tm_get32(c, p + 4);
		if (length < 12 || length % 4 || length > TM_BLOCK_LENGTH_MAX) {
			tm_capture_lose(c, TM_NOTE_BAD_BLOCK, length);
			continue;
		}
		if (type == TM_BLOCK_SECTION || type == TM_BLOCK_INTERFACE || type == TM_BLOCK_PACKET ||
		    type == TM_BLOCK_SIMPLE || type == TM_BLOCK_ENHANCED) {
			if (length > 2 * TM_CAPTURE_LENGTH_MAX) {
				tm_capture_lose(c, TM_NOTE_BAD_BLOCK, length);
				continue;
			}
			if (left < length)
				break;
			if (type == TM_BLOCK_SECTION)
				tm_section_begin(c);
			else if (type == TM_BLOCK_INTERFACE && length >= 20)
				tm_interface_begin(c, p + 8, length - 12);
			else if (type != TM_BLOCK_INTERFACE && !tm_packet_block(c, type, p + 8, length - 12))
				return used;
			used += length;
		} else {
			c->skip = length;
		}
	}
	if (final && size > used) {
		if (!c->searching)
			tm_note(c, TM_NOTE_TRUNCATED, c->offset, size - used);
		used = size;
	}
	c->offset = base + used;
	return used;
}

#endif
