/* SPDX-License-Identifier: GPL-3.0-or-later */
/* http/http.h - HTTP/1.1 server and client over net/conn. http_parse.c is the only file that knows
 * http-parser. Ambiguous lengths (CL + TE, several CL, TE not chunked last), bad header bytes and overlong
 * heads are refused with 400/431 and close. */
#pragma once
#include "net/conn.h"
#include "net/listener.h"

struct hf_http_header { struct hf_span name, value; };
#define HF_HTTP_MAX_HEADERS 64
struct hf_http_request {
	char method[12];
	struct hf_span path;		/* before '?', still encoded */
	struct hf_span query;		/* after '?', still encoded, may be empty */
	struct hf_http_header headers[HF_HTTP_MAX_HEADERS];
	unsigned n_headers;
	struct hf_span body;
	bool keep_alive;
	bool is_again;			/* after hf_http_later */
	void *sink;			/* where the body went, body being empty; the handler's from now on */
};
/* Where one request's body goes instead of into memory. */
struct hf_http_sink {
	void *arg;			/* handed on as hf_http_request.sink; not NULL */
	bool refuse;			/* take nothing of the body: the handler is called at once */
	/* A part has come. False: no more of it is wanted, the handler is called at once. */
	bool (*write)(void *arg, struct hf_span part);
	void (*drop)(void *arg);	/* instead of the handler: the request ended before its body did */
};
/* Where a long answer comes from. read sets *ret_n to 1..cap or fails, which ends the connection. */
struct hf_http_source {
	uint64_t length;
	int (*read)(void *arg, uint8_t *p, size_t cap, size_t *ret_n);
	void (*end)(void *arg);		/* exactly once: it was sent, or the client left */
	void *arg;
};
struct hf_http_srv;
struct hf_http_exchange;	/* one request awaiting its answer; lives until responded or its client left */
/* Called on the loop for each complete request. `req` is borrowed until the call returns. The handler answers
 * now or later with hf_http_respond (exactly once). Requests of one connection are handled one at a time. */
typedef void (*hf_http_handler)(void *arg, const struct hf_http_request *req, struct hf_http_exchange *x);
struct hf_http_srv_cfg {
	struct hf_tls_ctx *tls;		/* NULL = plain (metrics) */
	size_t max_head, max_body;	/* 0 = 16 KiB, 1 MiB; over: 431, 413 */
	uint32_t idle_timeout_ms, request_timeout_ms;	/* 0 = 120 000, 30 000 (slow senders: 408) */
	unsigned max_conns;		/* 0 = 4 096; over: closed and counted */
	/* Asked when a body follows a head; may set *ret_sink, which is empty. With a sink max_body does not hold, and the
	 * sender must bring 256 KiB in each request_timeout_ms. NULL: never. */
	void (*body_sink)(void *arg, const struct hf_http_request *req, struct hf_http_sink *ret_sink);
	void (*on_refused)(void *arg);	/* with the handler's arg, for each of hf_http_srv_refusals; may be NULL */
};
int hf_http_srv_create(struct hf_loop *loop, int listen_fd, const struct hf_http_srv_cfg *cfg,
		       hf_http_handler handler, void *arg, struct hf_http_srv **ret_srv);
void hf_http_srv_destroy(struct hf_http_srv **srv);
/* What was turned away since the start: connections over max_conns, requests refused here (400 408 413 431 505). */
struct hf_http_srv_refusals { uint64_t conns, requests; };
void hf_http_srv_refusals(const struct hf_http_srv *srv, struct hf_http_srv_refusals *ret_n);
bool hf_http_header(const struct hf_http_request *req, const char *name, struct hf_span *ret_value);
/* Value of a query parameter, decoded into out (reset first); false when absent. */
bool hf_http_query(const struct hf_http_request *req, const char *name, struct hf_buf *out);
/* extra_headers: complete lines "Name: value\r\n..." or NULL. Safe if the client left meanwhile. Frees x. */
void hf_http_respond(struct hf_http_exchange *x, int status, const char *content_type, struct hf_span body,
		     const char *extra_headers);
/* As hf_http_respond, with a body of any length; never more than some 256 KiB of it are in memory. */
void hf_http_respond_source(struct hf_http_exchange *x, int status, const char *content_type,
			    const struct hf_http_source *source, const char *extra_headers);
/* For servers that misbehave on purpose. Each is for use within the handler.
 * Instead of an answer: the handler gets the same request again in ms milliseconds; UINT32_MAX: never, the client waits
 * until it leaves. x stays the server's until then. Not for requests that are upgraded or have a sink. */
void hf_http_later(struct hf_http_exchange *x, uint32_t ms);
/* Instead of an answer: ends the connection. Frees x. */
void hf_http_drop(struct hf_http_exchange *x);
/* How hf_http_respond is to send the answer: so many times (0: never, the client waits), ms milliseconds later. */
void hf_http_answer(struct hf_http_exchange *x, unsigned times, uint32_t ms);
struct hf_conn *hf_http_exchange_conn(struct hf_http_exchange *x);	/* NULL when the client left */
/* Instead of hf_http_respond, only within the handler: answers 101 with these header lines and gives the connection
 * away. fn runs right after the handler returned: it takes conn (hf_conn_set_ops) or closes it; early: bytes that the
 * client sent after its request. Frees x. */
void hf_http_upgrade(struct hf_http_exchange *x, const char *headers,
		     void (*fn)(void *arg, struct hf_conn *conn, struct hf_span early), void *arg);

/* Instead of hf_http_respond, now or later: an answer without a known length, which ends with its connection. Frees x. */
struct hf_http_stream;
struct hf_http_stream_ops {
	void (*drained)(void *arg);	/* all was sent after hf_http_stream_write said full */
	/* The client left, or hf_http_srv_destroy runs: the stream is gone. Not called after end or drop. */
	void (*gone)(void *arg);
};
/* NULL: the client left meanwhile, or no memory; nothing more follows. */
struct hf_http_stream *hf_http_stream_start(struct hf_http_exchange *x, int status, const char *content_type,
					    const char *extra_headers, const struct hf_http_stream_ops *ops, void *arg);
/* Appends. False when more than 256 KiB wait: stop until `drained`, or drop who reads too slowly. */
bool hf_http_stream_write(struct hf_http_stream *s, struct hf_span piece);
void hf_http_stream_end(struct hf_http_stream **s);	/* sends what waits, then closes */
void hf_http_stream_drop(struct hf_http_stream **s, const char *why);

/* One-shot client request over a fresh connection (scope sync). */
struct hf_http_call;
struct hf_http_reply { int status; struct hf_span body; int64_t date_s; /* Date header, 0 = none */ };
/* err 0: reply valid during the call. Runs exactly once, unless cancelled. */
typedef void (*hf_http_reply_fn)(void *arg, int err, const struct hf_http_reply *reply);
struct hf_http_call_cfg {
	const struct sockaddr *addr; socklen_t addr_len;
	struct hf_tls_ctx *tls; const char *host;
	const char *method, *target;		/* target = path + query, encoded */
	const char *extra_headers;		/* complete lines or NULL */
	struct hf_span body;			/* copied */
	uint32_t timeout_ms;			/* whole call, 0 = 20 000 */
	size_t max_body;			/* 0 = 4 MiB */
};
int hf_http_call(struct hf_loop *loop, const struct hf_http_call_cfg *cfg, hf_http_reply_fn fn, void *arg,
		 struct hf_http_call **ret_call);
void hf_http_call_cancel(struct hf_http_call **call);
