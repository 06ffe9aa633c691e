/* SPDX-License-Identifier: GPL-3.0-or-later */
/* http/http_srv.c - HTTP/1.1 server: one request of a connection at a time, answers now or later. */
#include "http/http_int.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"

#include <holdfast/err.h>

#include <errno.h>
#include <stdio.h>
#include <time.h>

enum {
	MAX_HEAD = 16 * 1024,
	MAX_BODY = 1024 * 1024,
	IDLE_MS = 120000,
	REQUEST_MS = 30000,
	MAX_CONNS = 4096,
	WAITING_MAX = 256 * 1024,	/* pipelined input kept while an answer is awaited */
	OUT_CAP = 64 * 1024 * 1024,
	LINGER_MS = 1000,
};

struct hf_http_srv {
	struct hf_loop *loop;
	struct hf_listener *listener;
	struct hf_http_srv_cfg cfg;
	hf_http_handler handler;
	void *arg;
	struct hf_list conns;
	unsigned n_conns;
	struct hf_http_srv_refusals refusals;
	struct hf_log_limit full_limit, refuse_limit;
};

struct srv_conn {
	struct hf_list node;
	struct hf_http_srv *srv;	/* NULL after the server was destroyed */
	struct hf_conn *conn;
	struct hf_timer *timer;
	struct hf_task resume_task;
	struct hf_http_reader reader;
	struct hf_buf waiting;
	struct hf_http_exchange *x;
	struct hf_http_stream *stream;
	bool in_request;	/* the request limit runs, not the idle limit */
	bool in_handler, ending;
	struct hf_buf late;	/* an answer whose time is to come */
	void (*upgrade)(void *arg, struct hf_conn *conn, struct hf_span early);	/* set: the handler gave conn away */
	void *upgrade_arg;
};

struct hf_http_exchange {
	struct srv_conn *sc;	/* NULL when the client left */
	bool keep_alive, is_head;
	bool held;		/* here, not with the handler: answered already, or */
	bool again;		/* to be handled once more */
	unsigned times;		/* the answer is sent */
	uint32_t late_ms;
};

struct hf_http_stream {
	struct srv_conn *sc;
	const struct hf_http_stream_ops *ops;
	void *arg;
};

static const struct hf_conn_ops conn_ops;

static void arm(struct srv_conn *sc, bool in_request)
{
	const struct hf_http_srv_cfg *cfg = &sc->srv->cfg;

	sc->in_request = in_request;
	hf_timer_start(sc->timer, in_request ? cfg->request_timeout_ms : cfg->idle_timeout_ms, 0);
}

static void put_date(struct hf_buf *out)
{
	static const char days[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
	static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
					    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	time_t now = (time_t)hf_clock_wall_s();
	struct tm tm;

	if (gmtime_r(&now, &tm))
		hf_buf_printf(out, "Date: %s, %02d %s %d %02d:%02d:%02d GMT\r\n", days[tm.tm_wday],
			      tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
			      tm.tm_sec);
}

/* length NULL: the end of the connection ends the body. */
static void put_head(struct hf_buf *out, int status, const char *type, const size_t *length, const char *extra,
		     bool keep_alive)
{
	bool has_body = status != 204 && status != 304;

	hf_buf_printf(out, "HTTP/1.1 %d %s\r\n", status, hf_http_reason_phrase(status));
	put_date(out);
	if (type && has_body)
		hf_buf_printf(out, "Content-Type: %s\r\n", type);
	if (length && has_body)
		hf_buf_printf(out, "Content-Length: %zu\r\n", *length);
	if (!keep_alive)
		hf_buf_puts(out, "Connection: close\r\n");
	if (extra)
		hf_buf_puts(out, extra);
	hf_buf_puts(out, "\r\n");
}

static void put_answer(struct hf_buf *out, int status, const char *type, struct hf_span body,
		       const char *extra, bool keep_alive, bool is_head)
{
	put_head(out, status, type, &body.len, extra, keep_alive);
	if (status != 204 && status != 304 && !is_head)
		hf_buf_put_span(out, body);
}

/* Ends after an answer that the client must be able to read: its unread bytes are taken for a moment, since
 * closing over them would reset the connection. */
static void end_after_refusal(struct srv_conn *sc)
{
	sc->ending = true;
	hf_buf_fini(&sc->waiting);
	hf_http_reader_fini(&sc->reader);
	hf_timer_start(sc->timer, LINGER_MS, 0);
	hf_conn_resume(sc->conn);
}

static void refuse(struct srv_conn *sc, int status, const char *reason)
{
	char text[128];

	sc->srv->refusals.requests++;
	if (sc->srv->cfg.on_refused)
		sc->srv->cfg.on_refused(sc->srv->arg);
	hf_log_limited(&sc->srv->refuse_limit, HF_LOG_WARN, "http.refused", "%s: %d %s: %s",
		       hf_conn_peer(sc->conn), status, hf_http_reason_phrase(status), reason);
	snprintf(text, sizeof text, "{\"Message\":\"%s\"}", reason);
	put_answer(hf_conn_out(sc->conn), status, "application/json", hf_span_str(text), NULL, false, false);
	hf_conn_flush_later(sc->conn);
	end_after_refusal(sc);
}

/* The request in the reader goes to the handler; it stays there while it is to be handled again. */
static void handle(struct srv_conn *sc, bool is_again)
{
	struct hf_http_head *h = &sc->reader.head;
	struct hf_http_request req = { .keep_alive = h->keep_alive, .n_headers = h->n_headers, .is_again = is_again };
	struct hf_span rest = h->target;

	memcpy(req.method, h->method, sizeof req.method);
	memcpy(req.headers, h->headers, h->n_headers * sizeof h->headers[0]);
	hf_span_cut(&rest, '?', &req.path);
	req.query = rest;
	req.body = hf_buf_span(&sc->reader.body);
	sc->in_handler = true;
	sc->srv->handler(sc->srv->arg, &req, sc->x);
	sc->in_handler = false;
	if (!sc->x || !sc->x->again)
		hf_http_reader_next(&sc->reader);
}

static void dispatch(struct srv_conn *sc)
{
	struct hf_http_head *h = &sc->reader.head;
	struct hf_http_exchange *x = calloc(1, sizeof *x);

	if (!x) {
		refuse(sc, 503, "out of memory");
		return;
	}
	x->sc = sc;
	x->keep_alive = h->keep_alive;
	x->is_head = strcmp(h->method, "HEAD") == 0;
	x->times = 1;
	sc->x = x;
	hf_timer_stop(sc->timer);
	handle(sc, false);
}

/* The answer is in the output: on with the next request, or the end. */
static void answered(struct srv_conn *sc)
{
	struct hf_http_exchange *x = hf_take(sc->x);

	hf_conn_flush_later(sc->conn);
	if (x->keep_alive) {
		arm(sc, false);
		if (!sc->in_handler)
			hf_task_next_turn(sc->srv->loop, &sc->resume_task);
	} else {
		sc->ending = true;
		hf_conn_close(sc->conn);
	}
	free(x);
}

static void on_held(struct srv_conn *sc)
{
	if (!sc->x->again) {
		hf_buf_put_span(hf_conn_out(sc->conn), hf_buf_span(&sc->late));
		hf_buf_fini(&sc->late);
		answered(sc);
		return;
	}
	sc->x->held = sc->x->again = false;
	handle(sc, true);
	if (!sc->x && !sc->ending)
		hf_task_next_turn(sc->srv->loop, &sc->resume_task);
}

static void on_timer(void *arg)
{
	struct srv_conn *sc = arg;

	if (sc->x && sc->x->held)
		on_held(sc);
	else if (sc->ending || !sc->in_request)
		hf_conn_close(sc->conn);
	else
		refuse(sc, 408, "request took too long");
}

static void conn_free(struct srv_conn *sc)
{
	hf_list_del(&sc->node);
	hf_timer_destroy(&sc->timer);
	hf_task_cancel(&sc->resume_task);
	hf_http_reader_fini(&sc->reader);
	hf_buf_fini(&sc->waiting);
	hf_buf_fini(&sc->late);
	free(sc);
}

static void on_orphan_closed(void *arg, struct hf_conn *c, int err, const char *detail)
{
	(void)arg;
	(void)c;
	(void)err;
	(void)detail;
}
static const struct hf_conn_ops orphan_ops = { .closed = on_orphan_closed };	/* until the new owner sets its own */

static void give_away(struct srv_conn *sc, struct hf_span early)
{
	void (*fn)(void *, struct hf_conn *, struct hf_span) = sc->upgrade;
	struct hf_conn *conn = sc->conn;
	void *arg = sc->upgrade_arg;

	sc->srv->n_conns--;
	conn_free(sc);
	hf_conn_set_ops(conn, &orphan_ops, NULL);
	fn(arg, conn, early);
}

/* Handles requests until one awaits its answer or the input ends. What is left waits, reading paused. False:
 * the connection has another owner now and sc is gone. */
static bool process(struct srv_conn *sc, struct hf_span in)
{
	while (in.len > 0 && !sc->ending && sc->srv && !sc->x) {
		bool fresh = hf_http_reader_idle(&sc->reader);
		size_t used = 0;
		int e = hf_http_reader_feed(&sc->reader, in, &used);

		if (e < 0 && e != HF_EMORE) {
			refuse(sc, sc->reader.refuse_status ? sc->reader.refuse_status : 400,
			       sc->reader.reason ? sc->reader.reason : "malformed request");
			return true;
		}
		in = hf_span_skip(in, used);
		if (e == 0) {
			dispatch(sc);
			if (sc->upgrade) {
				give_away(sc, in);
				return false;
			}
			continue;
		}
		if (fresh && !hf_http_reader_idle(&sc->reader))
			arm(sc, true);
		if (sc->reader.expect_continue) {
			sc->reader.expect_continue = false;
			hf_conn_write(sc->conn, hf_span_str("HTTP/1.1 100 Continue\r\n\r\n"));
		}
	}
	if (in.len == 0 || sc->ending || !sc->srv)
		return true;
	hf_buf_put_span(&sc->waiting, in);
	hf_conn_pause(sc->conn);
	if (sc->waiting.err)
		hf_conn_abort(sc->conn, HF_ELIMIT, "too much pipelined input");
	return true;
}

static void on_data(void *arg, struct hf_conn *c, struct hf_span in)
{
	struct srv_conn *sc = arg;

	(void)c;
	if (!sc->stream)	/* what follows a request whose answer ends the connection is ignored */
		process(sc, in);
}

static void on_drained(void *arg, struct hf_conn *c)
{
	struct srv_conn *sc = arg;

	(void)c;
	if (sc->stream)
		sc->stream->ops->drained(sc->stream->arg);
}

static void stream_gone(struct srv_conn *sc)
{
	struct hf_http_stream *s = hf_take(sc->stream);

	if (!s)
		return;
	s->ops->gone(s->arg);
	free(s);
}

/* Goes on after an answer that came later than its request's callback. */
static void on_resume(void *arg)
{
	struct srv_conn *sc = arg;
	struct hf_buf in;
	bool still_ours;

	if (sc->ending || !sc->srv || sc->x)
		return;
	in = sc->waiting;
	sc->waiting = HF_BUF_INIT(WAITING_MAX);
	/* Before: whoever takes the connection over must find it reading. */
	hf_conn_resume(sc->conn);
	still_ours = process(sc, hf_buf_span(&in));
	hf_buf_fini(&in);
	if (still_ours && !sc->x && !sc->ending && sc->srv)
		hf_conn_resume(sc->conn);
}

static void on_closed(void *arg, struct hf_conn *c, int err, const char *detail)
{
	struct srv_conn *sc = arg;

	if (sc->srv) {
		if (err)
			hf_log_limited(&sc->srv->refuse_limit, HF_LOG_INFO, "http.closed", "%s: %s",
				       hf_conn_peer(c), detail);
		sc->srv->n_conns--;
	}
	if (sc->x && sc->x->held)
		free(sc->x);
	else if (sc->x)
		sc->x->sc = NULL;
	stream_gone(sc);
	conn_free(sc);
}

static const struct hf_conn_ops conn_ops = { .data = on_data, .drained = on_drained, .closed = on_closed };

static void on_accept(void *arg, int fd, const struct sockaddr_storage *peer)
{
	struct hf_http_srv *srv = arg;
	struct hf_conn_cfg cfg = { .tls = srv->cfg.tls, .out_cap = OUT_CAP };
	struct srv_conn *sc;

	(void)peer;
	if (srv->n_conns >= srv->cfg.max_conns) {
		srv->refusals.conns++;
		if (srv->cfg.on_refused)
			srv->cfg.on_refused(srv->arg);
		hf_log_limited(&srv->full_limit, HF_LOG_WARN, "http.full", "connection refused: %u are open",
			       srv->n_conns);
		close(fd);
		return;
	}
	sc = calloc(1, sizeof *sc);
	if (!sc) {
		close(fd);
		return;
	}
	sc->srv = srv;
	sc->waiting = HF_BUF_INIT(WAITING_MAX);
	sc->late = HF_BUF_INIT(OUT_CAP);
	hf_list_init(&sc->node);
	hf_task_init(&sc->resume_task, on_resume, sc);
	hf_http_reader_init(&sc->reader, true, srv->cfg.max_head, srv->cfg.max_body);
	if (hf_timer_create(srv->loop, on_timer, sc, &sc->timer) < 0) {
		close(fd);
		free(sc);
		return;
	}
	if (hf_conn_create(srv->loop, fd, &cfg, &conn_ops, sc, &sc->conn) < 0) {
		hf_timer_destroy(&sc->timer);
		free(sc);
		return;
	}
	hf_list_add_tail(&srv->conns, &sc->node);
	srv->n_conns++;
	arm(sc, false);
}

int hf_http_srv_create(struct hf_loop *loop, int listen_fd, const struct hf_http_srv_cfg *cfg,
		       hf_http_handler handler, void *arg, struct hf_http_srv **ret_srv)
{
	struct hf_http_srv *srv = calloc(1, sizeof *srv);
	int r;

	if (!srv) {
		close(listen_fd);
		return -ENOMEM;
	}
	srv->loop = loop;
	srv->cfg = *cfg;
	srv->cfg.tls = hf_tls_ctx_ref(cfg->tls);
	srv->cfg.max_head = cfg->max_head ? cfg->max_head : MAX_HEAD;
	srv->cfg.max_body = cfg->max_body ? cfg->max_body : MAX_BODY;
	srv->cfg.idle_timeout_ms = cfg->idle_timeout_ms ? cfg->idle_timeout_ms : IDLE_MS;
	srv->cfg.request_timeout_ms = cfg->request_timeout_ms ? cfg->request_timeout_ms : REQUEST_MS;
	srv->cfg.max_conns = cfg->max_conns ? cfg->max_conns : MAX_CONNS;
	srv->handler = handler;
	srv->arg = arg;
	hf_list_init(&srv->conns);
	r = hf_listener_create(loop, listen_fd, on_accept, srv, &srv->listener);
	if (r < 0) {
		hf_tls_ctx_unref(&srv->cfg.tls);
		free(srv);
		return r;
	}
	*ret_srv = srv;
	return 0;
}

void hf_http_srv_destroy(struct hf_http_srv **psrv)
{
	struct hf_http_srv *srv = *psrv;
	struct hf_list *pos, *tmp;

	*psrv = NULL;
	if (!srv)
		return;
	hf_listener_destroy(&srv->listener);
	hf_list_for_each_safe(pos, tmp, &srv->conns) {
		struct srv_conn *sc = hf_container_of(pos, struct srv_conn, node);

		/* The rest of it goes with `closed`, from the loop. */
		hf_list_del(&sc->node);
		hf_timer_destroy(&sc->timer);
		stream_gone(sc);
		sc->srv = NULL;
		hf_conn_abort(sc->conn, HF_ECLOSED, "server stops");
	}
	hf_tls_ctx_unref(&srv->cfg.tls);
	free(srv);
}

void hf_http_srv_refusals(const struct hf_http_srv *srv, struct hf_http_srv_refusals *ret_n)
{
	*ret_n = srv->refusals;
}

bool hf_http_header(const struct hf_http_request *req, const char *name, struct hf_span *ret_value)
{
	for (unsigned i = 0; i < req->n_headers; i++) {
		if (hf_span_ieq(req->headers[i].name, hf_span_str(name))) {
			*ret_value = req->headers[i].value;
			return true;
		}
	}
	return false;
}

bool hf_http_query(const struct hf_http_request *req, const char *name, struct hf_buf *out)
{
	struct hf_span rest = req->query, item, key;

	hf_buf_reset(out);
	while (rest.len > 0) {
		hf_span_cut(&rest, '&', &item);
		hf_span_cut(&item, '=', &key);
		if (hf_span_is(key, name))
			return hf_uri_decode(item, out) == 0;
	}
	return false;
}

void hf_http_respond(struct hf_http_exchange *x, int status, const char *content_type, struct hf_span body,
		     const char *extra_headers)
{
	struct srv_conn *sc = x->sc;
	struct hf_buf *out;

	if (!sc || !sc->srv || sc->ending) {
		if (sc)
			sc->x = NULL;
		free(x);
		return;
	}
	out = x->late_ms ? &sc->late : hf_conn_out(sc->conn);
	for (unsigned i = 0; i < x->times; i++)
		put_answer(out, status, content_type, body, extra_headers, x->keep_alive, x->is_head);
	x->held = x->late_ms || x->times == 0;
	if (!x->held)
		answered(sc);
	else if (sc->late.err)
		hf_conn_abort(sc->conn, sc->late.err, "no room for a late answer");
	else if (x->times)
		hf_timer_start(sc->timer, x->late_ms, 0);
}

void hf_http_later(struct hf_http_exchange *x, uint32_t ms)
{
	x->held = x->again = true;
	if (ms != UINT32_MAX)
		hf_timer_start(x->sc->timer, ms, 0);
}

void hf_http_drop(struct hf_http_exchange *x)
{
	struct srv_conn *sc = x->sc;

	sc->x = NULL;
	sc->ending = true;
	hf_conn_close(sc->conn);
	free(x);
}

void hf_http_answer(struct hf_http_exchange *x, unsigned times, uint32_t ms)
{
	x->times = times;
	x->late_ms = ms;
}

void hf_http_upgrade(struct hf_http_exchange *x, const char *headers,
		     void (*fn)(void *arg, struct hf_conn *conn, struct hf_span early), void *arg)
{
	struct srv_conn *sc = x->sc;

	assert(sc && sc->in_handler);
	hf_buf_printf(hf_conn_out(sc->conn), "HTTP/1.1 101 Switching Protocols\r\n%s\r\n", headers);
	hf_conn_flush_later(sc->conn);
	sc->upgrade = fn;
	sc->upgrade_arg = arg;
	sc->x = NULL;
	free(x);
}

struct hf_http_stream *hf_http_stream_start(struct hf_http_exchange *x, int status, const char *content_type,
					    const char *extra_headers, const struct hf_http_stream_ops *ops, void *arg)
{
	struct srv_conn *sc = x->sc;
	struct hf_http_stream *s = sc && sc->srv && !sc->ending ? malloc(sizeof *s) : NULL;

	if (s) {
		*s = (struct hf_http_stream){ .sc = sc, .ops = ops, .arg = arg };
		sc->stream = s;
		sc->ending = true;
		put_head(hf_conn_out(sc->conn), status, content_type, NULL, extra_headers, false);
		hf_conn_flush_later(sc->conn);
		hf_conn_resume(sc->conn);	/* or its end would go unnoticed */
	} else if (sc && sc->srv && !sc->ending) {
		sc->ending = true;
		hf_conn_abort(sc->conn, -ENOMEM, "no memory for a stream");
	}
	if (sc)
		sc->x = NULL;
	free(x);
	return s;
}

bool hf_http_stream_write(struct hf_http_stream *s, struct hf_span piece)
{
	return hf_conn_write(s->sc->conn, piece);
}

void hf_http_stream_end(struct hf_http_stream **ps)
{
	struct hf_http_stream *s = hf_take(*ps);

	s->sc->stream = NULL;
	hf_conn_close(s->sc->conn);
	free(s);
}

void hf_http_stream_drop(struct hf_http_stream **ps, const char *why)
{
	struct hf_http_stream *s = hf_take(*ps);

	s->sc->stream = NULL;
	hf_conn_abort(s->sc->conn, HF_ELIMIT, why);
	free(s);
}

struct hf_conn *hf_http_exchange_conn(struct hf_http_exchange *x)
{
	return x->sc ? x->sc->conn : NULL;
}
