/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* The blocks of pcapng: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html */
#pragma once

#include "host_capture.h"

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

/* The version after a section's byte order, if the block has it. */
static void tm_section_version(struct tm_capture *c, const __u8 *block, __u32 size)
{
	if (size >= 16 && tm_get16(c, block + 12) != 1)
		tm_note(c, TM_NOTE_VERSION, c->offset + 12,
			(__u64)tm_get16(c, block + 12) << 16 | tm_get16(c, block + 14));
}

static void tm_interface_begin(struct tm_capture *c, const __u8 *body, __u32 size)
{
	struct tm_interface *in = tm_interface_at(c, c->interfaces);
	__u32 code, length;
	__u8 resolution = 6;
	__s64 seconds;
	int i;

	if (!in) {
		tm_note(c, TM_NOTE_INTERFACES, c->offset, c->interfaces);
		return;
	}
	c->interfaces++;
	memset(in, 0, sizeof(*in));
	in->link = tm_get16(c, body);
	in->snap = tm_get32(c, body + 4);
	for (__u32 at = 8; at + 4 <= size; at += 4 + ((length + 3) & ~3u)) {
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

/* The time of the first packet that has one in the blocks from `block` on; negative if there is none in `size` bytes.
 */
static double tm_first_time(const struct tm_capture *c, const __u8 *block, __u64 size)
{
	__u32 type, length, number;

	for (; size >= 12; block += length, size -= length) {
		type = tm_get32(c, block);
		length = tm_get32(c, block + 4);
		if (length < 12 || length % 4 || length > size)
			break;
		if ((type != TM_BLOCK_ENHANCED && type != TM_BLOCK_PACKET) || length < 32)
			continue;
		number = type == TM_BLOCK_ENHANCED ? tm_get32(c, block + 8) : tm_get16(c, block + 8);
		if (number < c->interfaces)
			return tm_ticks(&c->interface[c->first_ifindex - 1 + number],
					(__u64)tm_get32(c, block + 12) << 32 | tm_get32(c, block + 16));
	}
	return -1;
}

/* A packet block of `size` bytes (its body; `left` bytes are at hand). Returns 0 if rows must be taken first. */
static int tm_packet_block(struct tm_capture *c, __u32 type, const __u8 *body, __u32 size, __u64 left)
{
	__u32 number = 0, captured, length, head, snap;
	const struct tm_interface *in;
	double at = c->last; /* a simple packet block carries no time */

	if (type == TM_BLOCK_SIMPLE) {
		head = 4;
		if (size < head)
			goto bad;
		length = tm_get32(c, body);
		captured = length < size - head ? length : size - head;
		if (c->interfaces && (snap = c->interface[c->first_ifindex - 1].snap) && snap < captured)
			captured = snap; /* padding of the block follows */
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
	in = &c->interface[c->first_ifindex - 1 + number];
	if (type == TM_BLOCK_SIMPLE && !c->timed) {
		at = tm_first_time(c, body - 8, left);
		tm_note(c, TM_NOTE_UNTIMED, c->offset, 1);
		if (at < 0)
			at = 0;
	}
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
