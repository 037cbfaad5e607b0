// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* The tunnels' parser on the host, for test_lab_inside.py. */
#include <string.h>

#include "tunnel.h"

/* What is inside a frame, and its name under a seed. Returns 0 if nothing is. */
int tm_inside(const __u8 *frame, __u32 size, int raw, __u64 seed, struct tm_inner *inner, __u64 *name)
{
	struct tm_packet p, in;

	memset(&p, 0, sizeof(p));
	memset(&in, 0, sizeof(in));
	p.wire_len = size;
	if (tm_parse(frame, frame + size, &p, raw) != TM_IS_IP || tm_tunnel(&p) == TM_NO_TUNNEL)
		return 0;
	if (!tm_parse_inside(frame, frame + size, &p, &in))
		return 0;
	memcpy(inner, &in.key, sizeof(*inner));
	*name = tm_hash_inner(&in, seed);
	return 1;
}
