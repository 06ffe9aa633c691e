/* SPDX-License-Identifier: GPL-3.0-or-later */
/* http/http_answer.c - the answers of the HTTP/1.1 server. */
#include "http/http_srv_int.h"

#include "core/clock.h"
#include "core/util.h"

#include <errno.h>
#include <holdfast/err.h>
#include <time.h>

static void put_date(struct hf_buf *out)
{
	static const char days[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
	static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
					    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	time_t now = (time_t)hf_clock_wall_s();
	struct tm tm;

	if (gmtime_r(&now, &tm))
		hf_buf_printf(out, "Date: %s, %02d %s %d %02d:%02d:%02d GMT\r\n", days[tm.tm_wday],
			      tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
			      tm.tm_sec);
}

/* length NULL: the end of the connection ends the body. */
static void put_head(struct hf_buf *out, int status, const char *type, const uint64_t *length, const char *extra,
		     bool keep_alive)
{
	bool has_body = status != 204 && status != 304;

	hf_buf_printf(out, "HTTP/1.1 %d %s\r\n", status, hf_http_reason_phrase(status));
	put_date(out);
	if (type && has_body)
		hf_buf_printf(out, "Content-Type: %s\r\n", type);
	if (length && has_body)
		hf_buf_printf(out, "Content-Length: %llu\r\n", (unsigned long long)*length);
	if (!keep_alive)
		hf_buf_puts(out, "Connection: close\r\n");
	if (extra)
		hf_buf_puts(out, extra);
	hf_buf_puts(out, "\r\n");
}

void hf_http_put_answer(struct hf_buf *out, int status, const char *type, struct hf_span body, const char *extra,
			bool keep_alive, bool is_head)
{
	uint64_t length = body.len;

	put_head(out, status, type, &length, extra, keep_alive);
	if (status != 204 && status != 304 && !is_head)
		hf_buf_put_span(out, body);
}

void hf_http_respond(struct hf_http_exchange *x, int status, const char *content_type, struct hf_span body,
		     const char *extra_headers)
{
	struct srv_conn *sc = x->sc;
	struct hf_buf *out;

	if (!sc || !sc->srv || sc->ending) {
		if (sc)
			sc->x = NULL;
		free(x);
		return;
	}
	out = x->late_ms ? &sc->late : hf_conn_out(sc->conn);
	for (unsigned i = 0; i < x->times; i++)
		hf_http_put_answer(out, status, content_type, body, extra_headers, x->keep_alive, x->is_head);
	x->held = x->late_ms || x->times == 0;
	if (!x->held)
		hf_http_srv_answered(sc);
	else if (sc->late.err)
		hf_conn_abort(sc->conn, sc->late.err, "no room for a late answer");
	else if (x->times)
		hf_timer_start(sc->timer, x->late_ms, 0);
}

/* --- bodies from a source ----------------------------------------------------------------------------------- */

void hf_http_source_end(struct srv_conn *sc)
{
	struct hf_http_source source = sc->source;

	memset(&sc->source, 0, sizeof sc->source);
	if (source.read)
		source.end(source.arg);
}

void hf_http_source_pump(struct srv_conn *sc)
{
	uint8_t part[16 * 1024];
	bool more = true;
	size_t n;
	int r;

	while (sc->source.length > 0 && more) {
		r = sc->source.read(sc->source.arg, part, (size_t)hf_min(sc->source.length, sizeof part), &n);
		if (r != 0) {
			hf_conn_abort(sc->conn, r, "the answer's body cannot be read");
			return;
		}
		sc->source.length -= n;
		more = hf_conn_write(sc->conn, hf_span(part, n));
	}
	if (sc->source.length > 0) {
		hf_http_srv_arm(sc, false);	/* until it is drained */
		return;
	}
	hf_http_source_end(sc);
	hf_http_srv_answered(sc);
}

void hf_http_respond_source(struct hf_http_exchange *x, int status, const char *content_type,
			    const struct hf_http_source *source, const char *extra_headers)
{
	struct srv_conn *sc = x->sc;

	if (!sc || !sc->srv || sc->ending) {
		source->end(source->arg);
		hf_http_respond(x, status, content_type, hf_span(NULL, 0), extra_headers);	/* to nobody */
		return;
	}
	put_head(hf_conn_out(sc->conn), status, content_type, &source->length, extra_headers, x->keep_alive);
	hf_conn_flush_later(sc->conn);
	sc->source = *source;
	if (x->is_head)
		sc->source.length = 0;
	hf_http_source_pump(sc);
}

/* --- answers of servers that misbehave on purpose --------------------------------------------------------------- */

void hf_http_later(struct hf_http_exchange *x, uint32_t ms)
{
	x->held = x->again = true;
	if (ms != UINT32_MAX)
		hf_timer_start(x->sc->timer, ms, 0);
}

void hf_http_drop(struct hf_http_exchange *x)
{
	struct srv_conn *sc = x->sc;

	sc->x = NULL;
	sc->ending = true;
	hf_conn_close(sc->conn);
	free(x);
}

void hf_http_answer(struct hf_http_exchange *x, unsigned times, uint32_t ms)
{
	x->times = times;
	x->late_ms = ms;
}

void hf_http_upgrade(struct hf_http_exchange *x, const char *headers,
		     void (*fn)(void *arg, struct hf_conn *conn, struct hf_span early), void *arg)
{
	struct srv_conn *sc = x->sc;

	assert(sc && sc->in_handler);
	hf_buf_printf(hf_conn_out(sc->conn), "HTTP/1.1 101 Switching Protocols\r\n%s\r\n", headers);
	hf_conn_flush_later(sc->conn);
	sc->upgrade = fn;
	sc->upgrade_arg = arg;
	sc->x = NULL;
	free(x);
}

/* --- answers that go on --------------------------------------------------------------------------------------- */

struct hf_http_stream *hf_http_stream_start(struct hf_http_exchange *x, int status, const char *content_type,
					    const char *extra_headers, const struct hf_http_stream_ops *ops, void *arg)
{
	struct srv_conn *sc = x->sc;
	struct hf_http_stream *s = sc && sc->srv && !sc->ending ? malloc(sizeof *s) : NULL;

	if (s) {
		*s = (struct hf_http_stream){ .sc = sc, .ops = ops, .arg = arg };
		sc->stream = s;
		sc->ending = true;
		put_head(hf_conn_out(sc->conn), status, content_type, NULL, extra_headers, false);
		hf_conn_flush_later(sc->conn);
		hf_conn_resume(sc->conn);	/* or its end would go unnoticed */
	} else if (sc && sc->srv && !sc->ending) {
		sc->ending = true;
		hf_conn_abort(sc->conn, -ENOMEM, "no memory for a stream");
	}
	if (sc)
		sc->x = NULL;
	free(x);
	return s;
}

bool hf_http_stream_write(struct hf_http_stream *s, struct hf_span piece)
{
	return hf_conn_write(s->sc->conn, piece);
}

void hf_http_stream_end(struct hf_http_stream **ps)
{
	struct hf_http_stream *s = hf_take(*ps);

	s->sc->stream = NULL;
	hf_conn_close(s->sc->conn);
	free(s);
}

void hf_http_stream_drop(struct hf_http_stream **ps, const char *why)
{
	struct hf_http_stream *s = hf_take(*ps);

	s->sc->stream = NULL;
	hf_conn_abort(s->sc->conn, HF_ELIMIT, why);
	free(s);
}

void hf_http_stream_gone(struct srv_conn *sc)
{
	struct hf_http_stream *s = hf_take(sc->stream);

	if (!s)
		return;
	s->ops->gone(s->arg);
	free(s);
}

struct hf_conn *hf_http_exchange_conn(struct hf_http_exchange *x)
{
	return x->sc ? x->sc->conn : NULL;
}
