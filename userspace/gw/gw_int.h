/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/gw_int.h - what the workers share. Immutable after start but for the atomics. Private to gw/. */
#pragma once
#include "gw/admit.h"
#include "gw/gw.h"
#include "gw/metrics.h"
#include <pthread.h>
#include <stdatomic.h>

struct hf_worker;
struct hf_gw {
	struct hf_worker **workers;
	unsigned n_workers, n_planned;	/* planned: known before they are made */
	char *hub_host, *gateway_host, *edge_id;
	uint32_t handshake_timeout_ms, connect_timeout_ms;
	struct hf_admit *admit;
	struct hf_store *store;
	struct hf_upstream *up;		/* set by start, before the threads run */
	int64_t (*auth_now_s)(void *arg);
	void *auth_now_arg;
	pthread_mutex_t lock;		/* for n_quiet only */
	pthread_cond_t cond;
	unsigned n_quiet;		/* workers whose last session is gone after stop */
	bool running, stopped;
};
/* The worker that owns the directory entry of an identity. */
struct hf_worker *hf_gw_home(const struct hf_gw *gw, const char *ident);
int64_t hf_gw_auth_now_s(const struct hf_gw *gw);
