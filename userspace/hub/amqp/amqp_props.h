/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/amqp/amqp_props.h - properties of stored messages (a canonical bag, msg/msg.h) as AMQP sections and back
 * (iothub-protocol 2.6, 3.2). Loop thread; nothing blocks. */
#pragma once
#include "amqp/amqp_msg.h"
#include "hub/model/model.h"

/* Bag of a received message, appended to out: system properties first, then application properties of any type as text.
 * Other annotations, so also a claimed origin, are left out. HF_EINVALID: a name or value that no bag can hold (empty
 * name, not UTF-8, a list or map as value); HF_ELIMIT, -ENOMEM: out->err. */
int hub_amqp_bag(const struct hf_amqp_msg *msg, struct hf_buf *out);
/* Body bytes: data sections, or a string or binary value; borrowed from msg. HF_EINVALID for other bodies. */
int hub_amqp_body(const struct hf_amqp_msg *msg, struct hf_span *ret_body);
/* Bytes of a uuid's text. False: not such a text. */
bool hub_amqp_uuid(const char *text, uint8_t out[16]);

/* A message on its way out: holds what msg points into, to be used again from message to message. */
struct hub_amqp_out {
	struct hf_amqp_msg msg;
	struct hf_amqp_field annotations[16], delivery[4], *properties;
	uint32_t *slots;		/* hash table of properties by name: index + 1 */
	size_t n_slots, cap;		/* in use (a power of two); room in both arrays */
	struct hf_buf text;
	uint8_t uuid[16];
	char last_offset[24];
};
void hub_amqp_out_init(struct hub_amqp_out *o);
void hub_amqp_out_fini(struct hub_amqp_out *o);
/* o->msg becomes the message as a device gets it; o->uuid is its lock token, to be the delivery tag (2.5). Borrows from
 * c as well. HF_ECORRUPT, -ENOMEM. */
int hub_amqp_out_c2d(struct hub_amqp_out *o, const struct hub_c2d *c);
/* o->msg becomes the event as Event Hubs clients get it (3.2), and tells them how far the partition is by now: tail.
 * Borrows from e as well. HF_ECORRUPT, -ENOMEM. */
int hub_amqp_out_event(struct hub_amqp_out *o, const struct hub_event *e, const struct hub_event_tail *tail);
