/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The service's sender to /messages/devicebound: messages for devices (iothub-protocol 3.1). */
#include "core/log.h"
#include "core/util.h"
#include "hub/amqp/amqp_int.h"
#include "hub/amqp/amqp_props.h"
#include "hub/fault/throttle.h"

#include <errno.h>
#include <holdfast/err.h>

/* --- the message as hub_c2d_send wants it -------------------------------------------------------------------------- */

static int set_text(json_t *to, const char *name, const struct hf_amqp_value *v)
{
	hf_autobuf struct hf_buf text = HF_BUF_INIT(HF_MSG_MAX_SIZE);
	json_t *s;

	if (v->kind == HF_AMQP_NONE)
		return 0;
	if (!hf_amqp_text(v, &text))
		return HF_EINVALID;
	s = text.err ? NULL : json_stringn(hf_buf_cstr(&text), hf_buf_len(&text));
	return s ? json_object_set_new(to, name, s) == 0 ? 0 : -ENOMEM : hf_utf8_ok(hf_buf_span(&text)) ? -ENOMEM : HF_EINVALID;
}

static int set_span(json_t *to, const char *name, struct hf_span s)
{
	return s.len ? set_text(to, name, &(struct hf_amqp_value){ .kind = HF_AMQP_BINARY, .s = s }) : 0;
}

static int set_properties(json_t *doc, const struct hf_amqp_msg *msg)
{
	json_t *app = json_object();
	int r = json_object_set_new(doc, "properties", app) == 0 ? 0 : -ENOMEM;

	for (unsigned i = 0; r == 0 && i < msg->n_properties; i++) {
		const struct hf_amqp_field *f = &msg->properties[i];
		hf_autofree char *key = hf_span_dup(f->key);

		if (!key)
			return -ENOMEM;
		if (f->key.len == 0 || !hf_utf8_ok(f->key))
			return HF_EINVALID;
		if (strcmp(key, "iothub-ack") == 0)
			r = set_text(doc, "ack", &f->value);
		else if (f->value.kind == HF_AMQP_NONE)
			r = json_object_set_new(app, key, json_null()) == 0 ? 0 : -ENOMEM;
		else
			r = set_text(app, key, &f->value);
	}
	return r;
}

static int make_doc(const struct hf_amqp_msg *msg, json_t *doc)
{
	int r = doc ? set_text(doc, "messageId", &msg->message_id) : -ENOMEM;

	if (r == 0)
		r = set_text(doc, "correlationId", &msg->correlation_id);
	if (r == 0)
		r = set_span(doc, "userId", msg->user_id);
	if (r == 0)
		r = set_span(doc, "contentType", msg->content_type);
	if (r == 0)
		r = set_span(doc, "contentEncoding", msg->content_encoding);
	if (r == 0 && msg->expiry_ms)
		r = json_object_set_new(doc, "expiryTimeUtc", json_integer(msg->expiry_ms)) == 0 ? 0 : -ENOMEM;
	return r == 0 ? set_properties(doc, msg) : r;
}

static int enqueue(struct hub_model *m, const char *device, const struct hf_amqp_msg *msg, struct hub_error *err)
{
	json_t *doc = json_object();
	struct hf_span body;
	int r = hub_amqp_body(msg, &body);

	*err = (struct hub_error){ .http_status = 500, .message = "the message is not stored" };
	if (r == 0)
		r = make_doc(msg, doc);
	if (r == HF_EINVALID)
		*err = (struct hub_error){ .http_status = 400, .message = "properties are text, bodies are bytes or text" };
	else if (r == 0)
		r = hub_c2d_send(m, device, doc, body, err);
	json_decref(doc);
	return r;
}

/* --- messages -------------------------------------------------------------------------------------------------- */

/* "/devices/{D}/messages/devicebound" */
static bool read_to(struct hub_model *m, struct hf_span to, struct hub_amqp_addr *ret_addr)
{
	hf_autofree char *text = hf_span_dup(to);

	return text && hub_amqp_addr_parse(m, text, ret_addr) == 0 && ret_addr->ident[0] && !strchr(ret_addr->ident, '/') &&
	       hub_amqp_addr_is(ret_addr, "messages/devicebound");
}

static bool on_message(struct hub_amqp_link *l, struct hf_amqp_delivery *d, struct hf_span raw, const struct hf_amqp_msg *msg)
{
	struct hub_model *m = l->conn->head->model;
	struct hub_fault fault;
	struct hub_amqp_addr to;
	struct hub_error err;

	(void)raw;
	if (!read_to(m, msg->to, &to)) {
		hub_amqp_reject(l, d, 400, "to is /devices/{device id}/messages/devicebound");
		return true;
	}
	switch (hub_amqp_gate(l, HUB_ON_C2D, to.ident, d, &fault)) {
	case HUB_AMQP_GO: break;
	case HUB_AMQP_WAIT: return false;
	case HUB_AMQP_DONE: return true;
	}
	if (fault.action == HUB_DO_REJECT || fault.action == HUB_DO_THROTTLE) {
		hub_fault_error(&fault, &err);
		hub_amqp_reject(l, d, err.http_status, err.message);
	} else if (hub_throttle_take(m, HUB_THROTTLE_C2D, 1) > 0) {
		hub_amqp_reject(l, d, 429, "more than 100 messages to devices in a minute");
	} else if (enqueue(m, to.ident, msg, &err) != 0) {
		hub_amqp_reject(l, d, err.http_status, err.message);
	} else {
		hub_amqp_accept(l->conn, d, 0, &fault);
	}
	return true;
}

const struct hub_amqp_kind hub_amqp_c2d_send = {
	.name = "messages to devices",
	.address = { "messages/devicebound" },
	.who = HUB_AMQP_SERVICE,
	.credit = 100,
	.max_message = HUB_AMQP_MAX_MESSAGE,
	.message = on_message,
};
