// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/*
 * libFuzzer target for what reads strangers' bytes in C: captures, or with -DTM_FUZZ_LINES log lines. The first byte
 * says where the rest is cut in two, as a file is that comes in portions.
 */
#include "host.c"

static void tm_expect(int is_so)
{
	if (!is_so)
		__builtin_trap();
}

static void tm_take_all(struct tm_ledger *ledger, int all)
{
	static struct tm_row rows[TM_ROWS_MAX];
	__u32 i, count = tm_ledger_take(ledger, rows, all);

	for (i = 0; i < count; i++) {
		tm_expect(rows[i].packets > 0 && rows[i].last >= rows[i].first);
		tm_expect(rows[i].payload_packets <= rows[i].packets);
	}
}

int LLVMFuzzerTestOneInput(const __u8 *data, __u64 size)
{
	static struct tm_ledger *ledger;
	struct tm_host_totals *totals;
	__u64 parts[2], used, left, at = 1;
	int i;

	if (!size)
		return 0;
	if (!ledger)
		ledger = tm_ledger_new(1);
	totals = &ledger->totals;
	memset(totals, 0, sizeof(*totals));
	memset(ledger->index, 0, sizeof(ledger->index));
	ledger->used = ledger->touched = ledger->rows = 0;
	ledger->begun = 0;
	parts[0] = (size - 1) * data[0] / 255;
	parts[1] = size - 1;
#ifdef TM_FUZZ_LINES
	static struct tm_reject rejects[TM_REJECTS_MAX];
	struct tm_lines *reader = tm_lines_new(ledger);
#else
	static struct tm_note notes[TM_NOTES_MAX];
	struct tm_capture *reader = tm_capture_new(ledger, 0);
	__u64 lost;
#endif

	for (i = 0; i < 2; i++) {
		do {
			left = parts[i] + 1 - at;
#ifdef TM_FUZZ_LINES
			used = tm_lines_feed(reader, (const char *)data + at, left, i);
			tm_lines_rejects(reader, rejects);
#else
			used = tm_capture_read(reader, data + at, left, i);
			tm_capture_notes(reader, notes, &lost);
#endif
			tm_expect(used <= left);
			at += used;
			tm_take_all(ledger, 0);
		} while (used && at < parts[i] + 1);
	}
	tm_take_all(ledger, 1);
	tm_expect(at == size); /* the last call was told that nothing follows */
	tm_expect(totals->seen.packets ==
		  totals->in_flows.packets + totals->not_ip.packets + totals->malformed.packets);
	tm_expect(totals->seen.bytes == totals->in_flows.bytes + totals->not_ip.bytes + totals->malformed.bytes);
#ifdef TM_FUZZ_LINES
	tm_lines_free(reader);
#else
	tm_capture_free(reader);
#endif
	return 0;
}
