/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "dialect/bag.h"
#include "core/util.h"
#include <holdfast/err.h>

/* Decodes, checks and encodes one key or value anew. */
static int canonical_part(struct hf_span part, struct hf_buf *tmp, struct hf_buf *out)
{
	hf_buf_reset(tmp);
	if (hf_uri_decode(part, tmp) != 0 || !hf_utf8_ok(hf_buf_span(tmp)))
		return HF_EPROTO;
	hf_uri_encode(hf_buf_span(tmp), out);
	return 0;
}

int hf_bag_canonical(struct hf_span bag, const char *extra, struct hf_buf *out)
{
	hf_autobuf struct hf_buf tmp = HF_BUF_INIT(70 * 1024);
	size_t before = hf_buf_len(out);
	struct hf_span pair, key;

	if (bag.len && bag.ptr[0] == '?')
		bag = hf_span_skip(bag, 1);
	if (bag.len && bag.ptr[bag.len - 1] == '/')
		bag.len--;
	if (bag.len && bag.ptr[bag.len - 1] == '&')
		return HF_EPROTO;
	while (bag.len) {
		hf_span_cut(&bag, '&', &pair);
		bool has_value = hf_span_cut(&pair, '=', &key);

		if (key.len == 0 || (has_value && pair.len && memchr(pair.ptr, '=', pair.len)))
			return HF_EPROTO;
		if (hf_buf_len(out) > before)
			hf_buf_putc(out, '&');
		if (canonical_part(key, &tmp, out) != 0)
			return HF_EPROTO;
		if (has_value) {
			hf_buf_putc(out, '=');
			if (canonical_part(pair, &tmp, out) != 0)
				return HF_EPROTO;
		}
	}
	if (extra) {
		if (hf_buf_len(out) > before)
			hf_buf_putc(out, '&');
		hf_buf_puts(out, extra);
	}
	return out->err;
}

void hf_bag_put(struct hf_buf *bag, struct hf_span key, const struct hf_span *value)
{
	if (hf_buf_len(bag))
		hf_buf_putc(bag, '&');
	hf_uri_encode(key, bag);
	if (value) {
		hf_buf_putc(bag, '=');
		hf_uri_encode(*value, bag);
	}
}

bool hf_bag_next(struct hf_bag_iter *it, struct hf_buf *key, struct hf_buf *value, bool *has_value)
{
	struct hf_span pair, k;

	if (it->rest.len == 0)
		return false;
	hf_buf_reset(key);
	hf_buf_reset(value);
	hf_span_cut(&it->rest, '&', &pair);
	*has_value = hf_span_cut(&pair, '=', &k);
	hf_uri_decode(k, key);
	if (*has_value)
		hf_uri_decode(pair, value);
	return true;
}
