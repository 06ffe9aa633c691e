/* SPDX-License-Identifier: GPL-3.0-or-later */
/* http/http_parse.c - splits message heads; the one place that knows http-parser. */
#include "http/http_int.h"

#include "core/util.h"

#include <holdfast/err.h>
#include <http_parser.h>

#include <stdio.h>

struct split {
	struct hf_http_head *head;
	bool complete;
	int err;
};

/* The whole head is given at once, so every part arrives in one piece; a second piece would be appended. */
static void extend(struct hf_span *s, const char *at, size_t n)
{
	if (s->ptr && s->ptr + s->len == (const uint8_t *)at)
		s->len += n;
	else
		*s = hf_span(at, n);
}

static int on_url(http_parser *p, const char *at, size_t n)
{
	struct split *s = p->data;

	extend(&s->head->target, at, n);
	return 0;
}

static int on_field(http_parser *p, const char *at, size_t n)
{
	struct split *s = p->data;

	if (s->head->n_headers == HF_HTTP_MAX_HEADERS) {
		s->err = HF_ELIMIT;
		return 1;
	}
	s->head->headers[s->head->n_headers].name = hf_span(at, n);
	s->head->headers[s->head->n_headers].value = hf_span(NULL, 0);
	s->head->n_headers++;
	return 0;
}

static int on_value(http_parser *p, const char *at, size_t n)
{
	struct split *s = p->data;

	if (s->head->n_headers == 0)
		return 1;
	extend(&s->head->headers[s->head->n_headers - 1].value, at, n);
	return 0;
}

static int on_complete(http_parser *p)
{
	struct split *s = p->data;

	s->complete = true;
	s->head->keep_alive = http_should_keep_alive(p) != 0;
	return 1;	/* no body: reading it is our own business */
}

int hf_http_parse_head(struct hf_span raw, bool is_request, struct hf_http_head *ret_head)
{
	struct split s = { .head = ret_head };
	http_parser_settings cb;
	http_parser p;

	memset(ret_head, 0, sizeof *ret_head);
	http_parser_settings_init(&cb);
	cb.on_url = on_url;
	cb.on_header_field = on_field;
	cb.on_header_value = on_value;
	cb.on_headers_complete = on_complete;
	http_parser_init(&p, is_request ? HTTP_REQUEST : HTTP_RESPONSE);
	p.data = &s;
	http_parser_execute(&p, &cb, (const char *)raw.ptr, raw.len);
	if (s.err)
		return s.err;
	if (!s.complete || p.http_major != 1)
		return HF_EPROTO;
	for (unsigned i = 0; i < ret_head->n_headers; i++) {
		struct hf_span *v = &ret_head->headers[i].value;

		while (v->len > 0 && (v->ptr[v->len - 1] == ' ' || v->ptr[v->len - 1] == '\t'))
			v->len--;
	}
	ret_head->minor = p.http_minor;
	ret_head->status = (int)p.status_code;
	if (is_request)
		snprintf(ret_head->method, sizeof ret_head->method, "%s",
			 http_method_str((enum http_method)p.method));
	return 0;
}
