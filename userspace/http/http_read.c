/* SPDX-License-Identifier: GPL-3.0-or-later */
/* http/http_read.c - message framing. Strict where implementations differ: what two readers could take for
 * different lengths (RFC 9112 section 6.3, 11.2) is refused, not guessed. */
#include "http/http_int.h"

#include "core/util.h"

#include <holdfast/err.h>

enum { CHUNK_LINE_MAX = 256, TRAILER_MAX = 4096 };

enum read_state {
	READ_HEAD,
	READ_BODY,
	READ_CHUNK_SIZE,
	READ_CHUNK_EXT,
	READ_CHUNK_SIZE_LF,
	READ_CHUNK_DATA,
	READ_CHUNK_CR,
	READ_CHUNK_LF,
	READ_TRAILER,
	READ_TRAILER_LF,
	READ_DONE,
	READ_FAILED,
};

void hf_http_reader_init(struct hf_http_reader *r, bool is_request, size_t max_head, size_t max_body)
{
	memset(r, 0, sizeof *r);
	r->is_request = is_request;
	r->max_head = max_head;
	r->max_body = max_body;
	r->raw = HF_BUF_INIT(max_head);
	r->body = HF_BUF_INIT(max_body + 1);
}

void hf_http_reader_fini(struct hf_http_reader *r)
{
	struct hf_http_sink sink = r->sink;

	memset(&r->sink, 0, sizeof r->sink);
	if (sink.arg)
		sink.drop(sink.arg);
	hf_buf_wipe(&r->raw);	/* holds Authorization */
	hf_buf_wipe(&r->body);	/* may hold keys */
}

void hf_http_reader_next(struct hf_http_reader *r)
{
	void (*on_body)(void *, const struct hf_http_head *, struct hf_http_sink *) = r->on_body;
	void *arg = r->on_body_arg;
	bool is_tls = r->is_tls;

	hf_http_reader_fini(r);
	hf_http_reader_init(r, r->is_request, r->max_head, r->max_body);
	r->on_body = on_body;
	r->on_body_arg = arg;
	r->is_tls = is_tls;
}

bool hf_http_reader_idle(const struct hf_http_reader *r)
{
	return r->state == READ_HEAD && hf_buf_len(&r->raw) == 0;
}

bool hf_http_head_find(const struct hf_http_head *h, const char *name, struct hf_span *ret_value)
{
	for (unsigned i = 0; i < h->n_headers; i++) {
		if (hf_span_ieq(h->headers[i].name, hf_span_str(name))) {
			*ret_value = h->headers[i].value;
			return true;
		}
	}
	return false;
}

static int fail(struct hf_http_reader *r, int err, int status, const char *reason)
{
	r->state = READ_FAILED;
	r->refuse_status = status;
	r->reason = reason;
	return err;
}

static unsigned count_headers(const struct hf_http_head *h, const char *name)
{
	unsigned n = 0;

	for (unsigned i = 0; i < h->n_headers; i++)
		n += hf_span_ieq(h->headers[i].name, hf_span_str(name));
	return n;
}

static bool token_char(uint8_t ch)
{
	return (ch >= '0' && ch <= '9') || (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
	       (ch && strchr("!#$%&'*+-.^_`|~", ch));
}

/* method SP target SP HTTP/d.d, nothing else between. */
static bool request_line_ok(struct hf_span line)
{
	size_t i = 0, begin;

	while (i < line.len && token_char(line.ptr[i]))
		i++;
	if (i == 0 || i == line.len || line.ptr[i++] != ' ')
		return false;
	begin = i;
	while (i < line.len && line.ptr[i] > 0x20 && line.ptr[i] < 0x7f)
		i++;
	return i > begin && line.len - i == 9 && memcmp(line.ptr + i, " HTTP/", 6) == 0;
}

/* Every header line is name ":" value; no white space before the colon, no folded lines. */
static bool lines_ok(struct hf_span raw, bool is_request)
{
	struct hf_span line;
	bool first = true;

	while (raw.len > 0) {
		hf_span_cut(&raw, '\n', &line);
		if (line.len > 0)
			line.len--;	/* CR, checked as the bytes came */
		if (first && is_request && !request_line_ok(line))
			return false;
		if (!first && line.len > 0) {
			size_t i = 0;

			while (i < line.len && token_char(line.ptr[i]))
				i++;
			if (i == 0 || i == line.len || line.ptr[i] != ':')
				return false;
		}
		first = false;
	}
	return true;
}

/* A body of `length` follows, UINT64_MAX: in chunks. */
static int begin_body(struct hf_http_reader *r, uint64_t length)
{
	if (r->on_body)
		r->on_body(r->on_body_arg, &r->head, &r->sink);
	if (r->sink.arg && r->sink.refuse) {
		r->is_cut = true;
		r->state = READ_DONE;
		return 0;
	}
	if (length == UINT64_MAX) {
		r->state = READ_CHUNK_SIZE;
		return HF_EMORE;
	}
	if (!r->sink.arg && length > r->max_body)
		return fail(r, HF_ELIMIT, 413, "body too large");
	r->left = length;
	r->state = READ_BODY;
	return HF_EMORE;
}

static int set_framing(struct hf_http_reader *r)
{
	struct hf_http_head *h = &r->head;
	unsigned n_len = count_headers(h, "content-length"), n_te = count_headers(h, "transfer-encoding");
	struct hf_span v;
	int64_t n;

	if (n_len > 1 || n_te > 1 || (n_len && n_te))
		return fail(r, HF_EPROTO, 400, "ambiguous message length");
	if (n_te) {
		hf_http_head_find(h, "transfer-encoding", &v);
		if (h->minor == 0)
			return fail(r, HF_EPROTO, 400, "Transfer-Encoding in HTTP/1.0");
		if (!hf_span_ieq(v, hf_span_str("chunked")))
			return fail(r, HF_EPROTO, 400, "Transfer-Encoding other than chunked");
		return begin_body(r, UINT64_MAX);
	}
	if (n_len) {
		hf_http_head_find(h, "content-length", &v);
		for (size_t i = 0; i < v.len; i++)
			if (v.ptr[i] < '0' || v.ptr[i] > '9')
				return fail(r, HF_EPROTO, 400, "bad Content-Length");
		if (hf_parse_i64(v, 0, INT64_MAX, &n) < 0)
			return fail(r, HF_EPROTO, 400, "bad Content-Length");
		if (n)
			return begin_body(r, (uint64_t)n);
		r->state = READ_DONE;
		return 0;
	}
	if (r->is_request || h->status == 204 || h->status == 304) {
		r->state = READ_DONE;
		return 0;
	}
	/* A body that only the end of the stream ends cannot be told from a cut one. */
	return fail(r, HF_EPROTO, 502, "response without a length");
}

/* "https://HOST[:PORT][/path][?query]" (RFC 9112 section 3.2.2) becomes what the origin form of it would be: its host
 * takes the place of the Host header's. A scheme that the connection does not fit is refused (RFC 9110 section 7.4). */
static int take_absolute(struct hf_http_reader *r)
{
	struct hf_http_head *h = &r->head;
	struct hf_span rest = h->target, host;
	bool is_https = rest.len > 8 && hf_span_ieq(hf_span(rest.ptr, 8), hf_span_str("https://"));
	size_t n = 0;

	if (!is_https && (rest.len <= 7 || !hf_span_ieq(hf_span(rest.ptr, 7), hf_span_str("http://"))))
		return fail(r, HF_EPROTO, 400, "request target is neither a path nor an http or https URL");
	if (is_https != r->is_tls)
		return fail(r, HF_EPROTO, 421, "the scheme of the request target is not this connection's");
	rest = hf_span_skip(rest, is_https ? 8 : 7);
	while (n < rest.len && rest.ptr[n] != '/' && rest.ptr[n] != '?')
		n++;
	host = hf_span(rest.ptr, n);
	if (n == 0 || memchr(host.ptr, '@', n))
		return fail(r, HF_EPROTO, 400, "request target without a host, or with user information");
	h->target = hf_span_skip(rest, n);
	for (unsigned i = 0; i < h->n_headers; i++)
		if (hf_span_ieq(h->headers[i].name, hf_span_str("host"))) {
			h->headers[i].value = host;
			return 0;
		}
	if (h->n_headers == HF_HTTP_MAX_HEADERS)
		return fail(r, HF_EPROTO, 431, "too many headers");
	h->headers[h->n_headers++] = (struct hf_http_header){ hf_span_str("Host"), host };	/* HTTP/1.0 needs none */
	return 0;
}

static int check_target(struct hf_http_reader *r)
{
	const struct hf_http_head *h = &r->head;

	if (strcmp(h->method, "CONNECT") == 0)
		return fail(r, HF_EPROTO, 501, "CONNECT: this is no proxy");
	if (h->target.len && h->target.ptr[0] == '/')
		return 0;
	if (hf_span_is(h->target, "*"))
		return strcmp(h->method, "OPTIONS") == 0 ? 0 : fail(r, HF_EPROTO, 400, "request target * without OPTIONS");
	return take_absolute(r);
}

static int head_complete(struct hf_http_reader *r)
{
	struct hf_span v, raw = hf_buf_span(&r->raw);
	int e;

	if (!lines_ok(raw, r->is_request))
		return fail(r, HF_EPROTO, 400, "bad request or header line");
	e = hf_http_parse_head(raw, r->is_request, &r->head);
	if (e == HF_ELIMIT)
		return fail(r, e, 431, "too many headers");
	if (e < 0)
		return fail(r, HF_EPROTO, 400, "malformed head");
	if (r->head.minor > 1)
		return fail(r, HF_EPROTO, 505, "HTTP version not supported");
	if (!r->is_request && r->head.status >= 100 && r->head.status < 200) {
		hf_http_reader_next(r);	/* interim answer */
		return HF_EMORE;
	}
	if (r->is_request && r->head.minor == 1 && count_headers(&r->head, "host") != 1)
		return fail(r, HF_EPROTO, 400, "not exactly one Host");
	e = r->is_request ? check_target(r) : 0;
	if (e < 0)
		return e;
	e = set_framing(r);
	if (r->is_request && e == HF_EMORE && r->head.minor == 1 &&
	    hf_http_head_find(&r->head, "expect", &v))
		r->expect_continue = hf_span_ieq(v, hf_span_str("100-continue"));
	return e;
}

/* Takes bytes up to the empty line. HF_EMORE with the state changed means: the body follows. */
static int feed_head(struct hf_http_reader *r, struct hf_span in, size_t *ret_used)
{
	size_t i = 0, begin = 0;
	int e;

	while (i < in.len) {
		uint8_t ch = in.ptr[i++];

		/* Empty lines before a request are skipped (RFC 9112 section 2.2). */
		if (r->is_request && hf_buf_len(&r->raw) == 0 && begin == i - 1 &&
		    (ch == '\r' || (ch == '\n' && r->last == '\r'))) {
			r->last = ch;
			begin = i;
			continue;
		}
		if ((ch == '\n') != (r->last == '\r') || (ch < 0x20 && ch != '\r' && ch != '\n' && ch != '\t') ||
		    ch == 0x7f)
			return fail(r, HF_EPROTO, 400, "forbidden byte in the head");
		r->last = ch;
		if (ch != '\n')
			continue;
		hf_buf_put(&r->raw, in.ptr + begin, i - begin);
		begin = i;
		if (r->raw.err)
			break;
		if (hf_buf_len(&r->raw) < 4 || memcmp(r->raw.mem + r->raw.end - 4, "\r\n\r\n", 4) != 0)
			continue;
		*ret_used = i;
		r->last = 0;
		e = head_complete(r);
		return e;
	}
	if (begin < i)
		hf_buf_put(&r->raw, in.ptr + begin, i - begin);
	if (r->raw.err)
		return fail(r, HF_ELIMIT, 431, "head too large");
	*ret_used = in.len;
	return HF_EMORE;
}

static int hex_value(uint8_t ch)
{
	if (ch >= '0' && ch <= '9')
		return ch - '0';
	ch |= 0x20;
	return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

static int chunk_line_end(struct hf_http_reader *r)
{
	if (!r->has_digit)
		return fail(r, HF_EPROTO, 400, "chunk without a size");
	r->has_digit = false;
	r->line_len = 0;
	r->at_line_start = true;
	r->state = r->left ? READ_CHUNK_DATA : READ_TRAILER;
	return HF_EMORE;
}

static int feed_chunk_byte(struct hf_http_reader *r, uint8_t ch)
{
	int digit;

	switch (r->state) {
	case READ_CHUNK_SIZE:
		digit = hex_value(ch);
		if (digit >= 0) {
			r->has_digit = true;
			r->left = r->left << 4 | (unsigned)digit;
			if (!r->sink.arg && r->left + hf_buf_len(&r->body) > r->max_body)
				return fail(r, HF_ELIMIT, 413, "body too large");
			if (++r->line_len > 16)
				return fail(r, HF_EPROTO, 400, "chunk size too long");
			return HF_EMORE;
		}
		if (ch != ';' && ch != '\r')
			return fail(r, HF_EPROTO, 400, "bad chunk size");
		r->state = ch == ';' ? READ_CHUNK_EXT : READ_CHUNK_SIZE_LF;
		return HF_EMORE;
	case READ_CHUNK_EXT:
		if (ch == '\r')
			r->state = READ_CHUNK_SIZE_LF;
		else if ((ch < 0x20 && ch != '\t') || ch == 0x7f || ++r->line_len > CHUNK_LINE_MAX)
			return fail(r, HF_EPROTO, 400, "bad chunk extension");
		return HF_EMORE;
	case READ_CHUNK_SIZE_LF:
		return ch == '\n' ? chunk_line_end(r) : fail(r, HF_EPROTO, 400, "bad chunk line end");
	case READ_CHUNK_CR:
		r->state = READ_CHUNK_LF;
		return ch == '\r' ? HF_EMORE : fail(r, HF_EPROTO, 400, "chunk longer than its size");
	case READ_CHUNK_LF:
		r->state = READ_CHUNK_SIZE;
		return ch == '\n' ? HF_EMORE : fail(r, HF_EPROTO, 400, "bad chunk end");
	case READ_TRAILER:
		if (ch == '\r')
			r->state = READ_TRAILER_LF;
		else if ((ch < 0x20 && ch != '\t') || ch == 0x7f || ++r->line_len > TRAILER_MAX)
			return fail(r, HF_EPROTO, 400, "bad trailer");
		else
			r->at_line_start = false;
		return HF_EMORE;
	default:	/* READ_TRAILER_LF */
		if (ch != '\n')
			return fail(r, HF_EPROTO, 400, "bad trailer line end");
		r->state = r->at_line_start ? READ_DONE : READ_TRAILER;
		r->at_line_start = true;
		return r->state == READ_DONE ? 0 : HF_EMORE;
	}
}

static int take_part(struct hf_http_reader *r, struct hf_span part)
{
	if (r->sink.arg) {
		r->sink_taken += part.len;
		r->is_cut = !r->sink.write(r->sink.arg, part);
		return 0;
	}
	hf_buf_put_span(&r->body, part);
	return r->body.err ? fail(r, r->body.err, 413, "body too large") : 0;
}

static int feed_body(struct hf_http_reader *r, struct hf_span in, size_t *ret_used)
{
	size_t used = 0, n;
	int e = HF_EMORE;

	while (used < in.len && e == HF_EMORE) {
		if (r->state != READ_BODY && r->state != READ_CHUNK_DATA) {
			e = feed_chunk_byte(r, in.ptr[used++]);
			continue;
		}
		n = (size_t)hf_min((uint64_t)(in.len - used), r->left);
		if (take_part(r, hf_span(in.ptr + used, n)) != 0)
			return r->body.err;
		used += n;
		r->left -= n;
		if (r->is_cut) {
			r->state = READ_DONE;
			e = 0;
		} else if (r->left == 0 && r->state == READ_CHUNK_DATA) {
			r->state = READ_CHUNK_CR;
		} else if (r->left == 0) {
			r->state = READ_DONE;
			e = 0;
		}
	}
	*ret_used = used;
	return e;
}

int hf_http_reader_feed(struct hf_http_reader *r, struct hf_span in, size_t *ret_used)
{
	size_t used = 0, n = 0;
	int e = HF_EMORE;

	while (used < in.len && e == HF_EMORE) {
		struct hf_span rest = hf_span_skip(in, used);

		if (r->state == READ_FAILED || r->state == READ_DONE)
			return HF_EPROTO;
		e = r->state == READ_HEAD ? feed_head(r, rest, &n) : feed_body(r, rest, &n);
		if (e < 0 && e != HF_EMORE)
			return e;
		used += n;
	}
	*ret_used = used;
	return e;
}

const char *hf_http_reason_phrase(int status)
{
	static const struct { int status; const char *text; } phrases[] = {
		{ 200, "OK" }, { 201, "Created" }, { 202, "Accepted" }, { 204, "No Content" },
		{ 206, "Partial Content" },
		{ 301, "Moved Permanently" }, { 304, "Not Modified" }, { 400, "Bad Request" }, { 401, "Unauthorized" },
		{ 403, "Forbidden" }, { 404, "Not Found" }, { 405, "Method Not Allowed" },
		{ 408, "Request Timeout" }, { 409, "Conflict" }, { 412, "Precondition Failed" },
		{ 413, "Content Too Large" }, { 421, "Misdirected Request" }, { 429, "Too Many Requests" },
		{ 411, "Length Required" }, { 415, "Unsupported Media Type" }, { 416, "Range Not Satisfiable" },
		{ 507, "Insufficient Storage" }, { 502, "Bad Gateway" },
		{ 431, "Request Header Fields Too Large" }, { 500, "Internal Server Error" },
		{ 501, "Not Implemented" }, { 503, "Service Unavailable" }, { 504, "Gateway Timeout" },
		{ 505, "HTTP Version Not Supported" },
	};

	for (size_t i = 0; i < HF_ARRAY_LEN(phrases); i++)
		if (phrases[i].status == status)
			return phrases[i].text;
	return status < 400 ? "OK" : "Error";
}
