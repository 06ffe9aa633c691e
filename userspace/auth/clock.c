/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "auth/clock.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { VERSION = 1, BOOT_ID_LEN = 36 };

/* Readers take both numbers one after the other; each pair is one that was true a moment ago. */
struct hf_auth_clock {
	int64_t max_step_s;
	_Atomic int64_t floor_s;
	_Atomic int64_t epoch_s;	/* auth time at boot, by the floor: floor - boot time when it was set */
	_Atomic int from;		/* enum hf_clock_source */
	_Atomic int64_t hint_s;
};

static int64_t boot_s(void)
{
	return (int64_t)(hf_clock_boot_ms() / 1000);
}

const char *hf_clock_source_name(enum hf_clock_source from)
{
	static const char *const names[] = { [HF_CLOCK_BUILD] = "build", [HF_CLOCK_STORED] = "stored",
					     [HF_CLOCK_KERNEL] = "kernel", [HF_CLOCK_HUB] = "hub" };

	return names[from];
}

static void set_floor(struct hf_auth_clock *c, int64_t floor_s, int64_t at_boot_s, enum hf_clock_source from)
{
	atomic_store(&c->epoch_s, floor_s - at_boot_s);
	atomic_store(&c->floor_s, floor_s);
	atomic_store(&c->from, (int)from);
}

static void load(struct hf_auth_clock *c, struct hf_span stored)
{
	struct hf_cur cur = hf_cur(stored);
	uint8_t version = hf_cur_u8(&cur);
	int64_t floor_s = (int64_t)hf_cur_le64(&cur), at_boot_s = (int64_t)hf_cur_le64(&cur);
	struct hf_span boot = hf_cur_take(&cur, BOOT_ID_LEN);
	bool same_boot;

	if (cur.err || version != VERSION || floor_s < atomic_load(&c->floor_s)) {
		hf_log(HF_LOG_WARN, "clock.stored", "the stored time floor is %s: the time of the build counts",
		       cur.err || version != VERSION ? "not readable" : "older than this program");
		return;
	}
	same_boot = hf_span_is(boot, hf_clock_boot_id()) && at_boot_s <= boot_s();
	set_floor(c, floor_s, same_boot ? at_boot_s : boot_s(), HF_CLOCK_STORED);
}

int hf_auth_clock_create(int64_t max_step_s, struct hf_span stored, struct hf_auth_clock **ret_clock)
{
	struct hf_auth_clock *c = calloc(1, sizeof *c);

	if (!c)
		return -ENOMEM;
	c->max_step_s = max_step_s;
	set_floor(c, HF_BUILD_TIME_S, boot_s(), HF_CLOCK_BUILD);
	if (stored.len)
		load(c, stored);
	hf_auth_clock_ask_kernel(c);
	*ret_clock = c;
	return 0;
}

void hf_auth_clock_destroy(struct hf_auth_clock **clock)
{
	free(*clock);
	*clock = NULL;
}

void hf_auth_clock_view(const struct hf_auth_clock *c, struct hf_clock_view *ret_view)
{
	struct hf_clock_view v = { .wall_s = hf_clock_wall_s(), .floor_s = atomic_load(&c->floor_s),
				   .floor_from = (enum hf_clock_source)atomic_load(&c->from) };

	v.by_wall = v.wall_s >= v.floor_s && v.wall_s - v.floor_s <= c->max_step_s;
	v.now_s = v.by_wall ? v.wall_s : hf_max(v.floor_s, atomic_load(&c->epoch_s) + boot_s());
	*ret_view = v;
}

int64_t hf_auth_clock_now_s(const struct hf_auth_clock *c)
{
	struct hf_clock_view v;

	hf_auth_clock_view(c, &v);
	return v.now_s;
}

int64_t hf_auth_clock_hub_s(const struct hf_auth_clock *c)
{
	struct hf_clock_view v;

	hf_auth_clock_view(c, &v);
	return v.by_wall ? v.now_s : hf_max(v.now_s, atomic_load(&c->hint_s));
}

void hf_auth_clock_hint(struct hf_auth_clock *c, int64_t at_least_s)
{
	atomic_store(&c->hint_s, at_least_s);
}

void hf_auth_clock_trust(struct hf_auth_clock *c, int64_t now_s, enum hf_clock_source from)
{
	int64_t floor_s = atomic_load(&c->floor_s);

	/* Two trusted clocks at once: the later one wins, whoever comes last. */
	while (now_s > floor_s && !atomic_compare_exchange_weak(&c->floor_s, &floor_s, now_s))
		;
	if (now_s <= floor_s)
		return;
	atomic_store(&c->epoch_s, now_s - boot_s());
	atomic_store(&c->from, (int)from);
}

void hf_auth_clock_ask_kernel(struct hf_auth_clock *c)
{
	if (hf_clock_wall_is_disciplined())
		hf_auth_clock_trust(c, hf_clock_wall_s(), HF_CLOCK_KERNEL);
}

void hf_auth_clock_save(const struct hf_auth_clock *c, struct hf_buf *out)
{
	int64_t floor_s = atomic_load(&c->floor_s), at_boot_s = floor_s - atomic_load(&c->epoch_s);

	hf_buf_u8(out, VERSION);
	hf_buf_le64(out, (uint64_t)floor_s);
	hf_buf_le64(out, (uint64_t)hf_max(at_boot_s, (int64_t)0));
	hf_buf_put(out, hf_clock_boot_id(), BOOT_ID_LEN);
}
