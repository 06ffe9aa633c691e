/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Live telemetry as server-sent events: ten times a second what is new, to each reader. Work and memory are bounded: a
 * reader that the hub outruns is told how much it misses, one that does not read at all is dropped. */
#include "core/log.h"
#include "core/metric.h"
#include "core/util.h"
#include "hub/metrics.h"
#include "hub/portal/portal_int.h"

#include <holdfast/err.h>
#include <stdio.h>

enum {
	MAX_STREAMS = 16,
	TICK_MS = 100,
	CHECK_MS = 5000,
	STUCK_MS = 15000,
	TICK_EVENTS = 100,		/* sent to one reader in a tick */
	TICK_SCANNED = 2000,		/* looked at for one reader in a tick */
	LAG_MAX = 10000,		/* further behind: go on with the newest */
	FIRST = 20,			/* shown from before the start */
};

struct portal_stream {
	struct hf_list node;
	struct hub_portal *portal;
	struct hf_http_stream *http;
	uint64_t next;			/* sequence number */
	uint64_t blocked_ms;		/* since when its output is full; 0 = it is not */
	char session[HUB_PORTAL_TOKEN_SIZE];
	char device[HF_ID_MAX + 1];	/* "" = all */
};

static void forget(struct portal_stream *s)
{
	hf_list_del(&s->node);
	s->portal->n_streams--;
	explicit_bzero(s->session, sizeof s->session);
	free(s);
}

static void write_text(struct portal_stream *s, struct hf_span text)
{
	if (!hf_http_stream_write(s->http, text))
		s->blocked_ms = hf_loop_now_ms(s->portal->loop);
}

struct slice {
	struct portal_stream *stream;
	unsigned n_scanned, n_sent;
};

static bool is_wanted(const struct portal_stream *s, struct hf_span ident)
{
	struct hf_span device;

	hf_span_cut(&ident, '/', &device);
	return !*s->device || hf_span_is(device, s->device);
}

static bool send_one(void *arg, const struct hub_event *e)
{
	struct slice *slice = arg;
	struct portal_stream *s = slice->stream;

	if (is_wanted(s, e->ident)) {
		struct hf_buf out = HF_BUF_INIT(4 * HF_MSG_MAX_SIZE);
		json_t *doc = hub_event_doc(e);
		char *text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;

		hf_buf_printf(&out, "id: %llu\ndata: ", (unsigned long long)e->seq);
		hf_buf_puts(&out, text ? text : "");
		hf_buf_puts(&out, "\n\n");
		if (text && !out.err)
			write_text(s, hf_buf_span(&out));
		hf_buf_fini(&out);
		free(text);
		json_decref(doc);
		slice->n_sent++;
	}
	s->next = e->seq + 1;
	return ++slice->n_scanned < TICK_SCANNED && slice->n_sent < TICK_EVENTS && !s->blocked_ms;
}

/* True: there is more for it. */
static bool produce(struct portal_stream *s)
{
	struct slice slice = { .stream = s };
	uint64_t end = hub_event_end(s->portal->model);

	if (s->blocked_ms)
		return false;
	if (end - s->next > LAG_MAX) {
		char text[64];
		uint64_t skipped = end - TICK_EVENTS - s->next;

		snprintf(text, sizeof text, "event: skipped\ndata: %llu\n\n", (unsigned long long)skipped);
		write_text(s, hf_span_str(text));
		s->next += skipped;
	}
	if (hub_event_scan(s->portal->model, s->next, send_one, &slice) != 0)
		return false;
	return slice.n_scanned == TICK_SCANNED || slice.n_sent == TICK_EVENTS;
}

void portal_live_produce(void *arg)
{
	struct hub_portal *p = arg;
	struct hf_list *pos;
	bool more = false;

	hf_list_for_each(pos, &p->streams)
		more |= produce(hf_container_of(pos, struct portal_stream, node));
	if (more)
		hf_timer_start(p->produce, TICK_MS, 0);
}

void portal_live_on_event(void *arg)
{
	struct hub_portal *p = arg;

	if (p->n_streams && !hf_timer_active(p->produce))
		hf_timer_start(p->produce, TICK_MS, 0);
}

static void drop(struct portal_stream *s)
{
	static struct hf_log_limit limit;

	hf_metric_add(HUB_M_PORTAL_DROPPED, 1);
	hf_log_limited(&limit, HF_LOG_NOTICE, "hub.portal.dropped", "a reader of live telemetry does not read");
	hf_http_stream_drop(&s->http, "reads too slowly");
	forget(s);
}

void portal_live_check(void *arg)
{
	struct hub_portal *p = arg;
	uint64_t now = hf_loop_now_ms(p->loop);
	struct hf_list *pos, *tmp;

	hf_list_for_each_safe(pos, tmp, &p->streams) {
		struct portal_stream *s = hf_container_of(pos, struct portal_stream, node);

		if (!hub_portal_session_find(&p->sessions, hf_span_str(s->session), false, now)) {
			hf_http_stream_write(s->http, hf_span_str("event: signedout\ndata: \n\n"));
			hf_http_stream_end(&s->http);
			forget(s);
		} else if (s->blocked_ms && now - s->blocked_ms > STUCK_MS) {
			drop(s);
		} else if (!s->blocked_ms) {
			write_text(s, hf_span_str(":\n\n"));	/* finds out who is gone */
		}
	}
	if (p->n_streams == 0)
		hf_timer_stop(p->check);
}

static void on_drained(void *arg)
{
	struct portal_stream *s = arg;

	s->blocked_ms = 0;
	portal_live_on_event(s->portal);
}

static void on_gone(void *arg)
{
	forget(arg);
}

static const struct hf_http_stream_ops stream_ops = { .drained = on_drained, .gone = on_gone };

/* After a break of the connection browsers say what they saw last. */
static uint64_t first_seq(struct rest_req *q)
{
	uint64_t end = hub_event_end(q->m);
	struct hf_span last;
	int64_t seq;

	if (hf_http_header(q->http, "Last-Event-ID", &last) && hf_parse_i64(last, 0, INT64_MAX - 1, &seq) == 0 && (uint64_t)seq < end)
		return (uint64_t)seq + 1;
	return end > FIRST ? end - FIRST : 0;
}

void portal_live(struct rest_req *q)
{
	hf_autobuf struct hf_buf device = HF_BUF_INIT(HF_ID_MAX + 1);
	struct hub_portal *p = q->rest->portal;
	struct portal_stream *s;

	if (hf_http_query(q->http, "deviceId", &device) && device.err) {
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "deviceId is too long");
		return;
	}
	if (p->n_streams == MAX_STREAMS) {
		hf_metric_add(HUB_M_PORTAL_DROPPED, 1);
		rest_refuse(q, 503, 503001, "ServiceUnavailable", "%u windows show live telemetry. Close one.", p->n_streams);
		return;
	}
	s = calloc(1, sizeof *s);
	if (!s) {
		rest_refuse(q, 500, 500001, "ServerError", "no memory");
		return;
	}
	s->portal = p;
	s->next = first_seq(q);
	snprintf(s->session, sizeof s->session, "%s", q->session->token);
	snprintf(s->device, sizeof s->device, "%s", hf_buf_cstr(&device));
	hf_list_add_tail(&p->streams, &s->node);
	p->n_streams++;
	s->http = hf_http_stream_start(hf_take(q->x), 200, "text/event-stream; charset=utf-8",
				       "Cache-Control: no-store\r\n" PORTAL_HEADERS, &stream_ops, s);
	if (!s->http) {
		forget(s);
		return;
	}
	write_text(s, hf_span_str(":\n\n"));
	portal_live_on_event(p);
	if (!hf_timer_active(p->check))
		hf_timer_start(p->check, CHECK_MS, CHECK_MS);
}
