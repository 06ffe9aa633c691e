/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Messages to devices: locked for 60 s, settled by the device's outcome (iothub-protocol 2.5). */
#include "core/log.h"
#include "core/util.h"
#include "hub/amqp/amqp_int.h"

#include <holdfast/err.h>
#include <stdio.h>

static void send_what_waits(struct hub_amqp_link *l)
{
	struct hub_amqp_out *out = &l->conn->head->out;
	struct hub_model *m = l->conn->head->model;
	const struct hub_c2d *msg;

	while (hf_amqp_credit(l->link) > 0 && hub_c2d_receive(m, l->addr.ident, l, HUB_C2D_LOCK_MS, &msg) == 0) {
		char lock[HUB_UUID_SIZE];
		int r = hub_amqp_out_c2d(out, msg);

		snprintf(lock, sizeof lock, "%s", msg->lock);
		if (r == 0)
			r = hf_amqp_send(l->link, hf_span(out->uuid, sizeof out->uuid), &out->msg, 0);
		if (r != 0)		/* it stays locked: another try when that ends */
			hf_log(HF_LOG_WARN, "hub.amqp.c2d", "message to %s not sent: %s", l->addr.ident, hf_strerror(r));
		else if (hf_amqp_link_presettled(l->link))
			hub_c2d_settle(m, l->addr.ident, lock, HUB_COMPLETE);
	}
}

static void on_close(struct hub_amqp_link *l)
{
	hub_c2d_release_all(l->conn->head->model, l->addr.ident, l);
}

static void uuid_text(struct hf_span tag, char out[HUB_UUID_SIZE])
{
	hf_autobuf struct hf_buf text = HF_BUF_INIT(64);

	hf_amqp_text(&(struct hf_amqp_value){ .kind = HF_AMQP_UUID, .s = tag }, &text);
	snprintf(out, HUB_UUID_SIZE, "%s", hf_buf_cstr(&text));
}

static void on_outcome(struct hub_amqp_link *l, struct hf_amqp_delivery *d, uint64_t cookie, struct hf_span tag,
		       enum hf_amqp_outcome outcome)
{
	enum hub_verdict verdict = outcome == HF_AMQP_ACCEPTED ? HUB_COMPLETE
				 : outcome == HF_AMQP_REJECTED ? HUB_REJECT : HUB_ABANDON;
	char lock[HUB_UUID_SIZE];

	(void)cookie;
	uuid_text(tag, lock);
	if (hub_c2d_settle(l->conn->head->model, l->addr.ident, lock, verdict) == 0)
		hub_amqp_settle_committed(l->conn, d, outcome);
	else	/* seen only by who did not settle the message himself */
		hf_amqp_settle(d, HF_AMQP_REJECTED, "com.microsoft:message-lock-lost", "the lock of the message ended");
}

void hub_amqp_on_c2d(void *arg, const char *device_id)
{
	struct hub_amqp_link *l = hub_amqp_link_of(arg, device_id, HUB_AMQP_C2D);

	if (l)
		send_what_waits(l);
}

const struct hub_amqp_kind hub_amqp_c2d = {
	.name = "devicebound", .address = { "messages/devicebound" }, .we_send = true, .who = HUB_AMQP_IDENTITY,
	.slot = HUB_AMQP_C2D, .closed = on_close, .outcome = on_outcome, .credit_given = send_what_waits,
};
