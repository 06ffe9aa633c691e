/* SPDX-License-Identifier: GPL-3.0-or-later */
/* mqtt/mqtt_codec.h - MQTT 3.1.1 packets, both directions, sans I/O (OASIS mqtt-v3.1.1).
 *
 * Decoding borrows from the input. Encoding appends to a buffer (sticky error). Every length is checked
 * before use; a malformed packet is HF_EPROTO with a reason text. Any thread. */
#pragma once
#include "core/buf.h"

enum hf_mqtt_type {
	HF_MQTT_CONNECT = 1, HF_MQTT_CONNACK, HF_MQTT_PUBLISH, HF_MQTT_PUBACK, HF_MQTT_PUBREC, HF_MQTT_PUBREL,
	HF_MQTT_PUBCOMP, HF_MQTT_SUBSCRIBE, HF_MQTT_SUBACK, HF_MQTT_UNSUBSCRIBE, HF_MQTT_UNSUBACK,
	HF_MQTT_PINGREQ, HF_MQTT_PINGRESP, HF_MQTT_DISCONNECT,
};
#define HF_MQTT_TOPIC_MAX 65535	/* bytes of a topic name (1.5.3) */
enum { HF_CONNACK_OK, HF_CONNACK_VERSION, HF_CONNACK_CLIENT_ID, HF_CONNACK_UNAVAILABLE, HF_CONNACK_BAD_USER,
       HF_CONNACK_NOT_AUTHORISED };

struct hf_mqtt_connect {
	uint8_t level;		/* 4; others are decoded as far as the level for CONNACK 1 */
	bool clean_session, has_will, will_retain, has_user, has_password;
	uint8_t will_qos;
	uint16_t keep_alive_s;
	struct hf_span client_id, will_topic, will_body, user, password;
};
struct hf_mqtt_publish {
	uint8_t qos;
	bool dup, retain;
	uint16_t packet_id;	/* 0 for QoS 0 */
	struct hf_span topic, body;
};
struct hf_mqtt_packet {
	enum hf_mqtt_type type;
	size_t size;		/* whole packet, header included */
	union {
		struct hf_mqtt_connect connect;
		struct hf_mqtt_publish publish;
		struct { bool session_present; uint8_t code; } connack;
		struct { uint16_t packet_id; } ack;	/* PUBACK..PUBCOMP, UNSUBACK */
		struct { uint16_t packet_id; struct hf_span filters; } subscribe;	/* also UNSUBSCRIBE */
		struct { uint16_t packet_id; struct hf_span codes; } suback;
	};
};
/* Decodes the packet at the front of `in`.
 * 0: *ret_pkt set, consume ret_pkt->size. HF_EMORE: incomplete; *ret_need = total bytes wanted (>= 2).
 * HF_EPROTO: malformed, *ret_reason static text. HF_ELIMIT: longer than max_packet (told from the header).
 * from_client: reject types and flags that this side may not receive. */
int hf_mqtt_decode(struct hf_span in, size_t max_packet, bool from_client, struct hf_mqtt_packet *ret_pkt,
		   size_t *ret_need, const char **ret_reason);
/* Iterates SUBSCRIBE (with_qos) or UNSUBSCRIBE filters; they were validated by decode. */
bool hf_mqtt_next_filter(struct hf_span *rest, bool with_qos, struct hf_span *ret_filter, uint8_t *ret_qos);

void hf_mqtt_put_connect(struct hf_buf *b, const struct hf_mqtt_connect *c);
void hf_mqtt_put_connack(struct hf_buf *b, bool session_present, uint8_t code);
/* The topic is topic_a followed by topic_b (either may be empty): prefix + property bag without a copy. */
void hf_mqtt_put_publish(struct hf_buf *b, uint8_t qos, bool dup, bool retain, uint16_t packet_id,
			 struct hf_span topic_a, struct hf_span topic_b, struct hf_span body);
void hf_mqtt_put_ack(struct hf_buf *b, enum hf_mqtt_type type, uint16_t packet_id);	/* PUBACK, UNSUBACK */
void hf_mqtt_put_subscribe(struct hf_buf *b, uint16_t packet_id, const struct hf_span *filters,
			   const uint8_t *qos, unsigned n);
void hf_mqtt_put_unsubscribe(struct hf_buf *b, uint16_t packet_id, const struct hf_span *filters, unsigned n);
void hf_mqtt_put_suback(struct hf_buf *b, uint16_t packet_id, const uint8_t *codes, unsigned n);
void hf_mqtt_put_empty(struct hf_buf *b, enum hf_mqtt_type type);	/* PINGREQ PINGRESP DISCONNECT */

/* mqtt/mqtt_topic.c - topic names and filters. */
bool hf_mqtt_filter_ok(struct hf_span filter);		/* 4.7.1 */
bool hf_mqtt_topic_ok(struct hf_span topic);		/* no wildcards, UTF-8, 1..65535 */
bool hf_mqtt_match(struct hf_span filter, struct hf_span topic);	/* 4.7.2: '$' rule applies */
