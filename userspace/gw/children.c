/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/children.c - requests that visit every worker in turn: list, show, disconnect, cut off. */
#include "core/log.h"
#include "core/util.h"
#include "gw/session.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdlib.h>

#define EXPIRY_SHOWN_MAX 253402300799	/* the end of year 9999: tokens may say anything */

static json_t *subs_json(const struct hf_subs *subs)
{
	json_t *list = json_array();
	struct hf_span f;
	size_t pos = 0;
	uint8_t qos;

	while (hf_subs_next(subs, &pos, &f, &qos))
		json_array_append_new(list, json_stringn((const char *)f.ptr, f.len));
	return list;
}

static json_t *time_json(int64_t wall_ms)
{
	char text[32];

	if (!wall_ms)
		return json_null();
	hf_iso8601(wall_ms, text);
	return json_string(text);
}

json_t *hf_session_json(const struct hf_session *s)
{
	const struct hf_tls *tls = s->conn ? hf_conn_tls(s->conn) : NULL;

	return json_pack("{s:s, s:b, s:i, s:s, s:o, s:o, s:s, s:s, s:i, s:I, s:s, s:o, s:b}",
			 "id", s->ident, "connected", s->conn != NULL, "worker", (int)s->w->index,
			 "peer", s->conn ? hf_conn_peer(s->conn) : "", "connectedAt", time_json(s->connected_wall_ms),
			 "subscriptions", subs_json(s->subs), "tls", tls ? hf_tls_version(tls) : "none",
			 "cipher", tls ? hf_tls_cipher(tls) : "none", "inflight", (int)(s->fifo_n + s->n_down_out),
			 "accepted", (json_int_t)s->accepted, "auth", s->token_len ? "sas" : "x509",
			 "expires", time_json(hf_min(s->expiry_s, (int64_t)EXPIRY_SHOWN_MAX) * 1000), "cleanSession", (int)s->clean);
}

static void add_item(struct hf_gw_children_query *q, json_t *item)
{
	if (item)
		json_array_append_new(q->items, item);
}

static void visit(struct hf_worker *w, struct hf_gw_children_query *q)
{
	struct hf_list *pos, *tmp;

	hf_list_for_each_safe(pos, tmp, &w->sessions)
	{
		struct hf_session *s = hf_container_of(pos, struct hf_session, node);

		if (s->state != HF_S_UP || (q->ident[0] && strcmp(q->ident, s->ident) != 0))
			continue;
		add_item(q, hf_session_json(s));
		if (q->disconnect && q->ident[0])
			hf_session_end(s, HF_END_OPERATOR, NULL);
	}
}

/* The home worker knows a stored session of somebody who is away. It is visited last, so that it can tell. */
static void visit_stored(struct hf_worker *home, struct hf_gw_children_query *q)
{
	const struct hf_subs *subs = hf_dir_stored(&home->dir, q->ident);

	if (!json_array_size(q->items) && !q->disconnect && subs)
		add_item(q, json_pack("{s:s, s:b, s:o}", "id", q->ident, "connected", 0, "subscriptions",
				      subs_json(subs)));
}

static void query_answer(struct hf_mail *mail)
{
	struct hf_gw_children_query *q = hf_container_of(mail, struct hf_gw_children_query, mail);

	q->done(q);
}

static void query_stored(struct hf_mail *mail)
{
	struct hf_gw_children_query *q = hf_container_of(mail, struct hf_gw_children_query, mail);

	visit_stored(hf_gw_home(q->gw, q->ident), q);
	mail->fn = query_answer;
	hf_inbox_post(q->reply_to, mail);
}

static void query_step(struct hf_mail *mail)
{
	struct hf_gw_children_query *q = hf_container_of(mail, struct hf_gw_children_query, mail);
	struct hf_gw *gw = q->gw;

	visit(gw->workers[q->at], q);
	if (++q->at < gw->n_workers) {
		hf_inbox_post(gw->workers[q->at]->urgent, mail);
	} else if (q->ident[0]) {
		mail->fn = query_stored;
		hf_inbox_post(hf_gw_home(gw, q->ident)->urgent, mail);
	} else {
		mail->fn = query_answer;
		hf_inbox_post(q->reply_to, mail);
	}
}

void hf_gw_children(struct hf_gw *gw, struct hf_gw_children_query *q)
{
	q->gw = gw;
	q->at = 0;
	q->items = json_array();
	q->mail.fn = query_step;
	hf_inbox_post(gw->workers[0]->urgent, &q->mail);
}

/* --- cut off ------------------------------------------------------------------------------------------------ */
struct cut {
	struct hf_mail mail;
	struct hf_gw *gw;
	unsigned at;
	const char *why;	/* behind ident */
	char ident[];
};

static void cut_step(struct hf_mail *mail)
{
	struct cut *c = hf_container_of(mail, struct cut, mail);
	struct hf_session *s = hf_map_get(c->gw->workers[c->at]->by_ident, hf_span_str(c->ident));

	if (s)
		hf_session_end(s, HF_END_CUT_OFF, c->why);
	if (++c->at < c->gw->n_workers)
		hf_inbox_post(c->gw->workers[c->at]->urgent, mail);
	else
		free(c);
}

void hf_gw_cut_off(void *arg, const char *ident, const char *why)
{
	size_t n = strlen(ident) + 1, m = strlen(why) + 1;
	struct cut *c = calloc(1, sizeof *c + n + m);

	if (!c) {	/* the new snapshot and the periodic check end it as well */
		hf_metric_add(HF_M_NO_MEMORY, 1);
		return;
	}
	memcpy(c->ident, ident, n);
	memcpy(c->ident + n, why, m);
	c->why = c->ident + n;
	c->gw = arg;
	c->mail.fn = cut_step;
	hf_inbox_post(c->gw->workers[0]->urgent, &c->mail);
}
