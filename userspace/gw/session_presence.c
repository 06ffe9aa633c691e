/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/session_presence.c - what upstream is told of a child: that it is here, with which subscriptions, and that it left.
 *
 * One notice of a session is on its way at most, and it is part of the session: so it needs no memory, and a child that
 * changes its subscriptions all the time makes no pile. What changed meanwhile is told next. */
#include "core/util.h"
#include "gw/session.h"
#include <stdlib.h>

static void on_told(struct hf_presence *p);

static void tell(struct hf_session *s, bool connected)
{
	s->presence_busy = true;
	s->presence_again = false;
	s->presence = (struct hf_presence){
		.reply_to = s->w->inbox, .done = on_told, .ident = s->ident, .connected = connected,
		.subs = connected ? hf_session_sub_bits(s) : 0, .client_type = s->client_type ? s->client_type : "",
		.model_id = s->model_id ? s->model_id : "",
	};
	hf_upstream_presence(s->w->gw->up, &s->presence);
}

static void on_told(struct hf_presence *p)
{
	struct hf_session *s = hf_container_of(p, struct hf_session, presence);

	s->presence_busy = false;
	if (s->presence_again && s->claimed && s->state == HF_S_UP)
		tell(s, true);
	hf_session_settle(s);
}

void hf_session_here(struct hf_session *s)
{
	if (s->presence_busy)
		s->presence_again = true;
	else
		tell(s, true);
}

void hf_session_left(struct hf_session *s)
{
	assert(!s->presence_busy);
	tell(s, false);
}

/* --- without a session --------------------------------------------------------------------------------------- */
struct farewell {
	struct hf_presence p;
	char ident[];
};

static void on_farewell(struct hf_presence *p)
{
	free(hf_container_of(p, struct farewell, p));
}

void hf_session_left_unseen(struct hf_worker *w, const char *ident)
{
	size_t n = strlen(ident) + 1;
	struct farewell *f = calloc(1, sizeof *f + n);

	if (!f) {
		hf_metric_add(HF_M_NO_MEMORY, 1);
		return;
	}
	memcpy(f->ident, ident, n);
	f->p = (struct hf_presence){ .reply_to = w->inbox, .done = on_farewell, .ident = f->ident, .client_type = "", .model_id = "" };
	hf_upstream_presence(w->gw->up, &f->p);
}
