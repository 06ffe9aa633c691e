/* SPDX-License-Identifier: GPL-3.0-or-later */
/* http/http_srv.c - HTTP/1.1 server: one request of a connection at a time, answers now or later. Here: connections and
 * requests. */
#include "http/http_srv_int.h"

#include "core/util.h"

#include <holdfast/err.h>

#include <errno.h>
#include <stdio.h>

enum {
	MAX_HEAD = 16 * 1024,
	MAX_BODY = 1024 * 1024,
	IDLE_MS = 120000,
	REQUEST_MS = 30000,
	MAX_CONNS = 4096,
	WAITING_MAX = 256 * 1024,	/* pipelined input kept while an answer is awaited */
	LINGER_MS = 1000,
	PROGRESS = 256 * 1024,	/* of a body for a sink, in each request_timeout_ms */
};

static const struct hf_conn_ops conn_ops;

void hf_http_srv_arm(struct srv_conn *sc, bool in_request)
{
	const struct hf_http_srv_cfg *cfg = &sc->srv->cfg;

	sc->in_request = in_request;
	hf_timer_start(sc->timer, in_request ? cfg->request_timeout_ms : cfg->idle_timeout_ms, 0);
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
	hf_http_put_answer(hf_conn_out(sc->conn), status, "application/json", hf_span_str(text), NULL, false, false);
	hf_conn_flush_later(sc->conn);
	end_after_refusal(sc);
}

static void make_request(const struct hf_http_head *h, struct hf_http_request *ret_req)
{
	struct hf_span rest = h->target;

	memset(ret_req, 0, sizeof *ret_req);
	ret_req->keep_alive = h->keep_alive;
	ret_req->n_headers = h->n_headers;
	memcpy(ret_req->method, h->method, sizeof ret_req->method);
	memcpy(ret_req->headers, h->headers, h->n_headers * sizeof h->headers[0]);
	hf_span_cut(&rest, '?', &ret_req->path);
	ret_req->query = rest;
	if (ret_req->path.len == 0)
		ret_req->path = hf_span_str("/");	/* "https://HOST?query" */
}

static void on_body(void *arg, const struct hf_http_head *head, struct hf_http_sink *ret_sink)
{
	struct srv_conn *sc = arg;
	struct hf_http_request req;

	if (!sc->srv->cfg.body_sink)
		return;
	make_request(head, &req);
	sc->srv->cfg.body_sink(sc->srv->arg, &req, ret_sink);
}

/* The request in the reader goes to the handler; it stays there while it is to be handled again. */
static void handle(struct srv_conn *sc, bool is_again)
{
	struct hf_http_request req;

	make_request(&sc->reader.head, &req);
	req.is_again = is_again;
	req.body = hf_buf_span(&sc->reader.body);
	req.sink = sc->reader.sink.arg;
	memset(&sc->reader.sink, 0, sizeof sc->reader.sink);	/* the handler's now */
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
	x->is_cut = sc->reader.is_cut;
	x->keep_alive = h->keep_alive && !x->is_cut;
	x->is_head = strcmp(h->method, "HEAD") == 0;
	x->times = 1;
	sc->x = x;
	sc->taken = 0;
	hf_timer_stop(sc->timer);
	handle(sc, false);
}

void hf_http_srv_answered(struct srv_conn *sc)
{
	struct hf_http_exchange *x = hf_take(sc->x);

	hf_conn_flush_later(sc->conn);
	if (x->keep_alive) {
		hf_http_srv_arm(sc, false);
		if (!sc->in_handler)
			hf_task_next_turn(sc->srv->loop, &sc->resume_task);
	} else if (x->is_cut) {
		end_after_refusal(sc);
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
		hf_http_srv_answered(sc);
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

	if (sc->source.read)
		hf_conn_abort(sc->conn, HF_ETIMEOUT, "the client does not read its answer");
	else if (sc->x && sc->x->held)
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
	hf_http_source_end(sc);
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

/* Its client does not read: no further request is handled until the answers have left. */
static bool is_behind(const struct srv_conn *sc)
{
	return hf_conn_out_len(sc->conn) > HF_HTTP_UNREAD_MAX;
}

/* Handles one request, so that a client that sends many at once leaves others their turn. What is left waits, reading
 * paused. Afterwards sc may be gone, its connection upgraded. */
static void process(struct srv_conn *sc, struct hf_span in)
{
	bool handled = false;

	while (in.len > 0 && !sc->ending && sc->srv && !sc->x && !handled && !is_behind(sc)) {
		bool fresh = hf_http_reader_idle(&sc->reader);
		size_t used = 0;
		int e = hf_http_reader_feed(&sc->reader, in, &used);

		if (e < 0 && e != HF_EMORE) {
			refuse(sc, sc->reader.refuse_status ? sc->reader.refuse_status : 400,
			       sc->reader.reason ? sc->reader.reason : "malformed request");
			return;
		}
		in = hf_span_skip(in, used);
		if (e == 0) {
			dispatch(sc);
			if (sc->upgrade) {
				give_away(sc, in);
				return;
			}
			handled = true;
			continue;
		}
		if ((fresh && !hf_http_reader_idle(&sc->reader)) || sc->reader.sink_taken - sc->taken >= PROGRESS) {
			sc->taken = sc->reader.sink_taken;
			hf_http_srv_arm(sc, true);
		}
		if (sc->reader.expect_continue) {
			sc->reader.expect_continue = false;
			hf_conn_write(sc->conn, hf_span_str("HTTP/1.1 100 Continue\r\n\r\n"));
		}
	}
	if (in.len == 0 || sc->ending || !sc->srv)
		return;
	hf_buf_put_span(&sc->waiting, in);
	hf_conn_pause(sc->conn);
	if (sc->waiting.err)
		hf_conn_abort(sc->conn, HF_ELIMIT, "too much pipelined input");
	else if (!sc->x)
		hf_task_next_turn(sc->srv->loop, &sc->resume_task);
}

static void on_data(void *arg, struct hf_conn *c, struct hf_span in)
{
	struct srv_conn *sc = arg;

	(void)c;
	if (!sc->stream)	/* what follows a request whose answer ends the connection is ignored */
		process(sc, in);
}

/* Goes on with what waits: after an answer, or after one that left. */
static void on_resume(void *arg)
{
	struct srv_conn *sc = arg;
	struct hf_buf in;

	if (sc->ending || !sc->srv || sc->x || is_behind(sc))
		return;
	in = sc->waiting;
	sc->waiting = HF_BUF_INIT(WAITING_MAX);
	/* Before: whoever takes the connection over must find it reading. */
	hf_conn_resume(sc->conn);
	process(sc, hf_buf_span(&in));
	hf_buf_fini(&in);
}

/* The client or the server went. An answer that nobody is to give any more goes too, any other is told. */
static void end_exchange(struct srv_conn *sc)
{
	struct hf_http_exchange *x = hf_take(sc->x);

	if (x && (x->held || sc->source.read))
		free(x);
	else if (x)
		x->sc = NULL;
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
	end_exchange(sc);
	hf_http_stream_gone(sc);
	conn_free(sc);
}

static void on_drained(void *arg, struct hf_conn *c)
{
	struct srv_conn *sc = arg;

	(void)c;
	if (sc->stream)
		sc->stream->ops->drained(sc->stream->arg);
	else if (sc->source.read && sc->srv)
		hf_http_source_pump(sc);
	else if (sc->srv && !sc->ending && !sc->x)
		hf_task_next_turn(sc->srv->loop, &sc->resume_task);
}

static const struct hf_conn_ops conn_ops = { .data = on_data, .drained = on_drained, .closed = on_closed };

static void on_accept(void *arg, int fd, const struct sockaddr_storage *peer)
{
	struct hf_http_srv *srv = arg;
	struct hf_conn_cfg cfg = { .tls = srv->cfg.tls, .out_cap = HF_HTTP_OUT_CAP };
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
	sc->late = HF_BUF_INIT(HF_HTTP_OUT_CAP);
	hf_list_init(&sc->node);
	hf_task_init(&sc->resume_task, on_resume, sc);
	hf_http_reader_init(&sc->reader, true, srv->cfg.max_head, srv->cfg.max_body);
	sc->reader.is_tls = srv->cfg.tls != NULL;
	sc->reader.on_body = on_body;
	sc->reader.on_body_arg = sc;
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
	hf_http_srv_arm(sc, false);
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
		end_exchange(sc);
		hf_http_reader_fini(&sc->reader);	/* sinks, sources, streams are told while their owner is there */
		hf_http_source_end(sc);
		hf_http_stream_gone(sc);
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
