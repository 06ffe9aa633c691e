/* SPDX-License-Identifier: GPL-3.0-or-later */
/* queue show | peek; upstream show | reconnect. */
#include "core/list.h"
#include "core/util.h"
#include "ctl/ctl_int.h"
#include <stdio.h>

#define CLASS_DEFAULT 10

static void on_row(void *arg, const char *child, const struct hf_ledger *l)
{
	json_t *o = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "child", child, "accepted", (json_int_t)l->accepted,
			      "delivered", (json_int_t)l->delivered, "expired", (json_int_t)l->expired, "evicted",
			      (json_int_t)l->evicted, "refused", (json_int_t)l->refused, "purged", (json_int_t)l->purged, "pending",
			      (json_int_t)l->pending, "pendingBytes", (json_int_t)l->pending_bytes);

	hf_ctl_item(arg, o);
}

void hf_cmd_queue_show(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hf_ctl *ctl = arg;

	(void)args;
	if (hf_store_ledger(ctl->cfg.store, on_row, call) != 0)
		hf_ctl_fail(call, "failed", "the ledger cannot be read");
	else
		hf_ctl_ok(call);
}

/* --- peek: in steps of a loop turn each, so that a child deep in the backlog is found while all else goes on ------ */
struct peek {
	struct hf_ctl *ctl;
	struct hf_ctl_call *call;
	struct hf_task task;
	char *child;			/* NULL = any */
	uint64_t from;
	unsigned left;
	bool full, gone;		/* the client reads slowly; has left */
};

static bool wants(void *arg, uint32_t child, uint64_t seq)
{
	const struct peek *p = arg;
	const char *name = hf_store_child_name(p->ctl->cfg.store, child);

	(void)seq;
	return !p->child || (name && strcmp(name, p->child) == 0);
}

static void on_record(void *arg, struct hf_record *rec)
{
	struct peek *p = arg;
	hf_autobuf struct hf_buf body = HF_BUF_INIT(1u << 20);
	struct hf_span props = hf_msg_props(rec->msg), from = hf_msg_from(rec->msg);

	hf_b64_encode(hf_msg_body(rec->msg), &body);
	p->full = !hf_ctl_item(p->call, json_pack("{s:I, s:s%, s:I, s:I, s:s%, s:s}", "sequence", (json_int_t)rec->seq, "child",
				       (const char *)from.ptr, from.len, "ageMs",
				       (json_int_t)(hf_store_now_ms(p->ctl->cfg.store) - rec->accepted_ms), "expiresInMs",
				       rec->expiry_ms ? (json_int_t)(rec->expiry_ms - hf_store_now_ms(p->ctl->cfg.store)) : (json_int_t)-1,
				       "properties", props.len ? (const char *)props.ptr : "", props.len, "bodyBase64",
				       hf_buf_cstr(&body)));
	p->left--;
	hf_msg_unref(&rec->msg);
}

static void peek_end(struct peek *p, int err)
{
	if (err)
		hf_ctl_fail(p->call, "failed", "the queue cannot be read");
	else
		hf_ctl_ok(p->call);
	p->ctl->n_waiting--;
	free(p->child);
	free(p);
}

static void peek_step(void *arg)
{
	struct peek *p = arg;
	const struct hf_store_reader reader = { wants, on_record, p };
	int r = 0;

	if (!p->gone)
		r = hf_store_read(p->ctl->cfg.store, CLASS_DEFAULT, p->from, UINT64_MAX, p->left, &reader, &p->from);
	if (p->gone || r != 0 || p->left == 0 || p->from == UINT64_MAX)
		peek_end(p, r);
	else if (!p->full)
		hf_task_next_turn(p->ctl->cfg.loop, &p->task);
}

static void peek_go_on(void *arg)
{
	struct peek *p = arg;

	p->full = false;
	hf_task_next_turn(p->ctl->cfg.loop, &p->task);
}

static void peek_gone(void *arg)
{
	struct peek *p = arg;

	p->gone = true;
	hf_task_next_turn(p->ctl->cfg.loop, &p->task);
}

void hf_cmd_queue_peek(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hf_ctl *ctl = arg;
	const char *child = hf_ctl_arg(args, "id");
	json_t *max = json_object_get(args, "max");
	json_int_t n = max ? json_integer_value(max) : 10;
	struct peek *p;

	if (n < 1 || n > 1000) {
		hf_ctl_fail(call, "invalid", "max is 1 to 1000");
		return;
	}
	p = calloc(1, sizeof *p);
	if (p && child && !(p->child = strdup(child))) {
		free(p);
		p = NULL;
	}
	if (!p) {
		hf_ctl_fail(call, "failed", "out of memory");
		return;
	}
	p->ctl = ctl;
	p->call = call;
	p->left = (unsigned)n;
	hf_task_init(&p->task, peek_step, p);
	hf_ctl_on_drain(call, peek_go_on, p);
	hf_ctl_on_gone(call, peek_gone, p);
	ctl->n_waiting++;
	peek_step(p);
}

struct show_call {
	struct hf_upstream_show show;
	struct hf_ctl *ctl;
	struct hf_ctl_call *call;
};

static void on_shown(struct hf_upstream_show *show)
{
	struct show_call *s = hf_container_of(show, struct show_call, show);

	json_object_set(show->result, "scopeIdentities", json_object_get(json_object_get(show->result, "scope"), "identities"));
	hf_ctl_item(s->call, show->result);
	hf_ctl_ok(s->call);
	s->ctl->n_waiting--;
	free(s);
}

void hf_cmd_upstream_show(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hf_ctl *ctl = arg;
	struct show_call *s = calloc(1, sizeof *s);

	(void)args;
	if (!s) {
		hf_ctl_fail(call, "failed", "out of memory");
		return;
	}
	s->ctl = ctl;
	s->call = call;
	s->show.reply_to = ctl->cfg.inbox;
	s->show.done = on_shown;
	ctl->n_waiting++;
	hf_upstream_show(ctl->cfg.up, &s->show);
}

void hf_cmd_upstream_reconnect(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hf_ctl *ctl = arg;

	(void)args;
	hf_upstream_reconnect(ctl->cfg.up);
	hf_ctl_ok(call);
}
