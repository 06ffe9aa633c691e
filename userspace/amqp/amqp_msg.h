/* SPDX-License-Identifier: GPL-3.0-or-later */
/* amqp/amqp_msg.h - AMQP messages as plain structs: decoded from and encoded to section bytes. Any thread. */
#pragma once
#include "core/buf.h"

enum hf_amqp_kind {
	HF_AMQP_NONE,		/* absent or null */
	HF_AMQP_BOOL, HF_AMQP_INT, HF_AMQP_LONG,	/* i */
	HF_AMQP_ULONG, HF_AMQP_UBYTE,			/* u */
	HF_AMQP_DOUBLE,
	HF_AMQP_TIME,					/* i: ms since 1970 */
	HF_AMQP_STRING, HF_AMQP_SYMBOL, HF_AMQP_BINARY,	/* s */
	HF_AMQP_UUID,					/* s: 16 bytes */
	HF_AMQP_OTHER,		/* received, of a kind with no use here */
};
struct hf_amqp_value {
	enum hf_amqp_kind kind;
	union {
		int64_t i;
		uint64_t u;
		double d;
		struct hf_span s;
	};
};
struct hf_amqp_field { struct hf_span key; struct hf_amqp_value value; };
#define HF_AMQP_STR(text_) ((struct hf_amqp_value){ .kind = HF_AMQP_STRING, .s = hf_span_str(text_) })
#define HF_AMQP_NUM(kind_, n_) ((struct hf_amqp_value){ .kind = (kind_), .i = (n_) })

enum hf_amqp_body { HF_AMQP_BODY_NONE, HF_AMQP_BODY_DATA, HF_AMQP_BODY_VALUE, HF_AMQP_BODY_MAP };
struct hf_amqp_msg {
	struct hf_amqp_value message_id, correlation_id;
	struct hf_span to, reply_to, user_id, content_type, content_encoding;
	int64_t expiry_ms, creation_ms;			/* 0 = absent */
	struct hf_amqp_field *annotations, *properties;	/* message annotations; application properties */
	unsigned n_annotations, n_properties;
	const struct hf_amqp_field *delivery;		/* delivery annotations, encoding only */
	unsigned n_delivery;
	enum hf_amqp_body body_kind;
	struct hf_span body;				/* DATA: all data sections joined */
	struct hf_amqp_value value;			/* VALUE */
	struct hf_amqp_field *map;			/* MAP, encoding only: string keys */
	unsigned n_map;
	/* MAP, encoding only: one more member, an array of strings; "" = none */
	const char *strings_key;
	const char *const *strings;
	unsigned n_strings;
	unsigned n_data;				/* decoded: number of data sections */
};

/* Holds what a decoded message points into. */
struct hf_amqp_codec;
int hf_amqp_codec_create(struct hf_amqp_codec **ret_codec);
void hf_amqp_codec_destroy(struct hf_amqp_codec **codec);
/* The message borrows from codec and raw until the next call. HF_EPROTO for what is not a message, HF_ELIMIT for more
 * than 256 fields in a section. */
int hf_amqp_decode(struct hf_amqp_codec *codec, struct hf_span raw, struct hf_amqp_msg *ret_msg);
/* Calls fn for each data section in order; stops at the first non-zero result and returns it. */
int hf_amqp_each_data(struct hf_amqp_codec *codec, struct hf_span raw, int (*fn)(void *arg, struct hf_span data), void *arg);
int hf_amqp_encode(struct hf_amqp_codec *codec, const struct hf_amqp_msg *msg, struct hf_buf *out);
/* Finds a field by key; NULL when absent. */
const struct hf_amqp_value *hf_amqp_find(const struct hf_amqp_field *fields, unsigned n, const char *key);
/* A value as text, appended: numbers in decimal, uuid with dashes, binary as it is. False for OTHER and NONE. */
bool hf_amqp_text(const struct hf_amqp_value *v, struct hf_buf *out);
bool hf_amqp_integer(const struct hf_amqp_value *v, int64_t *ret_i);
