/* SPDX-License-Identifier: GPL-3.0-or-later */
/* http/http_int.h - message reading, shared by server and client inside http/. */
#pragma once
#include "http/http.h"

/* One parsed head; spans point into the bytes given. */
struct hf_http_head {
	char method[12];	/* requests */
	int status;		/* responses */
	unsigned minor;		/* HTTP/1.minor */
	bool keep_alive;
	struct hf_span target;
	struct hf_http_header headers[HF_HTTP_MAX_HEADERS];
	unsigned n_headers;
};
/* http_parse.c, the only user of http-parser: splits a whole head (request or status line to the empty line).
 * Errors: HF_EPROTO, HF_ELIMIT (too many headers). */
int hf_http_parse_head(struct hf_span raw, bool is_request, struct hf_http_head *ret_head);

/* http_read.c: reads one message after another from a byte stream, sans I/O. */
struct hf_http_reader {
	bool is_request;
	bool is_tls;		/* set by a server after the init: the scheme that a target in absolute form may have */
	size_t max_head, max_body;
	uint8_t state;
	uint8_t last;		/* last byte of the head so far */
	bool expect_continue;	/* set with the head complete; the server answers it and clears it */
	uint64_t left;		/* of the body or chunk */
	unsigned line_len;	/* of the chunk line or trailer section */
	bool has_digit, at_line_start;
	struct hf_buf raw, body;
	struct hf_http_head head;
	/* A body follows head: who takes it? Leaves *ret_sink empty for `body`. NULL: all go there. */
	void (*on_body)(void *arg, const struct hf_http_head *head, struct hf_http_sink *ret_sink);
	void *on_body_arg;
	struct hf_http_sink sink;	/* arg set: in use */
	uint64_t sink_taken;
	bool is_cut;		/* complete without (the rest of) its body: the sink wanted no more */
	int refuse_status;	/* after an error: what to answer */
	const char *reason;	/* and why, for the log */
};
void hf_http_reader_init(struct hf_http_reader *r, bool is_request, size_t max_head, size_t max_body);
void hf_http_reader_fini(struct hf_http_reader *r);
/* Ready for the next message; gives memory back. */
void hf_http_reader_next(struct hf_http_reader *r);
/* 0: a message is complete (head, body). HF_EMORE: all of `in` was taken. Else an error, refuse_status set.
 * *ret_used: bytes taken from `in`. */
int hf_http_reader_feed(struct hf_http_reader *r, struct hf_span in, size_t *ret_used);
bool hf_http_reader_idle(const struct hf_http_reader *r);	/* between messages */
/* Looks up a header by name. */
bool hf_http_head_find(const struct hf_http_head *h, const char *name, struct hf_span *ret_value);
const char *hf_http_reason_phrase(int status);
