/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "upstream/backoff.h"
#include "core/util.h"

uint32_t hf_backoff_next(struct hf_backoff *b)
{
	uint32_t d = b->next_ms ? b->next_ms : HF_BACKOFF_FIRST_MS;

	d = hf_min(d, b->max_ms);
	b->next_ms = hf_min(d * 2, b->max_ms);
	return d / 2 + (uint32_t)(hf_random_u64() % (d / 2 + 1));
}

void hf_backoff_reset(struct hf_backoff *b)
{
	b->next_ms = 0;
}

void hf_backoff_up(struct hf_backoff *b, uint64_t now_ms)
{
	b->up_since_ms = now_ms ? now_ms : 1;
}

void hf_backoff_down(struct hf_backoff *b, uint64_t now_ms)
{
	if (b->up_since_ms && now_ms - b->up_since_ms >= HF_BACKOFF_STABLE_MS)
		b->next_ms = 0;
	b->up_since_ms = 0;
}
