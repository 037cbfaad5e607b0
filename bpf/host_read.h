/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Reads a capture of either format, one buffer at a time, and finds the next record if its framing is lost. The caller
 * passes a buffer and gets the number of bytes used; a record is used completely or not at all, so the rest must come
 * again at the beginning of the next buffer.
 */
#pragma once

#include "host_pcapng.h"

/* Whether another capture of either format begins at the place of a pcap record. */
static int tm_file_begins(const __u8 *p)
{
	__u32 type, order;

	memcpy(&type, p, sizeof(type));
	memcpy(&order, p + 8, sizeof(order));
	return tm_pcap_joined(p) ||
	       (type == TM_BLOCK_SECTION && (order == 0x1a2b3c4d || order == __builtin_bswap32(0x1a2b3c4d)));
}

/* Searches `p` for a record or a file. Returns the bytes skipped; if there is none, all except those of a header. */
static __u64 tm_capture_search(struct tm_capture *c, const __u8 *p, __u64 size, int final)
{
	__u64 at = 0, step = c->format == TM_PCAP ? 1 : 4, need = !final ? 24 : c->format == TM_PCAP ? 16 : 12;
	__u32 type, length;

	for (; at + need <= size; at += step) {
		if (at + 24 <= size && tm_file_begins(p + at)) {
			/* joined behind one that was cut */
		} else if (c->format == TM_PCAP) {
			if (!tm_pcap_convincing(c, p + at))
				continue;
			length = tm_pcap_captured(c, p + at) + c->record_header;
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
 * Reads records from `data`. `final` means that nothing follows. Returns the bytes used, which are fewer if rows must
 * be taken first (ledger.rows), or if the rest is less than a record.
 */
TM_EXPORT __u64 tm_capture_read(struct tm_capture *c, const __u8 *data, __u64 size, int final)
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
			if (left < 24 || (left < TM_CHAIN_SIZE && !final))
				break;
			if (tm_pcap_magic(c, p)) {
				tm_pcap_begin(c, p, left - 24);
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
			if (left >= 24 && tm_file_begins(p)) {
				tm_section_begin(c);
				c->format = TM_UNKNOWN;
				continue;
			}
			if (left < c->record_header)
				break;
			if (!tm_pcap_plausible(c, p)) {
				tm_capture_lose(c, TM_NOTE_BAD_RECORD, tm_get32(c, p + 8));
				continue;
			}
			length = tm_pcap_captured(c, p);
			if (left < c->record_header + length)
				break;
			if (tm_get32(c, p + 4) >= c->interface[c->first_ifindex - 1].ticks_per_s) {
				__u64 next = c->record_header + length;

				if (left < next + 16 && !final)
					break;
				if (left != next && (left < next + 16 ||
						     (!tm_pcap_plausible(c, p + next) && !tm_file_begins(p + next)))) {
					tm_capture_lose(c, TM_NOTE_FRACTION, tm_get32(c, p + 4));
					continue;
				}
			}
			if (!tm_ledger_room(c->ledger))
				return used;
			double at = tm_pcap_time(c, p);

			if (!tm_ledger_begin(c->ledger, at))
				return used;
			tm_capture_packet(c, &c->interface[c->first_ifindex - 1], c->first_ifindex, at,
					  p + c->record_header, length, tm_pcap_length(c, p));
			used += c->record_header + length;
			continue;
		}
		if (left < 12)
			break;
		if (left >= 24 && tm_pcap_joined(p)) {
			tm_section_begin(c);
			c->format = TM_UNKNOWN;
			continue;
		}
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
			if (type == TM_BLOCK_SECTION) {
				tm_section_begin(c);
				tm_section_version(c, p, length);
			} else if (type == TM_BLOCK_INTERFACE && length >= 20)
				tm_interface_begin(c, p + 8, length - 12);
			else if (type != TM_BLOCK_INTERFACE && !tm_packet_block(c, type, p + 8, length - 12, left))
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
