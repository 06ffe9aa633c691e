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
		pn_session_set_incoming_capacity(pn_event_session(e), SESSION_WINDOW);
		pn_session_open(pn_event_session(e));
		break;
	case PN_SESSION_REMOTE_CLOSE:
		pn_session_close(pn_event_session(e));
		pn_session_free(pn_event_session(e));
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
	case PN_LINK_FLOW: {
		struct hf_amqp_link *l = pn_link_get_context(pn_event_link(e));

		if (l && l->accepted && pn_link_is_sender(l->pn) && pn_link_credit(l->pn) > 0)
			a->ops->credit(a->arg, l);
		if (l && l->accepted && pn_link_is_sender(l->pn) && pn_link_get_drain(l->pn))
			pn_link_drained(l->pn);
		break;
	}
	case PN_DELIVERY:
		hf_amqp_on_delivery(a, pn_event_delivery(e));
		break;
	case PN_TRANSPORT_ERROR: {
		pn_condition_t *c = pn_transport_condition(a->driver.transport);
		const char *text = pn_condition_get_description(c);

		if (!a->sasl_refused)
			a->ops->malformed(a->arg, text ? text : "transport error");
		break;
	}
	default:
		break;
	}
}

static void write_out(struct hf_amqp *a)
{
	while (hf_conn_out_len(a->conn) < OUT_HIGH) {
		pn_bytes_t b = pn_connection_driver_write_buffer(&a->driver);

		if (b.size == 0)
			break;
		hf_conn_write(a->conn, hf_span(b.start, b.size));
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
		write_out(a);
	} while (pn_connection_driver_has_event(&a->driver));
	a->pumping = false;
	if (pn_connection_driver_finished(&a->driver) || pn_connection_driver_write_closed(&a->driver))
		hf_conn_close(a->conn);
}

static void on_pump(void *arg)
{
	pump(arg);
}

static void on_data(void *arg, struct hf_conn *c, struct hf_span in)
{
	struct hf_amqp *a = arg;

	while (in.len && !a->dead) {
		pn_rwbytes_t room = pn_connection_driver_read_buffer(&a->driver);
		size_t n = hf_min(room.size, in.len);

		if (n == 0) {
			pump(a);
			room = pn_connection_driver_read_buffer(&a->driver);
			n = hf_min(room.size, in.len);
			if (n == 0)
				break;		/* proton wants no more: the end is on its way */
		}
		memcpy(room.start, in.ptr, n);
		pn_connection_driver_read_done(&a->driver, n);
		in = hf_span_skip(in, n);
		pump(a);
	}
	(void)c;
	pump(a);
}

static void on_drained(void *arg, struct hf_conn *c)
{
	(void)c;
	pump(arg);
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
	a->encoded = HF_BUF_INIT(2u << 20);
	hf_list_init(&a->links);
	hf_task_init(&a->pump, on_pump, a);
	pn_transport_set_server(a->driver.transport);
	hf_amqp_sasl_init(a);
	pn_transport_set_max_frame(a->driver.transport, 65536);
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

void hf_amqp_close(struct hf_amqp *a, const char *condition, const char *text)
{
	pn_connection_t *c = a->driver.connection;

	if (a->dead)
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

void hf_amqp_tick(struct hf_amqp *a, uint64_t now_ms)
{
	if (a->dead)
		return;
	pn_transport_tick(a->driver.transport, (int64_t)now_ms);
	pump(a);
	if (a->close_at_ms && now_ms > a->close_at_ms)
		hf_conn_close(a->conn);
}
