/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/gw.h - the child-facing half of the gateway: worker threads with listeners and MQTT sessions.
 *
 * Life: create (loads stored sessions; needs the store) -> upstream is created with the hf_gw_* functions
 * below as its ops -> start (threads run, children are accepted) -> stop (no more children, everything that
 * was handed in is answered) -> upstream and store are destroyed -> destroy. */
#pragma once
#include "net/prefix.h"
#include "store/store.h"
#include "tls/tls.h"
#include "upstream/upstream.h"

struct hf_gw;
struct hf_gw_cfg {
	unsigned workers;		/* >= 1 */
	/* workers * n_listen listening sockets, worker w gets [w * n_listen, (w + 1) * n_listen). Taken over; on
	 * failure some may be closed already (the process is to end then). */
	const int *listen_fds;
	unsigned n_listen;
	struct hf_tls_ctx *tls;		/* a reference is taken; NULL = plain TCP */
	const char *hub_host, *gateway_host;	/* accepted audience hosts; copied */
	const char *edge_id;		/* this gateway's device id; copied */
	uint32_t max_connections;	/* 0 = no limit */
	uint32_t per_address;		/* of these, from one address (IPv6: /64); 0 = no limit */
	const struct hf_prefix *exempt;	/* from per_address; copied */
	unsigned n_exempt;
	uint32_t handshake_timeout_ms;	/* 0 = 10 000 */
	uint32_t connect_timeout_ms;	/* 0 = 15 000 */
	struct hf_store *store;
	int64_t (*auth_now_s)(void *arg);	/* auth time, any thread; NULL = wall clock */
	void *auth_now_arg;
};
int hf_gw_create(const struct hf_gw_cfg *cfg, struct hf_gw **ret_gw);
int hf_gw_start(struct hf_gw *gw, struct hf_upstream *up);
/* Stops accepting, waits for appends in hand, sends their answers, closes. Blocks, up to ~5 s. The threads
 * go on answering mails until destroy. */
void hf_gw_stop(struct hf_gw *gw);
void hf_gw_destroy(struct hf_gw **gw);

void hf_gw_set_tls(struct hf_gw *gw, struct hf_tls_ctx *tls);	/* for new connections; takes its own reference */
unsigned hf_gw_workers(const struct hf_gw *gw);

/* For struct hf_upstream_ops, with the gateway as arg. Any thread, only post mails. */
void hf_gw_to_child(void *gw, struct hf_down *down);
void hf_gw_scope(void *gw, struct hf_scope *scope);
void hf_gw_cut_off(void *gw, const char *ident, const char *why);

/* children list | show | disconnect. Goes from worker to worker; done runs on reply_to's thread. */
struct hf_gw_children_query {
	struct hf_mail mail;
	struct hf_inbox *reply_to;
	void (*done)(struct hf_gw_children_query *q);
	char ident[HF_IDENT_MAX + 1];	/* "" = all that are connected; else also a stored session of it */
	bool disconnect;		/* end the session of `ident` */
	json_t *items;			/* out: array, the caller's. Per item: id connected worker peer
					 * connectedAt subscriptions tls cipher inflight accepted auth expires */
	struct hf_gw *gw;		/* inside */
	unsigned at;			/* inside */
};
void hf_gw_children(struct hf_gw *gw, struct hf_gw_children_query *q);
