/* SPDX-License-Identifier: GPL-3.0-or-later */
/* http/http_srv_int.h - shared by the two halves of the server: requests (http_srv.c), answers (http_answer.c). */
#pragma once
#include "core/log.h"
#include "http/http_int.h"

#define HF_HTTP_OUT_CAP (64 * 1024 * 1024)
#define HF_HTTP_UNREAD_MAX (256 * 1024)	/* over: hf_conn tells when all has left */

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
	uint64_t taken;		/* of a body that goes to a sink, when its sender last had shown progress */
	struct hf_http_source source;	/* read set: an answer's body is on its way */
	void (*upgrade)(void *arg, struct hf_conn *conn, struct hf_span early);	/* set: the handler gave conn away */
	void *upgrade_arg;
};

struct hf_http_exchange {
	struct srv_conn *sc;	/* NULL when the client left */
	bool keep_alive, is_head;
	bool is_cut;		/* its body was not read to the end */
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

/* Starts the limit of a request in progress, or of idling. */
void hf_http_srv_arm(struct srv_conn *sc, bool in_request);
/* The answer is in the output: on with the next request, or the end. */
void hf_http_srv_answered(struct srv_conn *sc);
void hf_http_put_answer(struct hf_buf *out, int status, const char *type, struct hf_span body, const char *extra,
			bool keep_alive, bool is_head);
/* More of a body from a source, as much as the output takes. */
void hf_http_source_pump(struct srv_conn *sc);
void hf_http_source_end(struct srv_conn *sc);
void hf_http_stream_gone(struct srv_conn *sc);
