/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The HTTPS device API: telemetry alone and in batches, messages to the device with their locks (iothub-protocol 4). The
 * identity of the path exists and is enabled. */
#include "core/log.h"
#include "core/metric.h"
#include "core/util.h"
#include "dialect/bag.h"
#include "dialect/bag_http.h"
#include "dialect/batch.h"
#include "hub/metrics.h"
#include "hub/rest/rest_int.h"

#include <holdfast/err.h>
#include <stdarg.h>
#include <stdio.h>

enum { LOCK_MIN_S = 10, LOCK_MAX_S = 300 };

void rest_refuse_device(struct rest_req *q, int http, int code, const char *name, const char *fmt, ...)
{
	static struct hf_log_limit limit;
	struct hub_error err = { .http_status = http, .code = code, .name = name };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err.message, sizeof err.message, fmt, ap);
	va_end(ap);
	hf_utf8_repair(err.message);
	hf_metric_add(HUB_M_REST_DEVICE_REFUSED, 1);
	hf_log_limited(&limit, HF_LOG_NOTICE, "hub.rest.device", "%s: %d %s: %s", q->id, http, name, err.message);
	rest_error(q, &err);
}

/* --- telemetry -------------------------------------------------------------------------------------------- */

static int make_bag(const struct hf_http_request *http, struct hf_buf *bag)
{
	struct hf_span key;

	for (unsigned i = 0; i < http->n_headers; i++) {
		const struct hf_http_header *h = &http->headers[i];

		if (!hf_bag_http_key(h->name, &key))
			continue;
		if (!hf_utf8_ok(h->value))
			return HF_EPROTO;
		hf_bag_put(bag, key, &h->value);
	}
	return bag->err;
}

static void answer_events(struct rest_req *q, int r, int64_t n)
{
	if (r == HF_ELIMIT) {
		rest_refuse_device(q, 413, 413001, "MessageTooLarge", "a message or batch has at most %d bytes", HF_MSG_MAX_SIZE);
	} else if (r != 0) {
		rest_refuse_device(q, 503, 503001, "ServiceUnavailable", "the message is not stored");
	} else {
		hf_metric_add(HUB_M_EVENTS, n);
		rest_committed(q, 204, NULL, NULL);
	}
}

static void take_batch(struct rest_req *q, const struct hub_ident *ident)
{
	struct hf_batch batch;
	const char *why = NULL;
	int r = hf_batch_parse(q->http->body, &batch, &why);

	if (r == HF_EINVALID) {
		rest_refuse_device(q, 400, 400006, "IotHubFormatError", "%s", why);
		return;
	}
	if (r != 0) {
		answer_events(q, r, 0);
		return;
	}
	r = hub_event_append_all(q->m, ident, q->auth_type, batch.parts, batch.n, "Telemetry");
	answer_events(q, r, (int64_t)batch.n);
	hf_batch_fini(&batch);
}

static bool is_batch(const struct hf_http_request *http)
{
	struct hf_span type, word;

	if (!hf_http_header(http, "Content-Type", &type))
		return false;
	hf_span_cut(&type, ';', &word);
	while (word.len && word.ptr[word.len - 1] == ' ')
		word.len--;
	return hf_span_ieq(word, hf_span_str(HF_BATCH_TYPE));
}

void rest_telemetry(struct rest_req *q)
{
	const struct hub_ident *i = rest_ident(q);
	hf_autobuf struct hf_buf bag = HF_BUF_INIT(HF_MSG_MAX_SIZE);
	uint64_t seq;
	int r;

	if (!i)
		return;
	if (is_batch(q->http)) {
		take_batch(q, i);
		return;
	}
	r = make_bag(q->http, &bag);
	if (r == HF_EPROTO) {
		rest_refuse_device(q, 400, 400004, "ArgumentInvalid", "property values must be UTF-8");
		return;
	}
	if (r == 0)
		r = hub_event_append(q->m, i, q->auth_type, hf_buf_span(&bag), q->http->body, "Telemetry", &seq);
	answer_events(q, r, 1);
}

/* --- messages to the device ------------------------------------------------------------------------------- */

/* All receivers over HTTPS are one owner: a lock is held by its token, not by a connection. */
static const char http_receivers;

/* IotHub-MessageLockTimeout: seconds. 0: refused. */
static uint32_t lock_ms(struct rest_req *q)
{
	struct hf_span text;
	int64_t s;

	if (!hf_http_header(q->http, "IotHub-MessageLockTimeout", &text))
		return HUB_C2D_LOCK_MS;
	if (hf_parse_i64(text, LOCK_MIN_S, LOCK_MAX_S, &s) == 0)
		return (uint32_t)s * 1000;
	rest_refuse_device(q, 400, 400004, "ArgumentInvalid", "IotHub-MessageLockTimeout is %d to %d seconds", LOCK_MIN_S, LOCK_MAX_S);
	return 0;
}

void rest_c2d_receive(struct rest_req *q)
{
	hf_autobuf struct hf_buf headers = HF_BUF_INIT(4 * HF_MSG_MAX_SIZE);
	uint32_t lock = lock_ms(q);
	const struct hub_c2d *msg;
	char when[32];

	if (!lock)
		return;
	if (hub_c2d_receive(q->m, q->device, &http_receivers, lock, &msg) != 0) {
		rest_bytes(q, 204, NULL, hf_span(NULL, 0), "");
		return;
	}
	hf_iso8601(msg->enqueued_ms, when);
	hf_buf_printf(&headers, "ETag: \"%s\"\r\niothub-sequencenumber: %llu\r\niothub-enqueuedtime: %s\r\niothub-deliverycount: %u\r\n",
		      msg->lock, (unsigned long long)msg->seq, when, msg->delivery_count);
	hf_bag_http_headers(msg->bag, &headers);
	if (headers.err)
		rest_refuse_device(q, 500, 500001, "ServerError", "no memory");	/* the lock ends by itself */
	else
		rest_bytes(q, 200, NULL, msg->body, hf_buf_cstr(&headers));
}

static void settle(struct rest_req *q, enum hub_verdict verdict)
{
	int r = hub_c2d_settle(q->m, q->device, q->param, verdict);

	if (r == HF_ENOTFOUND)
		rest_refuse_device(q, 412, 412002, "DeviceMessageLockLost", "the lock is not held or has ended");
	else if (r != 0)
		rest_refuse_device(q, 500, 500001, "ServerError", "the outcome is not stored");
	else
		rest_committed(q, 204, NULL, NULL);
}

/* "reject" is a flag; clients write it alone, with nothing or with true behind it. */
void rest_c2d_complete(struct rest_req *q)
{
	hf_autobuf struct hf_buf value = HF_BUF_INIT(64);
	bool reject = hf_http_query(q->http, "reject", &value) && !hf_span_ieq(hf_buf_span(&value), hf_span_str("false"));

	settle(q, reject ? HUB_REJECT : HUB_COMPLETE);
}

void rest_c2d_abandon(struct rest_req *q)
{
	settle(q, HUB_ABANDON);
}
