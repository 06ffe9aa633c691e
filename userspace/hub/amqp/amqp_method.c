/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Direct methods: requests on one link, responses on another (iothub-protocol 2.7). The correlation id is a uuid: eight
 * bytes of the head's own with the version, then the number of the call with the variant. */
#include "core/util.h"
#include "hub/amqp/amqp_int.h"

#include <stdio.h>

static void make_uuid(const struct hub_amqp *head, const char *rid, uint8_t out[16])
{
	uint64_t n = strtoull(rid, NULL, 16);

	memcpy(out, head->salt, 8);
	out[6] = 0x40 | (out[6] & 0x0f);
	for (unsigned i = 0; i < 8; i++)
		out[8 + i] = (uint8_t)(n >> (56 - 8 * i));
	out[8] = 0x80;
}

/* The number of the call that a response names; false: none of ours. */
static bool read_uuid(const struct hub_amqp *head, const struct hf_amqp_value *id, char rid[24])
{
	uint8_t own[16], uuid[16];
	uint64_t n = 0;

	if (id->kind == HF_AMQP_UUID) {
		memcpy(uuid, id->s.ptr, sizeof uuid);
	} else if (id->kind == HF_AMQP_STRING) {
		hf_autofree char *text = hf_span_dup(id->s);

		if (!text || !hub_amqp_uuid(text, uuid))
			return false;
	} else {
		return false;
	}
	for (unsigned i = 9; i < 16; i++)
		n = n << 8 | uuid[i];
	snprintf(rid, 24, "%llx", (unsigned long long)n);
	make_uuid(head, rid, own);
	return memcmp(own, uuid, sizeof own) == 0;
}

static void send_request(void *arg, const char *name, const char *rid, struct hf_span payload)
{
	struct hub_amqp_link *l = arg;
	struct hf_amqp_field field = { hf_span_str("IoThub-methodname"), HF_AMQP_STR(name) };
	struct hf_amqp_msg msg = { .properties = &field, .n_properties = 1, .body_kind = HF_AMQP_BODY_DATA, .body = payload };
	uint8_t uuid[16];

	make_uuid(l->conn->head, rid, uuid);
	msg.correlation_id = (struct hf_amqp_value){ .kind = HF_AMQP_UUID, .s = hf_span(uuid, sizeof uuid) };
	hub_amqp_post(l, &msg);
}

static enum hub_amqp_verdict open_requests(struct hub_amqp_link *l)
{
	struct hub_method_sink *sink = calloc(1, sizeof *sink);

	if (!sink) {
		hub_amqp_link_refuse(l, "amqp:internal-error", "no memory");
		return HUB_AMQP_ANSWERED;
	}
	*sink = (struct hub_method_sink){ .id = l->addr.ident, .send = send_request, .arg = l };
	l->arg = sink;
	hub_method_sink_add(l->conn->head->model, sink);
	return HUB_AMQP_ACCEPT;
}

static void close_requests(struct hub_amqp_link *l)
{
	hub_method_sink_remove(l->conn->head->model, l->arg);
	free(hf_take(l->arg));
}

static bool on_response(struct hub_amqp_link *l, struct hf_amqp_delivery *d, struct hf_span raw, const struct hf_amqp_msg *msg)
{
	const struct hf_amqp_value *status = hf_amqp_find(msg->properties, msg->n_properties, "IoThub-status");
	struct hf_span body;
	int64_t code = 0;
	char rid[24];

	(void)raw;
	if (!status || !hf_amqp_integer(status, &code) || code < INT32_MIN || code > INT32_MAX ||
	    !read_uuid(l->conn->head, &msg->correlation_id, rid) || hub_amqp_body(msg, &body) != 0) {
		hub_amqp_reject(l, d, 400, "not the response to a call");
		return true;
	}
	hf_amqp_settle(d, HF_AMQP_ACCEPTED, NULL, NULL);
	hub_method_answer(l->conn->head->model, l->addr.ident, hf_span_str(rid), (int)code, body);
	return true;
}

const struct hub_amqp_kind hub_amqp_method_requests = {
	.name = "method request", .address = { "methods/devicebound" }, .we_send = true, .who = HUB_AMQP_IDENTITY,
	.slot = HUB_AMQP_METHOD_REQUESTS, .open = open_requests, .closed = close_requests,
};
const struct hub_amqp_kind hub_amqp_method_responses = {
	.name = "method response", .address = { "methods/devicebound" }, .who = HUB_AMQP_IDENTITY,
	.slot = HUB_AMQP_METHOD_RESPONSES, .credit = 100, .max_message = HUB_AMQP_MAX_MESSAGE, .message = on_response,
};
