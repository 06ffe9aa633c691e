/* SPDX-License-Identifier: GPL-3.0-or-later */
/* mqtt/mqtt_stream.h - the bytes of one connection, cut into packets, sans I/O.
 *
 * Whole packets are handed on straight from the caller's bytes; only what is incomplete, or waits behind a hold,
 * is copied, and the memory goes back when nothing is left. One thread, the connection's. */
#pragma once
#include "mqtt/mqtt_codec.h"

/* What the owner says of a packet. */
enum hf_mqtt_next {
	HF_MQTT_NEXT,		/* done, on with the next one */
	HF_MQTT_HOLD,		/* done, but nothing more until hf_mqtt_stream_resume */
	HF_MQTT_HOLD_AGAIN,	/* the same, and this packet is offered again first */
	HF_MQTT_END,		/* the connection ended: the stream is not touched again, it may be reset already */
};
typedef enum hf_mqtt_next (*hf_mqtt_packet_fn)(void *arg, const struct hf_mqtt_packet *p);

struct hf_mqtt_stream {
	size_t max_packet;	/* bytes, header included; may be changed between packets */
	bool from_client;	/* which side's packets are legal, see hf_mqtt_decode */
	bool is_held;		/* read only for the owner */
	struct hf_buf in;	/* inside: part of a packet, or what waits behind a hold */
	size_t need;		/* inside: bytes wanted before decoding is worth while */
};
/* kept_max: bound in bytes on what may be kept; at least max_packet plus one read of the connection. */
void hf_mqtt_stream_init(struct hf_mqtt_stream *st, bool from_client, size_t max_packet, size_t kept_max);
void hf_mqtt_stream_reset(struct hf_mqtt_stream *st);	/* frees what is kept, as new; also allowed before HF_MQTT_END */
/* Takes bytes as they came (all of them, also while held). fn is called once a packet, in order.
 * 0; HF_EPROTO malformed or HF_ELIMIT longer than max_packet, *ret_reason static text; -ENOMEM or HF_ELIMIT when
 * the rest cannot be kept. After an error the stream is good for hf_mqtt_stream_reset only. */
int hf_mqtt_stream_feed(struct hf_mqtt_stream *st, struct hf_span in, hf_mqtt_packet_fn fn, void *arg,
			const char **ret_reason);
/* Ends a hold and goes on with what was kept. Errors as above. */
int hf_mqtt_stream_resume(struct hf_mqtt_stream *st, hf_mqtt_packet_fn fn, void *arg, const char **ret_reason);
