/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The service's receivers of feedback and of file notifications (iothub-protocol 3.1). */
#include "core/util.h"
#include "hub/amqp/amqp_int.h"
#include "hub/amqp/amqp_props.h"
#include "hub/model/feedback.h"

#include <holdfast/err.h>

static const struct { const struct hub_amqp_kind *kind; const char *content_type; } kinds[HUB_FEEDBACK__COUNT] = {
	[HUB_FEEDBACK_C2D] = { &hub_amqp_feedback, "application/vnd.microsoft.iothub.feedback.json" },
	[HUB_FEEDBACK_FILES] = { &hub_amqp_file_notifications, "application/vnd.microsoft.iothub.filenotification.json" },
};

static enum hub_feedback_kind kind_of(const struct hub_amqp_link *l)
{
	return l->kind == &hub_amqp_feedback ? HUB_FEEDBACK_C2D : HUB_FEEDBACK_FILES;
}

static int send_batch(struct hub_amqp_link *l, const struct hub_feedback *batch)
{
	uint8_t lock[16];
	struct hf_amqp_value enqueued = HF_AMQP_NUM(HF_AMQP_TIME, batch->enqueued_ms);
	struct hf_amqp_field property = { hf_span_str("iothub-enqueuedtime"), enqueued };
	struct hf_amqp_field annotations[] = {
		{ hf_span_str("x-opt-sequence-number"), HF_AMQP_NUM(HF_AMQP_LONG, (int64_t)batch->seq) },
		{ hf_span_str("x-opt-lock-token"), { .kind = HF_AMQP_UUID, .s = hf_span(lock, sizeof lock) } },
		{ hf_span_str("iothub-enqueuedtime"), enqueued },
		{ hf_span_str("iothub-deliverycount"), { .kind = HF_AMQP_UBYTE, .u = batch->delivery_count } },
	};
	struct hf_amqp_msg msg = {
		.message_id = HF_AMQP_STR(batch->lock),
		.user_id = hub_model_short_name(l->conn->head->model),
		.to = hf_span_str(hf_amqp_link_address(l->link)),
		.content_type = hf_span_str(kinds[kind_of(l)].content_type),
		.content_encoding = hf_span_str("utf-8"),
		.annotations = annotations, .n_annotations = HF_ARRAY_LEN(annotations),
		.properties = &property, .n_properties = 1,
		.body_kind = HF_AMQP_BODY_DATA, .body = hf_span_str(batch->json),
	};

	if (!hub_amqp_uuid(batch->lock, lock))
		return HF_ECORRUPT;
	return hf_amqp_send(l->link, hf_span(lock, sizeof lock), &msg, 0);
}

static void pump(struct hub_amqp_link *l)
{
	struct hub_model *m = l->conn->head->model;
	enum hub_feedback_kind kind = kind_of(l);
	struct hub_feedback batch;

	while (hf_amqp_credit(l->link) > 0 && hub_feedback_receive(m, kind, l, &batch) == 0) {
		int r = send_batch(l, &batch);

		free(batch.json);
		if (r != 0)
			hub_feedback_release(m, kind, batch.lock);
		else if (hf_amqp_link_presettled(l->link))
			hub_feedback_settle(m, kind, batch.lock, HUB_COMPLETE);
		if (r == HF_EFULL)
			break;		/* `credit_given` comes when the peer has read */
		if (r != 0) {
			hub_amqp_link_detach(l, HUB_M_AMQP_DETACHED, "amqp:internal-error", hf_strerror(r));
			break;
		}
	}
}

static void on_outcome(struct hub_amqp_link *l, struct hf_amqp_delivery *d, uint64_t cookie, struct hf_span tag,
		       enum hf_amqp_outcome outcome)
{
	enum hub_verdict verdict = outcome == HF_AMQP_ACCEPTED ? HUB_COMPLETE : outcome == HF_AMQP_REJECTED ? HUB_REJECT : HUB_ABANDON;
	hf_autobuf struct hf_buf lock = HF_BUF_INIT(64);

	(void)cookie;
	hf_amqp_text(&(struct hf_amqp_value){ .kind = HF_AMQP_UUID, .s = tag }, &lock);
	if (hub_feedback_settle(l->conn->head->model, kind_of(l), hf_buf_cstr(&lock), verdict) == 0)
		hub_amqp_settle_committed(l->conn, d, outcome);
	else
		hf_amqp_settle(d, HF_AMQP_REJECTED, "com.microsoft:message-lock-lost", "the lock of the batch has ended");
}

static void on_feedback(void *arg, enum hub_feedback_kind kind)
{
	struct hub_amqp *head = arg;
	struct hf_list *pos, *at, *tmp;

	hf_list_for_each(pos, &head->conns) {
		struct hub_amqp_conn *c = hf_container_of(pos, struct hub_amqp_conn, node);

		hf_list_for_each_safe(at, tmp, &c->links) {
			struct hub_amqp_link *l = hf_container_of(at, struct hub_amqp_link, node);

			if (l->kind == kinds[kind].kind && l->open && !l->ended)
				pump(l);
		}
	}
}

static void on_closed(struct hub_amqp_link *l)
{
	hub_feedback_release_all(l->conn->head->model, kind_of(l), l);
}

#define RECEIVER .we_send = true, .who = HUB_AMQP_SERVICE, .closed = on_closed, .outcome = on_outcome, .credit_given = pump

const struct hub_amqp_kind hub_amqp_feedback = {
	.name = "feedback",
	.address = { "messages/serviceBound/feedback" },
	RECEIVER,
};
const struct hub_amqp_kind hub_amqp_file_notifications = {
	.name = "file notifications",
	.address = { "messages/serviceBound/filenotifications", "messages/serviceBound/fileuploadnotifications" },
	RECEIVER,
};

void hub_amqp_feedback_init(struct hub_amqp *head)
{
	hub_on_feedback(head->model, on_feedback, head);
}
