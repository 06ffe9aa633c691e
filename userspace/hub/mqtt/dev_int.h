/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/mqtt/dev_int.h - shared inside the MQTT head only. */
#pragma once
#include "core/map.h"
#include "dialect/topic.h"
#include "dialect/user.h"
#include "hub/model/clients.h"
#include "hub/mqtt/dev.h"
#include "hub/fault/fault_run.h"
#include "hub/metrics.h"
#include "hub/fault/throttle.h"
#include "mqtt/mqtt_stream.h"

#define HUB_DEV_CONNECT_LIMIT_MS 30000
#define HUB_DEV_KEEPALIVE_CAP_MS 1767000	/* iothub-protocol 1.11 */
#define HUB_DEV_MAX_PACKET (HF_MSG_MAX_SIZE + 66 * 1024)
#define HUB_DEV_C2D_WINDOW 50
#define HUB_DEV_OUT_CAP ((size_t)8 << 20)	/* a window of the largest messages, and answers */

struct hub_dev {
	struct hf_loop *loop;
	struct hub_model *model;
	struct hf_tls_ctx *tls;
	char *host;
	struct hub_conn_limit *limit;
	unsigned n_connections;
	struct hf_listener *listener;
	struct hf_timer *sweep;
	struct hf_map *by_id;		/* id -> session that passed CONNECT */
	struct hf_list all;
};

/* What became of a packet. */
enum {
	HUB_DEV_ON,		/* done; on with the next */
	HUB_DEV_CLOSED,		/* the connection is being closed */
	HUB_DEV_PUT_OFF,	/* to be handled again by hub_dev_go_on; nothing else until then */
	HUB_DEV_SKIP,		/* not done, and not answered: on with the next */
};
struct hub_session {
	struct hf_list node;
	struct hub_dev *dev;
	struct hf_conn *conn;
	struct hf_mqtt_stream stream;
	char id[HF_IDENT_MAX + 1];	/* "" before CONNECT */
	char *generation;		/* of the identity that logged in: who has its id later is somebody else */
	bool connected, clean, closing, graceful, is_ws;
	bool waits;			/* the next packet was put off */
	bool passed;			/* it goes on: limits and fault rules were asked */
	bool mute;			/* CONNECT hangs: whatever comes is ignored */
	unsigned subs;			/* HF_SUB_* */
	uint8_t c2d_qos;
	json_t *filters;		/* filter -> qos */
	uint64_t connected_ms, last_in_ms, keepalive_ms;
	struct hub_client client;
	int64_t expiry_s;		/* token; 0 = never */
	const char *auth_type;		/* "sas", "policy", "x509" */
	char *will_topic;
	struct hf_buf will_body;
	bool will_retain;
	struct hf_buf answers;		/* packets that wait for the commit of this turn */
	struct hub_wait answers_wait;
	bool answers_open;
	bool subs_changed;		/* after the answer, hub_dev_subs_changed */
	struct hub_hold hold;
	struct hub_method_sink sink;
	bool sink_on;
	struct { uint16_t packet_id; uint64_t seq; } c2d[HUB_DEV_C2D_WINDOW];
	unsigned n_c2d;
	uint16_t next_packet_id;
};

/* dev_auth.c: CONNACK code for a CONNECT; fills expiry and auth type of s. Counts and logs refusals. */
uint8_t hub_dev_authenticate(struct hub_session *s, const struct hf_mqtt_connect *c, const struct hf_mqtt_user *user);
/* dev_packets.c */
const struct hub_ident *hub_dev_ident(const struct hub_session *s);	/* NULL: it was deleted */
int hub_dev_packet(struct hub_session *s, const struct hf_mqtt_packet *pkt);
void hub_dev_will(struct hub_session *s);
/* dev_answer.c */
/* For packets that go once this turn is committed, in their order. */
struct hf_buf *hub_dev_answer(struct hub_session *s);
/* A packet that goes ms later, in the order of acknowledgements or by itself. HUB_DEV_ON, HUB_DEV_CLOSED. */
int hub_dev_answer_late(struct hub_session *s, uint32_t ms, bool in_order, struct hf_span packet);
/* PUBACK as the fault says, at least late_ms late, behind those of earlier packets. HUB_DEV_ON, HUB_DEV_CLOSED. */
int hub_dev_puback(struct hub_session *s, uint16_t packet_id, const struct hub_fault *fault, uint32_t late_ms);
/* Asks the fault rules about the packet at hand. HUB_DEV_ON: it is to be refused, or done and answered, as *ret_fault
 * says; action HUB_DO__COUNT: there is no rule. */
int hub_dev_fault(struct hub_session *s, enum hub_fault_on on, struct hub_fault *ret_fault);
/* dev_twin.c: a packet's result. */
int hub_dev_twin(struct hub_session *s, const struct hf_topic *t, struct hf_span body);
/* dev_down.c */
void hub_dev_c2d_pump(struct hub_session *s);
void hub_dev_c2d_acked(struct hub_session *s, uint16_t packet_id);
unsigned hub_dev_filter_bits(const struct hub_session *s, struct hf_span filter);	/* HF_SUB_* or 0 */
void hub_dev_subs_changed(struct hub_session *s);
void hub_dev_on_desired(void *arg, const char *id, const json_t *patch, int64_t version);
void hub_dev_on_c2d(void *arg, const char *device_id);
/* dev_srv.c */
void hub_dev_drop(struct hub_session *s, enum hub_metric metric, const char *why);	/* counts, logs, closes */
void hub_dev_end(struct hub_session *s, const char *why);	/* logs, closes: counted elsewhere */
void hub_dev_go_on(struct hub_session *s);
uint64_t hub_dev_keepalive_ms(uint16_t keep_alive_s);	/* silence that ends a connection (1.11) */
