/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hub/amqp/amqp_props.h"
#include "core/clock.h"
#include "core/util.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

/* Where each system property of a bag stands in a message. */
enum place { ID, TEXT, TIME, ANNOTATION, PROPERTY, CLAIM /* of an origin: never shown */ };
static const struct row {
	const char *key;
	enum place place;
	size_t offset;			/* ID, TEXT, TIME: in struct hf_amqp_msg */
	const char *name;		/* ANNOTATION, PROPERTY */
} rows[] = {
	{ "$.mid", ID, offsetof(struct hf_amqp_msg, message_id), NULL },
	{ "$.cid", ID, offsetof(struct hf_amqp_msg, correlation_id), NULL },
	{ "$.uid", TEXT, offsetof(struct hf_amqp_msg, user_id), NULL },
	{ "$.to", TEXT, offsetof(struct hf_amqp_msg, to), NULL },
	{ "$.ct", TEXT, offsetof(struct hf_amqp_msg, content_type), NULL },
	{ "$.ce", TEXT, offsetof(struct hf_amqp_msg, content_encoding), NULL },
	{ "$.exp", TIME, offsetof(struct hf_amqp_msg, expiry_ms), NULL },
	{ "$.on", PROPERTY, 0, "iothub-outputname" },
	{ "$.ctime", PROPERTY, 0, "iothub-creation-time-utc" },
	{ "$.schema", PROPERTY, 0, "iothub-message-schema" },
	{ "$.ifid", ANNOTATION, 0, "iothub-interface-id" },
	{ "$.sub", ANNOTATION, 0, "dt-subject" },
	{ "$.diagid", ANNOTATION, 0, "Diagnostic-Id" },
	{ "$.diagctx", ANNOTATION, 0, "Correlation-Context" },
	{ "$.cdid", CLAIM, 0, NULL },
	{ "$.cmid", CLAIM, 0, NULL },
};

static const struct row *row_of_key(struct hf_span key)
{
	for (size_t i = 0; i < HF_ARRAY_LEN(rows); i++)
		if (hf_span_is(key, rows[i].key))
			return &rows[i];
	return NULL;
}

/* --- received ------------------------------------------------------------------------------------------------- */

static void put_key(struct hf_buf *bag, struct hf_span key)
{
	if (hf_buf_len(bag))
		hf_buf_putc(bag, '&');
	hf_uri_encode(key, bag);
}

static int put_value(struct hf_buf *bag, struct hf_span key, const struct hf_amqp_value *v)
{
	hf_autobuf struct hf_buf text = HF_BUF_INIT(HF_MSG_MAX_SIZE);

	if (v->kind == HF_AMQP_NONE) {
		put_key(bag, key);
		return 0;
	}
	if (!hf_amqp_text(v, &text) || !hf_utf8_ok(hf_buf_span(&text)))
		return HF_EINVALID;
	put_key(bag, key);
	hf_buf_putc(bag, '=');
	hf_uri_encode(hf_buf_span(&text), bag);
	return text.err;
}

static const void *member(const struct hf_amqp_msg *msg, const struct row *row)
{
	return (const char *)msg + row->offset;
}

/* The value of a row in a received message; kind NONE when absent. */
static struct hf_amqp_value value_of(const struct hf_amqp_msg *msg, const struct row *row)
{
	struct hf_amqp_value v = { .kind = HF_AMQP_NONE };
	const struct hf_amqp_value *found = NULL;

	switch (row->place) {
	case ID:
		v = *(const struct hf_amqp_value *)member(msg, row);
		break;
	case TEXT:
		v.s = *(const struct hf_span *)member(msg, row);
		v.kind = v.s.len ? HF_AMQP_BINARY : HF_AMQP_NONE;
		break;
	case TIME:
		v.i = *(const int64_t *)member(msg, row);
		v.kind = v.i ? HF_AMQP_TIME : HF_AMQP_NONE;
		break;
	case ANNOTATION:
		found = hf_amqp_find(msg->annotations, msg->n_annotations, row->name);
		if (!found && strcmp(row->name, "dt-subject") == 0)
			found = hf_amqp_find(msg->properties, msg->n_properties, row->name);
		break;
	case PROPERTY:
		found = hf_amqp_find(msg->properties, msg->n_properties, row->name);
		if (!found && strcmp(row->key, "$.ctime") == 0 && msg->creation_ms)
			v = HF_AMQP_NUM(HF_AMQP_TIME, msg->creation_ms);
		break;
	case CLAIM:
		break;
	}
	return found ? *found : v;
}

/* Names that stand for system properties, in the message or in a bag, are not application properties. */
static bool is_system_name(struct hf_span name)
{
	for (size_t i = 0; i < HF_ARRAY_LEN(rows); i++)
		if (hf_span_is(name, rows[i].key) || (rows[i].place == PROPERTY && hf_span_is(name, rows[i].name)))
			return true;
	return hf_span_is(name, "dt-subject");
}

int hub_amqp_bag(const struct hf_amqp_msg *msg, struct hf_buf *out)
{
	for (size_t i = 0; i < HF_ARRAY_LEN(rows); i++) {
		struct hf_amqp_value v = value_of(msg, &rows[i]);
		int r = v.kind == HF_AMQP_NONE ? 0 : put_value(out, hf_span_str(rows[i].key), &v);

		if (r != 0)
			return r;
	}
	for (unsigned i = 0; i < msg->n_properties; i++) {
		const struct hf_amqp_field *f = &msg->properties[i];
		int r;

		if (is_system_name(f->key))
			continue;
		r = f->key.len && hf_utf8_ok(f->key) ? put_value(out, f->key, &f->value) : HF_EINVALID;
		if (r != 0)
			return r;
	}
	return out->err;
}

int hub_amqp_body(const struct hf_amqp_msg *msg, struct hf_span *ret_body)
{
	bool is_text = msg->value.kind == HF_AMQP_STRING || msg->value.kind == HF_AMQP_BINARY;

	if (msg->body_kind == HF_AMQP_BODY_DATA)
		*ret_body = msg->body;
	else if (msg->body_kind == HF_AMQP_BODY_VALUE && is_text)
		*ret_body = msg->value.s;
	else if (msg->body_kind == HF_AMQP_BODY_NONE ||
		 (msg->body_kind == HF_AMQP_BODY_VALUE && msg->value.kind == HF_AMQP_NONE))
		*ret_body = hf_span(NULL, 0);
	else
		return HF_EINVALID;
	return 0;
}

static int hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool hub_amqp_uuid(const char *text, uint8_t out[16])
{
	if (strlen(text) != HUB_UUID_SIZE - 1)
		return false;
	for (unsigned i = 0, n = 0; i < HUB_UUID_SIZE - 1; i++) {
		if (i == 8 || i == 13 || i == 18 || i == 23) {
			if (text[i] != '-')
				return false;
			continue;
		}
		int v = hex_value(text[i]);

		if (v < 0)
			return false;
		out[n / 2] = (uint8_t)(n % 2 ? out[n / 2] | v : v << 4);
		n++;
	}
	return true;
}

/* --- sent ----------------------------------------------------------------------------------------------------- */

void hub_amqp_out_init(struct hub_amqp_out *o)
{
	*o = (struct hub_amqp_out){ .text = HF_BUF_INIT(2 * HF_MSG_MAX_SIZE) };
}

void hub_amqp_out_fini(struct hub_amqp_out *o)
{
	free(o->properties);
	free(o->slots);
	hf_buf_fini(&o->text);
	hub_amqp_out_init(o);
}

/* Room for every pair of the bag and its text, so that nothing moves while spans point there. */
static int prepare(struct hub_amqp_out *o, struct hf_span bag, size_t more_text)
{
	size_t pairs = 1, n = 16;

	for (size_t i = 0; i < bag.len; i++)
		pairs += bag.ptr[i] == '&';
	while (n < 2 * pairs)
		n *= 2;
	if (n > o->cap) {
		free(o->properties);
		free(o->slots);
		o->properties = malloc(n / 2 * sizeof *o->properties);
		o->slots = malloc(n * sizeof *o->slots);
		o->cap = o->properties && o->slots ? n : 0;
		if (!o->cap)
			return -ENOMEM;
	}
	o->n_slots = n;
	memset(o->slots, 0, n * sizeof *o->slots);
	hf_buf_reset(&o->text);
	o->msg = (struct hf_amqp_msg){ .annotations = o->annotations, .properties = o->properties };
	return hf_buf_reserve(&o->text, bag.len + more_text) ? 0 : o->text.err;
}

static void annotate(struct hub_amqp_out *o, const char *name, struct hf_amqp_value v)
{
	struct hf_amqp_msg *m = &o->msg;
	unsigned i = 0;

	while (i < m->n_annotations && !hf_span_is(o->annotations[i].key, name))
		i++;
	assert(i < HF_ARRAY_LEN(o->annotations));
	o->annotations[i] = (struct hf_amqp_field){ hf_span_str(name), v };
	m->n_annotations = hf_max(m->n_annotations, i + 1);
}

/* A map has each name once: of several pairs with one name the last counts. */
static void set_property(struct hub_amqp_out *o, struct hf_span name, struct hf_amqp_value v)
{
	size_t at = hf_hash64(name.ptr, name.len) & (o->n_slots - 1);

	while (o->slots[at] && !hf_span_eq(o->properties[o->slots[at] - 1].key, name))
		at = (at + 1) & (o->n_slots - 1);
	if (!o->slots[at])
		o->slots[at] = ++o->msg.n_properties;
	o->properties[o->slots[at] - 1] = (struct hf_amqp_field){ name, v };
}

static struct hf_amqp_value text_value(struct hf_span s)
{
	return (struct hf_amqp_value){ .kind = HF_AMQP_STRING, .s = s };
}

static void place(struct hub_amqp_out *o, const struct row *row, struct hf_amqp_value v)
{
	char *to = (char *)&o->msg + row->offset;
	int64_t ms;

	switch (row->place) {
	case ID:
		*(struct hf_amqp_value *)(void *)to = v;
		break;
	case TEXT:
		*(struct hf_span *)(void *)to = v.kind == HF_AMQP_STRING ? v.s : hf_span(NULL, 0);
		break;
	case TIME:	/* what is no time has no place in the message */
		if (v.kind == HF_AMQP_STRING && hf_iso8601_parse(v.s, &ms) == 0)
			*(int64_t *)(void *)to = ms;
		break;
	case ANNOTATION:
		annotate(o, row->name, v);
		break;
	case PROPERTY:
		set_property(o, hf_span_str(row->name), v);
		break;
	case CLAIM:
		break;
	}
}

static struct hf_span decoded(struct hub_amqp_out *o, struct hf_span part)
{
	size_t before = hf_buf_len(&o->text);

	if (hf_uri_decode(part, &o->text) != 0 && !o->text.err)
		o->text.err = HF_ECORRUPT;
	return hf_span_skip(hf_buf_span(&o->text), before);
}

static int read_bag(struct hub_amqp_out *o, struct hf_span bag)
{
	while (bag.len && !o->text.err) {
		struct hf_amqp_value v = { .kind = HF_AMQP_NONE };
		const struct row *row;
		struct hf_span pair, key;

		hf_span_cut(&bag, '&', &pair);
		bool has_value = hf_span_cut(&pair, '=', &key);

		key = decoded(o, key);
		if (has_value)
			v = text_value(decoded(o, pair));
		row = row_of_key(key);
		if (row)
			place(o, row, v);
		else
			set_property(o, key, v);
	}
	return o->text.err;
}

int hub_amqp_out_c2d(struct hub_amqp_out *o, const struct hub_c2d *c)
{
	int r = prepare(o, c->bag, 0);

	if (r == 0)
		r = read_bag(o, c->bag);
	if (r == 0 && !hub_amqp_uuid(c->lock, o->uuid))
		r = HF_ECORRUPT;
	if (r != 0)
		return r;
	annotate(o, "x-opt-sequence-number", HF_AMQP_NUM(HF_AMQP_LONG, (int64_t)c->seq));
	annotate(o, "x-opt-lock-token", (struct hf_amqp_value){ .kind = HF_AMQP_UUID, .s = hf_span(o->uuid, 16) });
	annotate(o, "iothub-enqueuedtime", HF_AMQP_NUM(HF_AMQP_TIME, c->enqueued_ms));
	annotate(o, "iothub-deliverycount",
		 (struct hf_amqp_value){ .kind = HF_AMQP_UBYTE, .u = hf_min(c->delivery_count, 255u) });
	o->msg.body_kind = HF_AMQP_BODY_DATA;
	o->msg.body = c->body;
	return 0;
}

/* Text made here, after the bag's. */
static struct hf_span text_since(const struct hub_amqp_out *o, size_t before)
{
	return hf_span_skip(hf_buf_span(&o->text), before);
}

/* "Last enqueued event properties": clients that asked for them read them, the others do not mind. */
static void tell_tail(struct hub_amqp_out *o, const struct hub_event_tail *tail)
{
	const struct hf_amqp_field fields[] = {
		{ hf_span_str("last_enqueued_sequence_number"), HF_AMQP_NUM(HF_AMQP_LONG, (int64_t)tail->next_seq - 1) },
		{ hf_span_str("last_enqueued_offset"), HF_AMQP_STR(o->last_offset) },
		{ hf_span_str("last_enqueued_time_utc"), HF_AMQP_NUM(HF_AMQP_TIME, tail->last_enqueued_ms) },
		{ hf_span_str("runtime_info_retrieval_time_utc"), HF_AMQP_NUM(HF_AMQP_TIME, hf_clock_wall_ms()) },
	};

	_Static_assert(sizeof fields == sizeof o->delivery, "a field for each");
	memcpy(o->delivery, fields, sizeof fields);
	o->msg.delivery = o->delivery;
	o->msg.n_delivery = HF_ARRAY_LEN(fields);
}

int hub_amqp_out_event(struct hub_amqp_out *o, const struct hub_event *e, const struct hub_event_tail *tail)
{
	struct hf_span device, module = e->ident;
	bool is_module = hf_span_cut(&module, '/', &device);
	size_t at;
	int r = prepare(o, e->bag, 512);

	if (r == 0)
		r = read_bag(o, e->bag);
	if (r != 0)
		return r;
	annotate(o, "x-opt-sequence-number", HF_AMQP_NUM(HF_AMQP_LONG, (int64_t)e->partition_seq));
	at = hf_buf_len(&o->text);
	hf_buf_printf(&o->text, "%llu", (unsigned long long)e->seq);
	annotate(o, "x-opt-offset", text_value(text_since(o, at)));
	annotate(o, "x-opt-enqueued-time", HF_AMQP_NUM(HF_AMQP_TIME, e->enqueued_ms));
	annotate(o, "iothub-enqueuedtime", HF_AMQP_NUM(HF_AMQP_TIME, e->enqueued_ms));
	annotate(o, "iothub-connection-device-id", text_value(device));
	if (is_module)
		annotate(o, "iothub-connection-module-id", text_value(module));
	at = hf_buf_len(&o->text);
	hub_event_auth_method(e, &o->text);
	annotate(o, "iothub-connection-auth-method", text_value(text_since(o, at)));
	annotate(o, "iothub-connection-auth-generation-id", text_value(e->generation_id));
	annotate(o, "iothub-message-source", text_value(e->source));
	if (e->model_id.len)
		annotate(o, "dt-dataschema", text_value(e->model_id));
	snprintf(o->last_offset, sizeof o->last_offset, "%llu", (unsigned long long)tail->last_offset);
	tell_tail(o, tail);
	o->msg.body_kind = HF_AMQP_BODY_DATA;
	o->msg.body = e->body;
	return o->text.err;
}
