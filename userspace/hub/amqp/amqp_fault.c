/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Fault rules and limits of logins on AMQP (hub/fault/fault.h, hub/fault/throttle.h). */
#include "core/log.h"
#include "core/util.h"
#include "hub/amqp/amqp_int.h"
#include "hub/fault/throttle.h"

#include <errno.h>

void hub_amqp_cut_off(struct hub_amqp_conn *c)
{
	c->closing = true;
	hf_amqp_cut(c->amqp);
}

/* The hub holds too much already. */
static void cannot_hold(struct hub_amqp_conn *c)
{
	hf_log(HF_LOG_WARN, "hub.amqp.fault", "%s: too much waits because of fault rules: closed", hf_conn_peer(hf_amqp_conn(c->amqp)));
	hub_amqp_cut_off(c);
}

bool hub_amqp_login_fault(struct hub_amqp_conn *c, const char *id, struct hub_fault *ret_fault)
{
	if (hub_amqp_login_find(c, id))
		return false;
	*ret_fault = (struct hub_fault){ .action = HUB_DO_THROTTLE };
	return hub_throttle_take(c->head->model, HUB_THROTTLE_CONNECT, 1) != 0 ||
	       hub_fault_hit(hub_model_faults(c->head->model), HUB_ON_CONNECT, id, ret_fault);
}

int hub_amqp_login_status(const struct hub_fault *fault)
{
	if (fault->action == HUB_DO_THROTTLE)
		return 429;
	if (fault->action != HUB_DO_REJECT)
		return 0;
	switch (fault->code) {
	case 1: case 2: return 400;	/* version, client id */
	case 3: return 503;		/* unavailable */
	default: return 401;		/* user name or token, not authorised */
	}
}

static void on_attach_due(void *arg, struct hf_span data)
{
	struct hub_amqp_link *l = arg;

	(void)data;
	hf_task_at_turn_end(l->conn->head->loop, &l->task);	/* it may free the hold that runs this */
}

void hub_amqp_hold_attach(struct hub_amqp_link *l, uint32_t ms)
{
	l->was_held = true;
	if (hub_hold_add(&l->hold, ms, false, on_attach_due, l, hf_span(NULL, 0)) != 0)
		cannot_hold(l->conn);
}

static void on_message_due(void *arg, struct hf_span data)
{
	struct hub_amqp_link *l = arg;

	(void)data;
	hf_amqp_link_resume(l->link);
}

enum hub_amqp_gate hub_amqp_gate(struct hub_amqp_link *l, enum hub_fault_on on, const char *id, struct hf_amqp_delivery *d,
				 struct hub_fault *ret_fault)
{
	bool hit = !l->was_held && (on == HUB_ON_CONNECT ? hub_amqp_login_fault(l->conn, id, ret_fault)
							: hub_fault_hit(hub_model_faults(l->conn->head->model), on, id, ret_fault));

	l->was_held = false;
	if (!hit) {
		*ret_fault = HUB_AMQP_NO_FAULT;
		return HUB_AMQP_GO;
	}
	switch (ret_fault->action) {
	case HUB_DO_DELAY:
		l->was_held = true;
		if (hub_hold_add(&l->hold, ret_fault->ms, false, on_message_due, l, hf_span(NULL, 0)) != 0)
			cannot_hold(l->conn);
		return HUB_AMQP_WAIT;
	case HUB_DO_DROP:
		hub_amqp_cut_off(l->conn);
		hf_amqp_forget(d);
		return HUB_AMQP_DONE;
	case HUB_DO_HANG:
		hf_amqp_forget(d);
		return HUB_AMQP_DONE;
	case HUB_DO_REJECT: case HUB_DO_THROTTLE: case HUB_DO_ACK_LATE: case HUB_DO_ACK_TWICE: case HUB_DO_ACK_NEVER:
	case HUB_DO__COUNT:
		break;
	}
	return HUB_AMQP_GO;
}

const char *hub_amqp_condition(int http_status)
{
	static const struct { int status; const char *condition; } rows[] = {
		{ 400, "com.microsoft:argument-error" }, { 401, "amqp:unauthorized-access" },
		{ 403, "amqp:resource-limit-exceeded" }, { 404, "amqp:not-found" }, { 405, "amqp:not-allowed" },
		{ 409, "com.microsoft:device-already-exists" }, { 412, "com.microsoft:precondition-failed" },
		{ 413, "amqp:link:message-size-exceeded" }, { 429, "com.microsoft:device-container-throttled" },
		{ 501, "amqp:not-implemented" }, { 503, "com.microsoft:timeout" }, { 504, "com.microsoft:timeout" },
	};

	for (size_t i = 0; i < HF_ARRAY_LEN(rows); i++)
		if (rows[i].status == http_status)
			return rows[i].condition;
	return http_status < 500 ? "amqp:not-allowed" : "amqp:internal-error";
}
