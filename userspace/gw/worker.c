/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/worker.c - life of a child-facing thread. */
#include "gw/worker.h"
#include "core/log.h"
#include "gw/session.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { STOP_LIMIT_MS = 4000 };

/* --- swapped snapshots -------------------------------------------------------------------------------- */
static void take_scope(struct hf_worker *w)
{
	struct hf_scope *next = atomic_exchange(&w->next_scope, NULL), *old;

	if (!next)
		return;
	old = w->scope;
	w->scope = next;
	hf_session_scope_swapped(w, old);
	hf_scope_unref(&old);
}

static void on_swap(struct hf_mail *mail)
{
	struct hf_worker *w = hf_container_of(mail, struct hf_worker, swap_mail);
	struct hf_tls_ctx *tls;

	/* Before the takes: an offer that comes now posts again. */
	atomic_store(&w->swap_posted, false);
	tls = atomic_exchange(&w->next_tls, NULL);
	if (tls) {
		hf_tls_ctx_unref(&w->tls);
		w->tls = tls;
	}
	take_scope(w);
}

static void post_swap(struct hf_worker *w)
{
	if (!atomic_exchange(&w->swap_posted, true))
		hf_inbox_post(w->urgent, &w->swap_mail);
}

void hf_worker_offer_scope(struct hf_worker *w, struct hf_scope *scope)
{
	struct hf_scope *old = atomic_exchange(&w->next_scope, hf_scope_ref(scope));

	hf_scope_unref(&old);
	post_swap(w);
}

void hf_worker_offer_tls(struct hf_worker *w, struct hf_tls_ctx *tls)
{
	struct hf_tls_ctx *old = atomic_exchange(&w->next_tls, hf_tls_ctx_ref(tls));

	if (old)
		hf_tls_ctx_unref(&old);
	post_swap(w);
}

/* --- connections that have to give way -------------------------------------------------------------------- */
static void on_door(struct hf_mail *mail)
{
	struct hf_worker *w = hf_container_of(mail, struct hf_worker, door_mail);
	struct hf_admit_seat *seat;

	atomic_store(&w->door_posted, false);	/* before the look: what is told now posts again */
	while ((seat = hf_admit_next_leaving(w->gw->admit, &w->door)))
		hf_session_end(hf_container_of(seat, struct hf_session, seat), HF_END_GAVE_WAY, NULL);
}

static void tell_door(struct hf_admit_door *door)
{
	struct hf_worker *w = hf_container_of(door, struct hf_worker, door);

	if (!atomic_exchange(&w->door_posted, true))
		hf_inbox_post(w->urgent, &w->door_mail);
}

/* --- sweep, stop ---------------------------------------------------------------------------------------- */
static void on_sweep(void *arg)
{
	struct hf_worker *w = arg;
	uint64_t now = hf_loop_now_ms(w->loop);
	struct hf_list *pos, *tmp;

	hf_dir_sweep(w, now);
	hf_list_for_each_safe(pos, tmp, &w->sessions)
		hf_session_sweep(hf_container_of(pos, struct hf_session, node), now);
}

void hf_worker_check_quiet(struct hf_worker *w)
{
	if (!w->stopping || w->quiet || !hf_list_empty(&w->sessions))
		return;
	w->quiet = true;
	pthread_mutex_lock(&w->gw->lock);
	w->gw->n_quiet++;
	pthread_cond_signal(&w->gw->cond);
	pthread_mutex_unlock(&w->gw->lock);
}

static void close_listeners(struct hf_worker *w)
{
	for (unsigned i = 0; i < w->n_listeners; i++)
		hf_listener_destroy(&w->listeners[i]);
	free(w->listeners);
	w->listeners = NULL;
	w->n_listeners = 0;
}

static void on_stop(struct hf_mail *mail)
{
	struct hf_worker *w = hf_container_of(mail, struct hf_worker, stop_mail);
	struct hf_list *pos, *tmp;

	w->stopping = true;
	w->stop_at_ms = hf_loop_now_ms(w->loop) + STOP_LIMIT_MS;
	close_listeners(w);
	hf_list_for_each_safe(pos, tmp, &w->sessions)
		hf_session_stop(hf_container_of(pos, struct hf_session, node));
	hf_worker_check_quiet(w);
}

static void on_exit_mail(struct hf_mail *mail)
{
	hf_loop_stop(hf_container_of(mail, struct hf_worker, exit_mail)->loop);
}

void hf_worker_stop(struct hf_worker *w)
{
	hf_inbox_post(w->urgent, &w->stop_mail);
}

/* --- life ------------------------------------------------------------------------------------------------- */
int hf_worker_create(struct hf_gw *gw, unsigned index, struct hf_worker **ret_w)
{
	struct hf_worker *w = calloc(1, sizeof *w);
	int err;

	if (!w)
		return -ENOMEM;
	w->gw = gw;
	w->index = index;
	w->next_sid = 1;
	w->bag = HF_BUF_INIT(4 * HF_MSG_MAX_SIZE);
	hf_list_init(&w->sessions);
	hf_session_init_credits(w);
	hf_admit_door_init(&w->door, tell_door);
	w->swap_mail.fn = on_swap;
	w->door_mail.fn = on_door;
	w->stop_mail.fn = on_stop;
	w->exit_mail.fn = on_exit_mail;
	err = hf_loop_create(&w->loop);
	if (!err)
		err = hf_inbox_create(w->loop, false, &w->inbox);
	if (!err)
		err = hf_inbox_create(w->loop, true, &w->urgent);
	if (!err)
		err = hf_timer_create(w->loop, on_sweep, w, &w->sweep);
	if (!err)
		err = hf_map_create(&w->by_ident);
	if (!err)
		err = hf_dir_init(&w->dir, &hf_session_dir_ops);
	if (err) {
		hf_worker_destroy(&w);
		return err;
	}
	hf_timer_start(w->sweep, HF_SWEEP_MS, HF_SWEEP_MS);
	*ret_w = w;
	return 0;
}

int hf_worker_listen(struct hf_worker *w, const int *fds, unsigned n)
{
	int err;

	w->listeners = calloc(n ? n : 1, sizeof *w->listeners);
	if (!w->listeners)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++) {
		err = hf_listener_create(w->loop, fds[i], hf_session_accept, w, &w->listeners[i]);
		if (err)
			return err;
		w->n_listeners++;
	}
	return 0;
}

static void *run(void *arg)
{
	struct hf_worker *w = arg;

	hf_loop_run(w->loop);
	hf_tls_thread_fini();
	return NULL;
}

int hf_worker_start(struct hf_worker *w)
{
	char name[16];
	int err = pthread_create(&w->thread, NULL, run, w);

	if (err)
		return -err;
	w->started = true;
	snprintf(name, sizeof name, "worker%u", w->index % 1000);
	pthread_setname_np(w->thread, name);
	return 0;
}

/* Ends what the stop could not: sessions whose appends the store never answered. */
static void drop_sessions(struct hf_worker *w)
{
	struct hf_list *pos, *tmp;

	hf_list_for_each_safe(pos, tmp, &w->sessions)
	{
		struct hf_session *s = hf_container_of(pos, struct hf_session, node);

		hf_log(HF_LOG_ERR, "worker.leak", "%s: still %u appends unanswered at exit",
		       s->ident ? s->ident : "?", s->n_appends);
	}
}

void hf_worker_join(struct hf_worker *w)
{
	if (!w->started)
		return;
	hf_inbox_post(w->urgent, &w->exit_mail);
	pthread_join(w->thread, NULL);
	w->started = false;
}

void hf_worker_destroy(struct hf_worker **pw)
{
	struct hf_worker *w = *pw;
	struct hf_scope *scope;
	struct hf_tls_ctx *tls;

	if (!w)
		return;
	hf_worker_join(w);
	drop_sessions(w);
	close_listeners(w);
	if (w->sweep)
		hf_timer_destroy(&w->sweep);
	if (w->inbox)
		hf_inbox_destroy(&w->inbox);
	if (w->urgent)
		hf_inbox_destroy(&w->urgent);
	if (w->loop)
		hf_loop_destroy(&w->loop);
	hf_dir_fini(&w->dir);
	hf_map_destroy(&w->by_ident);
	hf_worker_free_pool(w);
	hf_buf_fini(&w->bag);
	scope = atomic_exchange(&w->next_scope, NULL);
	hf_scope_unref(&scope);
	hf_scope_unref(&w->scope);
	tls = atomic_exchange(&w->next_tls, NULL);
	if (tls)
		hf_tls_ctx_unref(&tls);
	if (w->tls)
		hf_tls_ctx_unref(&w->tls);
	free(w);
	*pw = NULL;
}
