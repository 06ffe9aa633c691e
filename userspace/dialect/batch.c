/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "dialect/batch.h"
#include "core/util.h"
#include "dialect/bag.h"
#include "dialect/bag_http.h"
#include "msg/msg.h"

#include <jansson.h>

#include <errno.h>
#include <holdfast/err.h>

static struct hf_span json_span(const json_t *v)
{
	return hf_span(json_string_value(v), json_string_length(v));
}

static int put_properties(const json_t *props, struct hf_buf *mem)
{
	hf_autobuf struct hf_buf bag = HF_BUF_INIT(HF_MSG_MAX_SIZE);
	const char *name;
	json_t *v;

	json_object_foreach((json_t *)props, name, v) {
		struct hf_span key = hf_span_str(name), value = json_span(v);

		if (!*name || (!json_is_string(v) && !json_is_null(v)) || (value.len && memchr(value.ptr, 0, value.len)))
			return HF_EINVALID;
		hf_bag_http_key(key, &key);	/* names without a prefix are the application's too */
		hf_bag_put(&bag, key, json_is_null(v) ? NULL : &value);
	}
	hf_buf_put_span(mem, hf_buf_span(&bag));
	return bag.err;
}

static const char *put_body(const json_t *message, struct hf_buf *mem)
{
	const json_t *body = json_object_get(message, "body"), *base64 = json_object_get(message, "base64Encoded");

	if (!json_is_string(body))
		return "each message needs a body that is text";
	if (base64 && !json_is_boolean(base64))
		return "base64Encoded is true or false";
	if (json_is_false(base64))
		hf_buf_put_span(mem, json_span(body));
	else if (hf_b64_decode(json_span(body), mem) == HF_EINVALID)
		return "a body is not base64";
	return NULL;
}

/* Lengths first, addresses when nothing moves any more. */
static int put_message(const json_t *message, struct hf_buf *mem, struct hf_batch_part *part, const char **ret_why)
{
	const json_t *props = json_object_get(message, "properties");
	size_t begin = hf_buf_len(mem);
	int r = 0;

	*ret_why = "each message is an object";
	if (!json_is_object(message))
		return HF_EINVALID;
	*ret_why = "properties are an object of texts";
	if (props && !json_is_object(props) && !json_is_null(props))
		return HF_EINVALID;
	if (json_is_object(props))
		r = put_properties(props, mem);
	if (r != 0)
		return r;
	part->bag.len = hf_buf_len(mem) - begin;
	*ret_why = put_body(message, mem);
	if (*ret_why)
		return HF_EINVALID;
	part->body.len = hf_buf_len(mem) - begin - part->bag.len;
	return mem->err;
}

static void set_addresses(struct hf_batch *b)
{
	struct hf_span rest = hf_buf_span(&b->mem);

	for (size_t i = 0; i < b->n; i++) {
		b->parts[i].bag.ptr = rest.ptr;
		rest = hf_span_skip(rest, b->parts[i].bag.len);
		b->parts[i].body.ptr = rest.ptr;
		rest = hf_span_skip(rest, b->parts[i].body.len);
	}
}

int hf_batch_parse(struct hf_span text, struct hf_batch *ret_batch, const char **ret_why)
{
	struct hf_batch b = { .mem = HF_BUF_INIT(HF_MSG_MAX_SIZE) };
	json_t *doc = json_loadb((const char *)text.ptr, text.len, JSON_ALLOW_NUL, NULL), *message;
	size_t i;
	int r = 0;

	*ret_why = "a batch is a JSON array with at least one message";
	if (!json_is_array(doc) || json_array_size(doc) == 0)
		r = HF_EINVALID;
	else if (json_array_size(doc) * HF_BATCH_COST > HF_MSG_MAX_SIZE)
		r = HF_ELIMIT;
	if (r == 0 && !(b.parts = calloc(json_array_size(doc), sizeof *b.parts)))
		r = -ENOMEM;
	json_array_foreach(doc, i, message) {
		if (r == 0)
			r = put_message(message, &b.mem, &b.parts[i], ret_why);
		b.n++;
	}
	json_decref(doc);
	if (r == 0 && hf_buf_len(&b.mem) + b.n * HF_BATCH_COST > HF_MSG_MAX_SIZE)
		r = HF_ELIMIT;
	if (r != 0) {
		hf_batch_fini(&b);
		return r;
	}
	set_addresses(&b);
	*ret_batch = b;
	return 0;
}

void hf_batch_fini(struct hf_batch *batch)
{
	hf_buf_fini(&batch->mem);
	free(batch->parts);
	*batch = (struct hf_batch){ 0 };
}
