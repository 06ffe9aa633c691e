/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/session_twin.c - twin requests of a child: to upstream, and the answer back by $rid. */
#include "core/clock.h"
#include "core/util.h"
#include "gw/session.h"
#include <errno.h>
#include <holdfast/err.h>
#include <inttypes.h>
#include <stdlib.h>

enum { REPLY_MAX = 512 * 1024, REPLY_ROOM = 4 * 1024 /* what an answer counts for among the credits */ };

/* Lives until upstream answered, also when its session is gone. */
struct hf_twin_job {
	struct hf_twin_request req;
	struct hf_list node;
	struct hf_session *s;	/* NULL = nobody waits any more */
	struct hf_worker *w;
	size_t bytes;		/* credit taken */
	size_t rid_len;
	char text[];		/* rid, then the request body */
};

/* SDKs look for errorCode in the body and take an error without a body for success. */
static void put_error_body(struct hf_buf *b, int status)
{
	char when[32];

	hf_iso8601(hf_clock_wall_ms(), when);
	hf_buf_printf(b, "{\"errorCode\":%d,\"trackingId\":\"\",\"message\":\"twin request failed with status %d\","
			 "\"timestampUtc\":\"%s\"}", status * 1000, status, when);
}

static void reply(struct hf_session *s, int status, struct hf_span rid, int64_t version, struct hf_span body)
{
	struct hf_buf *topic = &s->w->bag;
	struct hf_buf own = HF_BUF_INIT(1024);

	hf_buf_reset(topic);
	hf_buf_printf(topic, "$iothub/twin/res/%d/?$rid=", status);
	hf_buf_put_span(topic, rid);
	if (version >= 0)
		hf_buf_printf(topic, "&$version=%" PRId64, version);
	if (!rid.len || topic->err || !hf_session_live(s) || hf_subs_match(s->subs, hf_buf_span(topic)) < 0)
		return;
	if (status >= 300 && !body.len) {
		put_error_body(&own, status);
		body = hf_buf_span(&own);
	}
	hf_mqtt_put_publish(hf_conn_out(s->conn), 0, false, false, 0, hf_buf_span(topic), hf_span(NULL, 0), body);
	hf_conn_flush_later(s->conn);
	hf_buf_fini(&own);
}

static void answered(struct hf_twin_request *req)
{
	struct hf_twin_job *job = hf_container_of(req, struct hf_twin_job, req);
	struct hf_session *s = job->s;

	hf_credit_give(&job->w->to_up, job->bytes);
	if (s) {
		hf_list_del(&job->node);
		s->n_twins--;
		reply(s, req->status, hf_span(job->text, job->rid_len), req->is_patch ? req->version : -1,
		      hf_buf_span(&req->reply));
		if (s->wait_twins && s->n_twins <= HF_TWINS_MAX / 2) {
			s->wait_twins = false;
			hf_session_wake(s);
		}
	}
	hf_buf_fini(&req->reply);
	free(job);
}

void hf_session_detach_twins(struct hf_session *s)
{
	while (!hf_list_empty(&s->twins)) {
		struct hf_twin_job *job = hf_container_of(s->twins.next, struct hf_twin_job, node);

		hf_list_del(&job->node);
		job->s = NULL;
	}
	s->n_twins = 0;
}

bool hf_session_twin(struct hf_session *s, const struct hf_topic *t, const struct hf_mqtt_publish *p)
{
	bool is_patch = t->kind == HF_TOPIC_TWIN_PATCH;
	size_t n = t->rid.len + p->body.len;
	struct hf_twin_job *job;

	if (!is_patch && !t->rid.len) {		/* edgehub-behaviour 2.3.2 */
		hf_session_end(s, HF_END_BAD_TOPIC, "twin GET without $rid");
		return true;
	}
	if (s->n_twins >= HF_TWINS_MAX) {
		s->wait_twins = true;
		hf_metric_add(HF_M_CREDIT_WAITS, 1);
		return false;
	}
	if (!hf_session_has_up_credit(s, p->body.len + REPLY_ROOM))
		return false;
	hf_metric_add(HF_M_TWIN_REQUESTS, 1);
	job = calloc(1, sizeof *job + n + 1);
	if (!job) {
		hf_session_end(s, HF_END_NO_MEMORY, "twin request");
		return true;
	}
	job->s = s;
	job->w = s->w;
	job->bytes = p->body.len + REPLY_ROOM;
	hf_credit_take(&s->w->to_up, job->bytes);
	job->rid_len = t->rid.len;
	if (t->rid.len)
		memcpy(job->text, t->rid.ptr, t->rid.len);
	if (p->body.len)
		memcpy(job->text + t->rid.len, p->body.ptr, p->body.len);
	memcpy(job->req.ident, s->ident, strlen(s->ident) + 1);
	job->req.reply_to = s->w->inbox;
	job->req.done = answered;
	job->req.is_patch = is_patch;
	job->req.body = hf_span(job->text + t->rid.len, p->body.len);
	job->req.if_version = is_patch ? t->version : -1;
	job->req.version = -1;
	job->req.reply = HF_BUF_INIT(REPLY_MAX);
	hf_list_add_tail(&s->twins, &job->node);
	s->n_twins++;
	hf_upstream_twin(s->w->gw->up, &job->req);
	hf_session_puback_later(s, p->qos ? p->packet_id : 0);
	return true;
}
