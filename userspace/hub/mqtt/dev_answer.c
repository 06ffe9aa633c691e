/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Answers of the MQTT head: none before its commit, each as the fault rules want it. */
#include "core/log.h"
#include "core/util.h"
#include "hub/mqtt/dev_int.h"
#include <errno.h>
#include <holdfast/err.h>

/* Commit done: everything this session sent in the turn is safe now. */
static void on_committed(void *arg, int err)
{
	struct hub_session *s = arg;

	s->answers_open = false;
	if (s->closing)
		return;
	if (err || s->answers.err) {
		hub_dev_drop(s, HUB_M_UNANSWERED, err ? "not stored, so not acknowledged" : "too many answers at once");
		return;
	}
	hf_buf_put_span(hf_conn_out(s->conn), hf_buf_span(&s->answers));
	hf_buf_reset(&s->answers);
	hf_buf_shrink(&s->answers);
	hf_conn_flush_later(s->conn);
	if (s->subs_changed) {
		s->subs_changed = false;
		hub_dev_subs_changed(s);
	}
}

struct hf_buf *hub_dev_answer(struct hub_session *s)
{
	if (!s->answers_open) {
		s->answers_open = true;
		hub_commit_wait(s->dev->model, &s->answers_wait, on_committed, s);
	}
	return &s->answers;
}

static void on_due(void *arg, struct hf_span packet)
{
	struct hub_session *s = arg;

	if (s->closing)
		return;
	hf_buf_put_span(hf_conn_out(s->conn), packet);
	hf_conn_flush_later(s->conn);
}

int hub_dev_answer_late(struct hub_session *s, uint32_t ms, bool in_order, struct hf_span packet)
{
	int r = hub_hold_add(&s->hold, ms, in_order, on_due, s, packet);

	if (r != 0) {
		hub_dev_end(s, hf_strerror(r));
		return HUB_DEV_CLOSED;
	}
	return HUB_DEV_ON;
}

int hub_dev_puback(struct hub_session *s, uint16_t packet_id, const struct hub_fault *fault, uint32_t late_ms)
{
	unsigned times = fault->action == HUB_DO_ACK_NEVER ? 0 : fault->action == HUB_DO_ACK_TWICE ? 2 : 1;
	hf_autobuf struct hf_buf packets = HF_BUF_INIT(64);

	if (fault->action == HUB_DO_ACK_LATE)
		late_ms = hf_max(late_ms, fault->ms);
	if (!late_ms && !hub_hold_waits(&s->hold)) {
		while (times-- > 0)
			hf_mqtt_put_ack(hub_dev_answer(s), HF_MQTT_PUBACK, packet_id);
		return HUB_DEV_ON;
	}
	while (times-- > 0)
		hf_mqtt_put_ack(&packets, HF_MQTT_PUBACK, packet_id);
	if (packets.err) {
		hub_dev_end(s, hf_strerror(packets.err));
		return HUB_DEV_CLOSED;
	}
	hub_dev_answer(s);	/* the commit, which is over before anything held can be due */
	return hf_buf_len(&packets) ? hub_dev_answer_late(s, late_ms, true, hf_buf_span(&packets)) : HUB_DEV_ON;
}

static void on_again(void *arg, struct hf_span none)
{
	struct hub_session *s = arg;

	(void)none;
	if (!s->closing)
		hub_dev_go_on(s);
}

int hub_dev_fault(struct hub_session *s, enum hub_fault_on on, struct hub_fault *ret_fault)
{
	int r;

	ret_fault->action = HUB_DO__COUNT;
	if (s->passed || !hub_fault_hit(hub_model_faults(s->dev->model), on, s->id, ret_fault))
		return HUB_DEV_ON;
	switch (ret_fault->action) {
	case HUB_DO_DELAY:
		r = hub_hold_add(&s->hold, ret_fault->ms, false, on_again, s, hf_span(NULL, 0));
		if (r == 0)
			return HUB_DEV_PUT_OFF;
		hub_dev_end(s, hf_strerror(r));
		return HUB_DEV_CLOSED;
	case HUB_DO_HANG:
		return HUB_DEV_SKIP;
	case HUB_DO_DROP:
		hub_dev_end(s, "dropped on purpose");
		return HUB_DEV_CLOSED;
	default:
		return HUB_DEV_ON;
	}
}
