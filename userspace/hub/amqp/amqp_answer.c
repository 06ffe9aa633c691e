/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Answers of a connection: after the commit, and later than that where a fault rule wants it. */
#include "core/log.h"
#include "core/util.h"
#include "hub/amqp/amqp_int.h"

#include <errno.h>
#include <holdfast/err.h>

struct hub_amqp_answer {
	struct hf_list node;		/* conn->answers */
	struct hub_wait wait;
	struct hub_amqp_conn *conn;
	hub_amqp_answer_fn fn;
	uint32_t late_ms;
	max_align_t data[];
};

static void finish(struct hub_amqp_answer *a, int err)
{
	hf_list_del(&a->node);
	a->fn(a->conn, err, a->data);
	free(a);
}

static void on_late(void *arg, struct hf_span data)
{
	(void)data;
	finish(arg, 0);
}

static void on_committed(void *arg, int err)
{
	struct hub_amqp_answer *a = arg;

	if (err || !a->late_ms)
		finish(a, err);
	else if (hub_hold_add(&a->conn->hold, a->late_ms, false, on_late, a, hf_span(NULL, 0)) != 0)
		hub_amqp_cut_off(a->conn);
}

void hub_amqp_answer(struct hub_amqp_conn *c, uint32_t late_ms, hub_amqp_answer_fn fn, const void *data, size_t len)
{
	struct hub_amqp_answer *a = malloc(sizeof *a + len);

	if (!a) {
		fn(c, -ENOMEM, (void *)data);
		return;
	}
	*a = (struct hub_amqp_answer){ .conn = c, .fn = fn, .late_ms = late_ms };
	memcpy(a->data, data, len);
	hf_list_add_tail(&c->answers, &a->node);
	hub_commit_wait(c->head->model, &a->wait, on_committed, a);
}

void hub_amqp_answers_cancel(struct hub_amqp_conn *c)
{
	hub_hold_fini(&c->hold);
	while (!hf_list_empty(&c->answers)) {
		struct hub_amqp_answer *a = hf_container_of(c->answers.next, struct hub_amqp_answer, node);

		hub_wait_cancel(&a->wait);
		finish(a, -ECANCELED);
	}
}

/* --- settlement ---------------------------------------------------------------------------------------------------- */

struct settlement {
	struct hf_amqp_delivery *d;
	enum hf_amqp_outcome outcome;
	bool is_verdict;		/* of the peer: there is no bad answer to it */
	bool twice;
};

static void settle(struct hub_amqp_conn *c, int err, void *data)
{
	struct settlement *s = data;

	if (err == -ECANCELED || (err && s->is_verdict)) {
		hf_amqp_forget(s->d);
	} else if (err) {
		hf_amqp_settle(s->d, HF_AMQP_REJECTED, "amqp:internal-error", "not stored");
	} else if (s->twice) {
		/* A settled delivery cannot be answered again. Nearest to it: the same outcome twice, settled the second time. */
		hf_amqp_tell(s->d, s->outcome);
		s->twice = false;
		hub_amqp_answer(c, 1, settle, s, sizeof *s);
	} else {
		hf_amqp_settle(s->d, s->outcome, NULL, NULL);
	}
}

void hub_amqp_settle_committed(struct hub_amqp_conn *c, struct hf_amqp_delivery *d, enum hf_amqp_outcome outcome)
{
	struct settlement s = { .d = d, .outcome = outcome, .is_verdict = true };

	hub_amqp_answer(c, 0, settle, &s, sizeof s);
}

void hub_amqp_accept(struct hub_amqp_conn *c, struct hf_amqp_delivery *d, uint32_t late_ms, const struct hub_fault *fault)
{
	struct settlement s = { .d = d, .outcome = HF_AMQP_ACCEPTED, .twice = fault->action == HUB_DO_ACK_TWICE };

	if (fault->action == HUB_DO_ACK_NEVER)
		hf_amqp_forget(d);
	else
		hub_amqp_answer(c, late_ms + (fault->action == HUB_DO_ACK_LATE ? fault->ms : 0), settle, &s, sizeof s);
}

void hub_amqp_note_refusal(const struct hub_amqp_link *l, const char *condition, const char *why)
{
	static struct hf_log_limit limit;

	hf_metric_add(HUB_M_AMQP_REJECTED, 1);
	hf_log_limited(&limit, HF_LOG_NOTICE, "hub.amqp.rejected", "%s: %s link of \"%s\": %s: %s",
		       hf_conn_peer(hf_amqp_conn(l->conn->amqp)), l->kind->name, l->addr.ident, condition, why);
}

void hub_amqp_reject(struct hub_amqp_link *l, struct hf_amqp_delivery *d, int http_status, const char *why)
{
	const char *condition = hub_amqp_condition(http_status);

	hub_amqp_note_refusal(l, condition, why);
	hf_amqp_settle(d, HF_AMQP_REJECTED, condition, why);
}

void hub_amqp_post(struct hub_amqp_link *l, const struct hf_amqp_msg *msg)
{
	static struct hf_log_limit limit;
	int r = hf_amqp_post(l->link, msg);

	if (r == 0)
		return;
	hf_metric_add(HUB_M_AMQP_UNSENT, 1);
	hf_log_limited(&limit, HF_LOG_NOTICE, "hub.amqp.unsent", "%s: %s link of \"%s\": %s", hf_conn_peer(hf_amqp_conn(l->conn->amqp)),
		       l->kind->name, l->addr.ident, r == HF_EFULL ? "the peer gives no credit" : hf_strerror(r));
}
