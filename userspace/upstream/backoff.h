/* SPDX-License-Identifier: GPL-3.0-or-later */
/* upstream/backoff.h - randomised exponential delays: full jitter over [d/2, d], d doubling from 1 s to a cap. */
#pragma once
#include <stdint.h>

struct hf_backoff {
	uint32_t max_ms, next_ms;
	uint64_t up_since_ms;	/* 0 = down */
};
#define HF_BACKOFF_FIRST_MS 1000
#define HF_BACKOFF_STABLE_MS 10000	/* up for so long: the next failure starts from the first delay */
uint32_t hf_backoff_next(struct hf_backoff *b);	/* delay before the next try */
void hf_backoff_reset(struct hf_backoff *b);	/* something changed: try at once, start over */
void hf_backoff_up(struct hf_backoff *b, uint64_t now_ms);
void hf_backoff_down(struct hf_backoff *b, uint64_t now_ms);	/* resets only after a stable period */
