/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Answers of the HTTPS side: at once, or once what they tell of is committed. */
#include "core/clock.h"
#include "core/log.h"
#include "core/metric.h"
#include "core/util.h"
#include "hub/metrics.h"
#include "hub/rest/rest_int.h"

#include <holdfast/err.h>
#include <stdarg.h>
#include <stdio.h>

#define JSON_TYPE "application/json; charset=utf-8"

struct rest_reply {
	struct hf_list node;
	struct hub_wait wait;
	struct hf_http_exchange *x;
	int status;
	char *text, *headers;
};

json_t *rest_error_doc(const struct hub_error *err, bool nested)
{
	char when[32], tracking[96];
	json_t *inner, *out;
	char *text = NULL;

	hf_iso8601(hf_clock_wall_ms(), when);
	snprintf(tracking, sizeof tracking, "%016llx%016llx-G:0-TimeStamp:%s", (unsigned long long)hf_random_u64(),
		 (unsigned long long)hf_random_u64(), when);
	if (!nested)
		return json_pack("{s:o, s:o}", "Message", json_sprintf("ErrorCode:%s;%s", err->name, err->message),
				 "ExceptionMessage", json_sprintf("Tracking ID:%s", tracking));
	inner = json_pack("{ss* si ss ss}", "message", err->message, "errorCode", err->code, "trackingId", tracking,
			  "timestampUtc", when);
	if (inner)
		text = json_dumps(inner, JSON_COMPACT);
	json_decref(inner);
	out = json_pack("{ss* ss}", "Message", text, "ExceptionMessage", "");
	free(text);
	return out;
}

/* Every answer: headers NULL or complete lines. False: no memory, nothing was sent. */
static bool send_bytes(struct hf_http_exchange *x, int status, const char *type, struct hf_span body, const char *headers)
{
	hf_autobuf struct hf_buf all = HF_BUF_INIT(1 << 20);

	hf_buf_printf(&all, "x-ms-request-id: %016llx\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n",
		      (unsigned long long)hf_random_u64());
	if (headers)
		hf_buf_puts(&all, headers);
	if (all.err)
		return false;
	hf_http_respond(x, status, type, body, hf_buf_cstr(&all));
	return true;
}

static void send_text(struct hf_http_exchange *x, int status, const char *text, const char *headers)
{
	if (!send_bytes(x, status, text ? JSON_TYPE : NULL, hf_span_str(text), headers))
		hf_http_respond(x, 500, NULL, hf_span(NULL, 0), NULL);
}

void rest_bytes(struct rest_req *q, int status, const char *type, struct hf_span body, const char *headers)
{
	if (send_bytes(q->x, status, type, body, headers))
		q->x = NULL;
	else
		rest_refuse(q, 500, 500001, "ServerError", "no memory");
}

void rest_json(struct rest_req *q, int status, json_t *doc, const char *headers)
{
	char *text = doc ? json_dumps(doc, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	json_decref(doc);
	if (!text && status != 204) {
		send_text(hf_take(q->x), 500, "{\"Message\":\"ErrorCode:ServerError;no memory\"}",
			  "iothub-errorcode: ServerError\r\n");
		return;
	}
	send_text(hf_take(q->x), status, text, headers);
	if (text)
		explicit_bzero(text, strlen(text));	/* it may hold keys */
	free(text);
}

void rest_error(struct rest_req *q, const struct hub_error *err)
{
	char header[128];

	snprintf(header, sizeof header, "iothub-errorcode: %s\r\n", err->name);
	rest_json(q, err->http_status, rest_error_doc(err, false), header);
}

void rest_decline(struct rest_req *q, const struct hub_error *err)
{
	static struct hf_log_limit limit;

	hf_metric_add(HUB_M_SERVICE_REFUSED, 1);
	hf_log_limited(&limit, HF_LOG_NOTICE, "hub.service.refused", "%.*s: %d %s: %s", (int)hf_min(q->http->path.len, 120u),
		       (const char *)q->http->path.ptr, err->http_status, err->name, err->message);
	rest_error(q, err);
}

void rest_refuse(struct rest_req *q, int http, int code, const char *name, const char *fmt, ...)
{
	struct hub_error err = { .http_status = http, .code = code, .name = name };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err.message, sizeof err.message, fmt, ap);
	va_end(ap);
	hf_utf8_repair(err.message);
	rest_error(q, &err);
}

static void reply_free(struct rest_reply *p)
{
	hf_list_del(&p->node);
	if (p->text)
		explicit_bzero(p->text, strlen(p->text));
	free(p->text);
	free(p->headers);
	free(p);
}

static void on_commit(void *arg, int err)
{
	struct rest_reply *p = arg;

	if (err == HF_EFULL)
		send_text(p->x, 503, "{\"Message\":\"ErrorCode:ServiceUnavailable;the storage is full\"}",
			  "iothub-errorcode: ServiceUnavailable\r\n");
	else if (err)
		send_text(p->x, 500, "{\"Message\":\"ErrorCode:ServerError;not stored\"}", "iothub-errorcode: ServerError\r\n");
	else
		send_text(p->x, p->status, p->text, p->headers);
	reply_free(p);
}

void rest_committed(struct rest_req *q, int status, json_t *doc, const char *headers)
{
	struct rest_reply *p = calloc(1, sizeof *p);

	if (p) {
		p->text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
		p->headers = headers ? strdup(headers) : NULL;
		hf_list_init(&p->node);
	}
	if (!p || (doc && !p->text) || (headers && !p->headers)) {
		if (p)
			reply_free(p);
		json_decref(doc);
		rest_refuse(q, 500, 500001, "ServerError", "no memory");
		return;
	}
	json_decref(doc);
	p->status = status;
	p->x = hf_take(q->x);
	hf_list_add_tail(&q->rest->replies, &p->node);
	hub_commit_wait(q->m, &p->wait, on_commit, p);
}

void rest_document(struct rest_req *q, json_t *doc, bool written)
{
	const char *etag = json_string_value(json_object_get(doc, "etag"));
	char header[128];

	snprintf(header, sizeof header, "ETag: \"%s\"\r\n", etag ? etag : "");
	if (written)
		rest_committed(q, 200, doc, header);
	else
		rest_json(q, 200, doc, header);
}

const struct hub_ident *rest_ident(struct rest_req *q)
{
	const struct hub_ident *i = hub_ident_find(q->m, hf_span_str(q->id));

	if (i)
		return i;
	if (*q->module && hub_ident_find(q->m, hf_span_str(q->device)))
		rest_refuse(q, 404, 404010, "ModuleNotFound", "Module %.200s not registered", q->id);
	else
		rest_refuse(q, 404, 404001, "DeviceNotFound", "E2 Device %s not registered", q->device);
	return NULL;
}

/* The clients that still wait are told, before the model goes. */
void rest_replies_stop(struct hub_rest *rest)
{
	while (!hf_list_empty(&rest->replies)) {
		struct rest_reply *p = hf_container_of(rest->replies.next, struct rest_reply, node);

		hub_wait_cancel(&p->wait);
		send_text(p->x, 503, NULL, NULL);
		reply_free(p);
	}
}
