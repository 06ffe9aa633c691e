/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/gw.c - the workers together: create, start, stop, and what upstream calls. */
#include "gw/gw.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "gw/worker.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdlib.h>
#include <time.h>

enum { STOP_WAIT_S = 6 };

struct hf_worker *hf_gw_home(const struct hf_gw *gw, const char *ident)
{
	return gw->workers[hf_hash64(ident, strlen(ident)) % gw->n_workers];
}

int64_t hf_gw_auth_now_s(const struct hf_gw *gw)
{
	return gw->auth_now_s ? gw->auth_now_s(gw->auth_now_arg) : hf_clock_wall_s();
}

unsigned hf_gw_workers(const struct hf_gw *gw)
{
	return gw->n_workers;
}

static void load_session(void *arg, struct hf_span key, struct hf_span value)
{
	struct hf_gw *gw = arg;
	struct hf_subs *subs = hf_subs_parse(value);
	char *ident = hf_span_dup(key);

	if (!subs || !ident || hf_dir_load(&hf_gw_home(gw, ident)->dir, ident, subs)) {
		hf_log(HF_LOG_WARN, "session.load", "stored session of %s skipped", ident ? ident : "?");
		free(subs);
	}
	free(ident);
}

static int copy_text(const char *text, char **ret_copy)
{
	if (!text)
		return 0;
	*ret_copy = strdup(text);
	return *ret_copy ? 0 : -ENOMEM;
}

static int fill(struct hf_gw *gw, const struct hf_gw_cfg *cfg)
{
	int err = copy_text(cfg->hub_host, &gw->hub_host);

	if (!err)
		err = copy_text(cfg->gateway_host, &gw->gateway_host);
	if (!err)
		err = copy_text(cfg->edge_id, &gw->edge_id);
	gw->handshake_timeout_ms = cfg->handshake_timeout_ms;
	gw->connect_timeout_ms = cfg->connect_timeout_ms ? cfg->connect_timeout_ms : 15000;
	gw->store = cfg->store;
	gw->auth_now_s = cfg->auth_now_s;
	gw->auth_now_arg = cfg->auth_now_arg;
	if (!err)
		err = hf_admit_create(&(struct hf_admit_cfg){ .max = cfg->max_connections, .per_address = cfg->per_address,
							      .exempt = cfg->exempt, .n_exempt = cfg->n_exempt },
				      &gw->admit);
	return err;
}

int hf_gw_create(const struct hf_gw_cfg *cfg, struct hf_gw **ret_gw)
{
	pthread_condattr_t attr;
	struct hf_gw *gw;
	int err;

	if (!cfg->workers)
		return HF_EINVALID;
	gw = calloc(1, sizeof *gw);
	if (!gw)
		return -ENOMEM;
	pthread_mutex_init(&gw->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&gw->cond, &attr);
	pthread_condattr_destroy(&attr);
	gw->n_planned = cfg->workers;
	gw->workers = calloc(cfg->workers, sizeof *gw->workers);
	err = gw->workers ? fill(gw, cfg) : -ENOMEM;
	while (!err && gw->n_workers < cfg->workers) {
		err = hf_worker_create(gw, gw->n_workers, &gw->workers[gw->n_workers]);
		if (!err) {
			gw->workers[gw->n_workers]->tls = cfg->tls ? hf_tls_ctx_ref(cfg->tls) : NULL;
			gw->n_workers++;
		}
	}
	if (!err)
		err = hf_store_state_load(cfg->store, HF_STATE_SESS, load_session, gw);
	for (unsigned i = 0; !err && i < gw->n_workers; i++)
		err = hf_worker_listen(gw->workers[i], cfg->listen_fds + (size_t)i * cfg->n_listen, cfg->n_listen);
	if (err) {
		hf_log(HF_LOG_ERR, "gw.create.fail", "%s", hf_strerror(err));
		hf_gw_destroy(&gw);
		return err;
	}
	*ret_gw = gw;
	return 0;
}

int hf_gw_start(struct hf_gw *gw, struct hf_upstream *up)
{
	int err = 0;

	gw->up = up;
	gw->running = true;
	for (unsigned i = 0; !err && i < gw->n_workers; i++)
		err = hf_worker_start(gw->workers[i]);
	return err;
}

void hf_gw_stop(struct hf_gw *gw)
{
	struct timespec until;
	unsigned n = 0;

	if (!gw->running || gw->stopped)
		return;
	gw->stopped = true;
	for (unsigned i = 0; i < gw->n_workers; i++) {
		if (gw->workers[i]->started) {
			hf_worker_stop(gw->workers[i]);
			n++;
		}
	}
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += STOP_WAIT_S;
	pthread_mutex_lock(&gw->lock);
	while (gw->n_quiet < n)
		if (pthread_cond_timedwait(&gw->cond, &gw->lock, &until) == ETIMEDOUT)
			break;
	n -= gw->n_quiet;
	pthread_mutex_unlock(&gw->lock);
	if (n)
		hf_log(HF_LOG_WARN, "gw.stop.late", "%u workers did not finish in %d s", n, STOP_WAIT_S);
}

void hf_gw_destroy(struct hf_gw **pgw)
{
	struct hf_gw *gw = *pgw;

	if (!gw)
		return;
	hf_gw_stop(gw);
	/* Mails that were posted before a start that never came are taken by threads that stop at once. */
	for (unsigned i = 0; i < gw->n_workers; i++)
		if (!gw->workers[i]->started)
			(void)hf_worker_start(gw->workers[i]);
	for (unsigned i = 0; i < gw->n_workers; i++)
		hf_worker_join(gw->workers[i]);
	for (unsigned i = 0; i < gw->n_workers; i++)
		hf_worker_destroy(&gw->workers[i]);
	hf_admit_destroy(&gw->admit);
	free(gw->workers);
	free(gw->hub_host);
	free(gw->gateway_host);
	free(gw->edge_id);
	pthread_cond_destroy(&gw->cond);
	pthread_mutex_destroy(&gw->lock);
	free(gw);
	*pgw = NULL;
}

void hf_gw_set_tls(struct hf_gw *gw, struct hf_tls_ctx *tls)
{
	for (unsigned i = 0; i < gw->n_workers; i++)
		hf_worker_offer_tls(gw->workers[i], tls);
}

void hf_gw_scope(void *arg, struct hf_scope *scope)
{
	struct hf_gw *gw = arg;

	for (unsigned i = 0; i < gw->n_workers; i++)
		hf_worker_offer_scope(gw->workers[i], scope);
}
