/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/session_down.c - methods, desired patches and C2D to a child; QoS 1 ends with its PUBACK. */
#include "gw/session.h"
#include <errno.h>
#include <holdfast/err.h>

static void put(struct hf_session *s, const struct hf_down *d, uint8_t qos, uint16_t packet_id)
{
	hf_mqtt_put_publish(hf_conn_out(s->conn), qos, false, false, packet_id, d->topic, hf_span(NULL, 0), d->body);
	hf_conn_flush_later(s->conn);
}

void hf_session_down(struct hf_down_job *job)
{
	const struct hf_down *d = job->down;
	struct hf_session *s = hf_map_get(job->at->by_ident, hf_span_str(d->ident));
	int granted = s && hf_session_live(s) && !s->release ? hf_subs_match(s->subs, d->topic) : -1;

	if (granted < 0) {
		hf_down_finish(job, HF_ENOTFOUND);
	} else if (d->kind == HF_DOWN_METHOD && hf_session_asked(s, d)) {
		hf_down_finish(job, -ENOMEM);
	} else if (granted == 0 || d->qos == 0) {
		if (hf_conn_out_len(s->conn) > HF_DOWN_LOW_WATER) {	/* it does not read */
			hf_down_finish(job, HF_EFULL);
			return;
		}
		put(s, d, 0, 0);
		hf_down_finish(job, 0);
	} else if (s->n_down_wait >= HF_DOWN_WAIT_MAX) {
		hf_down_finish(job, HF_EFULL);
	} else {
		hf_list_add_tail(&s->down_wait, &job->node);
		s->n_down_wait++;
		hf_session_pump_downs(s);
	}
}

static struct hf_down_job *find_out(struct hf_session *s, uint16_t packet_id)
{
	struct hf_list *pos;

	hf_list_for_each(pos, &s->down_out)
	{
		struct hf_down_job *job = hf_container_of(pos, struct hf_down_job, node);

		if (job->packet_id == packet_id)
			return job;
	}
	return NULL;
}

void hf_session_pump_downs(struct hf_session *s)
{
	while (hf_session_live(s) && s->n_down_out < HF_DOWN_OUT_MAX && !hf_list_empty(&s->down_wait)) {
		struct hf_down_job *job = hf_container_of(s->down_wait.next, struct hf_down_job, node);

		if (hf_conn_out_len(s->conn) > HF_DOWN_LOW_WATER)
			return;		/* goes on with a PUBACK: what waits in the output will be acknowledged */
		do {
			s->next_packet_id = s->next_packet_id == UINT16_MAX ? 1 : s->next_packet_id + 1;
		} while (find_out(s, s->next_packet_id));
		job->packet_id = s->next_packet_id;
		hf_list_del(&job->node);
		hf_list_add_tail(&s->down_out, &job->node);
		s->n_down_wait--;
		s->n_down_out++;
		put(s, job->down, 1, job->packet_id);
	}
}

void hf_session_puback(struct hf_session *s, uint16_t packet_id)
{
	struct hf_down_job *job = find_out(s, packet_id);

	if (!job)
		return;
	hf_list_del(&job->node);
	s->n_down_out--;
	hf_down_finish(job, 0);
	hf_session_pump_downs(s);
}

static void fail_all(struct hf_list *list)
{
	while (!hf_list_empty(list)) {
		struct hf_down_job *job = hf_container_of(list->next, struct hf_down_job, node);

		hf_list_del(&job->node);
		hf_down_finish(job, HF_ENOTFOUND);
	}
}

void hf_session_fail_downs(struct hf_session *s)
{
	fail_all(&s->down_out);
	fail_all(&s->down_wait);
	s->n_down_out = s->n_down_wait = 0;
}
