/* SPDX-License-Identifier: GPL-3.0-or-later */
/* When one identity is asked for again at the hub, and who waits for the answer (architecture 2, promise 5). Whoever
 * can reach a listener can fail a login, so what a refusal may cost the hub is bounded twice: by identity, with a
 * growing pause while the answer stays the same, and in total. Known and unknown identities have a budget each:
 * strangers with invented names do not use up what children with new keys need. */
#include "core/list.h"
#include "core/log.h"
#include "core/util.h"
#include "upstream/up_int.h"
#include <errno.h>
#include <stdio.h>

#define PAUSE_MIN_MS 2000
#define PAUSE_MAX_MS 16000
#define FORGET_MS 60000			/* an identity that nobody asked for meanwhile begins anew */
#define BUDGET 8			/* at once; then */
#define BUDGET_EVERY_MS 5000		/* one more each */

struct asked {
	struct hf_list node;		/* of the queue; empty when not queued */
	struct hf_list waiters;		/* struct hf_refresh */
	uint64_t at_ms;			/* of the last answer or failure */
	uint32_t pause_ms;
	bool fresh;			/* the hub answered it */
	bool pending;			/* queued or on the way */
	char ident[];
};
struct budget {
	unsigned left;
	uint64_t since_ms;
};
struct hf_refresher {
	struct hf_map *asked;		/* ident -> struct asked; as many as the budgets let in */
	struct hf_list queue;
	struct budget known, unknown;
};

static bool spend(struct budget *b, uint64_t now)
{
	uint64_t more = (now - b->since_ms) / BUDGET_EVERY_MS;

	b->left = (unsigned)hf_min(b->left + more, (uint64_t)BUDGET);
	b->since_ms += more * BUDGET_EVERY_MS;
	if (b->left == 0)
		return false;
	b->left--;
	return true;
}

static void on_reply(struct hf_mail *mail)
{
	struct hf_refresh *r = hf_container_of(mail, struct hf_refresh, mail);

	r->done(r);
}

static void reply(struct hf_refresh *r, enum hf_refresh_result result)
{
	if (!r)
		return;
	r->result = result;
	r->mail.fn = on_reply;
	hf_inbox_post(r->reply_to, &r->mail);
}

static void reply_all(struct asked *a, enum hf_refresh_result result)
{
	while (!hf_list_empty(&a->waiters)) {
		struct hf_refresh *r = hf_container_of(a->waiters.next, struct hf_refresh, node);

		hf_list_del(&r->node);
		reply(r, result);
	}
}

static struct asked *asked_new(struct hf_refresher *f, const char *ident)
{
	size_t n = strlen(ident) + 1;
	struct asked *a = calloc(1, sizeof *a + n);

	if (!a)
		return NULL;
	memcpy(a->ident, ident, n);
	a->pause_ms = PAUSE_MIN_MS;
	hf_list_init(&a->node);
	hf_list_init(&a->waiters);
	if (hf_map_put(f->asked, hf_span_str(ident), a) != 0) {
		free(a);
		return NULL;
	}
	return a;
}

void hf_refresh_ask(struct hf_upstream *up, const char *ident, struct hf_refresh *r)
{
	struct hf_refresher *f = up->refresher;
	struct asked *a = hf_map_get(f->asked, hf_span_str(ident));
	uint64_t now = hf_loop_now_ms(up->loop);

	if (up->stopping || !hf_link_online(up)) {
		reply(r, HF_REFRESH_OFFLINE);
		return;
	}
	if (a && a->pending) {
		if (r)
			hf_list_add_tail(&a->waiters, &r->node);
		return;
	}
	if (a && now - a->at_ms < a->pause_ms) {
		reply(r, a->fresh && now - a->at_ms < PAUSE_MIN_MS ? HF_REFRESH_FRESH : HF_REFRESH_LATER);
		return;
	}
	if (!spend(hf_scope_find(up->scope, hf_span_str(ident)) ? &f->known : &f->unknown, now) ||
	    (!a && !(a = asked_new(f, ident)))) {
		reply(r, HF_REFRESH_LATER);
		return;
	}
	a->pending = true;
	hf_list_add_tail(&f->queue, &a->node);
	if (r)
		hf_list_add_tail(&a->waiters, &r->node);
	hf_scope_sync_next(up);
}

bool hf_refresh_next(struct hf_upstream *up, char ret_ident[HF_IDENT_MAX + 1])
{
	struct hf_refresher *f = up->refresher;
	struct asked *a;

	if (hf_list_empty(&f->queue))
		return false;
	a = hf_container_of(f->queue.next, struct asked, node);
	hf_list_del(&a->node);
	snprintf(ret_ident, HF_IDENT_MAX + 1, "%s", a->ident);
	return true;
}

void hf_refresh_answered(struct hf_upstream *up, const char *ident, bool fresh, bool changed)
{
	struct asked *a = hf_map_get(up->refresher->asked, hf_span_str(ident));

	if (!a)
		return;
	a->pending = false;
	a->fresh = fresh;
	a->at_ms = hf_loop_now_ms(up->loop);
	reply_all(a, fresh ? HF_REFRESH_FRESH : HF_REFRESH_LATER);
	a->pause_ms = changed ? PAUSE_MIN_MS : hf_min(a->pause_ms * 2, (uint32_t)PAUSE_MAX_MS);
}

/* Offline nobody waits; and what nobody asked for lately is forgotten. */
void hf_refresh_tick(struct hf_upstream *up)
{
	struct hf_refresher *f = up->refresher;
	uint64_t now = hf_loop_now_ms(up->loop);
	struct hf_span key;
	size_t at = 0;
	void *v;

	while (hf_map_next(f->asked, &at, &key, &v)) {
		struct asked *a = v;

		if (!hf_link_online(up))
			reply_all(a, HF_REFRESH_OFFLINE);
		if (!a->pending && now - a->at_ms > FORGET_MS) {
			hf_map_remove(f->asked, key);
			free(a);
		}
	}
}

int hf_refresh_init(struct hf_upstream *up)
{
	struct hf_refresher *f = up->refresher = calloc(1, sizeof *f);

	if (!f)
		return -ENOMEM;
	hf_list_init(&f->queue);
	f->known.left = f->unknown.left = BUDGET;
	f->known.since_ms = f->unknown.since_ms = hf_loop_now_ms(up->loop);
	return hf_map_create(&f->asked);
}

void hf_refresh_fini(struct hf_upstream *up)
{
	struct hf_refresher *f = up->refresher;
	struct hf_span key;
	size_t at = 0;
	void *v;

	if (!f)
		return;
	while (f->asked && hf_map_next(f->asked, &at, &key, &v)) {
		reply_all(v, HF_REFRESH_OFFLINE);
		free(v);
	}
	hf_map_destroy(&f->asked);
	free(f);
	up->refresher = NULL;
}
