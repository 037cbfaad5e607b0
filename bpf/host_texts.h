/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * The texts of a stored flow that cost most to make: addresses, Community IDs (corelight/community-id-spec). Characters
 * are 32 bits wide, as in numpy; unused ones are 0. trafficmond/flows/compiled.py is the only caller.
 */
#pragma once

#include <string.h>

#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>
#endif

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

	for (int shift = 24; shift >= 0; shift -= 8) {
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

/* FIPS 180-4: the state after another block. */
static void tm_sha1_block(__u32 h[5], const __u8 block[64])
{
	__u32 w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
	int i;

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
}

#ifdef __x86_64__
/* The same with the CPU's own instructions, which take four rounds each (Intel SDM, SHA1RNDS4). */
__attribute__((target("sha,sse4.1"))) static void tm_sha1_block_x86(__u32 h[5], const __u8 block[64])
{
	const __m128i big = _mm_set_epi64x(0x0001020304050607, 0x08090a0b0c0d0e0f);
	__m128i w[20], begin = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)h), 0x1b), abcd = begin,
		       before = begin, last = _mm_set_epi32((int)h[4], 0, 0, 0), e = last;
	int i;

	for (i = 0; i < 4; i++)
		w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)block + i), big);
	for (; i < 20; i++)
		w[i] = _mm_sha1msg2_epu32(_mm_xor_si128(_mm_sha1msg1_epu32(w[i - 4], w[i - 3]), w[i - 2]), w[i - 1]);
#define TM_TWENTY_ROUNDS(kind)                                                                                         \
	for (i = 5 * (kind); i < 5 * (kind) + 5; i++) {                                                                \
		e = i ? _mm_sha1nexte_epu32(before, w[i]) : _mm_add_epi32(e, w[i]);                                    \
		before = abcd;                                                                                         \
		abcd = _mm_sha1rnds4_epu32(abcd, e, kind);                                                             \
	}
	TM_TWENTY_ROUNDS(0)
	TM_TWENTY_ROUNDS(1)
	TM_TWENTY_ROUNDS(2)
	TM_TWENTY_ROUNDS(3)
	_mm_storeu_si128((__m128i *)h, _mm_shuffle_epi32(_mm_add_epi32(abcd, begin), 0x1b));
	h[4] = _mm_extract_epi32(_mm_sha1nexte_epu32(before, last), 3);
}

static int tm_sha1_is_x86(void)
{
	static int known = -1;
	__u32 a, b, c, d, sse;

	if (known < 0)
		known = __get_cpuid(1, &a, &b, &sse, &d) && sse & bit_SSE4_1 && sse & bit_SSSE3 &&
			__get_cpuid_count(7, 0, &a, &b, &c, &d) && b & bit_SHA;
	return known;
}
#endif

/* FIPS 180-4, of a message of at most TM_SHA1_MOST bytes. */
static void tm_sha1(const __u8 *message, __u32 length, __u8 digest[20])
{
	__u32 h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
	__u8 block[64] = {0};

	memcpy(block, message, length);
	block[length] = 0x80;
	block[62] = length >> 5;
	block[63] = length << 3;
#ifdef __x86_64__
	if (tm_sha1_is_x86())
		tm_sha1_block_x86(h, block);
	else
#endif
		tm_sha1_block(h, block);
	for (int i = 0; i < 20; i++)
		digest[i] = h[i / 4] >> (24 - 8 * (i % 4));
}

/* "1:" and the base64 (RFC 4648) of a digest. */
static void tm_community_text(__u32 *out, const __u8 digest[20])
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	*out++ = '1';
	*out++ = ':';
	for (int i = 0; i < 21; i += 3) {
		__u32 three = digest[i] << 16 | digest[i + 1] << 8 | (i + 2 < 20 ? digest[i + 2] : 0);

		*out++ = letters[three >> 18];
		*out++ = letters[three >> 12 & 63];
		*out++ = letters[three >> 6 & 63];
		*out++ = i + 2 < 20 ? letters[three & 63] : '=';
	}
}
