/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/session_sub.c - SUBSCRIBE and UNSUBSCRIBE; a persistent session's filters are stored before the answer. */
#include "core/log.h"
#include "core/util.h"
#include "gw/session.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdlib.h>

enum { FILTERS_MAX = 256 /* in one packet */ };

/* One change under way; the session waits for it. */
struct sub_job {
	struct hf_store_state req;
	struct hf_state_op op;
	struct hf_session *s;
	struct hf_subs *subs;
	struct hf_dir_mail *tell;	/* for the home worker, made before so that it cannot fail after */
	uint16_t packet_id;
	bool unsubscribe;
	unsigned n;
	uint8_t codes[FILTERS_MAX];
};

unsigned hf_session_sub_bits(const struct hf_session *s)
{
	struct hf_span filter;
	size_t pos = 0;
	uint8_t qos;
	unsigned bits = 0;

	while (hf_subs_next(s->subs, &pos, &filter, &qos))
		bits |= hf_filter_kind(filter, hf_session_device(s), hf_session_module(s));
	return bits;
}

static void answer(struct hf_session *s, const struct sub_job *job)
{
	if (!hf_session_live(s))
		return;
	if (job->unsubscribe)
		hf_mqtt_put_ack(hf_conn_out(s->conn), HF_MQTT_UNSUBACK, job->packet_id);
	else
		hf_mqtt_put_suback(hf_conn_out(s->conn), job->packet_id, job->codes, job->n);
	hf_conn_flush_later(s->conn);
}

static void adopt(struct hf_session *s, struct hf_subs *subs)
{
	unsigned before = hf_session_sub_bits(s);

	free(s->subs);
	s->subs = subs;
	if (s->state == HF_S_UP && hf_session_sub_bits(s) != before)
		hf_session_here(s);
}

static void stored(struct hf_store_state *req)
{
	static struct hf_log_limit limit;
	struct sub_job *job = hf_container_of(req, struct sub_job, req);
	struct hf_session *s = job->s;

	s->n_state--;
	if (req->err) {
		hf_log_limited(&limit, HF_LOG_ERR, "child.session.store", "%s: filters not stored: %s", s->ident,
			       hf_strerror(req->err));
		for (unsigned i = 0; i < job->n; i++)
			job->codes[i] = 0x80;
		free(job->subs);
		hf_dir_mail_free(job->tell);
	} else {
		adopt(s, job->subs);
		hf_dir_subs_changed(job->tell);
	}
	if (req->err && job->unsubscribe)
		hf_session_end(s, HF_END_STORE, hf_strerror(req->err));	/* UNSUBACK cannot say no */
	answer(s, job);
	free(job);
	s->wait_state = false;
	hf_session_wake(s);
	hf_session_settle(s);
}

/* Ends the job now, or hands it to the store first. */
static void apply(struct hf_session *s, struct sub_job *job)
{
	if (hf_subs_equal(job->subs, s->subs) || s->clean) {
		if (hf_subs_equal(job->subs, s->subs))
			free(job->subs);
		else
			adopt(s, job->subs);
		answer(s, job);
		free(job);
		return;
	}
	job->tell = hf_dir_mail_new(s->w, NULL, s->sid, s->ident);
	if (job->tell)
		job->tell->subs = hf_subs_dup(job->subs);
	if (!job->tell || !job->tell->subs) {
		hf_dir_mail_free(job->tell);
		free(job->subs);
		free(job);
		hf_session_end(s, HF_END_NO_MEMORY, "subscription");
		return;
	}
	job->s = s;
	job->op = (struct hf_state_op){ .table = HF_STATE_SESS, .is_put = true, .key = hf_span_str(s->ident),
					.value = hf_span(job->subs->data, job->subs->len) };
	job->req.ops = &job->op;
	job->req.n = 1;
	job->req.reply_to = s->w->inbox;
	job->req.done = stored;
	s->n_state++;
	s->wait_state = true;
	hf_store_state(s->w->gw->store, &job->req);
}

/* Adds or (qos < 0) removes one filter in job->subs. */
static int change(struct sub_job *job, struct hf_span filter, int qos)
{
	struct hf_subs *next;
	int err = hf_subs_with(job->subs, filter, qos, &next);

	if (err)
		return err;
	free(job->subs);
	job->subs = next;
	return 0;
}

static struct sub_job *job_new(struct hf_session *s, uint16_t packet_id, bool unsubscribe)
{
	struct sub_job *job = calloc(1, sizeof *job);

	if (!job)
		return NULL;
	job->packet_id = packet_id;
	job->unsubscribe = unsubscribe;
	job->subs = hf_subs_dup(s->subs);
	if (s->subs && !job->subs) {
		free(job);
		return NULL;
	}
	return job;
}

static void give_up(struct hf_session *s, struct sub_job *job, enum hf_end why, const char *detail)
{
	if (job)
		free(job->subs);
	free(job);
	hf_session_end(s, why, detail);
}

void hf_session_subscribe(struct hf_session *s, uint16_t packet_id, struct hf_span filters)
{
	static struct hf_log_limit limit;
	struct sub_job *job = job_new(s, packet_id, false);
	struct hf_span filter;
	uint8_t qos;
	int err;

	if (!job) {
		give_up(s, job, HF_END_NO_MEMORY, "subscription");
		return;
	}
	while (hf_mqtt_next_filter(&filters, true, &filter, &qos)) {
		if (job->n == FILTERS_MAX) {
			give_up(s, job, HF_END_MALFORMED, "too many filters in one packet");
			return;
		}
		err = HF_EUNSUPPORTED;
		if (hf_filter_kind(filter, hf_session_device(s), hf_session_module(s)))
			err = change(job, filter, hf_min(qos, (uint8_t)1));
		if (err == -ENOMEM) {
			give_up(s, job, HF_END_NO_MEMORY, "subscription");
			return;
		}
		job->codes[job->n++] = err ? 0x80 : hf_min(qos, (uint8_t)1);
		if (!err)
			continue;
		hf_metric_add(HF_M_MQTT_FILTER_REFUSED, 1);
		hf_log_limited(&limit, HF_LOG_WARN, "child.filter.refused", "peer %s child %s: filter refused: %s",
			       hf_conn_peer(s->conn), s->ident, hf_strerror(err));
	}
	apply(s, job);
}

void hf_session_unsubscribe(struct hf_session *s, uint16_t packet_id, struct hf_span filters)
{
	struct sub_job *job = job_new(s, packet_id, true);
	struct hf_span filter;
	uint8_t qos;

	while (job && hf_mqtt_next_filter(&filters, false, &filter, &qos)) {
		if (!job->subs)
			continue;
		if (change(job, filter, -1)) {
			give_up(s, job, HF_END_NO_MEMORY, "subscription");
			return;
		}
	}
	if (job)
		apply(s, job);
	else
		give_up(s, NULL, HF_END_NO_MEMORY, "subscription");
}
