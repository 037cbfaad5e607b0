/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * The texts of a stored flow that cost most to make: addresses, Community IDs (corelight/community-id-spec). Characters
 * are 32 bits wide, as in numpy; unused ones are 0. trafficmond/flows/compiled.py is the only caller.
 */
#ifndef TM_HOST_TEXTS_H
#define TM_HOST_TEXTS_H

#include <string.h>

#include <linux/types.h>

#define TM_V4_TEXT 15
#define TM_COMMUNITY_TEXT 30
#define TM_SHA1_MOST 55 /* bytes of a message of one block */

static __u32 *tm_octet_text(__u32 *out, unsigned int octet)
{
	if (octet >= 100)
		*out++ = '0' + octet / 100;
	if (octet >= 10)
		*out++ = '0' + octet / 10 % 10;
	*out++ = '0' + octet % 10;
	return out;
}

static void tm_v4_text(__u32 *out, __u32 address)
{
	__u32 *end = out + TM_V4_TEXT;
	int shift;

	for (shift = 24; shift >= 0; shift -= 8) {
		out = tm_octet_text(out, address >> shift & 0xff);
		if (shift)
			*out++ = '.';
	}
	while (out < end)
		*out++ = 0;
}

static __u32 tm_rotated(__u32 word, int by)
{
	return word << by | word >> (32 - by);
}

/* FIPS 180-4, of a message of at most TM_SHA1_MOST bytes. */
static void tm_sha1(const __u8 *message, __u32 length, __u8 digest[20])
{
	__u32 h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
	__u32 w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
	__u8 block[64] = {0};
	int i;

	memcpy(block, message, length);
	block[length] = 0x80;
	block[62] = length >> 5;
	block[63] = length << 3;
	for (i = 0; i < 16; i++)
		w[i] = (__u32)block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
	for (; i < 80; i++)
		w[i] = tm_rotated(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
	for (i = 0; i < 80; i++) {
		__u32 f = i < 20   ? (b & c) | (~b & d)
			  : i < 40 ? b ^ c ^ d
			  : i < 60 ? (b & c) | (b & d) | (c & d)
				   : b ^ c ^ d;
		__u32 k = i < 20 ? 0x5a827999 : i < 40 ? 0x6ed9eba1 : i < 60 ? 0x8f1bbcdc : 0xca62c1d6;
		__u32 next = tm_rotated(a, 5) + f + e + k + w[i];

		e = d;
		d = c;
		c = tm_rotated(b, 30);
		b = a;
		a = next;
	}
	h[0] += a;
	h[1] += b;
	h[2] += c;
	h[3] += d;
	h[4] += e;
	for (i = 0; i < 20; i++)
		digest[i] = h[i / 4] >> (24 - 8 * (i % 4));
}

/* "1:" and the base64 (RFC 4648) of a digest. */
static void tm_community_text(__u32 *out, const __u8 digest[20])
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	int i;

	*out++ = '1';
	*out++ = ':';
	for (i = 0; i < 21; i += 3) {
		__u32 three = digest[i] << 16 | digest[i + 1] << 8 | (i + 2 < 20 ? digest[i + 2] : 0);

		*out++ = letters[three >> 18];
		*out++ = letters[three >> 12 & 63];
		*out++ = letters[three >> 6 & 63];
		*out++ = i + 2 < 20 ? letters[three & 63] : '=';
	}
}

#endif
