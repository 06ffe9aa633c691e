/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/fault/throttle.h - the request limits of one S1 unit (iothub-protocol 0.3), as token buckets. Off unless the hub is told.
 *
 * Heads ask before an operation has any effect. A bucket holds what its period allows, so that much may come at once.
 * Loop thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct hub_model;

enum hub_throttle_on {
	HUB_THROTTLE_D2C,		/* messages from devices: 100/s */
	HUB_THROTTLE_CONNECT,		/* logins of devices: 100/s */
	HUB_THROTTLE_C2D,		/* messages to devices: 100/min */
	HUB_THROTTLE_TWIN_READ,		/* 100/s */
	HUB_THROTTLE_TWIN_UPDATE,	/* 50/s */
	HUB_THROTTLE_REGISTRY,		/* 100/min */
	HUB_THROTTLE_QUERY,		/* 20/min */
	HUB_THROTTLE_METHOD,		/* meters of 4 KiB: 40/s; hub_throttle_meters() */
	HUB_THROTTLE_CONFIGURATION,	/* 20/min */
	HUB_THROTTLE_JOB,		/* 100/min */
	HUB_THROTTLE__COUNT
};
struct hub_throttle {
	bool on;
	int64_t left[HUB_THROTTLE__COUNT];	/* parts of operations; below 0: promised for later */
	uint64_t at_ms[HUB_THROTTLE__COUNT];	/* when left was true */
};
void hub_throttle_init(struct hub_throttle *t, bool on);

/* Takes amount and returns 0; or takes nothing, counts a refusal, and returns in how many milliseconds there will be
 * enough. */
uint32_t hub_throttle_take(struct hub_model *m, enum hub_throttle_on on, unsigned amount);
/* Traffic shaping: takes amount also in advance, if it is there within max_ms, and returns how long to wait with the
 * answer. UINT32_MAX: too much was promised already; nothing was taken, a refusal counted. */
uint32_t hub_throttle_shape(struct hub_model *m, enum hub_throttle_on on, unsigned amount, uint32_t max_ms);
/* What the request and answer of a method weigh. */
unsigned hub_throttle_meters(uint64_t bytes);
#define HUB_THROTTLE_SHAPE_MS 5000	/* how late the hub answers telemetry before it closes connections */
