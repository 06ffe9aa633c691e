/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "dialect/bag_http.h"
#include "core/util.h"
#include "dialect/bag.h"
#include "msg/msg.h"

#include <strings.h>

#define APP_PREFIX "iothub-app-"

/* The last two names are those the C SDK reads, letter by letter. */
static const struct { const char *header, *key, *received; } names[] = {
	{ "iothub-messageid", "$.mid", NULL }, { "iothub-correlationid", "$.cid", NULL }, { "iothub-userid", "$.uid", NULL },
	{ "iothub-to", "$.to", NULL }, { "iothub-expiry", "$.exp", NULL }, { "iothub-ack", "iothub-ack", NULL },
	{ "iothub-creation-time-utc", "$.ctime", NULL }, { "iothub-interface-id", "$.ifid", NULL },
	{ "iothub-message-schema", "$.schema", NULL }, { "dt-subject", "$.sub", NULL },
	{ "iothub-contenttype", "$.ct", "ContentType" }, { "iothub-contentencoding", "$.ce", "ContentEncoding" },
};

bool hf_bag_http_key(struct hf_span header, struct hf_span *ret_key)
{
	size_t n = strlen(APP_PREFIX);

	if (header.len > n && strncasecmp((const char *)header.ptr, APP_PREFIX, n) == 0) {
		*ret_key = hf_span_skip(header, n);
		return true;
	}
	for (size_t i = 0; i < HF_ARRAY_LEN(names); i++)
		if (hf_span_ieq(header, hf_span_str(names[i].header))) {
			*ret_key = hf_span_str(names[i].key);
			return true;
		}
	return false;
}

static bool is_token(uint8_t c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static void put_text(struct hf_buf *out, struct hf_span text, bool token)
{
	for (size_t i = 0; i < text.len; i++) {
		uint8_t c = text.ptr[i];

		if (token ? is_token(c) : c >= 0x20 && c != 0x7f)
			hf_buf_putc(out, (char)c);
		else
			hf_buf_printf(out, "%%%02X", c);
	}
}

static void put_name(struct hf_buf *out, struct hf_span key)
{
	for (size_t i = 0; i < HF_ARRAY_LEN(names); i++)
		if (hf_span_is(key, names[i].key)) {
			hf_buf_puts(out, names[i].received ? names[i].received : names[i].header);
			return;
		}
	hf_buf_puts(out, APP_PREFIX);
	put_text(out, key, true);
}

void hf_bag_http_headers(struct hf_span bag, struct hf_buf *out)
{
	hf_autobuf struct hf_buf key = HF_BUF_INIT(HF_MSG_MAX_SIZE), value = HF_BUF_INIT(HF_MSG_MAX_SIZE);
	struct hf_bag_iter it = { .rest = bag };
	bool has_value;

	while (hf_bag_next(&it, &key, &value, &has_value)) {
		put_name(out, hf_buf_span(&key));
		hf_buf_puts(out, ": ");
		put_text(out, hf_buf_span(&value), false);
		hf_buf_puts(out, "\r\n");
	}
	if (key.err || value.err)
		out->err = out->err ? out->err : key.err ? key.err : value.err;
}
