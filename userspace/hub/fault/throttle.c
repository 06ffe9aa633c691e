/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hub/fault/throttle.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "hub/metrics.h"
#include "hub/model/model_int.h"

#define METER 4096

static const struct { const char *name; unsigned amount, period_ms; } limits[] = {
	[HUB_THROTTLE_D2C] = { "messages from devices", 100, 1000 },
	[HUB_THROTTLE_CONNECT] = { "connections", 100, 1000 },
	[HUB_THROTTLE_C2D] = { "messages to devices", 100, 60000 },
	[HUB_THROTTLE_TWIN_READ] = { "twin reads", 100, 1000 },
	[HUB_THROTTLE_TWIN_UPDATE] = { "twin updates", 50, 1000 },
	[HUB_THROTTLE_REGISTRY] = { "registry operations", 100, 60000 },
	[HUB_THROTTLE_QUERY] = { "queries", 20, 60000 },
	[HUB_THROTTLE_METHOD] = { "method calls", 160 * 1024 / METER, 1000 },
	[HUB_THROTTLE_CONFIGURATION] = { "configuration operations", 20, 60000 },
	[HUB_THROTTLE_JOB] = { "job operations", 100, 60000 },
};
_Static_assert(HF_ARRAY_LEN(limits) == HUB_THROTTLE__COUNT, "a limit for each operation");

/* One operation is as many parts as its period has milliseconds: `amount` parts come each millisecond. */
static int64_t parts(enum hub_throttle_on on, unsigned operations)
{
	return (int64_t)operations * limits[on].period_ms;
}

void hub_throttle_init(struct hub_throttle *t, bool on)
{
	uint64_t now = hf_clock_mono_ms();

	t->on = on;
	for (unsigned i = 0; i < HUB_THROTTLE__COUNT; i++) {
		t->left[i] = parts(i, limits[i].amount);
		t->at_ms[i] = now;
	}
}

static void refill(struct hub_throttle *t, enum hub_throttle_on on)
{
	uint64_t now = hf_clock_mono_ms(), ms = hf_min(now - t->at_ms[on], (uint64_t)3600000);

	t->left[on] = hf_min(parts(on, limits[on].amount), t->left[on] + (int64_t)ms * limits[on].amount);
	t->at_ms[on] = now;
}

uint32_t hub_throttle_shape(struct hub_model *m, enum hub_throttle_on on, unsigned amount, uint32_t max_ms)
{
	static struct hf_log_limit limit;
	struct hub_throttle *t = &m->throttle;
	uint32_t wait = 0;
	int64_t left;

	if (!t->on)
		return 0;
	refill(t, on);
	/* More than a bucket holds passes when it is full. */
	left = t->left[on] - parts(on, hf_min(amount, limits[on].amount));
	if (left < 0)
		wait = (uint32_t)((-left + limits[on].amount - 1) / limits[on].amount);
	if (wait <= max_ms) {
		t->left[on] = left;
		return wait;
	}
	hf_metric_add(HUB_M_THROTTLED, 1);
	hf_log_limited(&limit, HF_LOG_NOTICE, "hub.throttled", "%s: more than %u in %u s", limits[on].name, limits[on].amount,
		       limits[on].period_ms / 1000);
	return max_ms ? UINT32_MAX : wait;
}

uint32_t hub_throttle_take(struct hub_model *m, enum hub_throttle_on on, unsigned amount)
{
	return hub_throttle_shape(m, on, amount, 0);
}

unsigned hub_throttle_meters(uint64_t bytes)
{
	return (unsigned)hf_max((uint64_t)1, (bytes + METER - 1) / METER);
}
