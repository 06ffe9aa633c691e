/* SPDX-License-Identifier: GPL-3.0-or-later */
/* children list | show | disconnect. */
#include "core/list.h"
#include "core/util.h"
#include "ctl/ctl_int.h"
#include <stdio.h>

enum verb { LIST, SHOW, DISCONNECT };
struct children_call {
	struct hf_gw_children_query q;
	struct hf_ctl *ctl;
	struct hf_ctl_call *call;
	enum verb verb;
	json_t *ledger;		/* of the one child */
};

static void on_row(void *arg, const char *child, const struct hf_ledger *l)
{
	struct children_call *c = arg;

	if (strcmp(child, c->q.ident) == 0)
		c->ledger = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "accepted", (json_int_t)l->accepted, "delivered",
				      (json_int_t)l->delivered, "expired", (json_int_t)l->expired, "evicted", (json_int_t)l->evicted,
				      "refused", (json_int_t)l->refused, "pending", (json_int_t)l->pending);
}

static void on_done(struct hf_gw_children_query *q)
{
	struct children_call *c = hf_container_of(q, struct children_call, q);
	json_t *item;
	size_t i;

	if (c->verb == SHOW)
		hf_store_ledger(c->ctl->cfg.store, on_row, c);
	json_array_foreach(q->items, i, item) {
		if (c->ledger)
			json_object_set(item, "ledger", c->ledger);
		hf_ctl_item(c->call, json_incref(item));
	}
	if (c->verb != LIST && json_array_size(q->items) == 0 && !c->ledger) {
		hf_ctl_fail(c->call, "not-found", "\"%s\" is not connected", q->ident);
	} else {
		if (json_array_size(q->items) == 0 && c->ledger)
			hf_ctl_item(c->call, json_pack("{s:s, s:b, s:O}", "id", q->ident, "connected", 0, "ledger", c->ledger));
		hf_ctl_ok(c->call);
	}
	json_decref(c->ledger);
	json_decref(q->items);
	c->ctl->n_waiting--;
	free(c);
}

static void start(struct hf_ctl *ctl, struct hf_ctl_call *call, const json_t *args, enum verb verb)
{
	const char *ident = hf_ctl_arg(args, "id");
	struct children_call *c;

	if (verb != LIST && (!ident || !*ident || strlen(ident) > HF_IDENT_MAX)) {
		hf_ctl_fail(call, "invalid", "name the child: DEVICE or DEVICE/MODULE");
		return;
	}
	c = calloc(1, sizeof *c);
	if (!c) {
		hf_ctl_fail(call, "failed", "out of memory");
		return;
	}
	c->ctl = ctl;
	c->call = call;
	c->verb = verb;
	c->q.reply_to = ctl->cfg.inbox;
	c->q.done = on_done;
	c->q.disconnect = verb == DISCONNECT;
	if (verb != LIST)
		snprintf(c->q.ident, sizeof c->q.ident, "%s", ident);
	ctl->n_waiting++;
	hf_gw_children(ctl->cfg.gw, &c->q);
}

void hf_cmd_children_list(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	start(arg, call, args, LIST);
}

void hf_cmd_children_show(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	start(arg, call, args, SHOW);
}

void hf_cmd_children_disconnect(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	start(arg, call, args, DISCONNECT);
}
