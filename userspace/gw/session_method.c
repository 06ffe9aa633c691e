/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/session_method.c - methods: which ones a child was asked and has not answered, and its answers on to upstream. An
 * answer to nothing goes nowhere. */
#include "core/log.h"
#include "core/util.h"
#include "dialect/topic.h"
#include "gw/session.h"
#include <errno.h>
#include <stdlib.h>

/* Request ids by their hash, oldest first. A child that is asked more than that without answering: the oldest are
 * forgotten, their caller's time is up long before. */
enum { ASKED_MAX = 64 };
struct hf_asked {
	unsigned n;
	uint64_t rid[ASKED_MAX];
};

static void forget(struct hf_asked *a, unsigned i)
{
	a->n--;
	memmove(&a->rid[i], &a->rid[i + 1], (a->n - i) * sizeof a->rid[0]);
}

static struct hf_span rid_of(struct hf_span topic)
{
	const uint8_t *mark = memchr(topic.ptr, '?', topic.len);

	return mark ? hf_topic_query(hf_span_skip(topic, (size_t)(mark - topic.ptr)), "$rid") : hf_span(NULL, 0);
}

int hf_session_asked(struct hf_session *s, const struct hf_down *d)
{
	struct hf_span rid = rid_of(d->topic);

	if (!s->asked)
		s->asked = calloc(1, sizeof *s->asked);
	if (!s->asked)
		return -ENOMEM;
	if (s->asked->n == ASKED_MAX)
		forget(s->asked, 0);
	s->asked->rid[s->asked->n++] = hf_hash64(rid.ptr, rid.len);
	return 0;
}

/* True once for each request. */
static bool was_asked(struct hf_asked *a, struct hf_span rid)
{
	uint64_t hash = hf_hash64(rid.ptr, rid.len);

	for (unsigned i = 0; a && i < a->n; i++) {
		if (a->rid[i] == hash) {
			forget(a, i);
			return true;
		}
	}
	return false;
}

/* --- on the way to upstream -------------------------------------------------------------------------------------- */
struct answer_job {
	struct hf_method_answer answer;
	struct hf_worker *w;
	size_t bytes;
	char text[];		/* identity, request id, body */
};

static void passed(struct hf_method_answer *answer)
{
	struct answer_job *job = hf_container_of(answer, struct answer_job, answer);

	hf_credit_give(&job->w->to_up, job->bytes);
	free(job);
}

static void pass(struct hf_session *s, struct answer_job *job, const struct hf_topic *t, const struct hf_mqtt_publish *p)
{
	size_t n = strlen(s->ident) + 1;

	job->w = s->w;
	job->bytes = p->body.len;
	memcpy(job->text, s->ident, n);
	if (t->rid.len)
		memcpy(job->text + n, t->rid.ptr, t->rid.len);
	if (p->body.len)
		memcpy(job->text + n + t->rid.len, p->body.ptr, p->body.len);
	job->answer = (struct hf_method_answer){
		.reply_to = s->w->inbox, .done = passed, .ident = job->text, .status = t->status,
		.rid = hf_span(job->text + n, t->rid.len), .body = hf_span(job->text + n + t->rid.len, p->body.len),
	};
	hf_credit_take(&s->w->to_up, job->bytes);
	hf_upstream_method_answer(s->w->gw->up, &job->answer);
}

bool hf_session_method_answer(struct hf_session *s, const struct hf_topic *t, const struct hf_mqtt_publish *p)
{
	static struct hf_log_limit limit;
	struct answer_job *job;

	if (!hf_session_has_up_credit(s, p->body.len))
		return false;
	if (!was_asked(s->asked, t->rid)) {
		hf_metric_add(HF_M_METHOD_UNASKED, 1);
		hf_log_limited(&limit, HF_LOG_WARN, "child.method.unasked", "peer %s child %s: answers a method that it was not asked",
			       hf_conn_peer(s->conn), s->ident);
	} else {
		job = calloc(1, sizeof *job + strlen(s->ident) + 1 + t->rid.len + p->body.len);
		if (!job) {
			hf_session_end(s, HF_END_NO_MEMORY, "method answer");
			return true;
		}
		hf_metric_add(HF_M_METHOD_RESPONSES, 1);
		pass(s, job, t, p);
	}
	hf_session_puback_later(s, p->qos ? p->packet_id : 0);
	return true;
}
