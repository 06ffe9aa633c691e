/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Store time: elapsed real seconds, immune to jumps of the wall clock (architecture 6.5). */
#include "core/clock.h"
#include "core/util.h"
#include "store/store_int.h"

/* Stored: store time, boottime, wall ms, trusted, boot id. */
void hf_stime_save(const struct hf_store *s, struct hf_buf *out)
{
	hf_buf_le64(out, hf_store_now_ms(s));
	hf_buf_le64(out, hf_clock_boot_ms());
	hf_buf_le64(out, (uint64_t)hf_clock_wall_ms());
	hf_buf_u8(out, hf_clock_wall_is_disciplined());
	hf_buf_put(out, hf_clock_boot_id(), 36);
}

void hf_stime_load(struct hf_store *s, struct hf_span stored)
{
	struct hf_cur c = hf_cur(stored);
	uint64_t base = hf_cur_le64(&c), boot = hf_cur_le64(&c), wall = hf_cur_le64(&c), now_boot = hf_clock_boot_ms();
	bool trusted = hf_cur_u8(&c);
	struct hf_span old_id = hf_cur_take(&c, 36);
	int64_t now_wall = hf_clock_wall_ms();

	s->time.boot_at_ms = now_boot;
	if (c.err)
		s->time.base_ms = 1;	/* a new store; 0 is kept for "never" */
	else if (hf_span_is(old_id, hf_clock_boot_id()) && now_boot >= boot)
		s->time.base_ms = base + (now_boot - boot);
	else if (trusted && hf_clock_wall_is_disciplined() && now_wall > (int64_t)wall)
		s->time.base_ms = base + (uint64_t)(now_wall - (int64_t)wall);
	else
		s->time.base_ms = base;	/* the time without power is unknown: it does not count */
}

uint64_t hf_store_now_ms(const struct hf_store *s)
{
	return s->time.base_ms + (hf_clock_boot_ms() - s->time.boot_at_ms);
}
