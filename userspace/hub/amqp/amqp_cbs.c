/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Claims-based security: tokens shown on the $cbs links (iothub-protocol 2.2). */
#include "core/log.h"
#include "core/util.h"
#include "hub/amqp/amqp_int.h"

#include <holdfast/err.h>

struct answer { int status; const char *text; };

static struct hf_span text_of(const struct hf_amqp_value *v)
{
	return v && (v->kind == HF_AMQP_STRING || v->kind == HF_AMQP_SYMBOL || v->kind == HF_AMQP_BINARY) ? v->s
													    : hf_span(NULL, 0);
}

/* The link whose name or target is the reply-to; clients that say nothing useful have only one. */
static struct hub_amqp_link *reply_link(struct hub_amqp_conn *c, struct hf_span reply_to)
{
	struct hub_amqp_link *last = NULL;
	struct hf_list *pos;

	hf_list_for_each(pos, &c->links) {
		struct hub_amqp_link *l = hf_container_of(pos, struct hub_amqp_link, node);

		if (l->kind != &hub_amqp_cbs_replies || l->ended)
			continue;
		last = l;
		if (hf_span_is(reply_to, hf_amqp_link_name(l->link)) || hf_span_is(reply_to, hf_amqp_link_peer_address(l->link)))
			return l;
	}
	return last;
}

static void reply(struct hub_amqp_conn *c, const struct hf_amqp_msg *request, struct answer a)
{
	struct hf_amqp_field fields[] = {
		{ hf_span_str("status-code"), HF_AMQP_NUM(HF_AMQP_INT, a.status) },
		{ hf_span_str("status-description"), HF_AMQP_STR(a.text) },
	};
	struct hf_amqp_msg msg = { .correlation_id = request->message_id, .properties = fields,
				   .n_properties = HF_ARRAY_LEN(fields) };
	struct hub_amqp_link *l = reply_link(c, request->reply_to);

	if (l)
		hub_amqp_post(l, &msg);
	else
		hf_metric_add(HUB_M_AMQP_UNSENT, 1);
}

static struct answer refused(struct hub_amqp_conn *c, int status, const char *why)
{
	static struct hf_log_limit limit;

	hf_metric_add(HUB_M_AUTH_REFUSED, 1);
	hf_log_limited(&limit, HF_LOG_NOTICE, "hub.amqp.cbs", "%s: put-token: %d: %s", hf_conn_peer(hf_amqp_conn(c->amqp)), status, why);
	return (struct answer){ status, why };
}

/* What the request wants to prove; an answer with status 0: claim is good. */
static struct answer judge(struct hub_amqp_conn *c, const struct hf_amqp_msg *msg, struct hub_claim *claim)
{
	struct hf_span operation = text_of(hf_amqp_find(msg->properties, msg->n_properties, "operation"));
	struct hf_span type = text_of(hf_amqp_find(msg->properties, msg->n_properties, "type"));
	struct hf_span token = msg->body_kind == HF_AMQP_BODY_DATA ? msg->body : text_of(&msg->value);
	const struct hub_ident *ident;
	const char *why;

	if (!hf_span_is(operation, "put-token"))
		return refused(c, 400, "the operation is not put-token");
	if (hf_span_ieq(type, hf_span_str("jwt")))
		return refused(c, 401, "only shared access signatures are taken here");
	if (!hf_span_ieq(type, hf_span_str("servicebus.windows.net:sastoken")) && !hf_span_ieq(type, hf_span_str("amqp:sastoken")))
		return refused(c, 400, "unknown type of token");
	if (token.len == 0)
		return refused(c, 400, "no token in the body");
	why = hub_claim_verify(c->head->model, token, claim);
	if (!why && !claim->is_policy)
		why = hub_ident_usable(c->head->model, hf_span_str(claim->ident), &ident);
	if (why)
		return refused(c, why == hub_token_of_nobody ? 404 : 401, why);
	return (struct answer){ 0, NULL };
}

static struct answer keep(struct hub_amqp_conn *c, const struct hub_claim *claim)
{
	int r = hub_amqp_claim_add(c, claim);

	if (r == HF_ELIMIT)
		return refused(c, 403, "too many tokens on this connection");
	if (r != 0 || (!claim->is_policy && !hub_amqp_login_get(c, claim->ident)))
		return refused(c, 500, "no memory");
	return (struct answer){ 200, "OK" };
}

static bool on_request(struct hub_amqp_link *l, struct hf_amqp_delivery *d, struct hf_span raw, const struct hf_amqp_msg *msg)
{
	struct hub_fault fault = HUB_AMQP_NO_FAULT;
	struct hub_claim claim;
	struct answer a = judge(l->conn, msg, &claim);
	int status;

	(void)raw;
	if (a.status == 0 && !claim.is_policy) {
		switch (hub_amqp_gate(l, HUB_ON_CONNECT, claim.ident, d, &fault)) {
		case HUB_AMQP_GO: break;
		case HUB_AMQP_WAIT: return false;
		case HUB_AMQP_DONE: return true;
		}
		status = hub_amqp_login_status(&fault);
		if (status)
			a = refused(l->conn, status, "refused by a fault rule or a limit");
	}
	if (a.status == 0)
		a = keep(l->conn, &claim);
	hf_amqp_settle(d, HF_AMQP_ACCEPTED, NULL, NULL);
	reply(l->conn, msg, a);
	return true;
}

const struct hub_amqp_kind hub_amqp_cbs_requests = {
	.name = "$cbs request", .address = { "$cbs" }, .credit = 100, .max_message = HUB_AMQP_MAX_MESSAGE, .message = on_request,
};
const struct hub_amqp_kind hub_amqp_cbs_replies = {
	.name = "$cbs reply", .address = { "$cbs" }, .we_send = true,
};
