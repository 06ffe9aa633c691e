/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Link addresses (iothub-protocol 2.3). */
#include "core/util.h"
#include "hub/amqp/amqp_int.h"

#include <holdfast/err.h>
#include <stdio.h>

/* What follows "amqps://host[:port]" or "amqp://...", else all of it; without slashes in front. */
static struct hf_span path_of(const char *address)
{
	struct hf_span s = hf_span_str(address), head = s;
	const char *scheme = strstr(address, "://");

	if (scheme && (hf_span_ieq(hf_span(address, (size_t)(scheme - address)), hf_span_str("amqps")) ||
		       hf_span_ieq(hf_span(address, (size_t)(scheme - address)), hf_span_str("amqp")))) {
		s = hf_span_str(scheme + 3);
		hf_span_cut(&s, '/', &head);
	}
	while (s.len && s.ptr[0] == '/')
		s = hf_span_skip(s, 1);
	return s;
}

static bool word_is(struct hf_span word, const char *text)
{
	return hf_span_ieq(word, hf_span_str(text));
}

static bool put_ident(struct hf_span device, struct hf_span module, char out[HF_IDENT_MAX + 1])
{
	if (device.len == 0 || device.len > HF_ID_MAX || module.len > HF_ID_MAX || memchr(device.ptr, '/', device.len))
		return false;
	snprintf(out, HF_IDENT_MAX + 1, "%.*s%s%.*s", (int)device.len, (const char *)device.ptr, module.len ? "/" : "",
		 (int)module.len, (const char *)module.ptr);
	return strlen(out) == device.len + module.len + (module.len ? 1 : 0);
}

/* devices/D[/modules/M]: how many words that takes; 0: it is not that. */
static unsigned take_ident(struct hub_model *m, const struct hf_span *raw, struct hub_amqp_addr *a)
{
	unsigned used = a->n >= 4 && word_is(a->word[2], "modules") ? 4 : 2;
	struct hf_span none = { 0 };
	char plain[HF_IDENT_MAX + 1];

	if (a->n < 2 || !word_is(a->word[0], "devices") ||
	    !put_ident(a->word[1], used == 4 ? a->word[3] : none, a->ident))
		return 0;
	/* Some clients encode ids and some do not; '%' may be part of one. */
	if (put_ident(raw[1], used == 4 ? raw[3] : none, plain) && hub_ident_find(m, hf_span_str(plain)))
		memcpy(a->ident, plain, sizeof plain);
	return used;
}

int hub_amqp_addr_parse(struct hub_model *m, const char *address, struct hub_amqp_addr *a)
{
	hf_autobuf struct hf_buf text = HF_BUF_INIT(HUB_AMQP_MAX_ADDR), word = HF_BUF_INIT(HUB_AMQP_MAX_ADDR);
	struct hf_span rest = path_of(address), raw[HUB_AMQP_MAX_WORDS];
	size_t from[HUB_AMQP_MAX_WORDS + 1] = { 0 };
	unsigned used;

	a->n = 0;
	a->ident[0] = '\0';
	if (strlen(address) >= HUB_AMQP_MAX_ADDR)
		return HF_EINVALID;
	for (bool more = rest.len > 0; more; a->n++) {
		if (a->n == HUB_AMQP_MAX_WORDS)
			return HF_EINVALID;
		more = hf_span_cut(&rest, '/', &raw[a->n]);
		hf_buf_reset(&word);
		/* A broken escape is a '%' of the id itself. */
		hf_buf_put_span(&text, hf_uri_decode(raw[a->n], &word) == 0 ? hf_buf_span(&word) : raw[a->n]);
		from[a->n + 1] = hf_buf_len(&text);
	}
	if (text.err || word.err)
		return HF_EINVALID;
	if (from[a->n])
		memcpy(a->text, hf_buf_span(&text).ptr, from[a->n]);
	for (unsigned i = 0; i < a->n; i++)
		a->word[i] = hf_span(a->text + from[i], from[i + 1] - from[i]);
	used = take_ident(m, raw, a);
	a->n -= used;
	memmove(a->word, a->word + used, a->n * sizeof a->word[0]);
	return 0;
}

bool hub_amqp_addr_is(const struct hub_amqp_addr *a, const char *pattern)
{
	struct hf_span rest = hf_span_str(pattern), word;
	unsigned i = 0;

	for (bool more = true; more; i++) {
		more = hf_span_cut(&rest, '/', &word);
		if (i == a->n || (!hf_span_is(word, "*") && !hf_span_ieq(word, a->word[i])))
			return false;
	}
	return i == a->n;
}
