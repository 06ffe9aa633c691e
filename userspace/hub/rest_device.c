/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Telemetry over HTTPS, one message per request (iothub-protocol 4.1). */
#include "core/metric.h"
#include "core/util.h"
#include "hub/metrics.h"
#include "hub/rest_int.h"

#include <holdfast/err.h>
#include <strings.h>

static const struct { const char *header, *key; } names[] = {
	{ "iothub-messageid", "$.mid" }, { "iothub-correlationid", "$.cid" }, { "iothub-userid", "$.uid" },
	{ "iothub-to", "$.to" }, { "iothub-expiry", "$.exp" }, { "iothub-contenttype", "$.ct" },
	{ "iothub-contentencoding", "$.ce" }, { "iothub-creation-time-utc", "$.ctime" },
	{ "iothub-interface-id", "$.ifid" }, { "dt-subject", "$.sub" }, { "iothub-ack", "iothub-ack" },
};

static bool starts(struct hf_span name, const char *prefix)
{
	size_t n = strlen(prefix);

	return name.len > n && strncasecmp((const char *)name.ptr, prefix, n) == 0;
}

static void put(struct hf_buf *bag, struct hf_span key, struct hf_span value)
{
	if (hf_buf_len(bag))
		hf_buf_putc(bag, '&');
	hf_uri_encode(key, bag);
	hf_buf_putc(bag, '=');
	hf_uri_encode(value, bag);
}

static int make_bag(const struct hf_http_request *http, struct hf_buf *bag)
{
	for (unsigned i = 0; i < http->n_headers; i++) {
		const struct hf_http_header *h = &http->headers[i];

		if (!hf_utf8_ok(h->value))
			return HF_EPROTO;
		if (starts(h->name, "iothub-app-")) {
			put(bag, hf_span_skip(h->name, strlen("iothub-app-")), h->value);
			continue;
		}
		for (size_t n = 0; n < HF_ARRAY_LEN(names); n++)
			if (hf_span_ieq(h->name, hf_span_str(names[n].header)))
				put(bag, hf_span_str(names[n].key), h->value);
	}
	return bag->err;
}

void rest_telemetry(struct rest_req *q)
{
	const struct hub_ident *i = rest_ident(q), *device;
	hf_autobuf struct hf_buf bag = HF_BUF_INIT(HF_MSG_MAX_SIZE);
	struct hf_span type;
	uint64_t seq;
	int r;

	if (!i)
		return;
	device = hub_ident_find(q->m, hf_span_str(i->device_id));
	if (!i->enabled || !device || !device->enabled) {
		rest_refuse(q, 403, 403006, "DeviceDisabled", "%s is disabled", i->device_id);
		return;
	}
	if (hf_http_header(q->http, "Content-Type", &type) && starts(type, "application/vnd.microsoft.iothub.jso")) {
		rest_refuse(q, 415, 415001, "UnsupportedMediaType", "batches are not offered");
		return;
	}
	r = make_bag(q->http, &bag);
	if (r == HF_EPROTO) {
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "property values must be UTF-8");
		return;
	}
	if (r == 0)
		r = hub_event_append(q->m, i, q->auth_type, hf_buf_span(&bag), q->http->body, "Telemetry", &seq);
	if (r == HF_ELIMIT) {
		rest_refuse(q, 413, 413001, "MessageTooLarge", "a message has at most %d bytes", HF_MSG_MAX_SIZE);
	} else if (r != 0) {
		rest_refuse(q, 503, 503001, "ServiceUnavailable", "the message is not stored");
	} else {
		hf_metric_add(HUB_M_EVENTS, 1);
		rest_committed(q, 204, NULL, NULL);
	}
}
