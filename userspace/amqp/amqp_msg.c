/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sections of a message, read and written through proton's data codec (AMQP 1.0 part 3, section 3.2). */
#include "amqp/amqp_int.h"
#include "core/util.h"

#include <errno.h>
#include <holdfast/err.h>
#include <proton/codec.h>
#include <proton/message.h>
#include <stdio.h>

#define MAX_FIELDS 256

enum { SEC_HEADER = 0x70, SEC_DELIVERY_ANN, SEC_MESSAGE_ANN, SEC_PROPERTIES, SEC_APP_PROPERTIES, SEC_DATA, SEC_SEQUENCE,
       SEC_VALUE, SEC_FOOTER };

struct hf_amqp_codec {
	pn_data_t *properties, *annotations, *application, *body;	/* each holds what its section points into */
	pn_message_t *out;
	struct hf_amqp_field ann[MAX_FIELDS], app[MAX_FIELDS];
	uint8_t uuids[2 * MAX_FIELDS + 8][16];	/* of the decoded message: proton's tree lends no bytes of them */
	unsigned n_uuids;
	struct hf_buf joined;		/* bodies of all data sections */
};

int hf_amqp_codec_create(struct hf_amqp_codec **ret_codec)
{
	struct hf_amqp_codec *c = calloc(1, sizeof *c);

	if (!c)
		return -ENOMEM;
	c->properties = pn_data(16);
	c->annotations = pn_data(16);
	c->application = pn_data(16);
	c->body = pn_data(4);
	c->out = pn_message();
	c->joined = HF_BUF_INIT(2u << 20);
	if (!c->properties || !c->annotations || !c->application || !c->body || !c->out) {
		hf_amqp_codec_destroy(&c);
		return -ENOMEM;
	}
	*ret_codec = c;
	return 0;
}

void hf_amqp_codec_destroy(struct hf_amqp_codec **codec)
{
	struct hf_amqp_codec *c = *codec;

	if (!c)
		return;
	pn_data_free(c->properties);
	pn_data_free(c->annotations);
	pn_data_free(c->application);
	pn_data_free(c->body);
	pn_message_free(c->out);
	hf_buf_fini(&c->joined);
	free(c);
	*codec = NULL;
}

/* --- reading ---------------------------------------------------------------------------------------------- */

static struct hf_span to_span(pn_bytes_t b)
{
	return hf_span(b.start, b.size);
}

static struct hf_amqp_value uuid_at(struct hf_amqp_codec *c, pn_data_t *d)
{
	uint8_t *bytes = c->uuids[c->n_uuids];

	if (c->n_uuids == HF_ARRAY_LEN(c->uuids))
		return (struct hf_amqp_value){ .kind = HF_AMQP_OTHER };
	c->n_uuids++;
	memcpy(bytes, pn_data_get_uuid(d).bytes, 16);
	return (struct hf_amqp_value){ .kind = HF_AMQP_UUID, .s = hf_span(bytes, 16) };
}

static struct hf_amqp_value value_at(struct hf_amqp_codec *c, pn_data_t *d)
{
	struct hf_amqp_value v = { .kind = HF_AMQP_OTHER };

	switch (pn_data_type(d)) {
	case PN_NULL: v.kind = HF_AMQP_NONE; break;
	case PN_BOOL: v.kind = HF_AMQP_BOOL; v.i = pn_data_get_bool(d); break;
	case PN_UBYTE: v.kind = HF_AMQP_UBYTE; v.u = pn_data_get_ubyte(d); break;
	case PN_USHORT: v.kind = HF_AMQP_ULONG; v.u = pn_data_get_ushort(d); break;
	case PN_UINT: v.kind = HF_AMQP_ULONG; v.u = pn_data_get_uint(d); break;
	case PN_ULONG: v.kind = HF_AMQP_ULONG; v.u = pn_data_get_ulong(d); break;
	case PN_BYTE: v.kind = HF_AMQP_INT; v.i = pn_data_get_byte(d); break;
	case PN_SHORT: v.kind = HF_AMQP_INT; v.i = pn_data_get_short(d); break;
	case PN_INT: v.kind = HF_AMQP_INT; v.i = pn_data_get_int(d); break;
	case PN_LONG: v.kind = HF_AMQP_LONG; v.i = pn_data_get_long(d); break;
	case PN_FLOAT: v.kind = HF_AMQP_DOUBLE; v.d = (double)pn_data_get_float(d); break;
	case PN_DOUBLE: v.kind = HF_AMQP_DOUBLE; v.d = pn_data_get_double(d); break;
	case PN_TIMESTAMP: v.kind = HF_AMQP_TIME; v.i = pn_data_get_timestamp(d); break;
	case PN_STRING: v.kind = HF_AMQP_STRING; v.s = to_span(pn_data_get_string(d)); break;
	case PN_SYMBOL: v.kind = HF_AMQP_SYMBOL; v.s = to_span(pn_data_get_symbol(d)); break;
	case PN_BINARY: v.kind = HF_AMQP_BINARY; v.s = to_span(pn_data_get_binary(d)); break;
	case PN_UUID: v = uuid_at(c, d); break;
	default: break;
	}
	return v;
}

static int read_map(struct hf_amqp_codec *c, pn_data_t *d, struct hf_amqp_field *fields, unsigned *ret_n)
{
	unsigned n = 0;

	if (pn_data_type(d) != PN_MAP)
		return HF_EPROTO;
	pn_data_enter(d);
	while (pn_data_next(d)) {
		struct hf_amqp_value key = value_at(c, d);

		if (n == MAX_FIELDS)
			return HF_ELIMIT;
		if (!pn_data_next(d) || (key.kind != HF_AMQP_STRING && key.kind != HF_AMQP_SYMBOL))
			return HF_EPROTO;
		fields[n++] = (struct hf_amqp_field){ key.s, value_at(c, d) };
	}
	pn_data_exit(d);
	*ret_n = n;
	return 0;
}

static int read_properties(struct hf_amqp_codec *c, pn_data_t *d, struct hf_amqp_msg *msg)
{
	struct hf_amqp_value v;

	if (pn_data_type(d) != PN_LIST)
		return HF_EPROTO;
	pn_data_enter(d);
	for (unsigned i = 0; pn_data_next(d); i++) {
		v = value_at(c, d);
		bool text = v.kind == HF_AMQP_STRING || v.kind == HF_AMQP_SYMBOL || v.kind == HF_AMQP_BINARY;

		if (v.kind == HF_AMQP_NONE)
			continue;
		switch (i) {
		case 0: msg->message_id = v; break;
		case 1: msg->user_id = text ? v.s : hf_span(NULL, 0); break;
		case 2: msg->to = text ? v.s : hf_span(NULL, 0); break;
		case 4: msg->reply_to = text ? v.s : hf_span(NULL, 0); break;
		case 5: msg->correlation_id = v; break;
		case 6: msg->content_type = text ? v.s : hf_span(NULL, 0); break;
		case 7: msg->content_encoding = text ? v.s : hf_span(NULL, 0); break;
		case 8: msg->expiry_ms = v.kind == HF_AMQP_TIME ? v.i : 0; break;
		case 9: msg->creation_ms = v.kind == HF_AMQP_TIME ? v.i : 0; break;
		default: break;
		}
	}
	pn_data_exit(d);
	return 0;
}

/* Decodes the described value at the start of *rest into d, positioned on the value. */
static int next_section(pn_data_t *d, struct hf_span *rest, uint64_t *ret_code)
{
	ssize_t n;

	pn_data_clear(d);
	n = pn_data_decode(d, (const char *)rest->ptr, rest->len);
	if (n <= 0)
		return HF_EPROTO;
	*rest = hf_span_skip(*rest, (size_t)n);
	pn_data_rewind(d);
	if (!pn_data_next(d) || !pn_data_is_described(d) || !pn_data_enter(d) || !pn_data_next(d) ||
	    pn_data_type(d) != PN_ULONG)
		return HF_EPROTO;
	*ret_code = pn_data_get_ulong(d);
	return pn_data_next(d) ? 0 : HF_EPROTO;
}

static pn_data_t *tree_of(struct hf_amqp_codec *c, uint64_t code)
{
	return code == SEC_PROPERTIES ? c->properties : code == SEC_MESSAGE_ANN ? c->annotations
	     : code == SEC_APP_PROPERTIES ? c->application : c->body;
}

/* Looks ahead which tree the next section needs: a descriptor is 00 53 and one byte, or 00 80 and eight. */
static uint64_t peek_code(struct hf_span rest)
{
	uint64_t code = 0;

	if (rest.len >= 3 && rest.ptr[1] == 0x53)
		return rest.ptr[2];
	for (unsigned i = 2; rest.len >= 10 && rest.ptr[1] == 0x80 && i < 10; i++)
		code = code << 8 | rest.ptr[i];
	return code;
}

static int read_data(struct hf_amqp_codec *c, struct hf_amqp_msg *msg, struct hf_span data)
{
	/* One section is borrowed from the tree as long as no other section uses that tree: so it is copied. */
	hf_buf_put_span(&c->joined, data);
	msg->body_kind = HF_AMQP_BODY_DATA;
	msg->n_data++;
	return c->joined.err;
}

int hf_amqp_decode(struct hf_amqp_codec *c, struct hf_span raw, struct hf_amqp_msg *ret_msg)
{
	struct hf_amqp_msg msg = { .annotations = c->ann, .properties = c->app };
	unsigned seen = 0;
	int r = 0;

	hf_buf_reset(&c->joined);
	c->n_uuids = 0;
	while (r == 0 && raw.len) {
		pn_data_t *d = tree_of(c, peek_code(raw));
		uint64_t code;

		r = next_section(d, &raw, &code);
		/* A tree holds one section: a second would pull the ground from under the first. */
		if (r == 0 && (tree_of(c, code) != d || (d != c->body && seen & 1u << (code & 15))))
			r = HF_EPROTO;
		if (r != 0)
			break;
		seen |= d != c->body ? 1u << (code & 15) : 0;
		switch (code) {
		case SEC_MESSAGE_ANN: r = read_map(c, d, c->ann, &msg.n_annotations); break;
		case SEC_APP_PROPERTIES: r = read_map(c, d, c->app, &msg.n_properties); break;
		case SEC_PROPERTIES: r = read_properties(c, d, &msg); break;
		case SEC_DATA: r = pn_data_type(d) == PN_BINARY ? read_data(c, &msg, to_span(pn_data_get_binary(d))) : HF_EPROTO; break;
		case SEC_VALUE:
			msg.value = value_at(c, d);
			msg.body_kind = HF_AMQP_BODY_VALUE;
			if (raw.len)	/* nothing but a footer may follow, and it would overwrite what value points into */
				raw = hf_span(NULL, 0);
			break;
		default: break;
		}
	}
	msg.body = hf_buf_span(&c->joined);
	if (r == 0)
		*ret_msg = msg;
	return r;
}

int hf_amqp_each_data(struct hf_amqp_codec *c, struct hf_span raw, int (*fn)(void *arg, struct hf_span data), void *arg)
{
	pn_data_t *d = pn_data(4);
	int r = d ? 0 : -ENOMEM;

	(void)c;
	while (r == 0 && raw.len) {
		uint64_t code;

		r = next_section(d, &raw, &code);
		if (r == 0 && code == SEC_DATA && pn_data_type(d) == PN_BINARY)
			r = fn(arg, to_span(pn_data_get_binary(d)));
	}
	pn_data_free(d);
	return r;
}

/* --- writing ---------------------------------------------------------------------------------------------- */

static pn_bytes_t to_pn(struct hf_span s)
{
	return pn_bytes(s.len, s.ptr ? (const char *)s.ptr : "");
}

static void put_value(pn_data_t *d, const struct hf_amqp_value *v)
{
	switch (v->kind) {
	case HF_AMQP_BOOL: pn_data_put_bool(d, v->i != 0); break;
	case HF_AMQP_INT: pn_data_put_int(d, (int32_t)v->i); break;
	case HF_AMQP_LONG: pn_data_put_long(d, v->i); break;
	case HF_AMQP_ULONG: pn_data_put_ulong(d, v->u); break;
	case HF_AMQP_UBYTE: pn_data_put_ubyte(d, (uint8_t)v->u); break;
	case HF_AMQP_DOUBLE: pn_data_put_double(d, v->d); break;
	case HF_AMQP_TIME: pn_data_put_timestamp(d, v->i); break;
	case HF_AMQP_STRING: pn_data_put_string(d, to_pn(v->s)); break;
	case HF_AMQP_SYMBOL: pn_data_put_symbol(d, to_pn(v->s)); break;
	case HF_AMQP_BINARY: pn_data_put_binary(d, to_pn(v->s)); break;
	case HF_AMQP_UUID: {
		pn_uuid_t u;

		memcpy(u.bytes, v->s.ptr, 16);
		pn_data_put_uuid(d, u);
		break;
	}
	case HF_AMQP_NONE:
	case HF_AMQP_OTHER: pn_data_put_null(d); break;
	}
}

static void put_map(pn_data_t *d, const struct hf_amqp_field *fields, unsigned n, bool symbols)
{
	pn_data_put_map(d);
	pn_data_enter(d);
	for (unsigned i = 0; i < n; i++) {
		if (symbols)
			pn_data_put_symbol(d, to_pn(fields[i].key));
		else
			pn_data_put_string(d, to_pn(fields[i].key));
		put_value(d, &fields[i].value);
	}
}

static void put_strings(pn_data_t *d, const char *key, const char *const *strings, unsigned n)
{
	pn_data_put_string(d, to_pn(hf_span_str(key)));
	pn_data_put_array(d, false, PN_STRING);
	pn_data_enter(d);
	for (unsigned i = 0; i < n; i++)
		pn_data_put_string(d, to_pn(hf_span_str(strings[i])));
	pn_data_exit(d);
}

static void put_body(pn_message_t *m, const struct hf_amqp_msg *msg)
{
	pn_data_t *d = pn_message_body(m);

	pn_message_set_inferred(m, msg->body_kind == HF_AMQP_BODY_DATA);
	switch (msg->body_kind) {
	case HF_AMQP_BODY_DATA:
		pn_data_put_binary(d, to_pn(msg->body));
		break;
	case HF_AMQP_BODY_VALUE:
		put_value(d, &msg->value);
		break;
	case HF_AMQP_BODY_MAP:
		put_map(d, msg->map, msg->n_map, false);
		if (msg->strings_key)
			put_strings(d, msg->strings_key, msg->strings, msg->n_strings);
		pn_data_exit(d);
		break;
	case HF_AMQP_BODY_NONE:
		pn_data_put_null(d);
		break;
	}
}

static int set_text(pn_message_t *m, int (*set)(pn_message_t *, const char *), struct hf_span s)
{
	hf_autofree char *text = s.len ? hf_span_dup(s) : NULL;

	if (s.len && !text)
		return -ENOMEM;
	return text && set(m, text) != 0 ? -ENOMEM : 0;
}

/* Takes the header and the properties out of an encoded message where they say nothing: proton always writes them, the
 * service never does. How many bytes are left. */
static size_t drop_empty_sections(uint8_t *p, size_t n)
{
	for (size_t at = 0; at + 4 <= n && p[at] == 0 && p[at + 1] == 0x53 && p[at + 2] <= SEC_PROPERTIES;) {
		struct hf_cur c = hf_cur(hf_span(p + at, n - at));

		hf_amqp_skip_value(&c);
		if (c.err)
			break;
		if (p[at + 3] == 0x45 && (p[at + 2] == SEC_HEADER || p[at + 2] == SEC_PROPERTIES)) {
			n -= 4;
			memmove(p + at, p + at + 4, n - at);
		} else {
			at = n - c.in.len;
		}
	}
	return n;
}

int hf_amqp_encode(struct hf_amqp_codec *c, const struct hf_amqp_msg *msg, struct hf_buf *out)
{
	pn_message_t *m = c->out;
	size_t room = msg->body.len + 1024;
	int r;

	pn_message_clear(m);
	put_value(pn_message_id(m), &msg->message_id);
	put_value(pn_message_correlation_id(m), &msg->correlation_id);
	if (msg->user_id.len)
		pn_message_set_user_id(m, to_pn(msg->user_id));
	r = set_text(m, pn_message_set_address, msg->to);
	if (r == 0)
		r = set_text(m, pn_message_set_reply_to, msg->reply_to);
	if (r == 0)
		r = set_text(m, pn_message_set_content_type, msg->content_type);
	if (r == 0)
		r = set_text(m, pn_message_set_content_encoding, msg->content_encoding);
	if (r != 0)
		return r;
	if (msg->expiry_ms)
		pn_message_set_expiry_time(m, msg->expiry_ms);
	if (msg->creation_ms)
		pn_message_set_creation_time(m, msg->creation_ms);
	if (msg->n_delivery) {
		put_map(pn_message_instructions(m), msg->delivery, msg->n_delivery, true);
		pn_data_exit(pn_message_instructions(m));
	}
	if (msg->n_annotations) {
		put_map(pn_message_annotations(m), msg->annotations, msg->n_annotations, true);
		pn_data_exit(pn_message_annotations(m));
	}
	if (msg->n_properties) {
		put_map(pn_message_properties(m), msg->properties, msg->n_properties, false);
		pn_data_exit(pn_message_properties(m));
	}
	put_body(m, msg);
	for (;;) {
		size_t n = room;
		uint8_t *p = hf_buf_reserve(out, room);

		if (!p)
			return out->err;
		r = pn_message_encode(m, (char *)p, &n);
		if (r == 0) {
			hf_buf_grow(out, drop_empty_sections(p, n));
			return out->err;
		}
		if (r != PN_OVERFLOW)
			return HF_EINVALID;
		room *= 2;
	}
}

/* --- values ----------------------------------------------------------------------------------------------- */

const struct hf_amqp_value *hf_amqp_find(const struct hf_amqp_field *fields, unsigned n, const char *key)
{
	for (unsigned i = 0; i < n; i++)
		if (hf_span_is(fields[i].key, key))
			return &fields[i].value;
	return NULL;
}

bool hf_amqp_text(const struct hf_amqp_value *v, struct hf_buf *out)
{
	char when[32];

	switch (v->kind) {
	case HF_AMQP_BOOL: hf_buf_puts(out, v->i ? "true" : "false"); return true;
	case HF_AMQP_INT:
	case HF_AMQP_LONG: hf_buf_printf(out, "%lld", (long long)v->i); return true;
	case HF_AMQP_UBYTE:
	case HF_AMQP_ULONG: hf_buf_printf(out, "%llu", (unsigned long long)v->u); return true;
	case HF_AMQP_DOUBLE: hf_buf_printf(out, "%.17g", v->d); return true;
	case HF_AMQP_TIME:
		hf_iso8601(v->i, when);
		hf_buf_puts(out, when);
		return true;
	case HF_AMQP_STRING:
	case HF_AMQP_SYMBOL:
	case HF_AMQP_BINARY: hf_buf_put_span(out, v->s); return true;
	case HF_AMQP_UUID:
		for (unsigned i = 0; i < 16; i++)
			hf_buf_printf(out, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", v->s.ptr[i]);
		return true;
	case HF_AMQP_NONE:
	case HF_AMQP_OTHER: break;
	}
	return false;
}

bool hf_amqp_integer(const struct hf_amqp_value *v, int64_t *ret_i)
{
	if (v->kind == HF_AMQP_INT || v->kind == HF_AMQP_LONG || v->kind == HF_AMQP_TIME || v->kind == HF_AMQP_BOOL)
		*ret_i = v->i;
	else if ((v->kind == HF_AMQP_ULONG || v->kind == HF_AMQP_UBYTE) && v->u <= INT64_MAX)
		*ret_i = (int64_t)v->u;
	else
		return v->kind == HF_AMQP_STRING && hf_parse_i64(v->s, INT64_MIN, INT64_MAX, ret_i) == 0;
	return true;
}
