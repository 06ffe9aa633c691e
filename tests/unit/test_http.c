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

#include "http_world.h"

/* --- reader --------------------------------------------------------------------------------------------- */

struct script {
	const char *text;
	int status;		/* 0 = accepted */
	const char *body;
};

static const struct script scripts[] = {
	{ "GET / HTTP/1.1\r\n" H "\r\n", 0, "" },
	{ "\r\nGET /a?b=c HTTP/1.1\r\n" H "\r\n", 0, "" },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc", 0, "abc" },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 3 \r\n\r\nabc", 0, "abc" },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", 0,
	  "abcde" },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: Chunked\r\n\r\n0A\r\n0123456789\r\n0\r\nT: v\r\nU: w\r\n\r\n",
	  0, "0123456789" },
	/* Forms of the target. */
	{ "GET https://h/a?b HTTP/1.1\r\n" H "\r\n", 0, "" },
	{ "GET HTTPS://h:443?b HTTP/1.1\r\n" H "\r\n", 0, "" },
	{ "GET https://h HTTP/1.0\r\n\r\n", 0, "" },
	{ "OPTIONS * HTTP/1.1\r\n" H "\r\n", 0, "" },
	{ "GET * HTTP/1.1\r\n" H "\r\n", 400, NULL },
	{ "GET http://h/a HTTP/1.1\r\n" H "\r\n", 421, NULL },
	{ "GET ftp://h/a HTTP/1.1\r\n" H "\r\n", 400, NULL },
	{ "GET https://u:p@h/a HTTP/1.1\r\n" H "\r\n", 400, NULL },
	{ "GET https:///a HTTP/1.1\r\n" H "\r\n", 400, NULL },
	{ "GET https://h/a HTTP/1.1\r\n\r\n", 400, NULL },
	{ "GET h:443 HTTP/1.1\r\n" H "\r\n", 400, NULL },
	{ "CONNECT h:443 HTTP/1.1\r\n" H "\r\n", 501, NULL },
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
			r.is_tls = true;
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

static void test_absolute_target(void **state)
{
	static const char text[] = "GET http://H.example:81/a?b HTTP/1.1\r\n" H "X: y\r\n\r\n", secure[] = "GET https://h/ HTTP/1.1\r\n" H "\r\n";
	struct hf_http_reader r;
	struct hf_span host;
	size_t used;

	(void)state;
	hf_http_reader_init(&r, true, 2048, 1024);
	for (int again = 0; again < 2; again++) {
		assert_int_equal(feed(&r, hf_span_str(text), 100, &used), 0);
		assert_true(hf_span_is(r.head.target, "/a?b"));
		assert_true(hf_http_head_find(&r.head, "host", &host) && hf_span_is(host, "H.example:81"));
		assert_int_equal(r.head.n_headers, 2);
		hf_http_reader_next(&r);
	}
	assert_int_equal(feed(&r, hf_span_str(secure), 100, &used), HF_EPROTO);
	assert_int_equal(r.refuse_status, 421);
	hf_http_reader_fini(&r);
	hf_http_reader_init(&r, true, 2048, 1024);
	r.is_tls = true;
	assert_int_equal(feed(&r, hf_span_str(secure), 100, &used), 0);
	hf_http_reader_next(&r);	/* the connection stays what it is */
	assert_int_equal(feed(&r, hf_span_str(text), 100, &used), HF_EPROTO);
	assert_int_equal(r.refuse_status, 421);
	hf_http_reader_fini(&r);
}

/* --- server --------------------------------------------------------------------------------------------- */

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
		cmocka_unit_test(test_absolute_target),
		cmocka_unit_test(test_server),
		cmocka_unit_test(test_server_refuses),
		cmocka_unit_test(test_client_leaves),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_client),
		cmocka_unit_test(test_client_over_tls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
