// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/*
 * libFuzzer target for answers of DNS. The first byte says how long the question is that was asked; the rest is the
 * answer. Each lies in memory of its own that ends where it ends.
 */
#include "host.c"

static __u8 *tm_copy(const __u8 *data, __u64 size)
{
	__u8 *copy = malloc(size ? size : 1);

	memcpy(copy, data, size);
	return copy;
}

int LLVMFuzzerTestOneInput(const __u8 *data, __u64 size)
{
	static struct tm_dns_name found[TM_DNS_MOST];
	__u64 asked_bytes, bytes;
	__u8 *asked, *message;
	int i, count;

	if (!size)
		return 0;
	asked_bytes = data[0] < size - 1 ? data[0] : size - 1;
	bytes = size - 1 - asked_bytes;
	if (bytes > TM_DNS_MESSAGE)
		bytes = TM_DNS_MESSAGE;
	asked = tm_copy(data + 1, asked_bytes);
	message = tm_copy(data + 1 + asked_bytes, bytes);
	memset(found, 0xff, sizeof(found));
	count = tm_dns_read_answer(asked, asked_bytes, message, bytes, found);
	if (count < -1 || count > TM_DNS_MOST)
		__builtin_trap();
	for (i = 0; i < count; i++) {
		__u64 length = strnlen(found[i].name, sizeof(found[i].name));

		if (!length || length > TM_DNS_NAME ||
		    strspn(found[i].name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != length)
			__builtin_trap();
	}
	free(asked);
	free(message);
	return 0;
}
