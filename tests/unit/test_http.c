/* SPDX-License-Identifier: GPL-3.0-or-later */
/* HTTP: byte scripts against the reader, and against a live server; calls of the client. */
#include "http/http_int.h"

#include "core/util.h"
#include "pki.h"

#include <holdfast/err.h>

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

/* --- reader --------------------------------------------------------------------------------------------- */

struct script {
	const char *text;
	int status;		/* 0 = accepted */
	const char *body;
};

#define H "Host: h\r\n"
static const struct script scripts[] = {
	{ "GET / HTTP/1.1\r\n" H "\r\n", 0, "" },
	{ "\r\nGET /a?b=c HTTP/1.1\r\n" H "\r\n", 0, "" },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc", 0, "abc" },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 3 \r\n\r\nabc", 0, "abc" },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", 0,
	  "abcde" },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: Chunked\r\n\r\n0A\r\n0123456789\r\n0\r\nT: v\r\nU: w\r\n\r\n",
	  0, "0123456789" },
	/* Two readings of one length. */
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400, NULL },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 400, NULL },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nContent-Length: 4\r\n\r\n", 400, NULL },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 3, 4\r\n\r\n", 400, NULL },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: +3\r\n\r\n", 400, NULL },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 0x3\r\n\r\n", 400, NULL },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\n", 400, NULL },
	{ "POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n", 400, NULL },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\n", 400, NULL },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n", 400, NULL },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, gzip\r\n\r\n", 400, NULL },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", 400, NULL },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400, NULL },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n", 400, NULL },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding : chunked\r\n\r\n", 400, NULL },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding:\x0b" "chunked\r\n\r\n", 400, NULL },
	{ "POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n", 400, NULL },
	/* Line shapes. */
	{ "GET / HTTP/1.1\n" H "\r\n", 400, NULL },
	{ "GET / HTTP/1.1\r\nHost: h\n\r\n", 400, NULL },
	{ "GET / HTTP/1.1\r\n" H "A: b\r\n c\r\n\r\n", 400, NULL },
	{ "GET / HTTP/1.1\r\n" H "A: b\r\n\tc\r\n\r\n", 400, NULL },
	{ "GET / HTTP/1.1\r\n" H "A: b\rc\r\n\r\n", 400, NULL },
	{ "GET / HTTP/1.1\r\n" H ": b\r\n\r\n", 400, NULL },
	{ "GET / HTTP/1.1\r\n" H "A b\r\n\r\n", 400, NULL },
	{ "GET / HTTP/1.1\r\n" H "A\x7f: b\r\n\r\n", 400, NULL },
	{ "GET / HTTP/1.1\r\n\r\n", 400, NULL },
	{ "GET / HTTP/1.1\r\n" H H "\r\n", 400, NULL },
	{ "GET / HTTP/1.2\r\n" H "\r\n", 505, NULL },
	{ "GET / HTTP/2.0\r\n" H "\r\n", 400, NULL },
	{ "GET  / HTTP/1.1\r\n" H "\r\n", 400, NULL },
	{ "BREW / HTTP/1.1\r\n" H "\r\n", 400, NULL },
	{ "GET /\r\n\r\n", 400, NULL },
	/* Chunk shapes. */
#define C "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
	{ C "3\nabc\r\n0\r\n\r\n", 400, NULL },
	{ C "3\r\nabcd\r\n0\r\n\r\n", 400, NULL },
	{ C "\r\n", 400, NULL },
	{ C " 3\r\n", 400, NULL },
	{ C "0x3\r\n", 400, NULL },
	{ C "-3\r\n", 400, NULL },
	{ C "00000000000000000\r\n", 400, NULL },
	{ C "3\r\nabc\n0\r\n\r\n", 400, NULL },
	{ C "3\r\nabc\r\n0\r\nX: y\n\r\n", 400, NULL },
	{ C "ffffffffffffffff\r\n", 413, NULL },
	{ C "401\r\n", 413, NULL },
	{ C "400\r\n", -1, NULL },	/* exactly the bound: more is awaited */
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 1025\r\n\r\n", 413, NULL },
};

static int feed(struct hf_http_reader *r, struct hf_span in, size_t step, size_t *ret_used)
{
	size_t at = 0, used = 0;
	int e = HF_EMORE;

	while (at < in.len && e == HF_EMORE) {
		size_t n = hf_min(step, in.len - at);

		used = 0;
		e = hf_http_reader_feed(r, hf_span(in.ptr + at, n), &used);
		at += used;
		if (e == HF_EMORE)
			assert_int_equal(used, n);
	}
	*ret_used = at;
	return e;
}

static void test_scripts(void **state)
{
	static const size_t steps[] = { 1, 2, 7, 4096 };

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_LEN(scripts); i++) {
		for (size_t k = 0; k < HF_ARRAY_LEN(steps); k++) {
			const struct script *s = &scripts[i];
			struct hf_http_reader r;
			size_t used;
			int e;

			hf_http_reader_init(&r, true, 2048, 1024);
			e = feed(&r, hf_span_str(s->text), steps[k], &used);
			if (s->status == 0) {
				if (e != 0)
					fail_msg("script %zu step %zu: %d %s", i, steps[k], e, r.reason);
				assert_int_equal(used, strlen(s->text));
				assert_true(hf_span_is(hf_buf_span(&r.body), s->body));
			} else if (s->status < 0) {
				assert_int_equal(e, HF_EMORE);
			} else if (e == 0 || e == HF_EMORE || r.refuse_status != s->status) {
				fail_msg("script %zu step %zu: %d status %d", i, steps[k], e, r.refuse_status);
			}
			hf_http_reader_fini(&r);
		}
	}
}

static void test_bounds(void **state)
{
	hf_autobuf struct hf_buf text = HF_BUF_INIT(1 << 20);
	struct hf_http_reader r;
	size_t used;

	(void)state;
	hf_buf_puts(&text, "GET / HTTP/1.1\r\n" H "X: ");
	for (int i = 0; i < 4096; i++)
		hf_buf_putc(&text, 'x');
	hf_http_reader_init(&r, true, 2048, 1024);
	assert_int_equal(feed(&r, hf_buf_span(&text), 100, &used), HF_ELIMIT);
	assert_int_equal(r.refuse_status, 431);
	hf_http_reader_fini(&r);
	hf_buf_reset(&text);
	hf_buf_puts(&text, "GET / HTTP/1.1\r\n" H);
	for (int i = 0; i < HF_HTTP_MAX_HEADERS; i++)
		hf_buf_printf(&text, "X%d: y\r\n", i);
	hf_buf_puts(&text, "\r\n");
	hf_http_reader_init(&r, true, 4096, 1024);
	assert_int_equal(feed(&r, hf_buf_span(&text), 100, &used), HF_ELIMIT);
	assert_int_equal(r.refuse_status, 431);
	hf_http_reader_fini(&r);
	hf_http_reader_init(&r, true, 4096, 1024);
	assert_int_equal(feed(&r, hf_span("GET / HTTP/1.1\r\n" H "A: \0\r\n\r\n", 32), 100, &used), HF_EPROTO);
	hf_http_reader_fini(&r);
}

/* --- server --------------------------------------------------------------------------------------------- */

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

static bool sink_write(void *arg, struct hf_span part)
{
	struct world *w = arg;

	w->sunk += part.len;
	return !w->limit || w->sunk <= w->limit;
}

static void sink_drop(void *arg)
{
	((struct world *)arg)->n_drops++;
}

static void choose_sink(void *arg, const struct hf_http_request *req, struct hf_http_sink *ret_sink)
{
	if (hf_span_starts(req->path, "/sink"))
		*ret_sink = (struct hf_http_sink){ .arg = arg, .write = sink_write, .drop = sink_drop,
						   .refuse = hf_span_is(req->path, "/sink/no") };
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

static void test_server(void **state)
{
	const struct hf_http_srv_cfg cfg = { 0 };
	const char *in, *a, *b, *c;
	struct world w;

	(void)state;
	world_init(&w, &cfg);
	in = talk(&w, "GET /x?name=a%20b&n=1 HTTP/1.1\r\n" H "\r\n", "|a b|");
	assert_non_null(strstr(in, "HTTP/1.1 200 OK\r\n"));
	assert_non_null(strstr(in, "\r\nDate: "));
	assert_non_null(strstr(in, "GET|/x|a b|"));
	in = talk(&w, "GET /empty HTTP/1.1\r\n" H "\r\n", "\r\n\r\n");
	assert_non_null(strstr(in, "204 No Content"));
	assert_null(strstr(in, "Content-Length"));
	/* Three in one piece, the first answered late: answers keep the order. */
	in = talk(&w, "GET /later HTTP/1.1\r\n" H "\r\nPOST /2 HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\nhi"
		  "GET /3 HTTP/1.1\r\n" H "\r\n", "GET|/3|");
	a = strstr(in, "late");
	b = strstr(in, "POST|/2|hi");
	c = strstr(in, "GET|/3|");
	assert_true(a && b && c && a < b && b < c);
	assert_non_null(strstr(in, "X-Late: 1\r\n"));
	in = talk(&w, "POST /e HTTP/1.1\r\n" H "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n",
		  "100 Continue\r\n\r\n");
	in = talk(&w, "ok", "POST|/e|ok");
	assert_false(w.saw_eof);
	in = talk(&w, "HEAD /h HTTP/1.1\r\n" H "\r\n", "\r\n\r\n");
	assert_null(strstr(in, "HEAD|"));
	in = talk(&w, "GET /last HTTP/1.1\r\n" H "Connection: close\r\n\r\n", "never");
	assert_true(w.saw_eof);
	assert_non_null(strstr(in, "GET|/last|"));
	assert_non_null(strstr(in, "Connection: close"));
	world_fini(&w);
}

static void test_server_refuses(void **state)
{
	struct hf_http_srv_cfg cfg = { .request_timeout_ms = 30 };
	const char *in;
	struct world w;

	(void)state;
	world_init(&w, &cfg);
	in = talk(&w, "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
		  "GET /smuggled HTTP/1.1\r\n" H "\r\n", "never");
	assert_non_null(strstr(in, "400 Bad Request"));
	assert_true(w.saw_eof);
	assert_int_equal(w.n_requests, 0);
	world_fini(&w);
	world_init(&w, &cfg);
	in = talk(&w, "POST /slow HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\na", "408 Request Timeout");
	assert_int_equal(w.n_requests, 0);
	world_fini(&w);
	cfg.request_timeout_ms = 0;
	cfg.max_body = 10;
	world_init(&w, &cfg);
	in = talk(&w, "POST / HTTP/1.1\r\n" H "Content-Length: 11\r\nExpect: 100-continue\r\n\r\n", "413");
	assert_null(strstr(in, "100 Continue"));
	world_fini(&w);
	cfg.idle_timeout_ms = 30;
	world_init(&w, &cfg);
	talk(&w, "\r\n", "never");
	assert_true(w.saw_eof);
	world_fini(&w);
}

/* The client is gone when the answer comes. */
static void test_client_leaves(void **state)
{
	const struct hf_http_srv_cfg cfg = { 0 };
	const char *text = "GET /later HTTP/1.1\r\n" H "\r\n";
	struct linger lg = { .l_onoff = 1 };
	struct world w;

	(void)state;
	world_init(&w, &cfg);
	assert_int_equal(send(w.fd, text, strlen(text), 0), strlen(text));
	setsockopt(w.fd, SOL_SOCKET, SO_LINGER, &lg, sizeof lg);
	shutdown(w.fd, SHUT_WR);
	hf_loop_run(w.loop);	/* until on_later answered */
	assert_true(w.kept_left);
	world_fini(&w);
}

static void on_write(void *arg)
{
	struct world *w = arg;

	hf_http_stream_write(w->stream, hf_span_str("second"));
	hf_http_stream_end(&w->stream);
}

static void test_stream(void **state)
{
	const struct hf_http_srv_cfg cfg = { .idle_timeout_ms = 30 };
	struct hf_timer *write;
	const char *in;
	struct world w;

	(void)state;
	world_init(&w, &cfg);
	in = talk(&w, "GET /stream HTTP/1.1\r\n" H "\r\nGET /ignored HTTP/1.1\r\n" H "\r\n", "\r\n\r\n");
	assert_non_null(strstr(in, "HTTP/1.1 200 OK\r\n"));
	assert_non_null(strstr(in, "X-Live: 1\r\n"));
	assert_non_null(strstr(in, "Connection: close\r\n"));
	assert_null(strstr(in, "Content-Length"));
	assert_true(hf_http_stream_write(w.stream, hf_span_str("first")));
	in = talk(&w, "", "first");
	assert_int_equal(hf_timer_create(w.loop, on_write, &w, &write), 0);
	hf_timer_start(write, 60, 0);	/* the idle limit is not for streams */
	in = talk(&w, "noise", "never");
	assert_true(w.saw_eof);
	assert_string_equal(in, "second");
	assert_false(w.stream_gone);
	assert_int_equal(w.n_requests, 1);
	hf_timer_destroy(&write);
	world_fini(&w);

	/* The client leaves; then one that is there when the server ends. */
	world_init(&w, &cfg);
	talk(&w, "GET /stream HTTP/1.1\r\n" H "\r\n", "\r\n\r\n");
	close(w.fd);
	w.fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(w.fd, (struct sockaddr *)&w.addr, sizeof w.addr), 0);
	talk(&w, "GET /stream HTTP/1.1\r\n" H "\r\n", "\r\n\r\n");
	assert_true(w.stream_gone);
	assert_non_null(w.stream);
	w.stream_gone = false;
	world_fini(&w);
	assert_true(w.stream_gone);
}

static void test_stream_slow_reader(void **state)
{
	static char block[64 * 1024];
	const struct hf_http_srv_cfg cfg = { 0 };
	struct world w;
	unsigned n = 0;

	(void)state;
	memset(block, 'x', sizeof block);
	world_init(&w, &cfg);
	talk(&w, "GET /stream HTTP/1.1\r\n" H "\r\n", "\r\n\r\n");
	while (hf_http_stream_write(w.stream, hf_span(block, sizeof block)))
		assert_true(++n < 16);
	while (!w.stream_drained)
		talk(&w, "", "x");
	hf_http_stream_drop(&w.stream, "reads too slowly");
	assert_false(w.stream_gone);
	world_fini(&w);
}

/* Bodies beyond max_body, in one piece and in chunks; the connection goes on after them. */
static void test_sink(void **state)
{
	const struct hf_http_srv_cfg cfg = { .max_body = 100, .body_sink = choose_sink };
	const char *in;
	struct world w;

	(void)state;
	world_init(&w, &cfg);
	in = talk(&w, "PUT /sink HTTP/1.1\r\n" H "Content-Length: 200000\r\nExpect: 100-continue\r\n\r\n", "100 Continue\r\n\r\n");
	for (int i = 0; i < 199; i++) {
		char part[1000];

		memset(part, 'x', sizeof part);
		assert_int_equal(send(w.fd, part, sizeof part, 0), sizeof part);
	}
	hf_buf_reset(&w.got);
	{
		char part[1001];

		memset(part, 'x', sizeof part);
		part[1000] = '\0';
		in = talk(&w, part, "sunk 200000");
	}
	w.sunk = 0;
	in = talk(&w, "PUT /sink HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
		  "POST /e HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\nok", "POST|/e|ok");
	assert_non_null(strstr(in, "sunk 5"));
	in = talk(&w, "PUT /other HTTP/1.1\r\n" H "Content-Length: 101\r\n\r\n", "413");
	assert_int_equal(w.n_drops, 0);
	world_fini(&w);
}

/* A sink that takes nothing, or no more: the answer comes at once, then the end. */
static void test_sink_refuses(void **state)
{
	const struct hf_http_srv_cfg cfg = { .body_sink = choose_sink, .request_timeout_ms = 200 };
	char text[4096] = "";
	const char *in;
	struct world w;

	(void)state;
	world_init(&w, &cfg);
	in = talk(&w, "PUT /sink/no HTTP/1.1\r\n" H "Content-Length: 5000\r\nExpect: 100-continue\r\n\r\nsome of it", "sunk 0");
	assert_null(strstr(in, "100 Continue"));
	assert_non_null(strstr(in, "Connection: close"));
	talk(&w, "GET /smuggled HTTP/1.1\r\n" H "\r\n", "never");
	assert_true(w.saw_eof);
	assert_int_equal(w.n_requests, 1);
	world_fini(&w);
	world_init(&w, &cfg);
	w.limit = 1000;
	snprintf(text, sizeof text, "PUT /sink HTTP/1.1\r\n" H "Content-Length: 3000\r\n\r\n%02000d", 7);
	in = talk(&w, text, "sunk 2000");
	assert_int_equal(w.n_requests, 1);
	assert_int_equal(w.n_drops, 0);
	world_fini(&w);
}

static void test_sink_drops(void **state)
{
	const struct hf_http_srv_cfg cfg = { .body_sink = choose_sink, .request_timeout_ms = 30 };
	struct world w;

	(void)state;
	world_init(&w, &cfg);
	talk(&w, "PUT /sink HTTP/1.1\r\n" H "Content-Length: 3000\r\n\r\nabc", "408");	/* too slow */
	assert_int_equal(w.n_drops, 1);
	assert_int_equal(w.sunk, 3);
	world_fini(&w);
	world_init(&w, &cfg);
	talk(&w, "PUT /sink HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz", "400");	/* malformed */
	assert_int_equal(w.n_drops, 1);
	world_fini(&w);
	world_init(&w, &(struct hf_http_srv_cfg){ .body_sink = choose_sink });
	talk(&w, "GET /1 HTTP/1.1\r\n" H "\r\nPUT /sink HTTP/1.1\r\n" H "Content-Length: 3000\r\n\r\nabc", "GET|/1|");
	assert_int_equal(w.n_drops, 0);
	world_fini(&w);		/* the server goes first */
	assert_int_equal(w.n_requests, 1);
	assert_int_equal(w.n_drops, 1);
}

static void test_source(void **state)
{
	const struct hf_http_srv_cfg cfg = { .idle_timeout_ms = 100 };
	const char *in;
	struct world w;

	(void)state;
	world_init(&w, &cfg);
	w.got.cap = 8 << 20;
	in = talk(&w, "GET /source HTTP/1.1\r\n" H "\r\nGET /after HTTP/1.1\r\n" H "\r\n", "GET|/after|");
	assert_non_null(strstr(in, "Content-Length: 5242880\r\n"));
	assert_true(hf_buf_len(&w.got) > SOURCE_LEN);
	assert_int_equal(w.sent, SOURCE_LEN);
	assert_int_equal(w.n_ends, 1);
	in = talk(&w, "HEAD /source HTTP/1.1\r\n" H "\r\n", "\r\n\r\n");
	assert_non_null(strstr(in, "Content-Length: 5242880\r\n"));
	assert_int_equal(w.n_ends, 2);
	w.sent = 0;
	w.limit = 1 << 20;
	talk(&w, "GET /broken HTTP/1.1\r\n" H "\r\n", "never");	/* the source fails: no end of the body is faked */
	assert_true(w.saw_eof && hf_buf_len(&w.got) < SOURCE_LEN);
	assert_int_equal(w.n_ends, 3);
	world_fini(&w);
}

/* A client that does not read its answer: bounded memory, and an end. */
static void test_source_unread(void **state)
{
	const struct hf_http_srv_cfg cfg = { .idle_timeout_ms = 50 };
	const char *text = "GET /source HTTP/1.1\r\n" H "\r\n";
	int small = 4096;
	struct world w;

	(void)state;
	world_init(&w, &cfg);
	setsockopt(w.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
	assert_int_equal(send(w.fd, text, strlen(text), 0), strlen(text));
	while (w.n_ends == 0 && w.ticks++ < 1000) {
		struct hf_timer *t;

		assert_int_equal(hf_timer_create(w.loop, on_stop, &w, &t), 0);
		hf_timer_start(t, 5, 0);
		hf_loop_run(w.loop);
		hf_timer_destroy(&t);
	}
	assert_int_equal(w.n_ends, 1);
	assert_true(w.sent < SOURCE_LEN);
	world_fini(&w);
}

/* The server ends while an answer is under way: the source is told, and nothing is left (the sanitizer looks). */
static void test_source_server_ends(void **state)
{
	const struct hf_http_srv_cfg cfg = { 0 };
	const char *text = "GET /source HTTP/1.1\r\n" H "\r\n";
	struct hf_timer *t;
	int small = 4096;
	struct world w;

	(void)state;
	world_init(&w, &cfg);
	setsockopt(w.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
	assert_int_equal(send(w.fd, text, strlen(text), 0), strlen(text));
	assert_int_equal(hf_timer_create(w.loop, on_stop, &w, &t), 0);
	while (w.sent == 0) {
		hf_timer_start(t, 5, 0);
		hf_loop_run(w.loop);
	}
	hf_timer_destroy(&t);
	assert_int_equal(w.n_ends, 0);
	world_fini(&w);
	assert_int_equal(w.n_ends, 1);
}

/* Many requests at once: other clients have their turn between them, and who does not read is asked to wait. */
static void test_pipelined(void **state)
{
	const struct hf_http_srv_cfg cfg = { 0 };
	hf_autobuf struct hf_buf text = HF_BUF_INIT(1 << 16);
	int first, small = 64 * 1024;
	struct world w;

	(void)state;
	world_init(&w, &cfg);
	talk(&w, "GET /0 HTTP/1.1\r\n" H "\r\n", "GET|/0|");
	first = w.fd;
	w.fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(w.fd, (struct sockaddr *)&w.addr, sizeof w.addr), 0);
	talk(&w, "GET /0 HTTP/1.1\r\n" H "\r\n", "GET|/0|");
	for (int i = 0; i < 500; i++)
		hf_buf_puts(&text, "GET /1 HTTP/1.1\r\n" H "\r\n");
	assert_int_equal(send(first, hf_buf_cstr(&text), hf_buf_len(&text), 0), hf_buf_len(&text));
	talk(&w, "GET /second HTTP/1.1\r\n" H "\r\n", "GET|/second|");
	assert_in_range(w.second_at, 1, 50);
	close(w.fd);
	w.fd = first;
	while (w.n_requests < 503)
		talk(&w, "", "GET|/1|");

	hf_buf_reset(&text);
	for (int i = 0; i < 60; i++)
		hf_buf_puts(&text, "GET /big HTTP/1.1\r\n" H "\r\n");
	hf_buf_puts(&text, "GET /last HTTP/1.1\r\n" H "\r\n");
	setsockopt(w.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
	w.got.cap = 8 << 20;
	talk(&w, hf_buf_cstr(&text), "GET|/last|");
	assert_int_equal(w.n_requests, 503 + 61);
	assert_true(w.out_max <= 512 * 1024);
	world_fini(&w);
}

static void test_too_many(void **state)
{
	const struct hf_http_srv_cfg cfg = { .max_conns = 1 };
	struct hf_http_srv_refusals n;
	struct world w;
	int first;

	(void)state;
	world_init(&w, &cfg);
	talk(&w, "GET /1 HTTP/1.1\r\n" H "\r\n", "GET|/1|");
	first = w.fd;
	w.fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(w.fd, (struct sockaddr *)&w.addr, sizeof w.addr), 0);
	hf_buf_reset(&w.got);
	w.until = "never";
	hf_timer_start(w.tick, 1, 1);
	hf_loop_run(w.loop);
	assert_true(w.saw_eof);
	hf_http_srv_refusals(w.srv, &n);
	assert_int_equal(n.conns, 1);
	assert_int_equal(n.requests, 0);
	close(first);
	world_fini(&w);
}

/* --- client --------------------------------------------------------------------------------------------- */

static void on_reply(void *arg, int err, const struct hf_http_reply *reply)
{
	struct world *w = arg;

	w->reply_err = err;
	w->reply_status = reply->status;
	w->reply_date = reply->date_s;
	snprintf(w->reply_body, sizeof w->reply_body, "%.*s", (int)reply->body.len,
		 reply->body.len ? (const char *)reply->body.ptr : "");
	hf_loop_stop(w->loop);
}

static void test_client(void **state)
{
	const struct hf_http_srv_cfg cfg = { 0 };
	struct hf_http_call_cfg call_cfg;
	struct hf_http_call *call;
	struct world w;

	(void)state;
	world_init(&w, &cfg);
	call_cfg = (struct hf_http_call_cfg){
		.addr = (struct sockaddr *)&w.addr, .addr_len = sizeof w.addr, .host = "h",
		.method = "POST", .target = "/p?name=q", .body = hf_span_str("body"),
		.extra_headers = "Authorization: none\r\n",
	};
	assert_int_equal(hf_http_call(w.loop, &call_cfg, on_reply, &w, &call), 0);
	hf_loop_run(w.loop);
	assert_int_equal(w.reply_err, 0);
	assert_int_equal(w.reply_status, 200);
	assert_string_equal(w.reply_body, "POST|/p|q|body");
	assert_true(llabs(w.reply_date - (int64_t)time(NULL)) < 60);
	call_cfg.max_body = 5;
	assert_int_equal(hf_http_call(w.loop, &call_cfg, on_reply, &w, &call), 0);
	hf_loop_run(w.loop);
	assert_int_equal(w.reply_err, HF_ELIMIT);
	call_cfg.max_body = 0;
	call_cfg.target = "/later";
	call_cfg.timeout_ms = 5;
	assert_int_equal(hf_http_call(w.loop, &call_cfg, on_reply, &w, &call), 0);
	hf_loop_run(w.loop);
	assert_int_equal(w.reply_err, HF_ETIMEOUT);
	w.reply_err = 1;
	assert_int_equal(hf_http_call(w.loop, &call_cfg, on_reply, &w, &call), 0);
	hf_http_call_cancel(&call);
	assert_null(call);
	hf_loop_run(w.loop);	/* until the late answer of the timed-out call */
	assert_int_equal(w.reply_err, 1);
	world_fini(&w);
}

static void test_client_over_tls(void **state)
{
	struct hf_tls_server_cfg tls_cfg;
	struct hf_http_srv_cfg cfg = { 0 };
	struct hf_http_call_cfg call_cfg;
	struct hf_http_call *call;
	struct hf_tls_ctx *client;
	struct pki pki;
	struct world w;

	(void)state;
	assert_int_equal(hf_tls_global_init(), 0);
	assert_int_equal(pki_make(&pki), 0);
	tls_cfg = (struct hf_tls_server_cfg){ .cert_file = pki.cert, .key_file = pki.key };
	assert_int_equal(hf_tls_ctx_create_server(&tls_cfg, &cfg.tls), 0);
	assert_int_equal(hf_tls_ctx_create_client(pki.ca, &client), 0);
	world_init(&w, &cfg);
	call_cfg = (struct hf_http_call_cfg){
		.addr = (struct sockaddr *)&w.addr, .addr_len = sizeof w.addr, .host = "gw.test", .tls = client,
		.method = "GET", .target = "/t",
	};
	assert_int_equal(hf_http_call(w.loop, &call_cfg, on_reply, &w, &call), 0);
	hf_loop_run(w.loop);
	assert_int_equal(w.reply_err, 0);
	assert_string_equal(w.reply_body, "GET|/t|");
	call_cfg.host = "other.test";
	assert_int_equal(hf_http_call(w.loop, &call_cfg, on_reply, &w, &call), 0);
	hf_loop_run(w.loop);
	assert_int_equal(w.reply_err, HF_ETLS);
	world_fini(&w);
	hf_tls_ctx_unref(&cfg.tls);
	hf_tls_ctx_unref(&client);
	pki_remove(&pki);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scripts),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_server),
		cmocka_unit_test(test_server_refuses),
		cmocka_unit_test(test_client_leaves),
		cmocka_unit_test(test_stream),
		cmocka_unit_test(test_stream_slow_reader),
		cmocka_unit_test(test_sink),
		cmocka_unit_test(test_sink_refuses),
		cmocka_unit_test(test_sink_drops),
		cmocka_unit_test(test_source),
		cmocka_unit_test(test_source_unread),
		cmocka_unit_test(test_source_server_ends),
		cmocka_unit_test(test_pipelined),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_client),
		cmocka_unit_test(test_client_over_tls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
