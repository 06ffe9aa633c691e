/* SPDX-License-Identifier: GPL-3.0-or-later */
/* net/conn.h - one stream connection (TCP or unix; TLS or plain) on one loop.
 *
 * Owner thread: the loop's. No callback runs inside a call of this header, except `closed` never does: it
 * runs exactly once, later, from the loop; the connection is freed right after it returns. After
 * hf_conn_close/abort no other callback but `closed` runs.
 *
 * Reading goes through the loop's scratch: `data` must use or copy all of `in` before returning. There is a
 * read budget per turn; a connection with more goes on the runnable list. Writing appends to an output
 * buffer that is sent at the end of the turn in one TLS write. */
#pragma once
#include "core/buf.h"
#include "loop/loop.h"
#include "tls/tls.h"
#include <sys/socket.h>

struct hf_conn;
struct hf_conn_ops {
	void (*ready)(void *arg, struct hf_conn *c);	/* connected and handshake done */
	void (*data)(void *arg, struct hf_conn *c, struct hf_span in);
	void (*drained)(void *arg, struct hf_conn *c);	/* output fell to zero after hf_conn_write said full */
	/* err 0 = orderly end by the peer or by close(); else a code. detail: short text for logs. */
	void (*closed)(void *arg, struct hf_conn *c, int err, const char *detail);
};
struct hf_conn_cfg {
	struct hf_tls_ctx *tls;		/* NULL = plain */
	const char *server_name;	/* client TLS: name to verify and send as SNI */
	bool is_client;
	uint32_t handshake_timeout_ms;	/* connect + TLS; 0 = 10 000. HF_ETIMEOUT */
	size_t out_cap;			/* bound of the output buffer, 0 = 1 MiB; overflow aborts with HF_ELIMIT */
};
/* A framing between the wire and the owner, such as WebSocket. The owner reads and writes as before. */
struct hf_conn_layer {
	/* Wire bytes came: hand the payload to hf_conn_deliver. After a pause the rest of `wire` is still delivered. */
	void (*in)(void *arg, struct hf_conn *c, struct hf_span wire);
	/* Appends `app` to wire as frames. */
	void (*out)(void *arg, struct hf_span app, struct hf_buf *wire);
	void (*closing)(void *arg, struct hf_buf *wire);	/* the last frame of an orderly end */
	void (*destroy)(void *arg);				/* with the connection */
};
/* Takes over fd (non-blocking, connected or connecting) also on failure. */
int hf_conn_create(struct hf_loop *loop, int fd, const struct hf_conn_cfg *cfg, const struct hf_conn_ops *ops,
		   void *arg, struct hf_conn **ret_conn);
/* Starts a TCP connect to addr, then as hf_conn_create. */
int hf_conn_connect(struct hf_loop *loop, const struct sockaddr *addr, socklen_t addr_len,
		    const struct hf_conn_cfg *cfg, const struct hf_conn_ops *ops, void *arg,
		    struct hf_conn **ret_conn);
/* The next owner of an open connection. */
void hf_conn_set_ops(struct hf_conn *c, const struct hf_conn_ops *ops, void *arg);
/* From now on. What was written before leaves as it is. At most one layer. */
void hf_conn_set_layer(struct hf_conn *c, const struct hf_conn_layer *layer, void *arg);
/* For layers: payload to the owner (dropped once closed); frames of the layer's own (then flush_later). */
void hf_conn_deliver(struct hf_conn *c, struct hf_span payload);
struct hf_buf *hf_conn_wire(struct hf_conn *c);
/* The output buffer, to append to in place (encoders); call hf_conn_flush_later afterwards. */
struct hf_buf *hf_conn_out(struct hf_conn *c);
void hf_conn_flush_later(struct hf_conn *c);
/* Appends and flushes at turn end. Returns false when more than 256 KiB wait: stop producing until `drained`. */
bool hf_conn_write(struct hf_conn *c, struct hf_span data);
size_t hf_conn_out_len(const struct hf_conn *c);
void hf_conn_pause(struct hf_conn *c);		/* stop reading; data decrypted already is kept for later */
void hf_conn_resume(struct hf_conn *c);
bool hf_conn_paused(const struct hf_conn *c);
void hf_conn_close(struct hf_conn *c);		/* sends what is buffered (limit 2 s), close_notify, closed(0) */
void hf_conn_abort(struct hf_conn *c, int err, const char *detail);	/* drops output, closed(err) */
struct hf_tls *hf_conn_tls(struct hf_conn *c);	/* NULL when plain */
const char *hf_conn_peer(const struct hf_conn *c);	/* "10.1.2.3:4567" or "unix" */
int hf_conn_fd(const struct hf_conn *c);
struct hf_loop *hf_conn_loop(struct hf_conn *c);
