/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Twins: requests on one link, replies and desired patches on another (iothub-protocol 2.7). */
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "hub/amqp/amqp_int.h"
#include "hub/fault/throttle.h"

#include <errno.h>
#include <stdio.h>

#define DESIRED "/notifications/twin/properties/desired"
#define REPORTED "/properties/reported"
#define MAX_CORRELATION 128

/* A reply while it waits for the commit: its body follows. The request is settled with it, so that its credit bounds how
 * many replies can wait. */
struct reply {
	struct hf_amqp_delivery *request;
	int status;
	int64_t version;		/* -1 = none */
	enum hf_amqp_kind id_kind;
	uint64_t id_number;
	uint8_t id_len, id[MAX_CORRELATION];
	char ident[HF_IDENT_MAX + 1];
	size_t len;
	char body[];
};

/* One request. */
struct request {
	struct hub_amqp_link *l;
	struct hf_amqp_delivery *d;
	const struct hf_amqp_msg *msg;
	const struct hub_ident *ident;
	uint32_t late_ms;
	bool silent;			/* a fault rule: done, never answered */
};

/* --- to the client --------------------------------------------------------------------------------------------------- */

static void send_reply(struct hub_amqp_conn *c, int err, void *data)
{
	const struct reply *r = data;
	struct hf_amqp_field fields[2] = { { hf_span_str("status"), HF_AMQP_NUM(HF_AMQP_INT, err ? 500 : r->status) },
					   { hf_span_str("version"), HF_AMQP_NUM(HF_AMQP_LONG, r->version) } };
	struct hf_amqp_msg msg = { .annotations = fields, .n_annotations = err || r->version < 0 ? 1 : 2,
				   .body_kind = HF_AMQP_BODY_DATA, .body = hf_span(r->body, r->len) };
	struct hub_amqp_link *l = hub_amqp_link_of(c->head, r->ident, HUB_AMQP_TWIN_REPLIES);

	if (err == -ECANCELED) {
		hf_amqp_forget(r->request);
		return;
	}
	hf_amqp_settle(r->request, HF_AMQP_ACCEPTED, NULL, NULL);
	if (!l || l->conn != c) {
		hf_metric_add(HUB_M_AMQP_UNSENT, 1);
		return;
	}
	if (err)
		msg.body = hf_span_str("{\"errorCode\":500001,\"message\":\"not stored\"}");
	msg.correlation_id.kind = r->id_kind;
	if (r->id_len)
		msg.correlation_id.s = hf_span(r->id, r->id_len);
	else
		msg.correlation_id.u = r->id_number;
	hub_amqp_post(l, &msg);
}

static void reply(const struct request *q, int status, int64_t version, const char *body)
{
	const struct hf_amqp_value *id = &q->msg->correlation_id;
	bool is_text = id->kind == HF_AMQP_STRING || id->kind == HF_AMQP_BINARY || id->kind == HF_AMQP_UUID;
	size_t len = strlen(body);
	struct reply *r = q->silent ? NULL : malloc(sizeof *r + len);

	if (!r) {
		hf_metric_add(HUB_M_AMQP_UNSENT, !q->silent);
		hf_amqp_settle(q->d, HF_AMQP_ACCEPTED, NULL, NULL);
		return;
	}
	*r = (struct reply){ .request = q->d, .status = status, .version = version, .id_kind = id->kind, .len = len };
	if (is_text) {
		r->id_len = (uint8_t)id->s.len;
		memcpy(r->id, id->s.ptr, id->s.len);
	} else {
		r->id_number = id->u;
	}
	memcpy(r->ident, q->l->addr.ident, sizeof r->ident);
	memcpy(r->body, body, len);
	hub_amqp_answer(q->l->conn, q->late_ms, send_reply, r, sizeof *r + len);
	free(r);
}

static void reply_error(const struct request *q, const struct hub_error *err)
{
	char now[32];
	json_t *o;

	hf_iso8601(hf_clock_wall_ms(), now);
	o = json_pack("{si ss ss ss}", "errorCode", err->code, "trackingId", "", "message", err->message, "timestampUtc", now);
	hf_autofree char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

	json_decref(o);
	hub_amqp_note_refusal(q->l, hub_amqp_condition(err->http_status), err->message);
	reply(q, err->http_status, -1, text ? text : "{\"errorCode\":500001}");
}

static void refuse(const struct request *q, int status, int code, const char *text)
{
	struct hub_error err = { .http_status = status, .code = code };

	snprintf(err.message, sizeof err.message, "%s", text);
	reply_error(q, &err);
}

void hub_amqp_on_desired(void *arg, const char *id, const json_t *patch, int64_t version)
{
	struct hub_amqp_link *l = hub_amqp_link_of(arg, id, HUB_AMQP_TWIN_REPLIES);
	struct hf_amqp_field fields[2] = { { hf_span_str("resource"), HF_AMQP_STR(DESIRED) },
					   { hf_span_str("version"), HF_AMQP_NUM(HF_AMQP_LONG, version) } };
	struct hf_amqp_msg msg = { .annotations = fields, .n_annotations = 2, .body_kind = HF_AMQP_BODY_DATA };

	if (!l || !l->login->wants_desired)
		return;
	hf_autofree char *text = json_dumps(patch, JSON_COMPACT);

	msg.body = hf_span_str(text);
	if (text)
		hub_amqp_post(l, &msg);
	else
		hf_metric_add(HUB_M_AMQP_UNSENT, 1);
}

/* --- from the client ------------------------------------------------------------------------------------------------- */

static bool is_text(const struct hf_amqp_msg *msg, const char *key, const char *value)
{
	const struct hf_amqp_value *v = hf_amqp_find(msg->annotations, msg->n_annotations, key);

	return v && (v->kind == HF_AMQP_STRING || v->kind == HF_AMQP_SYMBOL) && hf_span_ieq(v->s, hf_span_str(value));
}

static void get(const struct request *q)
{
	json_t *view;

	if (hub_throttle_take(q->l->conn->head->model, HUB_THROTTLE_TWIN_READ, 1) != 0) {
		refuse(q, 429, 429001, "too many twin reads");
		return;
	}
	view = hub_twin_device_view(q->l->conn->head->model, q->ident);
	hf_autofree char *text = view ? json_dumps(view, JSON_COMPACT) : NULL;

	json_decref(view);
	if (text)
		reply(q, 200, -1, text);
	else
		refuse(q, 500, 500001, "no memory");
}

static void patch(const struct request *q)
{
	struct hub_error err = { .http_status = 400, .code = 400004, .message = "body is not a JSON object" };
	struct hub_model *m = q->l->conn->head->model;
	struct hf_span body = q->msg->body;
	int64_t version;
	json_t *o;

	if (hub_throttle_take(m, HUB_THROTTLE_TWIN_UPDATE, 1) != 0) {
		refuse(q, 429, 429001, "too many twin updates");
		return;
	}
	o = body.len ? json_loadb((const char *)body.ptr, body.len, JSON_REJECT_DUPLICATES, NULL) : NULL;
	if (!json_is_object(o) || hub_twin_report(m, q->ident, o, body.len, -1, &version, &err) != 0)
		reply_error(q, &err);
	else
		reply(q, 200, version, "");
	json_decref(o);
}

static void handle(const struct request *q)
{
	bool put = is_text(q->msg, "operation", "PUT");

	if (is_text(q->msg, "operation", "GET")) {
		get(q);
	} else if (is_text(q->msg, "operation", "PATCH") && is_text(q->msg, "resource", REPORTED)) {
		patch(q);
	} else if ((put || is_text(q->msg, "operation", "DELETE")) && is_text(q->msg, "resource", DESIRED)) {
		q->l->login->wants_desired = put;
		reply(q, 200, -1, "");
	} else {
		refuse(q, 400, 400004, "operation and resource do not go together");
	}
}

/* A reply must name its request in a way that fits into an id. */
static bool has_id(const struct hf_amqp_msg *msg)
{
	switch (msg->correlation_id.kind) {
	case HF_AMQP_STRING: case HF_AMQP_BINARY: return msg->correlation_id.s.len <= MAX_CORRELATION && msg->correlation_id.s.len > 0;
	case HF_AMQP_UUID: case HF_AMQP_ULONG: return true;
	default: return false;
	}
}

static bool on_request(struct hub_amqp_link *l, struct hf_amqp_delivery *d, struct hf_span raw, const struct hf_amqp_msg *msg)
{
	struct request q = { .l = l, .d = d, .msg = msg, .ident = hub_ident_find(l->conn->head->model, hf_span_str(l->addr.ident)) };
	struct hub_fault fault;
	struct hub_error err;

	(void)raw;
	if (!has_id(msg) || !q.ident) {
		hub_amqp_reject(l, d, q.ident ? 400 : 404, "no correlation id, or no identity any more");
		return true;
	}
	switch (hub_amqp_gate(l, HUB_ON_TWIN, l->addr.ident, d, &fault)) {
	case HUB_AMQP_GO: break;
	case HUB_AMQP_WAIT: return false;
	case HUB_AMQP_DONE: return true;
	}
	q.late_ms = fault.action == HUB_DO_ACK_LATE ? fault.ms : 0;
	q.silent = fault.action == HUB_DO_ACK_NEVER;
	if (fault.action == HUB_DO_REJECT || fault.action == HUB_DO_THROTTLE) {
		hub_fault_error(&fault, &err);
		reply_error(&q, &err);
	} else {
		handle(&q);
	}
	return true;
}

static void on_replies_close(struct hub_amqp_link *l)
{
	l->login->wants_desired = false;
}

const struct hub_amqp_kind hub_amqp_twin_requests = {
	.name = "twin request", .address = { "twin" }, .who = HUB_AMQP_IDENTITY, .slot = HUB_AMQP_TWIN_REQUESTS,
	.credit = 100, .max_message = HUB_AMQP_MAX_MESSAGE, .message = on_request,
};
const struct hub_amqp_kind hub_amqp_twin_replies = {
	.name = "twin reply", .address = { "twin" }, .we_send = true, .who = HUB_AMQP_IDENTITY,
	.slot = HUB_AMQP_TWIN_REPLIES, .closed = on_replies_close,
};
