/* SPDX-License-Identifier: GPL-3.0-or-later */
/* HTTP server: answers and bodies of any length, streams, many requests at once; clients that are slow or leave. */
#include "http/http.h"

#include "core/util.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "http_world.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stream),
		cmocka_unit_test(test_stream_slow_reader),
		cmocka_unit_test(test_sink),
		cmocka_unit_test(test_sink_refuses),
		cmocka_unit_test(test_sink_drops),
		cmocka_unit_test(test_source),
		cmocka_unit_test(test_source_unread),
		cmocka_unit_test(test_source_server_ends),
		cmocka_unit_test(test_pipelined),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
