/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Connections over real loopback sockets: bulk both ways, back-pressure, every way to end. */
#include "net/conn.h"
#include "net/listener.h"

#include "core/util.h"
#include "pki.h"

#include <holdfast/err.h>

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>

static struct pki pki;

enum { BULK = 3 * 1024 * 1024 + 17 };

struct side {
	struct world *w;
	struct hf_conn *conn;
	size_t sent, to_send, got;
	uint8_t next_in;
	unsigned n_ready, n_closed, n_drained;
	int err;
	char detail[128];
	bool pause_often, corrupt, reply_and_close, close_when_sent, echo_eof;
	struct hf_timer *resume;
};

struct world {
	struct hf_loop *loop;
	struct hf_listener *listener;
	struct hf_timer *guard;
	struct hf_tls_ctx *srv_tls, *cl_tls;
	struct sockaddr_in addr;
	struct side srv, cl;
	struct hf_conn_cfg srv_cfg, cl_cfg;
	int stop_at_closed;
	bool timed_out;
};

static void pump(struct side *s)
{
	uint8_t chunk[5000];

	while (s->sent < s->to_send) {
		size_t n = hf_min(sizeof chunk, s->to_send - s->sent);

		for (size_t i = 0; i < n; i++)
			chunk[i] = (uint8_t)((s->sent + i) * 31 >> 3);
		s->sent += n;
		if (!hf_conn_write(s->conn, hf_span(chunk, n)))
			return;
	}
	if (s->close_when_sent)
		hf_conn_close(s->conn);
}

static void on_ready(void *arg, struct hf_conn *c)
{
	struct side *s = arg;

	assert_ptr_equal(c, s->conn);
	s->n_ready++;
	pump(s);
}

static void on_resume(void *arg)
{
	struct side *s = arg;

	hf_conn_resume(s->conn);
}

static void on_data(void *arg, struct hf_conn *c, struct hf_span in)
{
	struct side *s = arg;

	assert_false(hf_conn_paused(c));
	for (size_t i = 0; i < in.len; i++)
		if (in.ptr[i] != (uint8_t)((s->got + i) * 31 >> 3))
			s->corrupt = true;
	s->got += in.len;
	if (s->reply_and_close) {
		pump(s);
		hf_conn_close(c);
	} else if (s->pause_often) {
		hf_conn_pause(c);
		hf_timer_start(s->resume, 1, 0);
	}
	if (s->to_send && s->got >= BULK && s->w->srv.got >= BULK && s->w->cl.got >= BULK)
		hf_conn_close(s->w->cl.conn);
}

static void on_drained(void *arg, struct hf_conn *c)
{
	struct side *s = arg;

	assert_int_equal(hf_conn_out_len(c), 0);
	s->n_drained++;
	pump(s);
}

static void on_closed(void *arg, struct hf_conn *c, int err, const char *detail)
{
	struct side *s = arg;

	assert_ptr_equal(c, s->conn);
	s->n_closed++;
	s->err = err;
	snprintf(s->detail, sizeof s->detail, "%s", detail);
	s->conn = NULL;
	if (s->resume)
		hf_timer_stop(s->resume);
	if ((int)(s->w->srv.n_closed + s->w->cl.n_closed) >= s->w->stop_at_closed)
		hf_loop_stop(s->w->loop);
}

static const struct hf_conn_ops ops = { on_ready, on_data, on_drained, on_closed };

static void on_accept(void *arg, int fd, const struct sockaddr_storage *peer)
{
	struct world *w = arg;

	assert_int_equal(peer->ss_family, AF_INET);
	assert_int_equal(hf_conn_create(w->loop, fd, &w->srv_cfg, &ops, &w->srv, &w->srv.conn), 0);
}

static void on_guard(void *arg)
{
	struct world *w = arg;

	w->timed_out = true;
	hf_loop_stop(w->loop);
}

static void world_init(struct world *w, bool tls)
{
	struct hf_tls_server_cfg cfg = { .cert_file = pki.cert, .key_file = pki.key };
	socklen_t len = sizeof w->addr;
	int fd;

	memset(w, 0, sizeof *w);
	w->srv.w = w->cl.w = w;
	w->stop_at_closed = 2;
	assert_int_equal(hf_loop_create(&w->loop), 0);
	assert_int_equal(hf_timer_create(w->loop, on_guard, w, &w->guard), 0);
	assert_int_equal(hf_timer_create(w->loop, on_resume, &w->srv, &w->srv.resume), 0);
	assert_int_equal(hf_timer_create(w->loop, on_resume, &w->cl, &w->cl.resume), 0);
	assert_int_equal(hf_listen_tcp("127.0.0.1:0", false, &fd), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&w->addr, &len), 0);
	assert_int_equal(hf_listener_create(w->loop, fd, on_accept, w, &w->listener), 0);
	if (tls) {
		assert_int_equal(hf_tls_ctx_create_server(&cfg, &w->srv_tls), 0);
		assert_int_equal(hf_tls_ctx_create_client(pki.ca, &w->cl_tls), 0);
	}
	w->srv_cfg.tls = w->srv_tls;
	w->cl_cfg.tls = w->cl_tls;
	w->cl_cfg.server_name = "gw.test";
}

static void world_connect(struct world *w)
{
	assert_int_equal(hf_conn_connect(w->loop, (struct sockaddr *)&w->addr, sizeof w->addr, &w->cl_cfg,
					 &ops, &w->cl, &w->cl.conn), 0);
}

static void world_run(struct world *w)
{
	hf_timer_start(w->guard, 20000, 0);
	hf_loop_run(w->loop);
	hf_timer_stop(w->guard);
	assert_false(w->timed_out);
}

static void world_fini(struct world *w)
{
	hf_timer_destroy(&w->guard);
	hf_timer_destroy(&w->srv.resume);
	hf_timer_destroy(&w->cl.resume);
	hf_listener_destroy(&w->listener);
	hf_tls_ctx_unref(&w->srv_tls);
	hf_tls_ctx_unref(&w->cl_tls);
	hf_loop_destroy(&w->loop);
}

static void bulk(bool tls)
{
	struct world w;

	world_init(&w, tls);
	w.srv.to_send = w.cl.to_send = BULK;
	w.srv.pause_often = w.cl.pause_often = true;
	world_connect(&w);
	assert_int_equal(w.cl.n_ready, 0);
	world_run(&w);
	assert_int_equal(w.srv.got, BULK);
	assert_int_equal(w.cl.got, BULK);
	assert_false(w.srv.corrupt || w.cl.corrupt);
	assert_int_equal(w.srv.n_ready, 1);
	assert_int_equal(w.cl.n_ready, 1);
	assert_true(w.srv.n_drained > 0 && w.cl.n_drained > 0);
	assert_int_equal(w.srv.err, 0);
	assert_int_equal(w.cl.err, 0);
	world_fini(&w);
}

static void test_bulk_plain(void **state)
{
	(void)state;
	bulk(false);
}

static void test_bulk_tls(void **state)
{
	(void)state;
	bulk(true);
}

/* All that was buffered at close arrives, though the peer reads slowly. */
static void close_sends_buffered(bool tls)
{
	struct world w;

	world_init(&w, tls);
	w.srv_cfg.out_cap = w.cl_cfg.out_cap = 4 * 1024 * 1024;
	w.cl.to_send = 200 * 1024;
	w.cl.close_when_sent = true;
	w.srv.pause_often = true;
	world_connect(&w);
	world_run(&w);
	assert_int_equal(w.srv.got, 200 * 1024);
	assert_false(w.srv.corrupt);
	assert_int_equal(w.cl.err, 0);
	assert_int_equal(w.srv.err, 0);
	world_fini(&w);
}

static void test_close_sends_buffered(void **state)
{
	(void)state;
	close_sends_buffered(false);
	close_sends_buffered(true);
}

static void test_reply_then_close(void **state)
{
	struct world w;

	(void)state;
	for (int tls = 0; tls < 2; tls++) {
		world_init(&w, tls);
		w.cl.to_send = 5;
		w.srv.to_send = 0;
		w.srv.reply_and_close = true;
		world_connect(&w);
		world_run(&w);
		assert_int_equal(w.srv.err, 0);
		assert_int_equal(w.cl.err, 0);
		assert_int_equal(w.srv.got, 5);
		world_fini(&w);
	}
}

static void on_abort(void *arg)
{
	struct world *w = arg;

	hf_conn_abort(w->srv.conn, HF_EDENIED, "key was changed");
	assert_int_equal(w->srv.n_closed, 0);
	/* All of these do nothing any more. */
	assert_false(hf_conn_write(w->srv.conn, hf_span_str("x")));
	hf_buf_puts(hf_conn_out(w->srv.conn), "more");
	hf_conn_flush_later(w->srv.conn);
	hf_conn_pause(w->srv.conn);
	hf_conn_resume(w->srv.conn);
	hf_conn_close(w->srv.conn);
	hf_conn_abort(w->srv.conn, HF_EFULL, NULL);
}

static void test_abort(void **state)
{
	struct hf_timer *t;
	struct world w;

	(void)state;
	world_init(&w, true);
	w.cl.to_send = 100;
	world_connect(&w);
	assert_int_equal(hf_timer_create(w.loop, on_abort, &w, &t), 0);
	hf_timer_start(t, 150, 0);
	world_run(&w);
	assert_int_equal(w.srv.err, HF_EDENIED);
	assert_string_equal(w.srv.detail, "key was changed");
	assert_int_equal(w.srv.n_closed, 1);
	assert_int_equal(w.cl.n_closed, 1);
	hf_timer_destroy(&t);
	world_fini(&w);
}

static void test_output_bound(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, false);
	w.cl_cfg.out_cap = 1000;
	w.cl.to_send = 1001;
	world_connect(&w);
	world_run(&w);
	assert_int_equal(w.cl.err, HF_ELIMIT);
	world_fini(&w);
}

static int raw_connect(const struct world *w)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)&w->addr, sizeof w->addr), 0);
	return fd;
}

static void test_handshake_timeout(void **state)
{
	struct world w;
	int fd;

	(void)state;
	world_init(&w, true);
	w.stop_at_closed = 1;
	w.srv_cfg.handshake_timeout_ms = 50;
	fd = raw_connect(&w);
	assert_int_equal(write(fd, "\x16\x03\x01", 3), 3);
	world_run(&w);
	assert_int_equal(w.srv.err, HF_ETIMEOUT);
	assert_int_equal(w.srv.n_ready, 0);
	close(fd);
	world_fini(&w);
}

static void test_eof_in_handshake(void **state)
{
	struct world w;
	int fd;

	(void)state;
	world_init(&w, true);
	w.stop_at_closed = 1;
	fd = raw_connect(&w);
	assert_int_equal(write(fd, "\x16\x03\x01", 3), 3);
	close(fd);
	world_run(&w);
	assert_int_equal(w.srv.err, HF_ECLOSED);
	assert_int_equal(w.srv.n_ready, 0);
	world_fini(&w);
}

static void test_not_tls(void **state)
{
	struct world w;
	int fd;

	(void)state;
	world_init(&w, true);
	w.stop_at_closed = 1;
	fd = raw_connect(&w);
	assert_int_equal(write(fd, "GET / HTTP/1.1\r\n\r\n", 18), 18);
	world_run(&w);
	assert_int_equal(w.srv.err, HF_ETLS);
	close(fd);
	world_fini(&w);
}

/* A reset by the peer, and writing to a peer that is gone, are errors of that connection alone. */
static void test_reset(void **state)
{
	struct linger lg = { .l_onoff = 1 };
	struct world w;
	int fd;

	(void)state;
	world_init(&w, false);
	w.stop_at_closed = 1;
	w.srv.to_send = BULK;
	fd = raw_connect(&w);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &lg, sizeof lg), 0);
	close(fd);
	world_run(&w);
	assert_true(w.srv.err == -ECONNRESET || w.srv.err == -EPIPE);
	world_fini(&w);
}

/* A peer that closes its sending half still gets what was asked for before. */
static void test_half_close(void **state)
{
	struct world w;
	uint8_t in[64];
	int fd;

	(void)state;
	world_init(&w, false);
	w.stop_at_closed = 1;
	w.srv.to_send = 40;
	fd = raw_connect(&w);
	shutdown(fd, SHUT_WR);
	world_run(&w);
	assert_int_equal(w.srv.err, 0);
	assert_int_equal(recv(fd, in, sizeof in, MSG_WAITALL), 40);
	close(fd);
	world_fini(&w);
}

static void test_connect_refused(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, false);
	w.stop_at_closed = 1;
	hf_listener_destroy(&w.listener);
	world_connect(&w);
	world_run(&w);
	assert_int_equal(w.cl.err, -ECONNREFUSED);
	assert_int_equal(w.cl.n_ready, 0);
	world_fini(&w);
}

static void test_wrong_name(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, true);
	w.cl_cfg.server_name = "elsewhere.test";
	world_connect(&w);
	world_run(&w);
	assert_int_equal(w.cl.err, HF_ETLS);
	assert_non_null(strstr(w.cl.detail, "another host"));
	assert_int_equal(w.srv.n_closed, 1);
	world_fini(&w);
}

static void test_listen_text(void **state)
{
	static const char *const bad[] = { "", ":1", "1.2.3.4", "1.2.3.4:", "1.2.3.4:65536", "host:1", "[::1:5",
					   "1.2.3:5", "127.0.0.1:-1" };
	int fd;

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_LEN(bad); i++)
		assert_int_equal(hf_listen_tcp(bad[i], false, &fd), HF_EINVALID);
	assert_int_equal(hf_listen_tcp("[::1]:0", true, &fd), 0);
	close(fd);
}

static void on_unix_accept(void *arg, int fd, const struct sockaddr_storage *peer)
{
	struct world *w = arg;
	const struct hf_conn_cfg cfg = { 0 };

	(void)peer;
	assert_int_equal(hf_conn_create(w->loop, fd, &cfg, &ops, &w->srv, &w->srv.conn), 0);
}

static void *close_later(void *fd)
{
	poll(NULL, 0, 100);
	close(*(int *)fd);
	return NULL;
}

static void test_unix(void **state)
{
	pthread_t dying;
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct hf_listener *l;
	struct world w;
	struct stat st;
	char path[96];
	int fd, second;

	(void)state;
	world_init(&w, false);
	snprintf(path, sizeof path, "%s/sock", pki.dir);
	assert_int_equal(hf_listen_unix(path, 0620, -1, &fd), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0620);
	assert_int_equal(hf_listen_unix(path, 0600, -1, &second), -EADDRINUSE);
	close(accept(fd, NULL, NULL));	/* the probe of the second */
	assert_int_equal(hf_listener_create(w.loop, fd, on_unix_accept, &w, &l), 0);
	w.cl.to_send = 100;
	w.srv.reply_and_close = true;
	snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
	assert_int_equal(hf_conn_connect(w.loop, (struct sockaddr *)&un, sizeof un, &(struct hf_conn_cfg){ 0 }, &ops, &w.cl, &w.cl.conn), 0);
	assert_string_equal(hf_conn_peer(w.cl.conn), "unix");
	world_run(&w);
	assert_int_equal(w.srv.got, 100);
	hf_listener_destroy(&l);
	/* Now the file is stale: it is replaced. */
	assert_int_equal(hf_listen_unix(path, 0600, -1, &fd), 0);
	/* Who had it is being killed, and answers a little longer. */
	assert_int_equal(pthread_create(&dying, NULL, close_later, &fd), 0);
	assert_int_equal(hf_listen_unix(path, 0600, -1, &second), 0);
	assert_int_equal(pthread_join(dying, NULL), 0);
	close(second);
	world_fini(&w);
}

/* Without descriptors a peer is refused at once instead of waiting, and the next one is served again. */
static void test_no_descriptors(void **state)
{
	struct rlimit old, low;
	int fd, second, fill[64], n = 0;
	struct world w;
	char in;

	(void)state;
	world_init(&w, false);
	w.stop_at_closed = 1;
	w.srv.reply_and_close = true;
	fd = raw_connect(&w);
	second = raw_connect(&w);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	low.rlim_cur = (rlim_t)second + 20;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	while (n < 64 && (fill[n] = dup(fd)) >= 0)
		n++;
	assert_true(n < 64);
	/* One place is left: the first peer takes it and the second is refused. */
	close(fill[--n]);
	assert_int_equal(write(fd, "x", 1), 1);
	world_run(&w);
	assert_int_equal(w.srv.got, 1);
	assert_int_equal(recv(second, &in, 1, 0), 0);
	while (n > 0)
		close(fill[--n]);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	close(fd);
	close(second);
	w.srv.n_closed = 0;
	w.srv.got = 0;
	fd = raw_connect(&w);
	assert_int_equal(write(fd, "x", 1), 1);
	world_run(&w);
	assert_int_equal(w.srv.got, 1);
	close(fd);
	world_fini(&w);
}

static int setup(void **state)
{
	(void)state;
	return hf_tls_global_init() == 0 && pki_make(&pki) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	pki_remove(&pki);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bulk_plain),
		cmocka_unit_test(test_bulk_tls),
		cmocka_unit_test(test_close_sends_buffered),
		cmocka_unit_test(test_reply_then_close),
		cmocka_unit_test(test_abort),
		cmocka_unit_test(test_output_bound),
		cmocka_unit_test(test_handshake_timeout),
		cmocka_unit_test(test_eof_in_handshake),
		cmocka_unit_test(test_not_tls),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_half_close),
		cmocka_unit_test(test_connect_refused),
		cmocka_unit_test(test_wrong_name),
		cmocka_unit_test(test_listen_text),
		cmocka_unit_test(test_unix),
		cmocka_unit_test(test_no_descriptors),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
