/* SPDX-License-Identifier: GPL-3.0-or-later */
/* An HTTP server whose answers are known, and one client of it. For unit tests. */
#pragma once
#include "http/http.h"

#include "core/util.h"

#include <holdfast/err.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

#define H "Host: h\r\n"	/* of every request */

struct world {
	struct hf_loop *loop;
	struct hf_http_srv *srv;
	struct hf_timer *tick, *later;
	struct sockaddr_in addr;
	struct hf_http_exchange *kept;
	struct hf_http_stream *stream;
	bool stream_gone, stream_drained;
	int fd;
	struct hf_buf got;
	const char *until;
	bool saw_eof, kept_left;
	unsigned n_requests, ticks;
	int reply_err, reply_status;
	int64_t reply_date;
	char reply_body[64];
	uint64_t sunk, limit;		/* of the sink */
	unsigned n_drops, n_ends;
	size_t sent;			/* by the source */
	size_t out_max;			/* of answers that waited when another big one was asked for */
	unsigned second_at;		/* how many requests came before /second */
};

static void on_later(void *arg)
{
	struct world *w = arg;

	w->kept_left = hf_http_exchange_conn(w->kept) == NULL;
	hf_http_respond(w->kept, 200, "text/plain", hf_span_str("late"), "X-Late: 1\r\n");
	w->kept = NULL;
	if (!w->until)
		hf_loop_stop(w->loop);
}

static void on_stream_drained(void *arg)
{
	((struct world *)arg)->stream_drained = true;
}

static void on_stream_gone(void *arg)
{
	struct world *w = arg;

	w->stream = NULL;
	w->stream_gone = true;
}

static const struct hf_http_stream_ops stream_ops = { .drained = on_stream_drained, .gone = on_stream_gone };

#define SOURCE_LEN (5u << 20)

static int source_read(void *arg, uint8_t *p, size_t cap, size_t *ret_n)
{
	struct world *w = arg;

	memset(p, 'a' + (int)(w->sent >> 20), cap);
	w->sent += cap;
	*ret_n = cap;
	return w->limit && w->sent > w->limit ? HF_ECORRUPT : 0;
}

static void source_end(void *arg)
{
	((struct world *)arg)->n_ends++;
}

static void handler(void *arg, const struct hf_http_request *req, struct hf_http_exchange *x)
{
	hf_autobuf struct hf_buf text = HF_BUF_INIT(4096), name = HF_BUF_INIT(64);
	struct world *w = arg;

	w->n_requests++;
	if (hf_span_is(req->path, "/source") || hf_span_is(req->path, "/broken")) {
		hf_http_respond_source(x, 200, "text/plain", &(struct hf_http_source){ SOURCE_LEN, source_read, source_end, w }, NULL);
		return;
	}
	if (req->sink) {
		assert_ptr_equal(req->sink, w);
		assert_int_equal(req->body.len, 0);
		hf_buf_printf(&text, "sunk %llu", (unsigned long long)w->sunk);
		hf_http_respond(x, 200, "text/plain", hf_buf_span(&text), NULL);
		return;
	}
	if (hf_span_is(req->path, "/later")) {
		w->kept = x;
		hf_timer_start(w->later, 20, 0);
		return;
	}
	if (hf_span_is(req->path, "/stream")) {
		w->stream = hf_http_stream_start(x, 200, "text/plain", "X-Live: 1\r\n", &stream_ops, w);
		return;
	}
	if (hf_span_is(req->path, "/big")) {
		static char big[100 * 1024];

		memset(big, 'x', sizeof big);
		w->out_max = hf_max(w->out_max, hf_conn_out_len(hf_http_exchange_conn(x)));
		hf_http_respond(x, 200, "text/plain", hf_span(big, sizeof big), NULL);
		return;
	}
	if (hf_span_is(req->path, "/second"))
		w->second_at = w->n_requests;
	if (hf_span_is(req->path, "/empty")) {
		hf_http_respond(x, 204, NULL, hf_span(NULL, 0), NULL);
		return;
	}
	hf_buf_printf(&text, "%s|", req->method);
	hf_buf_put_span(&text, req->path);
	if (hf_http_query(req, "name", &name))
		hf_buf_printf(&text, "|%s", hf_buf_cstr(&name));
	hf_buf_putc(&text, '|');
	hf_buf_put_span(&text, req->body);
	hf_http_respond(x, 200, "text/plain", hf_buf_span(&text), NULL);
}

static void on_tick(void *arg)
{
	struct world *w = arg;
	char in[4096];
	ssize_t n;

	while ((n = recv(w->fd, in, sizeof in, MSG_DONTWAIT)) > 0)
		hf_buf_put(&w->got, in, (size_t)n);
	w->saw_eof = n == 0;
	if (w->saw_eof || strstr(hf_buf_cstr(&w->got), w->until))
		hf_loop_stop(w->loop);
	if (++w->ticks > 10000)
		fail_msg("no answer: %s", hf_buf_cstr(&w->got));
}

static void world_init(struct world *w, const struct hf_http_srv_cfg *cfg)
{
	socklen_t len = sizeof w->addr;
	int fd;

	memset(w, 0, sizeof *w);
	w->got = HF_BUF_INIT(1 << 20);
	assert_int_equal(hf_loop_create(&w->loop), 0);
	assert_int_equal(hf_timer_create(w->loop, on_tick, w, &w->tick), 0);
	assert_int_equal(hf_timer_create(w->loop, on_later, w, &w->later), 0);
	assert_int_equal(hf_listen_tcp("127.0.0.1:0", false, &fd), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&w->addr, &len), 0);
	assert_int_equal(hf_http_srv_create(w->loop, fd, cfg, handler, w, &w->srv), 0);
	w->fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(w->fd, (struct sockaddr *)&w->addr, sizeof w->addr), 0);
}

static void on_stop(void *arg)
{
	struct world *w = arg;

	hf_loop_stop(w->loop);
}

static void world_fini(struct world *w)
{
	struct hf_timer *t;

	close(w->fd);
	hf_timer_destroy(&w->tick);
	hf_timer_destroy(&w->later);
	hf_http_srv_destroy(&w->srv);
	/* Connections report their end from the loop. */
	assert_int_equal(hf_timer_create(w->loop, on_stop, w, &t), 0);
	hf_timer_start(t, 5, 0);
	hf_loop_run(w->loop);
	hf_timer_destroy(&t);
	hf_loop_destroy(&w->loop);
	hf_buf_fini(&w->got);
}

/* Sends text, runs until `until` appears or the server closes. */
static const char *talk(struct world *w, const char *text, const char *until)
{
	hf_buf_reset(&w->got);
	assert_int_equal(send(w->fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
	w->until = until;
	w->ticks = 0;
	hf_timer_start(w->tick, 1, 1);
	hf_loop_run(w->loop);
	hf_timer_stop(w->tick);
	return hf_buf_cstr(&w->got);
}
