/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Twin requests over MQTT (iothub-protocol 1.6). */
#include "core/clock.h"
#include "core/util.h"
#include "hub/mqtt/dev_int.h"
#include <stdio.h>

/* Only a client that subscribed gets replies; without one there is nothing to wait for. */
static int reply(struct hub_session *s, const struct hub_fault *fault, int status, struct hf_span rid, int64_t version,
		 const char *body)
{
	hf_autobuf struct hf_buf topic = HF_BUF_INIT(66 * 1024), packet = HF_BUF_INIT(256 * 1024);

	if (!(s->subs & HF_SUB_TWIN_RES) || fault->action == HUB_DO_ACK_NEVER)
		return HUB_DEV_ON;
	hf_buf_printf(&topic, "$iothub/twin/res/%d/?$rid=", status);
	hf_buf_put_span(&topic, rid);
	if (version >= 0)
		hf_buf_printf(&topic, "&$version=%lld", (long long)version);
	if (fault->action != HUB_DO_ACK_LATE) {
		hf_mqtt_put_publish(hub_dev_answer(s), 0, false, false, 0, hf_buf_span(&topic), hf_span(NULL, 0),
				    hf_span_str(body));
		return HUB_DEV_ON;
	}
	hf_mqtt_put_publish(&packet, 0, false, false, 0, hf_buf_span(&topic), hf_span(NULL, 0), hf_span_str(body));
	hub_dev_answer(s);
	return hub_dev_answer_late(s, fault->ms, false, hf_buf_span(&packet));
}

static int refuse(struct hub_session *s, const struct hub_fault *fault, struct hf_span rid, const struct hub_error *err)
{
	char now[32], tracking[40];

	hf_iso8601(hf_clock_wall_ms(), now);
	snprintf(tracking, sizeof tracking, "%016llx%016llx", (unsigned long long)hf_random_u64(),
		 (unsigned long long)hf_random_u64());
	json_t *o = json_pack("{s:i, s:s, s:s, s:s}", "errorCode", err->code, "trackingId", tracking, "message", err->message,
			      "timestampUtc", now);
	hf_autofree char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

	json_decref(o);
	return reply(s, fault, err->http_status, rid, -1, text ? text : "{\"errorCode\":500001}");
}

static int get(struct hub_session *s, const struct hub_fault *fault, struct hf_span rid, const struct hub_ident *ident)
{
	json_t *view = hub_twin_device_view(s->dev->model, ident);
	hf_autofree char *text = view ? json_dumps(view, JSON_COMPACT) : NULL;

	json_decref(view);
	return reply(s, fault, text ? 200 : 500, rid, -1, text ? text : "{\"errorCode\":500001}");
}

static int report(struct hub_session *s, const struct hub_fault *fault, const struct hf_topic *t, struct hf_span body,
		  const struct hub_ident *ident)
{
	struct hub_error err = { .http_status = 400, .code = 400004, .message = "body is not a JSON object" };
	json_t *patch = json_loadb((const char *)body.ptr, body.len, JSON_REJECT_DUPLICATES, NULL);
	int64_t version;
	int r;

	if (!json_is_object(patch) ||
	    hub_twin_report(s->dev->model, ident, patch, body.len, t->version, &version, &err) != 0)
		r = refuse(s, fault, t->rid, &err);
	else
		r = reply(s, fault, 204, t->rid, version, "");
	json_decref(patch);
	return r;
}

int hub_dev_twin(struct hub_session *s, const struct hf_topic *t, struct hf_span body)
{
	const struct hub_ident *ident = hub_dev_ident(s);
	bool is_get = t->kind == HF_TOPIC_TWIN_GET;
	struct hub_fault fault;
	struct hub_error err;
	int r;

	if (t->rid.len == 0 || !ident) {
		hub_dev_drop(s, HUB_M_BAD_TOPIC, "twin request without $rid");
		return HUB_DEV_CLOSED;
	}
	r = hub_dev_fault(s, HUB_ON_TWIN, &fault);
	if (r != HUB_DEV_ON)
		return r;
	if (fault.action == HUB_DO_REJECT || fault.action == HUB_DO_THROTTLE ||
	    hub_throttle_take(s->dev->model, is_get ? HUB_THROTTLE_TWIN_READ : HUB_THROTTLE_TWIN_UPDATE, 1) != 0) {
		if (fault.action != HUB_DO_REJECT)
			fault.action = HUB_DO_THROTTLE;
		hub_fault_error(&fault, &err);
		return refuse(s, &fault, t->rid, &err);
	}
	return is_get ? get(s, &fault, t->rid, ident) : report(s, &fault, t, body, ident);
}
