/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * The offset of each field in the structs that numpy reads and writes as dtypes. Callers compare them when they load
 * the library, so a library of another version is rejected instead of misread.
 */
#pragma once

#include <stddef.h>
#include <string.h>

#include "host_state.h"

#define TM_ROW_AT(type, field) offsetof(struct tm_row, field),
#define TM_FLOW_AT(type, field) offsetof(struct tm_state, flow.field),
#define TM_STATE_AT(type, field) offsetof(struct tm_state, field),

/* Offset of each field of struct tm_row in its order, then its size: native.py compares them with the dtype. */
TM_EXPORT __u32 tm_row_layout(__u32 *out)
{
	static const __u32 at[] = {TM_ROW(TM_ROW_AT) sizeof(struct tm_row)};

	memcpy(out, at, sizeof(at));
	return sizeof(at) / sizeof(at[0]);
}

/* The same of struct tm_state. */
TM_EXPORT __u32 tm_state_layout(__u32 *out)
{
	static const __u32 at[] = {TM_FLOW_ROW(TM_FLOW_AT) TM_STATE(TM_STATE_AT) sizeof(struct tm_state)};

	memcpy(out, at, sizeof(at));
	return sizeof(at) / sizeof(at[0]);
}
