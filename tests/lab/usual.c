// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* The parser of usual frames beside the parser of all, for test_lab_usual.py. */
#include <stddef.h>
#include <string.h>

#include "quick.h"

enum { GENERAL, TAKEN, WRONG };

/* Whether a frame of `wire_len`, of which `size` bytes can be read, is taken; and whether both then say the same. */
int tm_compare(const __u8 *frame, __u32 size, __u32 wire_len, struct tm_packet *quick, struct tm_packet *general)
{
	struct tm_quick q = {.data = frame, .end = frame + size, .wire_len = wire_len};
	__be16 type;
	int kind;

	memset(quick, 0, sizeof(*quick));
	memset(general, 0, sizeof(*general));
	general->wire_len = wire_len;
	kind = tm_parse(frame, frame + size, general, 0);
	general->what = tm_what(general);
	type = tm_quick_link(&q, quick);
	if (!(type == tm_htons(TM_ETH_IPV4) && tm_quick_ipv4(&q, quick)) &&
	    !(type == tm_htons(TM_ETH_IPV6) && tm_quick_ipv6(&q, quick)))
		return GENERAL;
	return kind == TM_IS_IP && !memcmp(quick, general, sizeof(*quick)) ? TAKEN : WRONG;
}

static __u64 tm_dice(__u64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state >> 16;
}

/* A frame that is usual but for up to three bytes. Returns its size. */
static __u32 tm_make(__u64 *state, __u8 *frame)
{
	static const __u8 odd[] = {0, 1, 6, 8, 17, 20, 0x45, 0x60, 0x81, 0x86, 0xdd, 0xff};
	__u32 i, six = tm_dice(state) & 1, tags = tm_dice(state) % 5 ? tm_dice(state) & 1 : 2;
	__u32 at = 14 + 4 * tags, header = six ? 40 : 20, tcp = tm_dice(state) & 1;
	__u32 size = at + header + (tcp ? 20 : 8) + tm_dice(state) % 60, left = size - at;

	for (i = 0; i < size; i++)
		frame[i] = tm_dice(state);
	for (i = 0; i < tags; i++)
		memcpy(frame + 12 + 4 * i, "\x81\x00\x00\x07", 4 - (tm_dice(state) & 2));
	memcpy(frame + at - 2, six ? "\x86\xdd" : "\x08\x00", 2);
	if (six) {
		frame[at] = 0x60;
		frame[at + 4] = 0;
		frame[at + 5] = left - 40;
		frame[at + 6] = tcp ? 6 : 17;
	} else {
		memcpy(frame + at, "\x45\x00\x00", 3);
		frame[at + 3] = left;
		memcpy(frame + at + 6, "\x40\x00", 2);
		frame[at + 9] = tcp ? 6 : 17;
	}
	if (tcp) {
		frame[at + header + 12] = 5 + tm_dice(state) % 4 << 4;
	} else {
		frame[at + header + 4] = 0;
		frame[at + header + 5] = left - header;
	}
	for (i = tm_dice(state) & 3; i; i--) {
		__u8 *where = frame + 12 + tm_dice(state) % (size - 12);

		switch (tm_dice(state) % 3) {
		case 0:
			*where = odd[tm_dice(state) % sizeof(odd)];
			break;
		case 1:
			*where ^= 1 << tm_dice(state) % 8;
			break;
		default:
			*where += tm_dice(state) & 1 ? 1 : -1;
		}
	}
	return size;
}

/*
 * Compares `count` made frames, whole, cut and with more after them. `taken` is counted for IPv4 and IPv6, each plain
 * and tagged, each TCP and UDP. Returns the size of the first that the two do not agree on, which is in `frame` (200
 * bytes), else 0.
 */
__u32 tm_compare_many(__u64 seed, __u64 count, __u8 *frame, __u32 *wire_len, __u64 taken[8])
{
	struct tm_packet quick, general;
	__u32 size;
	__u64 i;

	for (i = 0; i < count; i++) {
		*wire_len = size = tm_make(&seed, frame);
		if (tm_dice(&seed) % 8 == 0)
			size -= tm_dice(&seed) % size; /* of a buffer in pieces, or cut: the length says which */
		if (tm_dice(&seed) % 8 == 0)
			*wire_len = size;
		else if (tm_dice(&seed) % 8 == 0)
			*wire_len += tm_dice(&seed) % 70000;
		switch (tm_compare(frame, size, *wire_len, &quick, &general)) {
		case TAKEN:
			taken[(quick.key.scope ? 4 : 0) + (quick.key.vlan ? 2 : 0) +
			      (quick.key.proto == TM_PROTO_UDP)]++;
			break;
		case WRONG:
			return size;
		}
	}
	return 0;
}
