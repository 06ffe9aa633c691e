/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Messages from devices and modules, one by one and in batches; and the links on which modules would get messages
 * (iothub-protocol 2.3, 2.4). */
#include "core/util.h"
#include "hub/amqp/amqp_int.h"
#include "hub/fault/throttle.h"

#include <errno.h>
#include <holdfast/err.h>

#define CREDIT 100

/* Parts point into mem once it is complete; until then ptr is an offset. */
struct parts {
	struct hf_amqp_codec *codec;
	struct hf_buf mem;
	struct hf_batch_part *at;
	size_t n, cap;
};

static void parts_fini(struct parts *p)
{
	hf_buf_fini(&p->mem);
	free(p->at);
}

static int add(struct parts *p, const struct hf_amqp_msg *msg)
{
	struct hf_batch_part *part;
	struct hf_span body;
	size_t from = hf_buf_len(&p->mem);
	int r = hub_amqp_body(msg, &body);

	if (r == 0)
		r = hub_amqp_bag(msg, &p->mem);
	if (r != 0)
		return r;
	if (p->n == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 1;

		part = realloc(p->at, cap * sizeof *part);
		if (!part)
			return -ENOMEM;
		p->at = part;
		p->cap = cap;
	}
	part = &p->at[p->n++];
	part->bag = hf_span(NULL, hf_buf_len(&p->mem) - from);
	part->body = hf_span(NULL, body.len);
	hf_buf_put_span(&p->mem, body);
	return p->mem.err;
}

static int add_encoded(void *arg, struct hf_span data)
{
	struct parts *p = arg;
	struct hf_amqp_msg msg;
	int r = hf_amqp_decode(p->codec, data, &msg);

	return r == 0 ? add(p, &msg) : r;
}

static void point(struct parts *p)
{
	const uint8_t *at = hf_buf_span(&p->mem).ptr;

	for (size_t i = 0; i < p->n; i++) {
		p->at[i].bag.ptr = at;
		p->at[i].body.ptr = at + p->at[i].bag.len;
		at += p->at[i].bag.len + p->at[i].body.len;
	}
}

static int take(struct hub_amqp_link *l, bool is_batch, struct hf_span raw, const struct hf_amqp_msg *msg, size_t *ret_n)
{
	struct parts p = { .codec = l->conn->head->codec, .mem = HF_BUF_INIT(HF_MSG_MAX_SIZE) };
	const struct hub_ident *ident = hub_ident_find(l->conn->head->model, hf_span_str(l->addr.ident));
	int r = !ident ? HF_ENOTFOUND : is_batch ? hf_amqp_each_data(p.codec, raw, add_encoded, &p) : add(&p, msg);

	if (r == 0) {
		point(&p);
		r = hub_event_append_all(l->conn->head->model, ident, l->login->auth_type, p.at, p.n, "Telemetry");
	}
	*ret_n = p.n;
	parts_fini(&p);
	return r;
}

static void reject_as(struct hub_amqp_link *l, struct hf_amqp_delivery *d, int err)
{
	if (err == HF_ELIMIT)
		hub_amqp_reject(l, d, 413, "message or batch over 256 KiB");
	else if (err == HF_EINVALID || err == HF_EPROTO)
		hub_amqp_reject(l, d, 400, "a property or the body is of a kind that messages cannot have");
	else if (err == HF_ENOTFOUND)
		hub_amqp_reject(l, d, 404, "the identity was deleted");
	else
		hub_amqp_reject(l, d, 500, "not stored");
}

static bool on_message(struct hub_amqp_link *l, struct hf_amqp_delivery *d, struct hf_span raw, const struct hf_amqp_msg *msg)
{
	struct hub_fault fault;
	uint32_t wait;
	size_t n;
	int r;

	switch (hub_amqp_gate(l, HUB_ON_TELEMETRY, l->addr.ident, d, &fault)) {
	case HUB_AMQP_GO: break;
	case HUB_AMQP_WAIT: return false;
	case HUB_AMQP_DONE: return true;
	}
	if (fault.action == HUB_DO_REJECT || fault.action == HUB_DO_THROTTLE) {
		hub_amqp_reject(l, d, fault.action == HUB_DO_THROTTLE ? 429 : fault.code, "refused by a fault rule");
		return true;
	}
	wait = hub_throttle_shape(l->conn->head->model, HUB_THROTTLE_D2C, hf_amqp_is_batch(d) ? msg->n_data : 1, HUB_THROTTLE_SHAPE_MS);
	if (wait == UINT32_MAX) {
		hub_amqp_reject(l, d, 429, "too many messages");
		return true;
	}
	r = take(l, hf_amqp_is_batch(d), raw, msg, &n);
	if (r != 0) {
		reject_as(l, d, r);
		return true;
	}
	hf_metric_add(HUB_M_EVENTS, (int64_t)n);
	hub_amqp_accept(l->conn, d, wait, &fault);
	return true;
}

const struct hub_amqp_kind hub_amqp_telemetry = {
	.name = "telemetry", .address = { "messages/events" }, .who = HUB_AMQP_IDENTITY, .slot = HUB_AMQP_TELEMETRY,
	.credit = CREDIT, .max_message = HUB_AMQP_MAX_MESSAGE, .message = on_message,
};

/* Inputs of modules: messages to them come from gateways only, never from the hub. */
static enum hub_amqp_verdict open_inputs(struct hub_amqp_link *l)
{
	if (strchr(l->addr.ident, '/'))
		return HUB_AMQP_ACCEPT;
	hub_amqp_link_refuse(l, "amqp:not-allowed", "only modules have inputs");
	return HUB_AMQP_ANSWERED;
}

const struct hub_amqp_kind hub_amqp_inputs = {
	.name = "inputs", .address = { "messages/events" }, .we_send = true, .who = HUB_AMQP_IDENTITY,
	.slot = HUB_AMQP_INPUTS, .open = open_inputs,
};
