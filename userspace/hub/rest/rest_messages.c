/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Messages of the service over HTTPS: to devices, and what became of them (iothub-protocol 5.1). */
#include "core/util.h"
#include "hub/model/feedback.h"
#include "hub/rest/rest_int.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>
#include <strings.h>

static const char http_receivers;	/* one owner: a lock is held by its token, not by a connection */

/* --- to a device ------------------------------------------------------------------------------------------ */

/* "/devices/{D}/messages/devicebound", the id encoded. */
static bool take_target(struct rest_req *q)
{
	hf_autobuf struct hf_buf id = HF_BUF_INIT(HF_ID_MAX);
	struct hf_span to, word[4];

	if (!hf_http_header(q->http, "iothub-to", &to))
		return false;
	if (to.len && to.ptr[0] == '/')
		to = hf_span_skip(to, 1);
	for (unsigned i = 0; i < HF_ARRAY_LEN(word); i++)
		hf_span_cut(&to, '/', &word[i]);
	if (to.len || !hf_span_ieq(word[0], hf_span_str("devices")) || !hf_span_ieq(word[2], hf_span_str("messages")) ||
	    !hf_span_ieq(word[3], hf_span_str("devicebound")) || hf_uri_decode(word[1], &id) != 0 || id.err ||
	    !hf_utf8_ok(hf_buf_span(&id)))
		return false;
	snprintf(q->device, sizeof q->device, "%s", hf_buf_cstr(&id));
	return *q->device != '\0';
}

static int set(json_t *o, struct hf_span name, struct hf_span value)
{
	hf_autofree char *key = hf_span_dup(name);

	return key ? json_object_set_new(o, key, json_stringn((const char *)value.ptr, value.len)) : -ENOMEM;
}

/* What hub_c2d_send asks for. NULL: a value is not UTF-8, or no memory. */
static json_t *make_props(const struct hf_http_request *http)
{
	static const char *const names[][2] = {
		{ "iothub-messageid", "messageId" }, { "iothub-correlationid", "correlationId" }, { "iothub-userid", "userId" },
		{ "iothub-ack", "ack" }, { "iothub-expiry", "expiryTimeUtc" }, { "iothub-contenttype", "contentType" },
		{ "iothub-contentencoding", "contentEncoding" },
	};
	json_t *app = json_object(), *props = json_pack("{so}", "properties", app);
	int r = props ? 0 : -ENOMEM;

	for (unsigned i = 0; r == 0 && i < http->n_headers; i++) {
		const struct hf_http_header *h = &http->headers[i];
		size_t n = strlen("iothub-app-");

		if (h->name.len > n && strncasecmp((const char *)h->name.ptr, "iothub-app-", n) == 0)
			r = set(app, hf_span_skip(h->name, n), h->value);
		for (size_t k = 0; k < HF_ARRAY_LEN(names); k++)
			if (hf_span_ieq(h->name, hf_span_str(names[k][0])))
				r = set(props, hf_span_str(names[k][1]), h->value);
	}
	if (r == 0)
		return props;
	json_decref(props);
	return NULL;
}

void rest_c2d_send(struct rest_req *q)
{
	struct hub_error err;
	json_t *props;

	if (!take_target(q)) {
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "iothub-to names /devices/{deviceId}/messages/devicebound");
		return;
	}
	snprintf(q->id, sizeof q->id, "%s", q->device);
	if (!rest_gate(q, REST_C2D))
		return;
	props = make_props(q->http);
	if (!props)
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "property values must be UTF-8");
	else if (hub_c2d_send(q->m, q->device, props, q->http->body, &err) != 0)
		rest_error(q, &err);
	else
		rest_committed(q, 204, NULL, NULL);
	json_decref(props);
}

/* --- feedback and file notifications ------------------------------------------------------------------------ */

static const char *const types[HUB_FEEDBACK__COUNT] = {
	[HUB_FEEDBACK_C2D] = "application/vnd.microsoft.iothub.feedback.json",
	[HUB_FEEDBACK_FILES] = "application/vnd.microsoft.iothub.filenotification.json",
};

static void receive(struct rest_req *q, enum hub_feedback_kind kind)
{
	struct hub_feedback batch;
	char headers[256], when[32];
	int r = hub_feedback_receive(q->m, kind, &http_receivers, &batch);

	if (r == HF_ENOTFOUND) {
		rest_bytes(q, 204, NULL, hf_span(NULL, 0), "");
		return;
	}
	if (r != 0) {
		rest_refuse(q, 500, 500001, "ServerError", "no memory");
		return;
	}
	hf_iso8601(batch.enqueued_ms, when);
	snprintf(headers, sizeof headers,
		 "ETag: \"%s\"\r\niothub-sequencenumber: %llu\r\niothub-enqueuedtime: %s\r\niothub-deliverycount: %u\r\n", batch.lock,
		 (unsigned long long)batch.seq, when, batch.delivery_count);
	rest_bytes(q, 200, types[kind], hf_span_str(batch.json), headers);
	free(batch.json);
}

static void settle(struct rest_req *q, enum hub_feedback_kind kind, enum hub_verdict verdict)
{
	int r = hub_feedback_settle(q->m, kind, q->param, verdict);

	if (r == HF_ENOTFOUND)
		rest_refuse(q, 412, 412002, "DeviceMessageLockLost", "the lock is not held or has ended");
	else if (r != 0)
		rest_refuse(q, 500, 500001, "ServerError", "the outcome is not stored");
	else
		rest_committed(q, 204, NULL, NULL);
}

void rest_feedback(struct rest_req *q) { receive(q, HUB_FEEDBACK_C2D); }
void rest_feedback_complete(struct rest_req *q) { settle(q, HUB_FEEDBACK_C2D, HUB_COMPLETE); }
void rest_feedback_abandon(struct rest_req *q) { settle(q, HUB_FEEDBACK_C2D, HUB_ABANDON); }
void rest_files(struct rest_req *q) { receive(q, HUB_FEEDBACK_FILES); }
void rest_files_complete(struct rest_req *q) { settle(q, HUB_FEEDBACK_FILES, HUB_COMPLETE); }
void rest_files_abandon(struct rest_req *q) { settle(q, HUB_FEEDBACK_FILES, HUB_ABANDON); }
