/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Answers to deliveries: after the commit, late on purpose, or with an error (iothub-protocol 2.9). */
#include "core/log.h"
#include "core/util.h"
#include "hub/amqp_int.h"

#include <holdfast/err.h>

struct answer {
	struct hf_list node;		/* conn->answers */
	struct hub_wait wait;
	struct hub_amqp_conn *conn;
	struct hf_amqp_delivery *d;
	enum hf_amqp_outcome outcome;
	uint32_t late_ms;
};

static void answer_free(struct answer *a)
{
	hub_wait_cancel(&a->wait);
	hf_list_del(&a->node);
	free(a);
}

static void on_due(void *arg, struct hf_span data)
{
	struct answer *a;

	(void)arg;
	memcpy(&a, data.ptr, sizeof a);
	hf_amqp_settle(a->d, a->outcome, NULL, NULL);
	answer_free(a);
}

static void on_committed(void *arg, int err)
{
	struct answer *a = arg;

	if (!err && a->late_ms &&
	    hub_hold_add(&a->conn->hold, a->late_ms, false, on_due, NULL, hf_span(&a, sizeof(struct answer *))) == 0)
		return;
	if (!err)
		hf_amqp_settle(a->d, a->outcome, NULL, NULL);
	else if (a->outcome == HF_AMQP_ACCEPTED)
		hf_amqp_settle(a->d, HF_AMQP_REJECTED, "amqp:internal-error", "not stored");
	else
		hf_amqp_forget(a->d);
	answer_free(a);
}

void hub_amqp_settle_late(struct hub_amqp_conn *c, struct hf_amqp_delivery *d, enum hf_amqp_outcome outcome, uint32_t late_ms)
{
	struct answer *a = malloc(sizeof *a);

	if (!a) {
		hf_amqp_settle(d, HF_AMQP_REJECTED, "amqp:internal-error", "no memory");
		return;
	}
	*a = (struct answer){ .conn = c, .d = d, .outcome = outcome, .late_ms = late_ms };
	hf_list_add_tail(&c->answers, &a->node);
	hub_commit_wait(c->head->model, &a->wait, on_committed, a);
}

void hub_amqp_settle_committed(struct hub_amqp_conn *c, struct hf_amqp_delivery *d, enum hf_amqp_outcome outcome)
{
	hub_amqp_settle_late(c, d, outcome, 0);
}

void hub_amqp_answers_init(struct hub_amqp_conn *c)
{
	hf_list_init(&c->answers);
	hub_hold_init(&c->hold, c->head->loop, hub_model_faults(c->head->model));
}

void hub_amqp_answers_free(struct hub_amqp_conn *c)
{
	hub_hold_fini(&c->hold);
	while (!hf_list_empty(&c->answers)) {
		struct answer *a = hf_container_of(c->answers.next, struct answer, node);

		hf_amqp_forget(a->d);
		answer_free(a);
	}
}

void hub_amqp_reject(struct hub_amqp_link *l, struct hf_amqp_delivery *d, const char *condition, const char *text)
{
	static struct hf_log_limit limit;

	hf_metric_add(HUB_M_AMQP_REJECTED, 1);
	hf_log_limited(&limit, HF_LOG_NOTICE, "hub.amqp.rejected", "%s: %s link of \"%s\": %s: %s",
		       hf_conn_peer(hf_amqp_conn(l->conn->amqp)), l->kind->name, l->addr.ident, condition, text);
	hf_amqp_settle(d, HF_AMQP_REJECTED, condition, text);
}

void hub_amqp_reject_error(struct hub_amqp_link *l, struct hf_amqp_delivery *d, const struct hub_error *err)
{
	static const struct { int http; const char *condition; } rows[] = {
		{ 400, "com.microsoft:argument-error" }, { 401, "amqp:unauthorized-access" },
		{ 403, "amqp:resource-limit-exceeded" }, { 404, "amqp:not-found" }, { 405, "amqp:not-allowed" },
		{ 409, "com.microsoft:device-already-exists" }, { 412, "com.microsoft:precondition-failed" },
		{ 413, "amqp:link:message-size-exceeded" }, { 429, "com.microsoft:device-container-throttled" },
		{ 503, "com.microsoft:timeout" }, { 504, "com.microsoft:timeout" },
	};
	const char *condition = err->http_status < 500 ? "amqp:not-allowed" : "amqp:internal-error";

	for (size_t i = 0; i < HF_ARRAY_LEN(rows); i++)
		if (rows[i].http == err->http_status)
			condition = rows[i].condition;
	hub_amqp_reject(l, d, condition, err->message);
}
