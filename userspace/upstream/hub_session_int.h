/* SPDX-License-Identifier: GPL-3.0-or-later */
/* upstream/hub_session_int.h - a hub session from inside: hub_session.c (connection), hub_packets.c (MQTT). */
#pragma once
#include "mqtt/mqtt_stream.h"
#include "upstream/up_int.h"

enum session_state { SESSION_IDLE, SESSION_CONNECTING, SESSION_UP };
/* What a connection's callbacks get: cut loose from its session when that drops it. */
struct session_conn {
	struct hf_hub_session *session;
	struct hf_conn *conn;
};
struct hf_hub_session {
	struct hf_upstream *up;
	char ident[HF_IDENT_MAX + 1];
	enum session_state state;
	struct session_conn *conn;
	unsigned generation;		/* of the connection */
	struct hf_mqtt_stream stream;
	uint32_t child;			/* pump number, 0 = nothing stored yet */
	struct { uint16_t id; uint64_t seq; } flight[HF_PUMP_WINDOW];
	unsigned n_flight;
	uint16_t next_id;
	unsigned n_down;		/* methods, patches, messages on their way to the child */
	size_t down_bytes;
	bool present;			/* the child is connected to the gateway */
	unsigned subs, hub_subs;	/* the child's; what we subscribed at the hub */
	char *client_type, *model_id;
	struct hf_list wait;		/* in up->waiting */
	struct hf_backoff backoff;
	uint64_t retry_at_ms, connect_ms, last_in_ms, last_used_ms, ping_sent_ms;
};
void hf_hub_session_packet(struct hf_hub_session *s, const struct hf_mqtt_packet *pkt);
void hf_hub_session_mirror_subs(struct hf_hub_session *s);
int hf_hub_session_send(struct hf_hub_session *s, uint64_t seq, const struct hf_msg *msg, bool dup);
