/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/worker.h - one child-facing thread: loop, listeners, sessions, inboxes, credits towards the store.
 * Private to gw/. All calls are for the worker's own thread unless marked. */
#pragma once
#include "core/list.h"
#include "core/map.h"
#include "gw/credit.h"
#include "gw/directory.h"
#include "gw/gw_int.h"
#include "loop/inbox.h"
#include "loop/loop.h"
#include "net/listener.h"

/* Bounds of what all workers together have handed in without an answer; each has its part of the bytes. */
enum {
	HF_TO_STORE_COUNT = 4096, HF_TO_STORE_BYTES = 8 << 20,
	HF_TO_UP_COUNT = 512, HF_TO_UP_BYTES = 8 << 20,
};

struct hf_pub;
struct hf_worker {
	struct hf_gw *gw;
	unsigned index;
	struct hf_loop *loop;
	struct hf_inbox *inbox, *urgent;
	struct hf_listener **listeners;
	unsigned n_listeners;
	struct hf_timer *sweep;
	struct hf_list sessions;
	struct hf_admit_door door;	/* connections of this worker that have to give way */
	struct hf_map *by_ident;	/* identity -> session that holds its claim */
	struct hf_dir dir;		/* entries of the identities at home here */
	struct hf_scope *scope;		/* snapshot in force, NULL before the first */
	struct hf_tls_ctx *tls;
	struct hf_buf bag;		/* scratch for property bags */
	struct hf_pub *pool;		/* free append requests */
	void *chunks;			/* memory behind the pool */
	struct hf_credit to_store, to_up;
	unsigned n_refreshing;		/* logins that wait for a refresh */
	uint64_t next_sid, stop_at_ms;
	bool stopping, quiet;
	pthread_t thread;
	bool started;
	/* Swapped in by mail. */
	_Atomic(struct hf_scope *) next_scope;
	_Atomic(struct hf_tls_ctx *) next_tls;
	atomic_bool swap_posted, door_posted;
	struct hf_mail swap_mail, door_mail, stop_mail, exit_mail;
};
int hf_worker_create(struct hf_gw *gw, unsigned index, struct hf_worker **ret_w);
/* Takes the listening sockets (before start, on the creator's thread). */
int hf_worker_listen(struct hf_worker *w, const int *fds, unsigned n);
int hf_worker_start(struct hf_worker *w);
void hf_worker_stop(struct hf_worker *w);	/* any thread; ends with gw->n_quiet + 1 */
void hf_worker_join(struct hf_worker *w);	/* ends the thread; all are joined before one is destroyed */
void hf_worker_destroy(struct hf_worker **w);
void hf_worker_offer_scope(struct hf_worker *w, struct hf_scope *scope);	/* any thread */
void hf_worker_offer_tls(struct hf_worker *w, struct hf_tls_ctx *tls);		/* any thread */
void hf_worker_check_quiet(struct hf_worker *w);
