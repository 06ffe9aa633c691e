/* SPDX-License-Identifier: GPL-3.0-or-later */
/* net/conn.c - one stream connection: connect, handshake, budgeted reading, gathered writing, orderly end. */
#include "net/conn.h"

#include "core/util.h"

#include <holdfast/err.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>

enum {
	READ_BUDGET = 64 * 1024,	/* bytes per connection and turn */
	RECORD_MAX = 16 * 1024,
	OUT_CAP_DEFAULT = 1024 * 1024,
	OUT_FULL = 256 * 1024,
	HANDSHAKES_PER_TURN = 16,
	HANDSHAKE_TIMEOUT_MS = 10000,
	CLOSE_TIMEOUT_MS = 2000,
	LEFTOVER_MAX = 256 * 1024,
};

enum conn_state {
	CONN_CONNECTING,
	CONN_HANDSHAKE,
	CONN_STARTING,	/* usable; `ready` is still to be called */
	CONN_OPEN,
	CONN_CLOSING,	/* sends what is buffered */
	CONN_DEAD,	/* waits for its task to report `closed` */
};

struct hf_conn {
	struct hf_loop *loop;
	struct hf_watch *watch;
	struct hf_timer *timer;		/* handshake or close limit; none while open */
	struct hf_tls *tls;
	const struct hf_conn_ops *ops;
	void *arg;
	const struct hf_conn_layer *layer;
	void *layer_arg;
	struct hf_buf out;
	struct hf_buf wire;		/* with a layer: framed, unframed bytes wait in out */
	struct hf_task flush_task, run_task;
	char *detail;
	int fd, err;
	int events;
	uint8_t state;
	bool paused, blocked, was_full, by_peer;
	uint32_t offered;		/* length of the write to repeat after WANT_WRITE, 0 = none */
	char peer[56];
};

static void conn_run(void *arg);

static void set_events(struct hf_conn *c, int events)
{
	if (c->events == events || !c->watch)
		return;
	if (hf_watch_set(c->watch, events) == 0)
		c->events = events;
}

static void update_events(struct hf_conn *c)
{
	int events = c->blocked ? HF_WRITABLE : 0;

	if (c->state == CONN_OPEN && !c->paused)
		events |= HF_READABLE;
	set_events(c, events);
}

/* The end of every connection. `closed` follows from the loop, never from here. */
static void finish(struct hf_conn *c, int err, const char *detail)
{
	if (c->state == CONN_DEAD)
		return;
	c->state = CONN_DEAD;
	c->err = err;
	c->detail = detail && *detail ? strdup(detail) : NULL;
	hf_watch_destroy(&c->watch);
	hf_timer_destroy(&c->timer);
	hf_task_cancel(&c->flush_task);
	hf_task_cancel(&c->run_task);
	hf_buf_fini(&c->out);
	hf_buf_fini(&c->wire);
	hf_task_next_turn(c->loop, &c->run_task);
}

static void report_closed(struct hf_conn *c)
{
	c->ops->closed(c->arg, c, c->err, c->detail ? c->detail : c->err ? hf_strerror(c->err) : "closed");
	if (c->layer)
		c->layer->destroy(c->layer_arg);
	hf_buf_fini(&c->out);
	hf_buf_fini(&c->wire);
	hf_tls_destroy(&c->tls);
	close(c->fd);
	free(c->detail);
	free(c);
}

/* --- writing ---------------------------------------------------------------------------------------- */

static enum hf_tls_step io_write(struct hf_conn *c, const void *p, size_t n, size_t *ret_n)
{
	ssize_t put;

	if (c->tls)
		return hf_tls_write(c->tls, p, n, ret_n);
	do
		put = send(c->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (put < 0 && errno == EINTR);
	if (put >= 0) {
		*ret_n = (size_t)put;
		return HF_TLS_OK;
	}
	return errno == EAGAIN || errno == EWOULDBLOCK ? HF_TLS_WANT_WRITE : HF_TLS_FAIL;
}

static void io_failed(struct hf_conn *c)
{
	int err = c->tls ? hf_tls_sock_err(c->tls) : errno;

	if (err)
		finish(c, -err, NULL);
	else if (c->tls)
		finish(c, HF_ETLS, hf_tls_error(c->tls));
	else
		finish(c, HF_ECLOSED, NULL);
}

/* Bytes left unread would turn our FIN into a reset, which may destroy what the peer has not read yet. */
static void drop_leftover(struct hf_conn *c)
{
	uint8_t *p = hf_loop_scratch(c->loop);
	size_t sum = 0;
	ssize_t got;

	while (sum < LEFTOVER_MAX && (got = recv(c->fd, p, HF_LOOP_SCRATCH, MSG_DONTWAIT)) > 0)
		sum += (size_t)got;
}

static void close_now(struct hf_conn *c)
{
	if (c->tls)
		hf_tls_shutdown(c->tls);
	shutdown(c->fd, SHUT_WR);
	drop_leftover(c);
	finish(c, 0, c->by_peer ? "closed by peer" : NULL);
}

static void out_empty(struct hf_conn *c)
{
	hf_buf_shrink(&c->out);
	hf_buf_shrink(&c->wire);
	if (c->blocked) {
		c->blocked = false;
		update_events(c);
	}
	if (c->state == CONN_CLOSING) {
		close_now(c);
	} else if (c->was_full) {
		c->was_full = false;
		if (c->ops->drained)
			c->ops->drained(c->arg, c);
	}
}

static void on_close_limit(void *arg)
{
	finish(arg, HF_ETIMEOUT, "peer does not take the last bytes");
}

/* What goes to the socket next. A layer frames only once the frames before have left, so that neither buffer
 * holds more than its bound. */
static struct hf_buf *sending(struct hf_conn *c)
{
	if (!c->layer || c->out.err)
		return &c->out;
	if (hf_buf_len(&c->wire) == 0 && hf_buf_len(&c->out) > 0) {
		c->layer->out(c->layer_arg, hf_buf_span(&c->out), &c->wire);
		hf_buf_reset(&c->out);
	}
	return &c->wire;
}

static void conn_flush(void *arg)
{
	struct hf_conn *c = arg;
	struct hf_buf *b;
	enum hf_tls_step step;
	struct hf_span s;
	size_t n, done;

	if (c->state != CONN_OPEN && c->state != CONN_CLOSING)
		return;
	while (b = sending(c), (s = hf_buf_span(b)).len > 0 || b->err) {
		if (b->err) {
			finish(c, b->err, "output buffer over its bound");
			return;
		}
		/* TLS takes records; a plain socket takes all at once. */
		n = c->offered ? c->offered : c->tls ? hf_min(s.len, (size_t)RECORD_MAX) : s.len;
		done = 0;
		step = io_write(c, s.ptr, n, &done);
		if (step == HF_TLS_OK) {
			c->offered = 0;
			hf_buf_consume(b, done);
			continue;
		}
		if (step == HF_TLS_WANT_WRITE) {
			if (c->tls)
				c->offered = (uint32_t)n;
			c->blocked = true;
			update_events(c);
			if (c->state == CONN_CLOSING && !c->timer &&
			    hf_timer_create(c->loop, on_close_limit, c, &c->timer) == 0)
				hf_timer_start(c->timer, CLOSE_TIMEOUT_MS, 0);
			return;
		}
		if (step == HF_TLS_EOF)
			finish(c, HF_ECLOSED, "peer closed");
		else if (step == HF_TLS_FAIL)
			io_failed(c);
		return;
	}
	out_empty(c);
}

/* --- reading ---------------------------------------------------------------------------------------- */

static enum hf_tls_step io_read(struct hf_conn *c, uint8_t *p, size_t cap, size_t *ret_n, bool *ret_short)
{
	ssize_t got;

	if (c->tls)
		return hf_tls_read(c->tls, p, cap, ret_n);
	do
		got = recv(c->fd, p, cap, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got > 0) {
		*ret_n = (size_t)got;
		*ret_short = (size_t)got < cap;
		return HF_TLS_OK;
	}
	if (got == 0)
		return HF_TLS_EOF;
	return errno == EAGAIN || errno == EWOULDBLOCK ? HF_TLS_WANT_READ : HF_TLS_FAIL;
}

/* Fills the scratch as far as input is there, so small records reach the owner in one call. */
static enum hf_tls_step fill(struct hf_conn *c, uint8_t *p, size_t *ret_len)
{
	enum hf_tls_step step = HF_TLS_OK;
	bool drained = false;
	size_t len = 0, n;

	while (len < HF_LOOP_SCRATCH && !drained) {
		n = 0;
		step = io_read(c, p + len, HF_LOOP_SCRATCH - len, &n, &drained);
		if (step != HF_TLS_OK)
			break;
		len += n;
	}
	if (drained)
		step = HF_TLS_WANT_READ;
	*ret_len = len;
	return step;
}

static void peer_eof(struct hf_conn *c)
{
	/* What the owner has already answered still goes out, as after hf_conn_close. */
	c->state = CONN_CLOSING;
	c->by_peer = true;
	update_events(c);
	hf_task_at_turn_end(c->loop, &c->flush_task);
}

static void conn_read(struct hf_conn *c)
{
	uint8_t *scratch = hf_loop_scratch(c->loop);
	size_t sum = 0, len;
	enum hf_tls_step step;
	int saved;

	do {
		errno = 0;
		step = fill(c, scratch, &len);
		saved = errno;
		if (len && c->layer)
			c->layer->in(c->layer_arg, c, hf_span(scratch, len));
		else if (len)
			c->ops->data(c->arg, c, hf_span(scratch, len));
		sum += len;
		if (c->state != CONN_OPEN)
			return;
		if (step == HF_TLS_FAIL) {
			errno = saved;
			io_failed(c);
			return;
		}
		if (step == HF_TLS_EOF) {
			peer_eof(c);
			return;
		}
		if (step != HF_TLS_OK || c->paused)
			return;
	} while (sum < READ_BUDGET);
	/* The socket may be empty while decrypted bytes wait inside: the poll would never tell. */
	hf_task_next_turn(c->loop, &c->run_task);
}

/* --- connect and handshake --------------------------------------------------------------------------- */

static void on_handshake_limit(void *arg)
{
	struct hf_conn *c = arg;

	finish(c, HF_ETIMEOUT, c->state == CONN_CONNECTING ? "connect timed out" : "TLS handshake timed out");
}

static void become_open(struct hf_conn *c)
{
	hf_timer_destroy(&c->timer);
	c->state = CONN_OPEN;
	update_events(c);
	if (hf_conn_out_len(c) || c->out.err)
		hf_task_at_turn_end(c->loop, &c->flush_task);
	if (c->ops->ready)
		c->ops->ready(c->arg, c);
	/* Data that came with the last handshake flight is inside already. */
	if (c->state == CONN_OPEN && !c->paused && c->tls && hf_tls_pending(c->tls))
		hf_task_next_turn(c->loop, &c->run_task);
}

static void conn_handshake(struct hf_conn *c)
{
	/* The expensive step: a storm of new peers must not starve the ones that work. */
	if (!hf_loop_allow(c->loop, HANDSHAKES_PER_TURN)) {
		hf_task_next_turn(c->loop, &c->run_task);
		return;
	}
	switch (hf_tls_handshake(c->tls)) {
	case HF_TLS_OK:
		become_open(c);
		return;
	case HF_TLS_WANT_READ:
		set_events(c, HF_READABLE);
		return;
	case HF_TLS_WANT_WRITE:
		set_events(c, HF_WRITABLE);
		return;
	case HF_TLS_EOF:
		finish(c, HF_ECLOSED, "peer left during the TLS handshake");
		return;
	case HF_TLS_FAIL:
		finish(c, HF_ETLS, hf_tls_error(c->tls));
		return;
	}
}

static void on_connected(struct hf_conn *c)
{
	int err = 0;
	socklen_t len = sizeof err;

	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		err = errno;
	if (err) {
		finish(c, -err, NULL);
		return;
	}
	if (c->tls) {
		c->state = CONN_HANDSHAKE;
		conn_handshake(c);
	} else {
		become_open(c);
	}
}

static void conn_event(void *arg, int events, int err)
{
	struct hf_conn *c = arg;

	if (err < 0 && c->state == CONN_OPEN && !c->paused)
		events |= HF_READABLE;	/* recv tells the reason */
	switch (c->state) {
	case CONN_CONNECTING:
		on_connected(c);
		break;
	case CONN_HANDSHAKE:
		conn_handshake(c);
		break;
	case CONN_OPEN:
		if ((events & HF_WRITABLE) || c->blocked)
			conn_flush(c);
		if ((events & HF_READABLE) && c->state == CONN_OPEN && !c->paused)
			conn_read(c);
		break;
	case CONN_CLOSING:
		conn_flush(c);
		break;
	default:
		break;
	}
}

static void conn_run(void *arg)
{
	struct hf_conn *c = arg;

	switch (c->state) {
	case CONN_HANDSHAKE:
		conn_handshake(c);
		break;
	case CONN_STARTING:
		become_open(c);
		break;
	case CONN_OPEN:
		if (!c->paused)
			conn_read(c);
		break;
	case CONN_DEAD:
		report_closed(c);
		break;
	default:
		break;
	}
}

/* --- creation ---------------------------------------------------------------------------------------- */

static void format_peer(struct hf_conn *c, const struct sockaddr *sa)
{
	char text[INET6_ADDRSTRLEN];

	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)sa;

		inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
		snprintf(c->peer, sizeof c->peer, "%s:%u", text, ntohs(in->sin_port));
	} else if (sa->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)sa;

		inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text);
		snprintf(c->peer, sizeof c->peer, "[%s]:%u", text, ntohs(in6->sin6_port));
	} else {
		snprintf(c->peer, sizeof c->peer, "unix");
	}
}

static void set_tcp_options(int fd, bool is_client)
{
	int on = 1, idle = 30, interval = 10, count = 3;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (!is_client)
		return;
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

static int conn_start(struct hf_conn *c, const struct hf_conn_cfg *cfg)
{
	uint32_t limit = cfg->handshake_timeout_ms ? cfg->handshake_timeout_ms : HANDSHAKE_TIMEOUT_MS;
	int r = 0;

	if (cfg->tls)
		r = hf_tls_create(cfg->tls, c->fd, cfg->server_name, &c->tls);
	if (r == 0)
		r = hf_watch_create(c->loop, c->fd, conn_event, c, &c->watch);
	if (r == 0 && (cfg->tls || cfg->is_client))
		r = hf_timer_create(c->loop, on_handshake_limit, c, &c->timer);
	if (r < 0)
		return r;
	if (c->timer)
		hf_timer_start(c->timer, limit, 0);
	if (cfg->is_client) {
		c->state = CONN_CONNECTING;
		c->events = HF_WRITABLE;
	} else if (cfg->tls) {
		c->state = CONN_HANDSHAKE;
		c->events = HF_READABLE;
	} else {
		c->state = CONN_STARTING;
		hf_task_next_turn(c->loop, &c->run_task);
	}
	return c->events ? hf_watch_set(c->watch, c->events) : 0;
}

static int conn_new(struct hf_loop *loop, int fd, const struct sockaddr *peer, const struct hf_conn_cfg *cfg,
		    const struct hf_conn_ops *ops, void *arg, struct hf_conn **ret_conn)
{
	struct hf_conn *c = calloc(1, sizeof *c);
	int r;

	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	c->loop = loop;
	c->fd = fd;
	c->ops = ops;
	c->arg = arg;
	c->out = HF_BUF_INIT(cfg->out_cap ? cfg->out_cap : OUT_CAP_DEFAULT);
	hf_task_init(&c->flush_task, conn_flush, c);
	hf_task_init(&c->run_task, conn_run, c);
	format_peer(c, peer);
	if (peer->sa_family != AF_UNIX)
		set_tcp_options(fd, cfg->is_client);
	r = conn_start(c, cfg);
	if (r < 0) {
		hf_task_cancel(&c->run_task);
		hf_watch_destroy(&c->watch);
		hf_timer_destroy(&c->timer);
		hf_tls_destroy(&c->tls);
		close(fd);
		free(c);
		return r;
	}
	*ret_conn = c;
	return 0;
}

int hf_conn_create(struct hf_loop *loop, int fd, const struct hf_conn_cfg *cfg, const struct hf_conn_ops *ops,
		   void *arg, struct hf_conn **ret_conn)
{
	struct sockaddr_storage ss = { .ss_family = AF_UNIX };
	socklen_t len = sizeof ss;

	if (getpeername(fd, (struct sockaddr *)&ss, &len) < 0)
		ss.ss_family = AF_UNIX;
	return conn_new(loop, fd, (struct sockaddr *)&ss, cfg, ops, arg, ret_conn);
}

int hf_conn_connect(struct hf_loop *loop, const struct sockaddr *addr, socklen_t addr_len,
		    const struct hf_conn_cfg *cfg, const struct hf_conn_ops *ops, void *arg,
		    struct hf_conn **ret_conn)
{
	struct hf_conn_cfg client = *cfg;
	int fd, r;

	client.is_client = true;
	fd = socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	do
		r = connect(fd, addr, addr_len);
	while (r < 0 && errno == EINTR);
	if (r < 0 && errno != EINPROGRESS) {
		r = -errno;
		close(fd);
		return r;
	}
	return conn_new(loop, fd, addr, &client, ops, arg, ret_conn);
}

/* --- layers ------------------------------------------------------------------------------------------ */

void hf_conn_set_ops(struct hf_conn *c, const struct hf_conn_ops *ops, void *arg)
{
	c->ops = ops;
	c->arg = arg;
}

void hf_conn_set_layer(struct hf_conn *c, const struct hf_conn_layer *layer, void *arg)
{
	assert(!c->layer);
	c->layer = layer;
	c->layer_arg = arg;
	c->wire = c->out;		/* a write may be under way: the bytes stay where they are */
	c->out = HF_BUF_INIT(c->wire.cap);
	c->wire.cap += c->wire.cap / 8 + 1024;
}

void hf_conn_deliver(struct hf_conn *c, struct hf_span payload)
{
	if (c->state == CONN_OPEN && payload.len && c->ops->data)
		c->ops->data(c->arg, c, payload);
}

struct hf_buf *hf_conn_wire(struct hf_conn *c)
{
	return &c->wire;
}

/* --- the owner's calls -------------------------------------------------------------------------------- */

struct hf_buf *hf_conn_out(struct hf_conn *c)
{
	return &c->out;
}

void hf_conn_flush_later(struct hf_conn *c)
{
	if (c->state == CONN_DEAD || c->state == CONN_CLOSING) {
		if (c->state == CONN_DEAD)
			hf_buf_fini(&c->out);
		return;
	}
	if (hf_conn_out_len(c) > OUT_FULL)
		c->was_full = true;
	/* While the socket is full, its becoming writable flushes. */
	if (!c->blocked || c->out.err)
		hf_task_at_turn_end(c->loop, &c->flush_task);
}

bool hf_conn_write(struct hf_conn *c, struct hf_span data)
{
	if (c->state == CONN_DEAD || c->state == CONN_CLOSING)
		return false;
	hf_buf_put_span(&c->out, data);
	hf_conn_flush_later(c);
	return !c->was_full;
}

size_t hf_conn_out_len(const struct hf_conn *c)
{
	return hf_buf_len(&c->out) + hf_buf_len(&c->wire);
}

void hf_conn_pause(struct hf_conn *c)
{
	c->paused = true;
	if (c->state == CONN_OPEN)
		update_events(c);
}

void hf_conn_resume(struct hf_conn *c)
{
	if (!c->paused)
		return;
	c->paused = false;
	if (c->state != CONN_OPEN)
		return;
	update_events(c);
	if (c->tls && hf_tls_pending(c->tls))
		hf_task_next_turn(c->loop, &c->run_task);
}

bool hf_conn_paused(const struct hf_conn *c)
{
	return c->paused;
}

void hf_conn_close(struct hf_conn *c)
{
	switch (c->state) {
	case CONN_STARTING:
	case CONN_OPEN:
		c->state = CONN_CLOSING;
		if (c->layer && !c->out.err) {
			c->layer->out(c->layer_arg, hf_buf_span(&c->out), &c->wire);
			c->layer->closing(c->layer_arg, &c->wire);
			hf_buf_reset(&c->out);
		}
		hf_task_cancel(&c->run_task);
		update_events(c);
		hf_task_at_turn_end(c->loop, &c->flush_task);
		break;
	case CONN_CONNECTING:
	case CONN_HANDSHAKE:
		finish(c, 0, NULL);
		break;
	default:
		break;
	}
}

void hf_conn_abort(struct hf_conn *c, int err, const char *detail)
{
	finish(c, err, detail);
}

struct hf_tls *hf_conn_tls(struct hf_conn *c)
{
	return c->tls;
}

const char *hf_conn_peer(const struct hf_conn *c)
{
	return c->peer;
}

int hf_conn_fd(const struct hf_conn *c)
{
	return c->fd;
}

struct hf_loop *hf_conn_loop(struct hf_conn *c)
{
	return c->loop;
}
