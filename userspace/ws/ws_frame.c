/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Framing as a layer of a connection, over wslay's event API without its message buffering. */
#include "core/util.h"
#include "ws/ws.h"

#include <errno.h>
#include <wslay/wslay.h>

struct ws {
	struct hf_conn *conn;
	wslay_event_context_ptr ctx;
	struct hf_span in;		/* wire bytes that wslay has not taken yet */
	uint8_t opcode;			/* of the data message under way */
	bool control;			/* the frame under way is a control frame */
};

static ssize_t on_recv(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, int flags, void *arg)
{
	struct ws *ws = arg;
	size_t n = hf_min(len, ws->in.len);

	(void)flags;
	if (n == 0) {
		wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	memcpy(buf, ws->in.ptr, n);
	ws->in = hf_span_skip(ws->in, n);
	return (ssize_t)n;
}

static ssize_t on_send(wslay_event_context_ptr ctx, const uint8_t *data, size_t len, int flags, void *arg)
{
	struct ws *ws = arg;
	struct hf_buf *wire = hf_conn_wire(ws->conn);

	(void)flags;
	hf_buf_put(wire, data, len);
	if (wire->err) {
		wslay_event_set_error(ctx, WSLAY_ERR_CALLBACK_FAILURE);
		return -1;
	}
	return (ssize_t)len;
}

static void on_frame(wslay_event_context_ptr ctx, const struct wslay_event_on_frame_recv_start_arg *f, void *arg)
{
	struct ws *ws = arg;

	ws->control = wslay_is_ctrl_frame(f->opcode);
	if (!ws->control && f->opcode != WSLAY_CONTINUATION_FRAME)
		ws->opcode = f->opcode;
	if (!ws->control && ws->opcode != WSLAY_BINARY_FRAME) {
		wslay_event_queue_close(ctx, WSLAY_CODE_UNSUPPORTED_DATA, NULL, 0);
		wslay_event_shutdown_read(ctx);
	}
}

static void on_chunk(wslay_event_context_ptr ctx, const struct wslay_event_on_frame_recv_chunk_arg *chunk, void *arg)
{
	struct ws *ws = arg;

	(void)ctx;
	if (!ws->control && ws->opcode == WSLAY_BINARY_FRAME)
		hf_conn_deliver(ws->conn, hf_span(chunk->data, chunk->data_length));
}

static const struct wslay_event_callbacks callbacks = {
	.recv_callback = on_recv,
	.send_callback = on_send,
	.on_frame_recv_start_callback = on_frame,
	.on_frame_recv_chunk_callback = on_chunk,
};

static void layer_in(void *arg, struct hf_conn *c, struct hf_span wire)
{
	struct ws *ws = arg;

	ws->in = wire;
	if (wslay_event_recv(ws->ctx) != 0) {
		hf_conn_abort(c, -EPROTO, "WebSocket library failure");
		return;
	}
	if (wslay_event_want_write(ws->ctx)) {		/* pongs, the answer to a close */
		wslay_event_send(ws->ctx);
		hf_conn_flush_later(c);
	}
	if (!wslay_event_want_read(ws->ctx))
		hf_conn_close(c);
}

static void layer_out(void *arg, struct hf_span app, struct hf_buf *wire)
{
	struct ws *ws = arg;
	struct wslay_event_msg msg = { .opcode = WSLAY_BINARY_FRAME, .msg = app.ptr, .msg_length = app.len };

	if (app.len == 0 || !wslay_event_get_write_enabled(ws->ctx))
		return;
	if (wslay_event_queue_msg(ws->ctx, &msg) != 0 || wslay_event_send(ws->ctx) != 0)
		wire->err = wire->err ? wire->err : -ENOMEM;
}

static void layer_closing(void *arg, struct hf_buf *wire)
{
	struct ws *ws = arg;

	(void)wire;
	if (wslay_event_get_close_sent(ws->ctx) ||
	    wslay_event_queue_close(ws->ctx, WSLAY_CODE_NORMAL_CLOSURE, NULL, 0) != 0)
		return;
	wslay_event_send(ws->ctx);
}

static void layer_destroy(void *arg)
{
	struct ws *ws = arg;

	wslay_event_context_free(ws->ctx);
	free(ws);
}

static const struct hf_conn_layer layer = { layer_in, layer_out, layer_closing, layer_destroy };

int hf_ws_attach(struct hf_conn *conn, struct hf_span early)
{
	struct ws *ws = calloc(1, sizeof *ws);

	if (!ws)
		return -ENOMEM;
	ws->conn = conn;
	if (wslay_event_context_server_init(&ws->ctx, &callbacks, ws) != 0) {
		free(ws);
		return -ENOMEM;
	}
	wslay_event_config_set_no_buffering(ws->ctx, 1);
	hf_conn_set_layer(conn, &layer, ws);
	if (early.len)
		layer_in(ws, conn, early);
	return 0;
}
