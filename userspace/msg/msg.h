/* SPDX-License-Identifier: GPL-3.0-or-later */
/* msg/msg.h - one device-to-cloud message: immutable, reference-counted, one allocation.
 *
 * Properties are kept as the MQTT property bag in canonical text (no leading '?', no trailing '/',
 * percent-encoded: iothub-protocol 1.4); the AMQP and HTTP heads will translate to it. */
#pragma once
#include "core/buf.h"
#include <stdatomic.h>

#define HF_MSG_MAX_SIZE 262144	/* body + properties, iothub-protocol 0.3 */
#define HF_ID_MAX 128		/* device id, module id */
#define HF_IDENT_MAX (2 * HF_ID_MAX + 1)	/* "device" or "device/module" */

struct hf_msg {
	atomic_uint refs;
	uint16_t from_len;	/* identity text: "dev0" or "edge1/mod" */
	uint16_t flags;		/* HF_MSG_* */
	uint32_t props_len;
	uint32_t body_len;
	uint8_t data[];		/* from, props, body */
};
enum { HF_MSG_WILL = 1 };

/* Copies the parts. NULL on ENOMEM. The caller holds the one reference. Any thread. */
struct hf_msg *hf_msg_create(struct hf_span from, struct hf_span props, struct hf_span body, uint16_t flags);
struct hf_msg *hf_msg_ref(struct hf_msg *m);
void hf_msg_unref(struct hf_msg **m);
static inline struct hf_span hf_msg_from(const struct hf_msg *m) { return hf_span(m->data, m->from_len); }
static inline struct hf_span hf_msg_props(const struct hf_msg *m)
{
	return hf_span(m->data + m->from_len, m->props_len);
}
static inline struct hf_span hf_msg_body(const struct hf_msg *m)
{
	return hf_span(m->data + m->from_len + m->props_len, m->body_len);
}
