/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * DNS answers (RFC 1035): the addresses of a name that was asked for. They come from whoever runs the name servers, so
 * nothing in them is trusted: each length is checked, pointers may only lead back, and a name may have only letters,
 * digits, hyphens, underscores and dots. trafficmond/datapath/names_seen.py is the only caller.
 */
#pragma once

#include "dns.h"
#include "host_state.h"

#define TM_DNS_NAME 253	   /* of a name as text */
#define TM_DNS_MOST 128	   /* addresses of one answer; its bytes have room for 127 */
#define TM_DNS_POINTERS 32 /* the most that are followed in one name; compressors need a few */
#define TM_DNS_CLASS_IN 1
#define TM_DNS_TYPE_A 1
#define TM_DNS_TYPE_CNAME 5
#define TM_DNS_TYPE_AAAA 28

/* An address, v4-mapped, the name that was asked for, and the time of the answer (CLOCK_MONOTONIC). */
struct tm_dns_name {
	__u8 address[16];
	__u64 at_ns;
	char name[TM_DNS_NAME + 3]; /* padded with zeros */
};

struct tm_dns_text {
	__u32 length;
	char text[TM_DNS_NAME + 3];
};

static __u32 tm_dns_get16(const __u8 *p)
{
	return p[0] << 8 | p[1];
}

static char tm_dns_letter(__u8 octet)
{
	if (octet >= 'A' && octet <= 'Z')
		return octet - 'A' + 'a';
	if ((octet >= 'a' && octet <= 'z') || (octet >= '0' && octet <= '9') || octet == '-' || octet == '_')
		return octet;
	return 0;
}

/* Reads the name at `at`; pointers may lead to `first` and later. Returns the offset after it, 0: no host's name. */
static __u32 tm_dns_name_at(const __u8 *m, __u32 size, __u32 at, __u32 first, struct tm_dns_text *name)
{
	__u32 next = 0, start = at, hops = 0, length;
	char letter;

	name->length = 0;
	while (at < size) {
		length = m[at++];
		if (length >= 0xc0) {
			if (at >= size || ++hops > TM_DNS_POINTERS)
				return 0;
			length = (length & 0x3f) << 8 | m[at++];
			if (!next)
				next = at;
			if (length < first || length >= start)
				return 0;
			at = start = length;
			continue;
		}
		if (!length)
			return next ? next : at;
		if (length > 63 || length > size - at || name->length + !!name->length + length > TM_DNS_NAME)
			return 0;
		if (name->length)
			name->text[name->length++] = '.';
		for (__u32 i = 0; i < length; i++) {
			letter = tm_dns_letter(m[at++]);
			if (!letter)
				return 0;
			name->text[name->length++] = letter;
		}
	}
	return 0;
}

/* Reads a question and its name, moves `at` past it, and returns its type; 0: none of the Internet class. */
static __u32 tm_dns_question_at(const __u8 *m, __u32 size, __u32 *at, struct tm_dns_text *name)
{
	__u32 next = tm_dns_name_at(m, size, *at, size, name);

	if (!next || size - next < 4 || tm_dns_get16(m + next + 2) != TM_DNS_CLASS_IN)
		return 0;
	*at = next + 4;
	return tm_dns_get16(m + next);
}

static int tm_dns_same(const struct tm_dns_text *a, const struct tm_dns_text *b)
{
	return a->length == b->length && !memcmp(a->text, b->text, a->length);
}

/* Whether an address (v4-mapped) can belong to a host: names are made up for 0.0.0.0 and ::1 too. */
static int tm_dns_worth(const __u8 *a, int four)
{
	static const __u8 zeros[15], mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

	if (four)
		return a[12] && a[12] != 127 && a[12] < 224;
	return a[0] != 0xff && memcmp(a, zeros, 15) && memcmp(a, mapped, 12);
}

/* Reads one answer into `out`, which has room for TM_DNS_MOST. Returns the number of names, -1 if it cannot be read. */
TM_EXPORT int tm_dns_read_answer(const __u8 *asked, __u32 asked_bytes, const __u8 *m, __u32 size,
				 struct tm_dns_name *out)
{
	struct tm_dns_text wanted, current, owner;
	__u32 at = 0, type, of, length, count = 0;
	int cut;

	type = tm_dns_question_at(asked, asked_bytes, &at, &wanted);
	at = TM_DNS_HEADER;
	if (!type || size < TM_DNS_LEAST || tm_dns_question_at(m, size, &at, &current) != type ||
	    !tm_dns_same(&wanted, &current))
		return -1;
	if ((type != TM_DNS_TYPE_A && type != TM_DNS_TYPE_AAAA) || !wanted.length || tm_dns_get16(m + 2) & TM_DNS_ERROR)
		return 0;
	cut = size == TM_DNS_MESSAGE || m[2] & 0x02; /* then missing parts were left out, not broken */
	for (__u32 records = tm_dns_get16(m + 6); records; records--) {
		at = tm_dns_name_at(m, size, at, TM_DNS_HEADER, &owner);
		if (!at || size - at < 10)
			return cut ? (int)count : -1;
		of = tm_dns_get16(m + at);
		length = tm_dns_get16(m + at + 8);
		at += 10;
		if (length > size - at)
			return cut ? (int)count : -1;
		if (tm_dns_get16(m + at - 8) == TM_DNS_CLASS_IN && tm_dns_same(&owner, &current)) {
			if (of == TM_DNS_TYPE_CNAME) {
				if (tm_dns_name_at(m, at + length, at, TM_DNS_HEADER, &owner) != at + length)
					return -1;
				current = owner;
			} else if (of == type && length == (type == TM_DNS_TYPE_A ? 4 : 16) && count < TM_DNS_MOST) {
				memset(&out[count], 0, sizeof(*out));
				memset(out[count].address + 10, 0xff, 2);
				memcpy(out[count].address + 16 - length, m + at, length);
				memcpy(out[count].name, wanted.text, wanted.length);
				count += tm_dns_worth(out[count].address, length == 4);
			}
		}
		at += length;
	}
	return count;
}

/* A ring buffer of the kernel as it is mapped: `data` twice in a row, so every record is contiguous. */
struct tm_dns_ring {
	__u64 *consumed;
	const __u64 *produced;
	const __u8 *data;
	__u64 bytes;
};

#define TM_RING_BUSY 0x80000000u    /* BPF_RINGBUF_BUSY_BIT */
#define TM_RING_DISCARD 0x40000000u /* BPF_RINGBUF_DISCARD_BIT */
#define TM_RING_HEAD 8

/* Takes answers out of the ring until it is empty or `out` is full; returns the names, counts `unreadable` answers. */
TM_EXPORT __u32 tm_dns_take(const struct tm_dns_ring *ring, struct tm_dns_name *out, __u32 room, __u64 *unreadable)
{
	const __u32 front = offsetof(struct tm_dns_record, message);
	__u64 at = *ring->consumed, end = __atomic_load_n(ring->produced, __ATOMIC_ACQUIRE);
	__u32 count = 0;

	while (at < end && room - count >= TM_DNS_MOST) {
		const __u8 *head = ring->data + (at & (ring->bytes - 1));
		const struct tm_dns_record *r = (const void *)(head + TM_RING_HEAD);
		__u32 length = __atomic_load_n((const __u32 *)head, __ATOMIC_ACQUIRE), i;

		if (length & TM_RING_BUSY)
			break;
		at += ((length & ~TM_RING_DISCARD) + TM_RING_HEAD + 7) & ~7ull;
		if (length > front && length <= sizeof(*r) && r->asked_bytes <= TM_DNS_ASKED &&
		    r->bytes <= length - front) {
			int found = tm_dns_read_answer(r->asked, r->asked_bytes, r->message, r->bytes, out + count);

			for (i = 0; found > 0 && i < (__u32)found; i++)
				out[count + i].at_ns = r->at_ns;
			count += found > 0 ? found : 0;
			*unreadable += found < 0;
		}
		__atomic_store_n(ring->consumed, at, __ATOMIC_RELEASE);
	}
	return count;
}
