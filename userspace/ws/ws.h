/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ws/ws.h - server side of WebSocket (RFC 6455) over net/conn: upgrade and framing. Only ws/ includes wslay. */
#pragma once
#include "http/http.h"

/* Does the request ask for a WebSocket at all? */
bool hf_ws_wanted(const struct hf_http_request *req);
/* Checks an upgrade request and chooses the first offered sub-protocol that `protocols` (ends with NULL) knows,
 * compared without case. ret_headers: lines for the 101 answer, the protocol spelt as offered; extensions are declined.
 * *ret_choice: index into protocols. HF_EINVALID with *ret_reason (static), to be answered with 400. */
int hf_ws_accept(const struct hf_http_request *req, const char *const *protocols, unsigned *ret_choice,
		 struct hf_buf *ret_headers, const char **ret_reason);
/* Puts the framing on conn, whose owner goes on reading and writing a byte stream: binary frames in both directions,
 * frame borders mean nothing. Pings are answered. A close frame, a text frame or a protocol error closes conn.
 * early: bytes read before. -ENOMEM. */
int hf_ws_attach(struct hf_conn *conn, struct hf_span early);
