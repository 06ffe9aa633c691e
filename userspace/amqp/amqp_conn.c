/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Bytes between the connection and proton's driver; proton's events. */
#include "amqp/amqp_int.h"
#include "core/util.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define OUT_HIGH (512 * 1024)	/* proton keeps the rest until the socket took some */
#define SESSION_WINDOW (4u << 20)
#define CLOSE_LIMIT_MS 5000	/* for the peer's answer to our close */

void hf_amqp_later(struct hf_amqp *a)
{
	if (!a->dead)
		hf_task_at_turn_end(a->loop, &a->pump);
}

void hf_amqp_over_limit(struct hf_amqp *a, const char *what)
{
	if (a->close_at_ms)
		return;
	a->ops->malformed(a->arg, HF_ELIMIT, what);
	hf_amqp_close(a, "amqp:resource-limit-exceeded", what);
}

static void on_transport_error(struct hf_amqp *a)
{
	pn_condition_t *c = pn_transport_condition(a->driver.transport);
	const char *text = pn_condition_get_description(c);

	if (a->sasl_refused)
		return;
	text = text ? text : "transport error";
	a->ops->malformed(a->arg, strstr(text, "idle-timeout") ? HF_ETIMEOUT : HF_EPROTO, text);
}

static void on_session_end(struct hf_amqp *a, pn_session_t *session)
{
	struct hf_list *pos, *tmp;

	a->n_sessions--;
	hf_list_for_each_safe(pos, tmp, &a->links) {
		struct hf_amqp_link *l = hf_container_of(pos, struct hf_amqp_link, node);

		if (pn_link_session(l->pn) != session)
			continue;
		pn_link_set_context(l->pn, NULL);
		hf_amqp_link_free(l);
	}
	pn_session_close(session);
	pn_session_free(session);
}

static void on_event(struct hf_amqp *a, pn_event_t *e)
{
	switch (pn_event_type(e)) {
	case PN_CONNECTION_REMOTE_OPEN:
		pn_connection_open(pn_event_connection(e));
		break;
	case PN_CONNECTION_REMOTE_CLOSE:
		pn_connection_close(pn_event_connection(e));
		break;
	case PN_SESSION_REMOTE_OPEN:
		if (++a->n_sessions > a->max_links) {
			hf_amqp_over_limit(a, "too many sessions");
			break;
		}
		pn_session_set_incoming_capacity(pn_event_session(e), SESSION_WINDOW);
		pn_session_open(pn_event_session(e));
		break;
	case PN_SESSION_REMOTE_CLOSE:
		on_session_end(a, pn_event_session(e));
		break;
	case PN_LINK_REMOTE_OPEN:
		hf_amqp_link_remote_open(a, pn_event_link(e));
		break;
	case PN_LINK_REMOTE_CLOSE:
	case PN_LINK_REMOTE_DETACH:
		hf_amqp_link_remote_close(a, pn_event_link(e));
		break;
	case PN_LINK_FINAL: {
		struct hf_amqp_link *l = pn_link_get_context(pn_event_link(e));

		if (l) {
			pn_link_set_context(pn_event_link(e), NULL);
			hf_amqp_link_free(l);
		}
		break;
	}
	case PN_LINK_FLOW:
		hf_amqp_link_flow(pn_event_link(e));
		break;
	case PN_DELIVERY:
		hf_amqp_on_delivery(a, pn_event_delivery(e));
		break;
	case PN_TRANSPORT_ERROR:
		on_transport_error(a);
		break;
	default:
		break;
	}
}

static void write_out(struct hf_amqp *a)
{
	int r;

	while (hf_conn_out_len(a->conn) < OUT_HIGH) {
		pn_bytes_t b = pn_connection_driver_write_buffer(&a->driver);

		if (b.size == 0)
			break;
		r = hf_amqp_write_full(a, hf_span(b.start, b.size));
		if (r != 0) {
			hf_conn_abort(a->conn, r, "a frame to the peer is too large");
			return;
		}
		pn_connection_driver_write_done(&a->driver, b.size);
	}
}

static void pump(struct hf_amqp *a)
{
	pn_event_t *e;

	if (a->pumping || a->dead)
		return;
	a->pumping = true;
	/* Answers make events of their own: until nothing is left. */
	do {
		while ((e = pn_connection_driver_next_event(&a->driver)))
			on_event(a, e);
		if (a->resuming)
			hf_amqp_resume_links(a);
		write_out(a);
		if (a->choked)
			hf_amqp_unchoke_links(a);
	} while (pn_connection_driver_has_event(&a->driver));
	a->pumping = false;
	if (pn_connection_driver_finished(&a->driver) || pn_connection_driver_write_closed(&a->driver))
		hf_conn_close(a->conn);
}

static void on_pump(void *arg)
{
	pump(arg);
}

/* A framing error: tells it and reads nothing more. */
static void end_with(struct hf_amqp *a, const char *error)
{
	a->ops->malformed(a->arg, HF_EPROTO, error);
	hf_amqp_close(a, "amqp:connection:framing-error", error);
	pump(a);
	hf_amqp_cut(a);
}

/* Our close is on its way: nothing is taken any more, and all that counts is the peer's own. True: it came. */
static bool found_close(struct hf_amqp *a, struct hf_span in)
{
	while (in.len) {
		struct hf_amqp_frame frame;

		in = hf_span_skip(in, hf_amqp_frame_take(&a->frames, in, &frame));
		if (frame.error || frame.is_close)
			return true;
	}
	return false;
}

static void feed(struct hf_amqp *a, struct hf_span in)
{
	while (in.len && !a->dead) {
		pn_rwbytes_t room = pn_connection_driver_read_buffer(&a->driver);
		size_t n = hf_min(room.size, in.len);

		if (n == 0)
			return;		/* proton wants no more: the end is on its way */
		memcpy(room.start, in.ptr, n);
		pn_connection_driver_read_done(&a->driver, n);
		in = hf_span_skip(in, n);
		if (in.len)
			pump(a);
	}
}

/* Frames up to the peer's open are gathered: its limit for frames is changed before proton sees it. */
static void feed_opening(struct hf_amqp *a, struct hf_span in, bool end)
{
	hf_buf_put_span(&a->opening, in);
	if (a->opening.err) {
		end_with(a, "no memory for a frame");
		return;
	}
	if (!end)
		return;
	hf_amqp_lower_max_frame((uint8_t *)hf_buf_span(&a->opening).ptr, hf_buf_len(&a->opening));
	feed(a, hf_buf_span(&a->opening));
	hf_buf_wipe(&a->opening);	/* it may have held a password */
}

/* Proton gets one frame at a time, so that what was read of the frame belongs to the events it causes. A peer that does
 * not read what it caused is not read from either. */
static void on_data(void *arg, struct hf_conn *c, struct hf_span in)
{
	struct hf_amqp *a = arg;

	while (in.len && !a->dead && !a->deaf && !a->close_at_ms) {
		pn_rwbytes_t room = pn_connection_driver_read_buffer(&a->driver);
		struct hf_amqp_frame *frame = &a->frame;
		size_t n;

		if (room.size == 0)
			break;		/* proton wants no more: the end is on its way */
		if (a->frames.got == 0)
			a->gathers = a->frames.started && !a->frames.opened;
		n = hf_amqp_frame_take(&a->frames, hf_span(in.ptr, hf_min(room.size, in.len)), frame);
		if (frame->error) {
			end_with(a, frame->error);
			return;
		}
		if (a->gathers)
			feed_opening(a, hf_span(in.ptr, n), frame->end);
		else
			feed(a, hf_span(in.ptr, n));
		in = hf_span_skip(in, n);
		if (frame->end || n == room.size)
			pump(a);
		*frame = (struct hf_amqp_frame){ 0 };
	}
	pump(a);
	if (a->close_at_ms && !a->deaf && found_close(a, in))
		hf_amqp_cut(a);
	if (hf_conn_out_len(c) >= OUT_HIGH)
		hf_conn_pause(c);
}

static void on_drained(void *arg, struct hf_conn *c)
{
	pump(arg);
	if (hf_conn_paused(c) && hf_conn_out_len(c) < OUT_HIGH)
		hf_conn_resume(c);
}

static void destroy(struct hf_amqp *a)
{
	a->dead = true;
	hf_task_cancel(&a->pump);
	while (!hf_list_empty(&a->links)) {
		struct hf_amqp_link *l = hf_container_of(a->links.next, struct hf_amqp_link, node);

		pn_link_set_context(l->pn, NULL);
		hf_amqp_link_free(l);
	}
}

static void on_closed(void *arg, struct hf_conn *c, int err, const char *detail)
{
	struct hf_amqp *a = arg;

	(void)c;
	destroy(a);
	a->ops->closed(a->arg, err, detail);
	pn_connection_driver_destroy(&a->driver);
	hf_amqp_codec_destroy(&a->codec);
	hf_buf_fini(&a->encoded);
	hf_buf_wipe(&a->out_frame);
	hf_buf_wipe(&a->opening);
	free(a);
}

static const struct hf_conn_ops conn_ops = { .data = on_data, .drained = on_drained, .closed = on_closed };

int hf_amqp_create(struct hf_conn *conn, const struct hf_amqp_cfg *cfg, const struct hf_amqp_ops *ops, void *arg,
		   struct hf_amqp **ret_amqp)
{
	struct hf_amqp *a = calloc(1, sizeof *a);
	int r = a ? hf_amqp_codec_create(&a->codec) : -ENOMEM;

	if (r == 0 && pn_connection_driver_init(&a->driver, NULL, NULL) != 0)
		r = -ENOMEM;
	if (r != 0) {
		if (a)
			hf_amqp_codec_destroy(&a->codec);
		free(a);
		hf_conn_abort(conn, r, "no memory for AMQP");
		return r;
	}
	a->conn = conn;
	a->loop = hf_conn_loop(conn);
	a->ops = ops;
	a->arg = arg;
	a->max_message = cfg->max_message;
	a->max_links = cfg->max_links;
	a->encoded = HF_BUF_INIT(2u << 20);
	a->out_frame = HF_BUF_INIT(4u << 20);
	a->opening = HF_BUF_INIT(HF_AMQP_MAX_FRAME);
	hf_list_init(&a->links);
	hf_task_init(&a->pump, on_pump, a);
	pn_transport_set_server(a->driver.transport);
	hf_amqp_sasl_init(a);
	pn_transport_set_max_frame(a->driver.transport, HF_AMQP_MAX_FRAME);
	pn_transport_set_idle_timeout(a->driver.transport, cfg->idle_timeout_ms * 2);	/* proton advertises the half */
	pn_connection_set_container(a->driver.connection, cfg->container_id);
	pn_connection_driver_bind(&a->driver);
	hf_conn_set_ops(conn, &conn_ops, a);
	*ret_amqp = a;
	return 0;
}

struct hf_conn *hf_amqp_conn(struct hf_amqp *a)
{
	return a->conn;
}

void hf_amqp_set_max_links(struct hf_amqp *a, unsigned n)
{
	a->max_links = n;
}

void hf_amqp_close(struct hf_amqp *a, const char *condition, const char *text)
{
	pn_connection_t *c = a->driver.connection;

	if (a->dead || a->close_at_ms)
		return;
	if (condition) {
		pn_condition_set_name(pn_connection_condition(c), condition);
		pn_condition_set_description(pn_connection_condition(c), text);
	}
	pn_connection_open(c);		/* a close needs an open before it */
	pn_connection_close(c);
	a->close_at_ms = hf_loop_now_ms(a->loop) + CLOSE_LIMIT_MS;
	hf_amqp_later(a);
}

void hf_amqp_cut(struct hf_amqp *a)
{
	a->deaf = true;
	hf_conn_close(a->conn);
}

void hf_amqp_tick(struct hf_amqp *a, uint64_t now_ms)
{
	if (a->dead)
		return;
	pn_transport_tick(a->driver.transport, (int64_t)now_ms);
	pump(a);
	if (a->close_at_ms && now_ms > a->close_at_ms)
		hf_conn_close(a->conn);
}
