/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/session.h - one MQTT connection of a child, from accept to its last answered append. Private to gw/.
 * Lives and dies on one worker. */
#pragma once
#include "dialect/bag.h"
#include "dialect/topic.h"
#include "gw/worker.h"
#include "mqtt/mqtt_stream.h"

enum hf_session_state { HF_S_HANDSHAKE, HF_S_CONNECT, HF_S_REFRESHING, HF_S_CLAIMING, HF_S_UP, HF_S_CLOSING, HF_S_DEAD };

/* Why a session ends. X(name, metric or -1, log level, log event, text) */
#define HF_END_LIST(X)                                                                             \
	X(SLOW_HANDSHAKE, HF_M_SLOW_HANDSHAKE, WARN, "child.handshake.slow", "handshake too slow") \
	X(TLS, HF_M_TLS_REFUSED, WARN, "child.tls.refused", "TLS handshake refused")               \
	X(GAVE_WAY, HF_M_CONN_GAVE_WAY, WARN, "child.gave-way", "not logged in, and limits.connections is reached") \
	X(SLOW_CONNECT, HF_M_SLOW_CONNECT, WARN, "child.connect.slow", "no CONNECT in time")       \
	X(VERSION, HF_M_CONNECT_VERSION, WARN, "child.connect.version", "protocol level refused")  \
	X(USER, HF_M_CONNECT_USER, WARN, "child.connect.user", "user name refused")                \
	X(CLIENT_ID, HF_M_CONNECT_CLIENT_ID, WARN, "child.connect.client-id", "client id is not the identity") \
	X(WILL, HF_M_MQTT_BAD_WILL, WARN, "child.connect.will", "will refused")                    \
	X(AUTH, -1, WARN, "child.auth.denied", "not authorised")                                   \
	X(TAKEOVER_TIMEOUT, HF_M_TAKEOVER_TIMEOUT, WARN, "child.takeover.slow", "old session did not finish in time") \
	X(REPLACED, -1, INFO, "child.replaced", "replaced by a newer connection")                  \
	X(MALFORMED, HF_M_MQTT_MALFORMED, WARN, "child.packet.malformed", "malformed packet")      \
	X(UNEXPECTED, HF_M_MQTT_UNEXPECTED, WARN, "child.packet.unexpected", "packet out of place") \
	X(OVERSIZE, HF_M_MQTT_OVERSIZE, WARN, "child.message.oversize", "larger than 256 KiB")     \
	X(FOREIGN, HF_M_MQTT_FOREIGN_TOPIC, WARN, "child.topic.foreign", "topic of another identity") \
	X(BAD_TOPIC, HF_M_MQTT_BAD_TOPIC, WARN, "child.topic.bad", "topic that nobody serves")     \
	X(BAD_BAG, HF_M_MQTT_BAD_BAG, WARN, "child.bag.bad", "property bag cannot be decoded")     \
	X(QOS2, HF_M_MQTT_QOS2, WARN, "child.qos2", "QoS 2 is not served")                         \
	X(FULL, -1, WARN, "child.store.full", "store is full")                                     \
	X(STORE, -1, WARN, "child.store.failed", "store failed")                                   \
	X(KEEPALIVE, HF_M_KEEPALIVE, INFO, "child.keepalive", "silent for too long")               \
	X(CREDENTIAL, HF_M_CREDENTIAL_END, NOTICE, "child.credential.end", "credential no longer valid") \
	X(CUT_OFF, HF_M_CUT_OFF, NOTICE, "child.cut-off", "lost its right to connect")             \
	X(OPERATOR, HF_M_OPERATOR_CLOSE, NOTICE, "child.disconnected", "disconnected by the operator") \
	X(NO_MEMORY, HF_M_NO_MEMORY, ERR, "child.no-memory", "out of memory")                      \
	X(BYE, -1, INFO, "child.bye", "DISCONNECT")                                                \
	X(PEER, -1, INFO, "child.gone", "connection ended")                                        \
	X(SHUTDOWN, -1, INFO, "child.shutdown", "gateway stops")
enum hf_end {
#define HF_END_ENUM(name, metric, level, event, text) HF_END_##name,
	HF_END_LIST(HF_END_ENUM)
#undef HF_END_ENUM
	HF_END__COUNT,
};

/* One PUBLISH of a child, until it is answered. Pooled per worker. */
struct hf_pub {
	struct hf_store_append app;
	struct hf_pub *next;		/* FIFO of the session, or free list */
	struct hf_session *s;
	uint32_t bytes;			/* credits taken */
	uint16_t packet_id;		/* 0 = not to be answered */
	bool done, is_will;
};
struct hf_twin_job;
struct hf_refresh_job;

struct hf_session {
	struct hf_list node;		/* worker->sessions */
	struct hf_list blocked;		/* of the credits that it waits for */
	struct hf_admit_seat seat;
	struct hf_worker *w;
	struct hf_conn *conn;		/* NULL once closed */
	struct hf_task task;		/* goes on parsing after a block */
	struct hf_mqtt_stream stream;
	char *ident;			/* "dev" or "dev/mod"; NULL before CONNECT was understood */
	uint16_t device_len;
	uint16_t keep_alive_s, next_packet_id;
	enum hf_session_state state : 8;
	bool claimed : 1, clean : 1, stopping : 1, damp : 1, counted : 1;
	bool presence_busy : 1, presence_again : 1;
	bool wait_claim : 1, wait_state : 1, wait_fifo : 1, wait_credit : 1, wait_twins : 1, wait_reader : 1;	/* why reading is blocked */
	struct hf_subs *subs;		/* filters in force */
	uint8_t *token;			/* SAS text for the re-checks; wiped */
	uint32_t token_len;
	struct hf_dir_mail *ticket, *release;
	struct hf_refresh_job *refresh;	/* that the login waits for */
	struct hf_msg *will;
	char *client_type, *model_id;	/* NULL when not told */
	struct hf_pub *head, *tail;	/* unanswered publishes, oldest first */
	unsigned fifo_n, n_appends, n_state;
	size_t fifo_bytes;
	struct hf_list down_wait, down_out;
	unsigned n_down_wait, n_down_out;
	struct hf_list twins;		/* struct hf_twin_job */
	unsigned n_twins;
	struct hf_asked *asked;		/* methods to be answered; NULL before the first */
	struct hf_presence presence;
	atomic_bool broken;		/* see struct hf_store_append */
	uint64_t sid, last_rx_ms, since_ms, deadline_ms, held_until_ms, next_check_ms, accepted;
	int64_t connected_wall_ms, expiry_s;
	int64_t chain_until_s;		/* of the client certificate; 0 = not trusted, or not judged */
	const char *chain_refusal;	/* why not, static text */
};
enum {
	HF_FIFO_MAX = 512, HF_FIFO_BYTES = 1 << 20,	/* unanswered publishes of one session */
	HF_DOWN_OUT_MAX = 64, HF_DOWN_WAIT_MAX = 256,
	HF_TWINS_MAX = 32,
	HF_HOLD_MS = 2000, HF_CLAIM_MS = 2000, HF_SWEEP_MS = 250,
	HF_DOWN_LOW_WATER = 256 * 1024,
};

static inline struct hf_span hf_session_device(const struct hf_session *s)
{
	return hf_span(s->ident, s->device_len);
}
static inline struct hf_span hf_session_module(const struct hf_session *s)
{
	return s->ident[s->device_len] ? hf_span_str(s->ident + s->device_len + 1) : hf_span(NULL, 0);
}
static inline bool hf_session_live(const struct hf_session *s)	/* may be written to */
{
	return s->state == HF_S_UP && s->conn;
}

/* session.c: life cycle. */
void hf_session_accept(void *worker, int fd, const struct sockaddr_storage *peer);
/* Counts and logs the reason, sends what is buffered, closes. detail may be NULL. Idempotent. */
void hf_session_end(struct hf_session *s, enum hf_end why, const char *detail);
/* After anything that it waited for: releases, closes or frees it when nothing is outstanding. s may be gone. */
void hf_session_settle(struct hf_session *s);
void hf_session_wake(struct hf_session *s);	/* a reason to wait is gone: go on reading */
void hf_session_sweep(struct hf_session *s, uint64_t now_ms);
void hf_session_stop(struct hf_session *s);	/* shutdown: finish appends, then close */

/* session_connect.c */
void hf_session_connect(struct hf_session *s, const struct hf_mqtt_connect *c);
void hf_session_connack(struct hf_session *s, uint8_t code, enum hf_end why, const char *detail);
void hf_session_judge_again(struct hf_session *s, enum hf_refresh_result result);	/* after the wait for a refresh */
void hf_session_recheck(struct hf_session *s, uint64_t now_ms, bool scope_changed);
void hf_session_scope_swapped(struct hf_worker *w, const struct hf_scope *old);
extern const struct hf_dir_ops hf_session_dir_ops;
void hf_session_finish_release(struct hf_session *s);

/* session_presence.c. Settles the session later, once upstream has taken the notice. */
void hf_session_here(struct hf_session *s);	/* connected, or with other subscriptions */
void hf_session_left(struct hf_session *s);	/* not while presence_busy */
void hf_session_left_unseen(struct hf_worker *w, const char *ident);	/* who left before its session was up */

/* session_refresh.c: false = it does not wait, *ret_why_not says why. */
bool hf_session_wait_refresh(struct hf_session *s, enum hf_refresh_result *ret_why_not);
void hf_session_detach_refresh(struct hf_session *s);

/* session_publish.c: false = blocked, the packet must be offered again. */
bool hf_session_publish(struct hf_session *s, const struct hf_mqtt_publish *p);
void hf_session_puback_later(struct hf_session *s, uint16_t packet_id);	/* in order, stored nowhere */
int hf_session_make_will(struct hf_session *s, const struct hf_mqtt_connect *c, const char **ret_reason);
void hf_session_publish_will(struct hf_session *s);
void hf_session_free_fifo(struct hf_session *s);
void hf_worker_free_pool(struct hf_worker *w);
void hf_session_init_credits(struct hf_worker *w);
/* May it ask upstream for so much more? False: it waits, and the packet is offered again. */
bool hf_session_has_up_credit(struct hf_session *s, size_t bytes);

/* session_sub.c */
void hf_session_subscribe(struct hf_session *s, uint16_t packet_id, struct hf_span filters);
void hf_session_unsubscribe(struct hf_session *s, uint16_t packet_id, struct hf_span filters);
unsigned hf_session_sub_bits(const struct hf_session *s);

/* session_method.c: a method is about to be written (-ENOMEM); its answer came (false = blocked). */
struct hf_topic;
int hf_session_asked(struct hf_session *s, const struct hf_down *d);
bool hf_session_method_answer(struct hf_session *s, const struct hf_topic *t, const struct hf_mqtt_publish *p);

/* session_twin.c: false = blocked. */
bool hf_session_twin(struct hf_session *s, const struct hf_topic *t, const struct hf_mqtt_publish *p);
void hf_session_detach_twins(struct hf_session *s);

/* session_down.c */
void hf_session_down(struct hf_down_job *job);
void hf_session_puback(struct hf_session *s, uint16_t packet_id);
void hf_session_pump_downs(struct hf_session *s);
void hf_session_fail_downs(struct hf_session *s);

/* children.c */
json_t *hf_session_json(const struct hf_session *s);
