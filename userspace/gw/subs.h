/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/subs.h - the set of subscription filters of one session, as one compact immutable block that is also
 * its stored form: version byte, count, then per filter u8 QoS, u16 LE length, text. */
#pragma once
#include "core/buf.h"

#define HF_SUBS_MAX 32		/* filters per session */
struct hf_subs {
	uint32_t len;		/* of data */
	uint8_t data[];
};
struct hf_subs *hf_subs_dup(const struct hf_subs *s);	/* NULL for NULL or ENOMEM */
/* Checks a stored block. NULL when it is none (or ENOMEM). */
struct hf_subs *hf_subs_parse(struct hf_span stored);
bool hf_subs_equal(const struct hf_subs *a, const struct hf_subs *b);
/* *pos starts at 0. */
bool hf_subs_next(const struct hf_subs *s, size_t *pos, struct hf_span *ret_filter, uint8_t *ret_qos);
/* A new set: base (may be NULL) without `filter`, plus it with this QoS unless qos < 0. -ENOMEM, HF_EFULL. */
int hf_subs_with(const struct hf_subs *base, struct hf_span filter, int qos, struct hf_subs **ret_subs);
/* Highest QoS of a filter that matches the topic, -1 when none does. */
int hf_subs_match(const struct hf_subs *s, struct hf_span topic);
