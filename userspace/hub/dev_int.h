/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/dev_int.h - shared inside the MQTT head only. */
#pragma once
#include "core/map.h"
#include "hub/clients.h"
#include "hub/dev.h"
#include "hub/metrics.h"
#include "mqtt/mqtt_codec.h"

#define HUB_DEV_CONNECT_LIMIT_MS 30000
#define HUB_DEV_KEEPALIVE_CAP_S 1767	/* iothub-protocol 1.11 */
#define HUB_DEV_MAX_PACKET (HF_MSG_MAX_SIZE + 66 * 1024)
#define HUB_DEV_C2D_WINDOW 50

enum { HUB_SUB_C2D = 1, HUB_SUB_METHODS = 2, HUB_SUB_TWIN_RES = 4, HUB_SUB_DESIRED = 8, HUB_SUB_INPUTS = 16 };

struct hub_dev {
	struct hf_loop *loop;
	struct hub_model *model;
	struct hf_tls_ctx *tls;
	char *host;
	unsigned max_connections, n_connections;
	struct hf_listener *listener;
	struct hf_timer *sweep;
	struct hf_map *by_id;		/* id -> session that passed CONNECT */
	struct hf_list all;
};

/* PUBLISHes whose PUBACK waits for the commit of this turn. */
struct hub_ack_batch {
	struct hub_wait wait;
	struct hub_session *session;
	unsigned n, cap;
	uint16_t *ids;
};
struct hub_session {
	struct hf_list node;
	struct hub_dev *dev;
	struct hf_conn *conn;
	struct hf_buf in;		/* a partial packet */
	char id[HF_IDENT_MAX + 1];	/* "" before CONNECT */
	bool connected, clean, closing, graceful, is_ws;
	unsigned subs;
	uint8_t c2d_qos;
	json_t *filters;		/* filter -> qos */
	uint64_t connected_ms, last_in_ms, keepalive_ms;
	struct hub_client client;
	int64_t expiry_s;		/* token; 0 = never */
	const char *auth_type;		/* "sas", "policy", "x509" */
	char *will_topic;
	struct hf_buf will_body;
	struct hub_ack_batch acks;
	bool acks_open;
	struct hub_method_sink sink;
	bool sink_on;
	struct { uint16_t packet_id; uint64_t seq; } c2d[HUB_DEV_C2D_WINDOW];
	unsigned n_c2d;
	uint16_t next_packet_id;
};

/* dev_auth.c: CONNACK code for a CONNECT; fills expiry and auth type of s. Counts and logs refusals. */
uint8_t hub_dev_authenticate(struct hub_session *s, const struct hf_mqtt_connect *c, const struct hf_mqtt_user *user);
/* dev_packets.c */
int hub_dev_packet(struct hub_session *s, const struct hf_mqtt_packet *pkt);	/* non-zero: close was called */
void hub_dev_will(struct hub_session *s);
/* dev_down.c */
void hub_dev_c2d_pump(struct hub_session *s);
void hub_dev_c2d_acked(struct hub_session *s, uint16_t packet_id);
unsigned hub_dev_filter_bits(const struct hub_session *s, struct hf_span filter);
void hub_dev_subs_changed(struct hub_session *s);
void hub_dev_on_desired(void *arg, const char *id, const json_t *patch, int64_t version);
void hub_dev_on_c2d(void *arg, const char *device_id);
/* dev_srv.c */
void hub_dev_drop(struct hub_session *s, enum hub_metric metric, const char *why);
