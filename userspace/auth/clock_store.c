/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "auth/clock_store.h"
#include "core/log.h"
#include "core/util.h"
#include "loop/loop.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdlib.h>

#define KEY "clock"
enum { PERIOD_MS = 60000, FIRST_MS = 5000, RISE_S = 60 /* less is not worth a write */ };

struct hf_clock_store {
	struct hf_store *store;
	struct hf_inbox *inbox;
	struct hf_auth_clock *clock;
	struct hf_timer *timer;
	int64_t stored_s, writing_s;
	struct hf_store_state req;
	struct hf_state_op op;
	struct hf_buf value;
	bool is_writing;
};

static void on_stored(struct hf_store_state *req)
{
	static struct hf_log_limit limit;
	struct hf_clock_store *cs = hf_container_of(req, struct hf_clock_store, req);

	cs->is_writing = false;
	if (req->err)	/* the next period tries again */
		hf_log_limited(&limit, HF_LOG_WARN, "clock.store", "the time floor is not stored: %s", hf_strerror(req->err));
	else
		cs->stored_s = cs->writing_s;
}

static void save(struct hf_clock_store *cs, int64_t floor_s)
{
	hf_buf_reset(&cs->value);
	hf_auth_clock_save(cs->clock, &cs->value);
	if (cs->value.err)
		return;
	cs->op = (struct hf_state_op){ .table = HF_STATE_KV, .is_put = true, .key = hf_span_str(KEY),
				       .value = hf_buf_span(&cs->value) };
	cs->req = (struct hf_store_state){ .reply_to = cs->inbox, .done = on_stored, .ops = &cs->op, .n = 1 };
	cs->writing_s = floor_s;
	cs->is_writing = true;
	hf_store_state(cs->store, &cs->req);
}

static void on_period(void *arg)
{
	struct hf_clock_store *cs = arg;
	struct hf_clock_view v;

	hf_auth_clock_ask_kernel(cs->clock);
	hf_auth_clock_view(cs->clock, &v);
	if (!cs->is_writing && v.floor_s >= cs->stored_s + RISE_S)
		save(cs, v.floor_s);
}

static void on_loaded(void *arg, struct hf_span key, struct hf_span value)
{
	struct hf_clock_store *cs = arg;

	if (hf_span_is(key, KEY))
		hf_buf_put_span(&cs->value, value);
}

int hf_clock_store_create(struct hf_loop *loop, struct hf_inbox *inbox, struct hf_store *store, int64_t max_step_s,
			  struct hf_clock_store **ret_cs)
{
	struct hf_clock_store *cs = calloc(1, sizeof *cs);
	struct hf_clock_view v;
	int r;

	if (!cs)
		return -ENOMEM;
	cs->store = store;
	cs->inbox = inbox;
	cs->value = HF_BUF_INIT(4096);
	r = hf_store_state_load(store, HF_STATE_KV, on_loaded, cs);
	if (r == 0)
		r = hf_auth_clock_create(max_step_s, hf_buf_span(&cs->value), &cs->clock);
	if (r == 0)
		r = hf_timer_create(loop, on_period, cs, &cs->timer);
	if (r != 0) {
		hf_clock_store_destroy(&cs);
		return r;
	}
	hf_auth_clock_view(cs->clock, &v);
	cs->stored_s = v.floor_from == HF_CLOCK_STORED ? v.floor_s : 0;
	if (!v.by_wall)
		hf_log(HF_LOG_WARN, "clock.rule", "the wall clock (%lld) cannot be right: tokens and certificates are judged by the "
		       "time floor (%lld, %s)", (long long)v.wall_s, (long long)v.floor_s, hf_clock_source_name(v.floor_from));
	hf_timer_start(cs->timer, FIRST_MS, PERIOD_MS);
	*ret_cs = cs;
	return 0;
}

void hf_clock_store_destroy(struct hf_clock_store **pcs)
{
	struct hf_clock_store *cs = *pcs;

	*pcs = NULL;
	if (!cs)
		return;
	hf_timer_destroy(&cs->timer);
	hf_auth_clock_destroy(&cs->clock);
	hf_buf_fini(&cs->value);
	free(cs);
}

struct hf_auth_clock *hf_clock_store_clock(struct hf_clock_store *cs)
{
	return cs->clock;
}

int64_t hf_clock_store_now_s(void *clock)
{
	return hf_auth_clock_now_s(clock);
}

static int64_t hub_s(void *clock)
{
	return hf_auth_clock_hub_s(clock);
}

static void too_early(void *clock, int64_t not_before_s)
{
	hf_auth_clock_hint(clock, not_before_s);
}

static void too_late(void *clock)
{
	hf_auth_clock_hint(clock, 0);
}

const struct hf_tls_clock hf_clock_store_tls = { .now_s = hub_s, .too_early = too_early, .too_late = too_late };
