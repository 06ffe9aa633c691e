/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Direct methods: waits for the client, sends, correlates by rid, times out (iothub-protocol 5.6). */
#include "core/log.h"
#include "core/util.h"
#include "hub/model/model_int.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

struct pending_call {
	struct hf_list node;		/* m->calls */
	struct hub_model *m;
	struct hf_timer *timer;
	const struct hub_method_sink *sink;	/* who was called; NULL = nobody yet */
	char *generation;		/* of the target: who has its id later is somebody else */
	char rid[20], target[HF_IDENT_MAX + 1];
	char *name, *payload;
	uint32_t response_ms;
	void (*done)(void *arg, int device_status, struct hf_span payload_json, const struct hub_error *err);
	void *arg;
};

static void call_free(struct pending_call *p)
{
	hf_list_del(&p->node);
	hf_timer_destroy(&p->timer);
	free(p->name);
	free(p->generation);
	free(p->payload);
	free(p);
}

static void finish(struct pending_call *p, int status, struct hf_span body, const struct hub_error *err)
{
	void (*done)(void *, int, struct hf_span, const struct hub_error *) = p->done;
	void *arg = p->arg;

	call_free(p);
	done(arg, status, body, err);
}

static void fail(struct pending_call *p, int http, int code, const char *name, const char *text)
{
	struct hub_error err;

	hub_refuse(&err, 0, http, code, name, "%s", text);
	finish(p, 0, hf_span("", 0), &err);
}

static void on_timeout(void *arg)
{
	struct pending_call *p = arg;

	if (p->sink)
		fail(p, 504, 504101, "GatewayTimeout", "Timed out waiting for the response from device.");
	else
		fail(p, 404, 404103, "DeviceNotOnline", "Timed out waiting for device to connect.");
}

static void send_call(struct pending_call *p, struct hub_method_sink *sink)
{
	p->sink = sink;
	hf_timer_start(p->timer, p->response_ms, 0);
	sink->send(sink->arg, p->name, p->rid, hf_span_str(p->payload));
}

static bool name_ok(const char *name)
{
	size_t n = name ? strlen(name) : 0;

	return n > 0 && n <= 100 && strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
						 "0123456789_.-$*!():@") == n;
}

/* Numbers and numeric text; dflt when absent, -1 when neither or out of range. */
static int64_t seconds(const json_t *o, const char *name, int64_t min, int64_t max, int64_t dflt)
{
	const json_t *v = json_object_get(o, name);
	int64_t n;

	if (!v || json_is_null(v))
		return dflt;
	if (json_is_string(v))
		return hf_parse_i64(hf_span_str(json_string_value(v)), min, max, &n) == 0 ? n : -1;
	n = json_is_integer(v) ? json_integer_value(v) : -1;
	return n >= min && n <= max ? n : -1;
}

int hub_method_read(const json_t *doc, struct hub_method_call *call, struct hub_error *err)
{
	int64_t response = seconds(doc, "responseTimeoutInSeconds", 5, 300, 30);
	int64_t connect = seconds(doc, "connectTimeoutInSeconds", 0, 300, 0);
	const char *name = json_string_value(json_object_get(doc, "methodName"));

	memset(call, 0, sizeof *call);
	if (!name_ok(name))
		return hub_refuse(err, HF_EINVALID, 400, 400004, "ArgumentInvalid", "methodName has 1 to 100 plain characters");
	if (response < 0 || connect < 0)
		return hub_refuse(err, HF_EINVALID, 400, 400004, "ArgumentInvalid",
				  "responseTimeoutInSeconds is 5 to 300, connectTimeoutInSeconds 0 to 300");
	call->name = name;
	call->payload = json_object_get(doc, "payload");
	call->response_timeout_s = (uint32_t)response;
	call->connect_timeout_s = (uint32_t)connect;
	if (call->payload && json_dumpb(call->payload, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY) > HUB_METHOD_MAX)
		return hub_refuse(err, HF_EINVALID, 400, 400004, "ArgumentInvalid", "the payload is over %d bytes", HUB_METHOD_MAX);
	return 0;
}

int hub_method_invoke(struct hub_model *m, const struct hub_method_call *call)
{
	struct hub_method_sink *sink = hf_map_get(m->sinks, hf_span_str(call->target));
	const struct hub_ident *target = hub_ident_find(m, hf_span_str(call->target));
	struct pending_call *p;
	int r;

	if (!name_ok(call->name) || !target)
		return name_ok(call->name) ? HF_ENOTFOUND : HF_EINVALID;
	p = calloc(1, sizeof *p);
	if (!p)
		return -ENOMEM;
	p->m = m;
	hf_list_init(&p->node);
	p->response_ms = call->response_timeout_s * 1000;
	p->done = call->done;
	p->arg = call->arg;
	snprintf(p->target, sizeof p->target, "%s", call->target);
	snprintf(p->rid, sizeof p->rid, "%llx", (unsigned long long)++m->next_rid);
	p->name = strdup(call->name);
	/* null reaches a device as no bytes, as when it is left out */
	p->payload = call->payload && !json_is_null(call->payload) ? json_dumps(call->payload, JSON_COMPACT | JSON_ENCODE_ANY) : strdup("");
	p->generation = strdup(target->generation_id);
	r = p->name && p->payload && p->generation ? hf_timer_create(m->loop, on_timeout, p, &p->timer) : -ENOMEM;
	if (r != 0) {
		call_free(p);
		return r;
	}
	hf_list_add_tail(&m->calls, &p->node);
	if (sink)
		send_call(p, sink);
	else
		hf_timer_start(p->timer, call->connect_timeout_s * 1000ull, 0);
	return 0;
}

void hub_method_sink_add(struct hub_model *m, struct hub_method_sink *sink)
{
	const struct hub_ident *ident = hub_ident_find(m, hf_span_str(sink->id));
	struct hf_list *pos;

	sink->older = hf_map_get(m->sinks, hf_span_str(sink->id));
	if (hf_map_put(m->sinks, hf_span_str(sink->id), sink) != 0) {
		hf_log(HF_LOG_ERR, "hub.methods", "no memory for the methods of %s", sink->id);
		return;
	}
again:
	hf_list_for_each(pos, &m->calls) {
		struct pending_call *p = hf_container_of(pos, struct pending_call, node);

		if (p->sink || strcmp(p->target, sink->id) != 0)
			continue;
		if (ident && strcmp(p->generation, ident->generation_id) == 0)
			send_call(p, sink);
		else
			fail(p, 404, 404001, "DeviceNotFound", "The device was deleted meanwhile.");
		goto again;	/* an answer at once, or done, may have changed the list */
	}
}

/* Takes sink out of the chain of its identity's. */
static void unlink_sink(struct hub_model *m, struct hub_method_sink *sink)
{
	struct hub_method_sink *at = hf_map_get(m->sinks, hf_span_str(sink->id));

	if (at == sink) {
		if (sink->older)
			hf_map_put(m->sinks, hf_span_str(sink->id), sink->older);	/* in place: it cannot fail */
		else
			hf_map_remove(m->sinks, hf_span_str(sink->id));
		return;
	}
	while (at && at->older != sink)
		at = at->older;
	if (at)
		at->older = sink->older;
}

void hub_method_sink_remove(struct hub_model *m, struct hub_method_sink *sink)
{
	struct hf_list *pos;

	unlink_sink(m, sink);
again:
	hf_list_for_each(pos, &m->calls) {
		struct pending_call *p = hf_container_of(pos, struct pending_call, node);

		if (p->sink == sink) {
			fail(p, 404, 404104, "DeviceConnectionClosedRemotely", "The device disconnected meanwhile.");
			goto again;	/* done may have changed the list */
		}
	}
}

void hub_method_answer(struct hub_model *m, const char *id, struct hf_span rid, int status, struct hf_span body)
{
	struct hf_list *pos;

	hf_list_for_each(pos, &m->calls) {
		struct pending_call *p = hf_container_of(pos, struct pending_call, node);

		if (p->sink && hf_span_is(rid, p->rid) && strcmp(p->target, id) == 0) {
			finish(p, status, body, NULL);
			return;
		}
	}
}

void hub_methods_fini(struct hub_model *m)
{
	while (!hf_list_empty(&m->calls))
		fail(hf_container_of(m->calls.next, struct pending_call, node), 503, 503001, "ServiceUnavailable",
		     "The hub is stopping.");
}
