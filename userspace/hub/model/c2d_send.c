/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Taking a message for a device: its properties as the bag the service writes, its limits. */
#include "core/clock.h"
#include "core/util.h"
#include "hub/model/model_int.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define DEFAULT_TTL_MS (3600 * 1000)
#define MAX_TTL_MS (2 * 24 * 3600 * 1000ll)
#define MAX_MESSAGE_ID 128	/* it must fit a feedback record */
#define BAD(err, ...) hub_refuse(err, HF_EINVALID, 400, 400004, "ArgumentInvalid", __VA_ARGS__)

static bool pair(struct hf_buf *bag, const char *key, struct hf_span value, bool has_value)
{
	if (hf_buf_len(bag))
		hf_buf_putc(bag, '&');
	hf_uri_encode(hf_span_str(key), bag);
	if (has_value) {
		hf_buf_putc(bag, '=');
		hf_uri_encode(value, bag);
	}
	return !bag->err;
}

/* ISO 8601 text or a number of milliseconds; 0 = not given, -1 = not a time. */
static int64_t parse_time(const json_t *v)
{
	int64_t ms;

	if (json_is_integer(v))
		return json_integer_value(v);
	if (!v || json_is_null(v) || (json_is_string(v) && json_string_length(v) == 0))
		return 0;
	return json_is_string(v) && hf_iso8601_parse(hf_span_str(json_string_value(v)), &ms) == 0 ? ms : -1;
}

static const char *text_prop(const json_t *props, const char *name)
{
	const char *s = json_string_value(json_object_get(props, name));

	return s && *s ? s : NULL;
}

/* The bag in the order in which the service writes it (iothub-protocol 1.5). */
static int make_bag(const char *device_id, const json_t *props, const char *mid, int64_t expiry, struct hf_buf *bag)
{
	static const char *const system[][2] = { { "correlationId", "$.cid" }, { "userId", "$.uid" },
						 { "contentType", "$.ct" }, { "contentEncoding", "$.ce" },
						 { "ack", "iothub-ack" } };
	const json_t *app = json_object_get(props, "properties");
	const char *key, *text;
	char to[HF_ID_MAX + 64], when[32];
	json_t *v;

	pair(bag, "$.mid", hf_span_str(mid), true);
	snprintf(to, sizeof to, "/devices/%s/messages/devicebound", device_id);
	pair(bag, "$.to", hf_span_str(to), true);
	hf_iso8601(expiry, when);
	if (parse_time(json_object_get(props, "expiryTimeUtc")) > 0)
		pair(bag, "$.exp", hf_span_str(when), true);
	for (size_t i = 0; i < HF_ARRAY_LEN(system); i++) {
		text = text_prop(props, system[i][0]);
		if (text)
			pair(bag, system[i][1], hf_span_str(text), true);
	}
	json_object_foreach((json_t *)app, key, v) {
		if (!json_is_string(v) && !json_is_null(v))
			return HF_EINVALID;
		pair(bag, key, hf_span(json_string_value(v), json_string_length(v)), json_is_string(v));
	}
	return bag->err;
}

static bool ack_known(const char *ack)
{
	return strcmp(ack, "none") == 0 || strcmp(ack, "positive") == 0 || strcmp(ack, "negative") == 0 ||
	       strcmp(ack, "full") == 0;
}

int hub_c2d_send(struct hub_model *m, const char *device_id, const json_t *props, struct hf_span body,
		 struct hub_error *err)
{
	struct hub_entry *e = hub_entry_find(m, hf_span_str(device_id));
	hf_autobuf struct hf_buf bag = HF_BUF_INIT(2 * HUB_C2D_MAX_BYTES);
	int64_t now = hf_clock_wall_ms(), expiry = parse_time(json_object_get(props, "expiryTimeUtc"));
	const char *mid = text_prop(props, "messageId"), *ack = text_prop(props, "ack");
	char made[HUB_UUID_SIZE];
	int r;

	hub_error_default(err);
	if (!e || e->ident.module_id)
		return hub_refuse(err, HF_ENOTFOUND, 404, 404001, "DeviceNotFound", "Device %.128s not registered",
				  device_id);
	if (expiry < 0 || (expiry > 0 && expiry > now + MAX_TTL_MS))
		return BAD(err, "expiryTimeUtc must be a time at most two days ahead");
	if (ack && !ack_known(ack))
		return BAD(err, "ack is one of none, positive, negative, full");
	if (mid && strlen(mid) > MAX_MESSAGE_ID)
		return BAD(err, "messageId has at most %d characters", MAX_MESSAGE_ID);
	hub_c2d_refresh(m, e);		/* expired ones make room */
	if (e->n_c2d >= HUB_C2D_MAX_QUEUED)
		return hub_refuse(err, HF_EFULL, 403, 403004, "DeviceMaximumQueueDepthExceeded",
				  "%s has %u messages waiting", device_id, e->n_c2d);
	if (expiry == 0)
		expiry = now + DEFAULT_TTL_MS;
	hub_uuid(made);
	r = make_bag(device_id, props, mid ? mid : made, expiry, &bag);
	if (r == HF_EINVALID)
		return BAD(err, "application properties must be text or null");
	if (body.len + hf_buf_len(&bag) > HUB_C2D_MAX_BYTES || r == HF_ELIMIT)
		return hub_refuse(err, HF_ELIMIT, 413, 413001, "MessageTooLarge", "a message has at most %d bytes",
				  HUB_C2D_MAX_BYTES);
	if (r != 0)
		return r;
	return hub_c2d_enqueue(m, e, &(struct hub_c2d){ .enqueued_ms = now, .expiry_ms = expiry,
							.message_id = mid ? mid : made, .ack = ack ? ack : "none",
							.bag = hf_buf_span(&bag), .body = body });
}
