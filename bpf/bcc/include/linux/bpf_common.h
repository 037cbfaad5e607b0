/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Empty: instruction codes, which our source does not name. */
