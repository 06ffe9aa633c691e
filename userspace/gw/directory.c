/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/directory.c - claim, release, takeover; stored filters; forwarding of downlinks to the owner. */
#include "gw/directory.h"
#include "core/log.h"
#include "core/util.h"
#include "gw/worker.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdlib.h>

enum {
	RAPID_WINDOW_MS = 10000,	/* takeovers closer than this are an alternation */
	RAPID_FREE = 3,			/* so many go through undelayed */
	RAPID_STEP_MS = 250, RAPID_MAX_MS = 1500,
	FULL_DAMP_MS = 1000,		/* after a close for a full store */
};

struct entry {
	struct hf_list delayed;
	struct hf_worker *owner;	/* NULL = nobody */
	uint64_t sid;			/* of the owner's session */
	struct hf_dir_mail *pending;	/* the claim that waits, at most one */
	struct hf_subs *subs;		/* of the stored session, NULL = none */
	uint64_t last_takeover_ms, not_before_ms;
	unsigned rapid;
	bool releasing;
	char ident[];
};

struct hf_dir_mail *hf_dir_mail_new(struct hf_worker *from, void *claimant, uint64_t sid, const char *ident)
{
	size_t n = strlen(ident) + 1;
	struct hf_dir_mail *m = calloc(1, sizeof *m + n);

	if (!m)
		return NULL;
	m->from = from;
	m->claimant = claimant;
	m->sid = sid;
	memcpy(m->ident, ident, n);
	return m;
}

void hf_dir_mail_free(struct hf_dir_mail *m)
{
	if (!m)
		return;
	free(m->subs);
	free(m);
}

static void send_to(struct hf_dir_mail *m, struct hf_worker *to, void (*fn)(struct hf_mail *mail))
{
	m->at = to;
	m->mail.fn = fn;
	hf_inbox_post(to->urgent, &m->mail);
}

static struct entry *find(const struct hf_dir *dir, const char *ident)
{
	return hf_map_get(dir->entries, hf_span_str(ident));
}

static struct entry *find_or_add(struct hf_dir *dir, const char *ident)
{
	struct entry *e = find(dir, ident);
	size_t n = strlen(ident) + 1;

	if (e)
		return e;
	e = calloc(1, sizeof *e + n);
	if (!e)
		return NULL;
	hf_list_init(&e->delayed);
	memcpy(e->ident, ident, n);
	if (hf_map_put(dir->entries, hf_span_str(ident), e)) {
		free(e);
		return NULL;
	}
	return e;
}

static void drop_if_idle(struct hf_dir *dir, struct entry *e, uint64_t now_ms)
{
	if (e->owner || e->pending || e->subs || now_ms < e->not_before_ms || e->rapid)
		return;
	hf_map_remove(dir->entries, hf_span_str(e->ident));
	hf_list_del(&e->delayed);
	free(e);
}

int hf_dir_init(struct hf_dir *dir, const struct hf_dir_ops *ops)
{
	dir->ops = ops;
	hf_list_init(&dir->delayed);
	return hf_map_create(&dir->entries);
}

void hf_dir_fini(struct hf_dir *dir)
{
	struct hf_span key;
	void *value;
	size_t pos = 0;

	while (dir->entries && hf_map_next(dir->entries, &pos, &key, &value)) {
		struct entry *e = value;

		hf_dir_mail_free(e->pending);
		free(e->subs);
		free(e);
	}
	hf_map_destroy(&dir->entries);
}

int hf_dir_load(struct hf_dir *dir, const char *ident, struct hf_subs *subs)
{
	struct entry *e = find_or_add(dir, ident);

	if (!e)
		return -ENOMEM;
	free(e->subs);
	e->subs = subs;
	return 0;
}

const struct hf_subs *hf_dir_stored(const struct hf_dir *dir, const char *ident)
{
	const struct entry *e = find(dir, ident);

	return e ? e->subs : NULL;
}

/* --- stored session of a clean connect ----------------------------------------------------------- */
struct forget {
	struct hf_store_state req;
	struct hf_state_op op;
	char key[];
};

static void forget_done(struct hf_store_state *req)
{
	free(hf_container_of(req, struct forget, req));
}

/* Clean session: the stored one ends. Failure leaves it on disk; then a later restart shows it again, which
 * costs a subscription too many and no message. */
static void forget_stored(struct hf_worker *home, struct entry *e)
{
	size_t n = strlen(e->ident);
	struct forget *f = calloc(1, sizeof *f + n + 1);

	free(hf_take(e->subs));
	if (!f) {
		hf_metric_add(HF_M_NO_MEMORY, 1);
		return;
	}
	memcpy(f->key, e->ident, n);
	f->op = (struct hf_state_op){ .table = HF_STATE_SESS, .key = hf_span(f->key, n) };
	f->req.done = forget_done;
	f->req.ops = &f->op;
	f->req.n = 1;
	hf_store_state(home->gw->store, &f->req);
}

/* --- claim, takeover -------------------------------------------------------------------------------- */
static void on_granted(struct hf_mail *mail)
{
	struct hf_dir_mail *ticket = hf_container_of(mail, struct hf_dir_mail, mail);

	ticket->at->dir.ops->granted(ticket);
}

static void on_refused(struct hf_mail *mail)
{
	struct hf_dir_mail *ticket = hf_container_of(mail, struct hf_dir_mail, mail);

	ticket->at->dir.ops->refused(ticket);
}

static void on_release(struct hf_mail *mail)
{
	struct hf_dir_mail *release = hf_container_of(mail, struct hf_dir_mail, mail);

	release->at->dir.ops->release(release);
}

static void refuse(struct hf_dir_mail *claim, int err)
{
	claim->err = err;
	send_to(claim, claim->from, on_refused);
}

static void grant(struct hf_worker *home, struct entry *e)
{
	struct hf_dir_mail *c = hf_take(e->pending);

	hf_list_del(&e->delayed);
	if (c->clean && e->subs)
		forget_stored(home, e);
	if (!c->clean && e->subs) {
		c->subs = hf_subs_dup(e->subs);
		if (!c->subs) {
			refuse(c, -ENOMEM);
			return;
		}
	}
	e->owner = c->from;
	e->sid = c->sid;
	c->err = 0;
	send_to(c, c->from, on_granted);
}

/* Takes the pending claim as far as it can go now. */
static void progress(struct hf_worker *home, struct entry *e, uint64_t now_ms)
{
	struct hf_dir_mail *rel;

	if (!e->pending || e->releasing)
		return;
	if (now_ms < e->not_before_ms) {
		if (!hf_list_linked(&e->delayed))
			hf_list_add_tail(&home->dir.delayed, &e->delayed);
		return;
	}
	if (!e->owner) {
		grant(home, e);
		return;
	}
	hf_list_del(&e->delayed);
	rel = hf_dir_mail_new(home, NULL, e->sid, e->ident);
	if (!rel) {
		refuse(hf_take(e->pending), -ENOMEM);
		return;
	}
	e->releasing = true;
	send_to(rel, e->owner, on_release);
}

static void note_takeover(struct entry *e, uint64_t now_ms)
{
	static struct hf_log_limit limit;
	uint64_t delay;

	hf_metric_add(HF_M_TAKEOVER, 1);
	e->rapid = e->last_takeover_ms && now_ms - e->last_takeover_ms < RAPID_WINDOW_MS ? e->rapid + 1 : 0;
	e->last_takeover_ms = now_ms;
	if (e->rapid < RAPID_FREE)
		return;
	delay = hf_min((uint64_t)(e->rapid - RAPID_FREE + 1) * RAPID_STEP_MS, (uint64_t)RAPID_MAX_MS);
	e->not_before_ms = now_ms + delay;
	hf_metric_add(HF_M_TAKEOVER_DAMPED, 1);
	hf_log_limited(&limit, HF_LOG_WARN, "child.takeover.rapid",
		       "%s: connections replace each other (%u in a row); the next one waits %u ms", e->ident,
		       e->rapid, (unsigned)delay);
}

static void on_claim(struct hf_mail *mail)
{
	struct hf_dir_mail *c = hf_container_of(mail, struct hf_dir_mail, mail);
	struct hf_worker *home = c->at;
	struct entry *e = find_or_add(&home->dir, c->ident);
	uint64_t now = hf_loop_now_ms(home->loop);

	if (!e) {
		hf_metric_add(HF_M_NO_MEMORY, 1);
		refuse(c, -ENOMEM);
		return;
	}
	if (e->pending)
		refuse(e->pending, HF_ESTALE);
	e->pending = c;
	if (e->owner && !e->releasing)
		note_takeover(e, now);
	progress(home, e, now);
}

static void on_gone(struct hf_mail *mail)
{
	struct hf_dir_mail *t = hf_container_of(mail, struct hf_dir_mail, mail);
	struct hf_worker *home = t->at;
	struct entry *e = find(&home->dir, t->ident);
	uint64_t now = hf_loop_now_ms(home->loop);

	if (e && e->owner == t->from && e->sid == t->sid) {
		e->owner = NULL;
		if (t->damp)
			e->not_before_ms = now + FULL_DAMP_MS;
		progress(home, e, now);
		drop_if_idle(&home->dir, e, now);
	}
	hf_dir_mail_free(t);
}

static void on_released(struct hf_mail *mail)
{
	struct hf_dir_mail *rel = hf_container_of(mail, struct hf_dir_mail, mail);
	struct hf_worker *home = rel->at;
	struct entry *e = find(&home->dir, rel->ident);

	if (e) {
		e->releasing = false;
		if (e->sid == rel->sid)
			e->owner = NULL;
		progress(home, e, hf_loop_now_ms(home->loop));
	}
	hf_dir_mail_free(rel);
}

static void on_subs_changed(struct hf_mail *mail)
{
	struct hf_dir_mail *m = hf_container_of(mail, struct hf_dir_mail, mail);
	struct entry *e = find(&m->at->dir, m->ident);

	if (e && e->sid == m->sid) {
		free(e->subs);
		e->subs = hf_take(m->subs);
	}
	hf_dir_mail_free(m);
}

void hf_dir_sweep(struct hf_worker *home, uint64_t now_ms)
{
	struct hf_list *pos, *tmp;

	hf_list_for_each_safe(pos, tmp, &home->dir.delayed)
	{
		struct entry *e = hf_container_of(pos, struct entry, delayed);

		if (now_ms >= e->not_before_ms)
			progress(home, e, now_ms);
	}
}

void hf_dir_claim(struct hf_dir_mail *ticket)
{
	send_to(ticket, hf_gw_home(ticket->from->gw, ticket->ident), on_claim);
}

void hf_dir_gone(struct hf_dir_mail *ticket)
{
	send_to(ticket, hf_gw_home(ticket->from->gw, ticket->ident), on_gone);
}

void hf_dir_released(struct hf_dir_mail *release)
{
	send_to(release, release->from, on_released);
}

void hf_dir_subs_changed(struct hf_dir_mail *m)
{
	send_to(m, hf_gw_home(m->from->gw, m->ident), on_subs_changed);
}

/* --- downlinks ---------------------------------------------------------------------------------------- */
static void run_done(struct hf_mail *mail)
{
	struct hf_down *down = hf_container_of(mail, struct hf_down, mail);

	down->done(down);
}

static void answer_down(struct hf_down *down, int result)
{
	hf_metric_add(result ? HF_M_DOWN_FAILED : HF_M_DOWN_SENT, 1);
	down->result = result;
	down->mail.fn = run_done;
	hf_inbox_post(down->reply_to, &down->mail);
}

void hf_down_finish(struct hf_down_job *job, int result)
{
	answer_down(job->down, result);
	free(job);
}

static void down_at_owner(struct hf_mail *mail)
{
	struct hf_down_job *job = hf_container_of(mail, struct hf_down_job, mail);

	job->at->dir.ops->down(job);
}

static void down_at_home(struct hf_mail *mail)
{
	struct hf_down_job *job = hf_container_of(mail, struct hf_down_job, mail);
	const struct entry *e = find(&job->at->dir, job->down->ident);

	if (!e || !e->owner) {
		hf_down_finish(job, HF_ENOTFOUND);
	} else if (e->owner == job->at) {
		down_at_owner(mail);
	} else {
		job->at = e->owner;
		mail->fn = down_at_owner;
		/* Urgent like the grant before it, so that it cannot arrive ahead of that. */
		hf_inbox_post(e->owner->urgent, mail);
	}
}

void hf_gw_to_child(void *arg, struct hf_down *down)
{
	struct hf_gw *gw = arg;
	struct hf_down_job *job = calloc(1, sizeof *job);

	if (!job) {
		hf_metric_add(HF_M_NO_MEMORY, 1);
		answer_down(down, -ENOMEM);
		return;
	}
	hf_list_init(&job->node);
	job->down = down;
	job->at = hf_gw_home(gw, down->ident);
	job->mail.fn = down_at_home;
	hf_inbox_post(job->at->urgent, &job->mail);
}
