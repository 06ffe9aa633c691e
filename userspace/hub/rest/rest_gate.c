/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Between authority and handler: the limits of the hub and the faults on purpose. */
#include "core/util.h"
#include "hub/fault/fault_run.h"
#include "hub/rest/rest_int.h"
#include "hub/fault/throttle.h"
#include "mqtt/mqtt_codec.h"

#include <stdio.h>

#define NO_LIMIT HUB_THROTTLE__COUNT
#define NO_FAULT HUB_ON__COUNT

static const struct { enum hub_throttle_on limit; enum hub_fault_on fault; } kinds[] = {
	[REST_FREE] = { NO_LIMIT, NO_FAULT },
	[REST_REGISTRY] = { HUB_THROTTLE_REGISTRY, NO_FAULT },
	[REST_QUERY] = { HUB_THROTTLE_QUERY, NO_FAULT },
	[REST_TWIN_READ] = { HUB_THROTTLE_TWIN_READ, NO_FAULT },
	[REST_TWIN_UPDATE] = { HUB_THROTTLE_TWIN_UPDATE, NO_FAULT },
	[REST_CONFIGURATION] = { HUB_THROTTLE_CONFIGURATION, NO_FAULT },
	[REST_JOB] = { HUB_THROTTLE_JOB, NO_FAULT },
	[REST_METHOD] = { HUB_THROTTLE_METHOD, HUB_ON_METHOD },
	[REST_TELEMETRY] = { HUB_THROTTLE_D2C, HUB_ON_TELEMETRY },
	[REST_SCOPE] = { NO_LIMIT, HUB_ON_SCOPE },
	[REST_DEVICE] = { NO_LIMIT, NO_FAULT },
	[REST_C2D] = { HUB_THROTTLE_C2D, HUB_ON_C2D },
};
_Static_assert(HF_ARRAY_LEN(kinds) == REST__KINDS, "a row for each kind");

static void too_many(struct rest_req *q, uint32_t ms)
{
	struct hub_error err;
	char headers[128];

	hub_fault_error(&(struct hub_fault){ .action = HUB_DO_THROTTLE }, &err);
	snprintf(headers, sizeof headers, "iothub-errorcode: %s\r\nRetry-After: %u\r\n", err.name, (ms + 999) / 1000);
	rest_json(q, err.http_status, rest_error_doc(&err, false), headers);
}

static bool within_limits(struct rest_req *q, enum rest_kind kind)
{
	unsigned amount = kind == REST_METHOD ? hub_throttle_meters(q->http->body.len) : 1;
	uint32_t ms = hub_throttle_take(q->m, kinds[kind].limit, amount);

	if (ms)
		too_many(q, ms);
	return ms == 0;
}

static bool fail_on_purpose(struct rest_req *q, const struct hub_fault *fault)
{
	struct hub_error err;

	switch (fault->action) {
	case HUB_DO_DELAY:
	case HUB_DO_HANG:
		hf_http_later(hf_take(q->x), fault->action == HUB_DO_HANG ? UINT32_MAX : fault->ms);
		return false;
	case HUB_DO_DROP:
		hf_http_drop(hf_take(q->x));
		return false;
	case HUB_DO_REJECT:
		hub_fault_error(fault, &err);
		rest_error(q, &err);
		return false;
	case HUB_DO_THROTTLE:
		too_many(q, 1000);
		return false;
	case HUB_DO_ACK_LATE:
		hf_http_answer(q->x, 1, fault->ms);
		return true;
	case HUB_DO_ACK_TWICE:
		hf_http_answer(q->x, 2, 0);
		return true;
	case HUB_DO_ACK_NEVER:
		hf_http_answer(q->x, 0, 0);
		return true;
	case HUB_DO__COUNT:
		break;
	}
	return true;
}

/* A rule on connect rejects with a CONNACK code; 3 alone asks to try again. */
static void as_status(struct hub_fault *fault)
{
	if (fault->action == HUB_DO_REJECT)
		fault->code = fault->code == HF_CONNACK_UNAVAILABLE ? 503 : 401;
}

/* Over HTTPS each request of a device is a login too. */
static bool is_login(enum rest_kind kind)
{
	return kind == REST_DEVICE || kind == REST_TELEMETRY || kind == REST_SCOPE;
}

bool rest_gate(struct rest_req *q, enum rest_kind kind)
{
	struct hub_faults *faults = hub_model_faults(q->m);
	struct hub_fault fault;

	if (q->http->is_again)
		return true;	/* it passed, and waited */
	/* The limits are for programs; the portal is how a person looks into a hub that is at its limits. */
	if (kinds[kind].limit != NO_LIMIT && !q->session && !within_limits(q, kind))
		return false;
	if (is_login(kind) && hub_fault_hit(faults, HUB_ON_CONNECT, q->id, &fault)) {
		as_status(&fault);
		return fail_on_purpose(q, &fault);
	}
	if (kinds[kind].fault == NO_FAULT || !hub_fault_hit(faults, kinds[kind].fault, q->id, &fault))
		return true;
	return fail_on_purpose(q, &fault);
}
