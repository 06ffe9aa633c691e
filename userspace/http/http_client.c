/* SPDX-License-Identifier: GPL-3.0-or-later */
/* http/http_client.c - one request over a fresh connection. */
#include "http/http_int.h"

#include "core/util.h"

#include <holdfast/err.h>

#include <errno.h>
#include <time.h>

enum { TIMEOUT_MS = 20000, MAX_HEAD = 32 * 1024, MAX_BODY = 4 * 1024 * 1024 };

struct hf_http_call {
	struct hf_conn *conn;
	struct hf_timer *timer;
	struct hf_http_reader reader;
	hf_http_reply_fn fn;	/* NULL once it ran or the call was cancelled */
	void *arg;
};

static int64_t date_of(const struct hf_http_head *h)
{
	struct hf_span v;
	struct tm tm = { 0 };
	char text[40];
	const char *end;

	if (!hf_http_head_find(h, "date", &v) || v.len >= sizeof text)
		return 0;
	memcpy(text, v.ptr, v.len);
	text[v.len] = '\0';
	end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
	return end && !*end ? (int64_t)timegm(&tm) : 0;
}

static void answer(struct hf_http_call *call, int err)
{
	hf_http_reply_fn fn = call->fn;
	struct hf_http_reply reply = { 0 };

	if (!fn)
		return;
	call->fn = NULL;
	hf_timer_destroy(&call->timer);
	if (err == 0) {
		reply.status = call->reader.head.status;
		reply.body = hf_buf_span(&call->reader.body);
		reply.date_s = date_of(&call->reader.head);
	}
	fn(call->arg, err, &reply);
}

static void on_data(void *arg, struct hf_conn *c, struct hf_span in)
{
	struct hf_http_call *call = arg;
	size_t used;
	int e;

	if (!call->fn)
		return;
	e = hf_http_reader_feed(&call->reader, in, &used);
	if (e == HF_EMORE)
		return;
	if (e < 0) {
		hf_conn_abort(c, e, call->reader.reason);
		return;
	}
	answer(call, 0);
	hf_conn_close(c);
}

static void on_closed(void *arg, struct hf_conn *c, int err, const char *detail)
{
	struct hf_http_call *call = arg;

	(void)c;
	(void)detail;
	answer(call, err ? err : HF_ECLOSED);
	hf_timer_destroy(&call->timer);
	hf_http_reader_fini(&call->reader);
	free(call);
}

static void on_timeout(void *arg)
{
	struct hf_http_call *call = arg;

	hf_conn_abort(call->conn, HF_ETIMEOUT, "no complete answer in time");
}

static void put_request(struct hf_http_call *call, const struct hf_http_call_cfg *cfg)
{
	struct hf_buf *out = hf_conn_out(call->conn);

	hf_buf_printf(out, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", cfg->method, cfg->target,
		      cfg->host);
	if (cfg->body.len || strcmp(cfg->method, "GET") != 0)
		hf_buf_printf(out, "Content-Length: %zu\r\n", cfg->body.len);
	if (cfg->extra_headers)
		hf_buf_puts(out, cfg->extra_headers);
	hf_buf_puts(out, "\r\n");
	hf_buf_put_span(out, cfg->body);
	hf_conn_flush_later(call->conn);
}

int hf_http_call(struct hf_loop *loop, const struct hf_http_call_cfg *cfg, hf_http_reply_fn fn, void *arg,
		 struct hf_http_call **ret_call)
{
	static const struct hf_conn_ops ops = { .data = on_data, .closed = on_closed };
	uint32_t limit = cfg->timeout_ms ? cfg->timeout_ms : TIMEOUT_MS;
	struct hf_conn_cfg conn_cfg = {
		.tls = cfg->tls, .server_name = cfg->host, .is_client = true, .handshake_timeout_ms = limit,
		.out_cap = cfg->body.len + MAX_HEAD,
	};
	struct hf_http_call *call = calloc(1, sizeof *call);
	int r;

	if (!call)
		return -ENOMEM;
	call->fn = fn;
	call->arg = arg;
	hf_http_reader_init(&call->reader, false, MAX_HEAD, cfg->max_body ? cfg->max_body : MAX_BODY);
	r = hf_timer_create(loop, on_timeout, call, &call->timer);
	if (r == 0)
		r = hf_conn_connect(loop, cfg->addr, cfg->addr_len, &conn_cfg, &ops, call, &call->conn);
	if (r < 0) {
		hf_timer_destroy(&call->timer);
		free(call);
		return r;
	}
	hf_timer_start(call->timer, limit, 0);
	put_request(call, cfg);
	*ret_call = call;
	return 0;
}

void hf_http_call_cancel(struct hf_http_call **pcall)
{
	struct hf_http_call *call = *pcall;

	*pcall = NULL;
	if (!call)
		return;
	call->fn = NULL;
	hf_timer_destroy(&call->timer);
	hf_conn_abort(call->conn, HF_ECLOSED, "cancelled");
}
