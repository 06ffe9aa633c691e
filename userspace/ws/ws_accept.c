/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The opening handshake (RFC 6455 section 4.2). */
#include "core/util.h"
#include "tls/tls.h"
#include "ws/ws.h"

#include <holdfast/err.h>

static bool next_token(struct hf_span *rest, struct hf_span *ret_token)
{
	while (rest->len) {
		struct hf_span t;

		hf_span_cut(rest, ',', &t);
		while (t.len && (t.ptr[0] == ' ' || t.ptr[0] == '\t'))
			t = hf_span_skip(t, 1);
		while (t.len && (t.ptr[t.len - 1] == ' ' || t.ptr[t.len - 1] == '\t'))
			t.len--;
		if (t.len) {
			*ret_token = t;
			return true;
		}
	}
	return false;
}

static bool has_token(const struct hf_http_request *req, const char *header, const char *token)
{
	struct hf_span rest, t;

	if (!hf_http_header(req, header, &rest))
		return false;
	while (next_token(&rest, &t))
		if (hf_span_ieq(t, hf_span_str(token)))
			return true;
	return false;
}

bool hf_ws_wanted(const struct hf_http_request *req)
{
	return has_token(req, "Upgrade", "websocket");
}

/* The header may come several times; a client lists what it prefers first. */
static bool choose(const struct hf_http_request *req, const char *const *protocols, unsigned *ret_choice,
		   struct hf_span *ret_as_offered)
{
	for (unsigned i = 0; i < req->n_headers; i++) {
		struct hf_span rest = req->headers[i].value, t;

		if (!hf_span_ieq(req->headers[i].name, hf_span_str("Sec-WebSocket-Protocol")))
			continue;
		while (next_token(&rest, &t))
			for (unsigned k = 0; protocols[k]; k++)
				if (hf_span_ieq(t, hf_span_str(protocols[k]))) {
					*ret_choice = k;
					*ret_as_offered = t;
					return true;
				}
	}
	return false;
}

static int bad(const char **ret_reason, const char *why)
{
	*ret_reason = why;
	return HF_EINVALID;
}

int hf_ws_accept(const struct hf_http_request *req, const char *const *protocols, unsigned *ret_choice,
		 struct hf_buf *ret_headers, const char **ret_reason)
{
	hf_autobuf struct hf_buf text = HF_BUF_INIT(256), raw = HF_BUF_INIT(64);
	struct hf_span key, version, protocol;
	uint8_t digest[20];

	if (strcmp(req->method, "GET") != 0 || !hf_ws_wanted(req) || !has_token(req, "Connection", "Upgrade"))
		return bad(ret_reason, "not a WebSocket upgrade");
	if (!hf_http_header(req, "Sec-WebSocket-Version", &version) || !hf_span_is(version, "13"))
		return bad(ret_reason, "Sec-WebSocket-Version must be 13");
	if (!hf_http_header(req, "Sec-WebSocket-Key", &key) || hf_b64_decode(key, &raw) != 0 || hf_buf_len(&raw) != 16)
		return bad(ret_reason, "Sec-WebSocket-Key must be 16 bytes in base64");
	if (!choose(req, protocols, ret_choice, &protocol))
		return bad(ret_reason, "no sub-protocol that is served here");
	hf_buf_put_span(&text, key);
	hf_buf_puts(&text, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
	hf_sha1(hf_buf_span(&text), digest);
	hf_buf_puts(ret_headers, "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ");
	hf_b64_encode(hf_span(digest, sizeof digest), ret_headers);
	hf_buf_puts(ret_headers, "\r\nSec-WebSocket-Protocol: ");
	hf_buf_put_span(ret_headers, protocol);
	hf_buf_puts(ret_headers, "\r\n");
	return ret_headers->err;
}
