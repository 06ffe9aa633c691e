/* SPDX-License-Identifier: GPL-3.0-or-later */
/* upstream/up_int.h - shared inside upstream/. Everything belongs to the upstream thread unless marked. */
#pragma once
#include "core/map.h"
#include "dialect/topic.h"
#include "http/http.h"
#include "kern/nl.h"
#include "mqtt/mqtt_codec.h"
#include "net/conn.h"
#include "upstream/backoff.h"
#include "upstream/pump/pump.h"
#include "upstream/resolve.h"
#include "upstream/upstream.h"
#include <pthread.h>
#include <stdatomic.h>

#define HF_SESSION_CONNECTING_MAX 20	/* handshakes in progress at once */
#define HF_SESSION_IDLE_MS 60000
#define HF_OP_TIMEOUT_MS 20000		/* twin requests, edgehub-behaviour 5.3 */
#define HF_UNANSWERED_MS 30000		/* architecture 6.3 */
#define HF_OWN_TOKEN_S 3600

struct hf_hub_session;
struct hf_twin;
struct hf_scope_sync;
struct hf_refresher;

struct hf_upstream {
	/* immutable */
	char *hub_host, *edge_id, *own_id, *key, *dns_servers;
	uint16_t mqtt_port, https_port;
	uint32_t scope_refresh_s, max_sessions;
	int64_t ttl_default;
	struct hf_tls_ctx *tls;
	struct hf_auth_clock *clock;		/* NULL = the wall clock */
	struct hf_store *store;
	const struct hf_upstream_ops *ops;
	void *arg;

	pthread_t thread;
	struct hf_loop *loop;
	struct hf_inbox *inbox;
	struct hf_pump *pump;
	struct hf_timer *tick;			/* 1 s: time-outs, pings, idle sessions */
	struct hf_timer *stop_timer;
	void *stop;				/* teardown in progress (upstream.c) */

	/* link.c */
	_Atomic int state;			/* any thread reads */
	_Atomic uint64_t stalled_ms;		/* of the pump; any thread reads */
	struct hf_resolver *resolver;
	struct hf_nl *nl;
	struct hf_timer *retry, *settle;
	struct hf_backoff backoff;
	struct hf_address addrs[HF_RESOLVE_MAX];
	unsigned n_addrs, addr_at, n_tries;
	bool attempting, stopping, starting_waiting;
	uint64_t since_ms, attempt_ms, last_wake_ms;
	int64_t since_wall_ms;
	char last_error[200], addr_text[80];

	/* sessions */
	struct hf_map *sessions;		/* ident -> hf_session */
	struct hf_hub_session *own;
	unsigned n_connecting, n_up;
	struct hf_list waiting;			/* sessions that wait for their turn to connect */
	char *token;				/* of own_id; wiped */
	int64_t token_expiry_s;
	uint64_t next_rid;

	/* scope_sync.c */
	struct hf_scope *scope;
	struct hf_scope_sync *sync;
	struct hf_refresher *refresher;		/* refresh.c */

	/* twins */
	struct hf_map *twins;			/* ident -> hf_twin */
	int64_t ttl_s;
	bool ttl_from_twin;
	unsigned n_saving;			/* state requests that the store has not answered */
	struct { uint64_t twin_local, twin_passed, downs, conn_failures, reconnects, answers_lost, downs_refused; } n;
};

/* upstream.c: a mail that carries a call to the upstream thread */
struct hf_up_call {
	struct hf_mail mail;
	struct hf_upstream *up;
};

/* link.c */
int hf_link_init(struct hf_upstream *up);
void hf_link_fini(struct hf_upstream *up);
void hf_link_start(struct hf_upstream *up);
void hf_link_wake(struct hf_upstream *up, const char *why);	/* try now, without back-off */
void hf_link_own_up(struct hf_upstream *up);
void hf_link_own_down(struct hf_upstream *up, const char *why);
bool hf_link_online(const struct hf_upstream *up);
unsigned hf_link_number(const struct hf_upstream *up);	/* of this time that the link is or was up; from 1 */
const struct hf_address *hf_link_address(const struct hf_upstream *up);	/* that the own session uses */
json_t *hf_link_show(struct hf_upstream *up);

/* hub_session.c */
struct hf_hub_session *hf_hub_session_get(struct hf_upstream *up, const char *ident);	/* finds or makes; NULL ENOMEM */
struct hf_hub_session *hf_hub_session_find(struct hf_upstream *up, struct hf_span ident);
void hf_hub_session_want(struct hf_hub_session *s);		/* open it when the link allows */
bool hf_hub_session_is_up(const struct hf_hub_session *s);
void hf_hub_session_drop(struct hf_hub_session *s, int err, const char *why);
void hf_hub_session_drop_all(struct hf_upstream *up, int err, const char *why);
void hf_hub_session_start_waiting(struct hf_upstream *up);
void hf_hub_session_open_wanted(struct hf_upstream *up);	/* link came online */
void hf_hub_session_tick(struct hf_upstream *up);
void hf_hub_session_free_all(struct hf_upstream *up);
int hf_hub_session_connect(struct hf_hub_session *s, const struct hf_address *addr);
const char *hf_hub_session_ident(const struct hf_hub_session *s);
struct hf_upstream *hf_hub_session_up(const struct hf_hub_session *s);
void hf_hub_session_presence(struct hf_hub_session *s, bool connected, unsigned subs, const char *client_type, const char *model_id);
unsigned hf_hub_session_subs(const struct hf_hub_session *s);	/* of the child, 0 when it is away */
bool hf_hub_session_has_room(const struct hf_hub_session *s);	/* it is up, and what it was given leaves */
/* QoS 0 publish on an up session. */
void hf_hub_session_publish(struct hf_hub_session *s, struct hf_span topic, struct hf_span body);
bool hf_hub_session_local_addr(const struct hf_hub_session *s, struct sockaddr_storage *ret_addr);
const char *hf_own_token(struct hf_upstream *up);	/* valid now; NULL on ENOMEM or bad key */
void hf_own_token_forget(struct hf_upstream *up);	/* the hub refused it */

/* hub_packets.c */
void hf_hub_session_on_publish(struct hf_hub_session *s, const struct hf_mqtt_publish *p);
void hf_hub_session_send_desired(struct hf_hub_session *s, int64_t version, struct hf_span body);	/* to the child */

/* scope_sync.c */
int hf_scope_sync_init(struct hf_upstream *up);
void hf_scope_sync_fini(struct hf_upstream *up);
void hf_scope_sync_start(struct hf_upstream *up);	/* a full pass, unless one runs */
void hf_scope_sync_tick(struct hf_upstream *up);
void hf_scope_sync_next(struct hf_upstream *up);	/* begins what is to be done, unless a request is on the way */
void hf_scope_sync_ask_time(struct hf_upstream *up);	/* our own token was refused: is it the clock? */
json_t *hf_scope_sync_show(const struct hf_upstream *up);

/* refresh.c */
int hf_refresh_init(struct hf_upstream *up);
void hf_refresh_fini(struct hf_upstream *up);		/* tells all who wait */
void hf_refresh_tick(struct hf_upstream *up);
/* The identity's records are to be asked for again. r (may be NULL) is told the outcome, always by mail. */
void hf_refresh_ask(struct hf_upstream *up, const char *ident, struct hf_refresh *r);
bool hf_refresh_next(struct hf_upstream *up, char ret_ident[HF_IDENT_MAX + 1]);	/* takes the oldest asked for */
void hf_refresh_answered(struct hf_upstream *up, const char *ident, bool fresh, bool changed);	/* fresh: the hub said something */

/* twin_sync.c */
int hf_twins_load(struct hf_upstream *up);
void hf_twins_fini(struct hf_upstream *up);
void hf_twin_handle(struct hf_upstream *up, struct hf_twin_request *req);
void hf_twin_session_up(struct hf_hub_session *s);		/* reconcile */
void hf_twin_send_waiting(struct hf_hub_session *s);		/* there is room again */
void hf_twin_session_down(struct hf_upstream *up, const char *ident);
void hf_twin_on_response(struct hf_hub_session *s, int status, struct hf_span rid, int64_t version, struct hf_span body);
void hf_twin_on_desired(struct hf_hub_session *s, int64_t version, struct hf_span body);
bool hf_twin_wants_session(struct hf_upstream *up, const char *ident);
void hf_twin_open_pending(struct hf_upstream *up);	/* sessions for identities with unsent patches */
void hf_twin_tick(struct hf_upstream *up);
void hf_twin_subscribed(struct hf_hub_session *s);		/* the child asked for desired patches */
/* own_twin.c */
void hf_own_twin_apply(struct hf_upstream *up, const json_t *desired, bool from_hub);
