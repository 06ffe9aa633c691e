/* SPDX-License-Identifier: GPL-3.0-or-later */
/* $management of the Event-Hub-compatible endpoint: what is known of the hub and its partitions (iothub-protocol 3.2, 3),
 * and the redirection of clients that only know the hub. */
#include "core/util.h"
#include "hub/amqp/amqp_int.h"

#include <holdfast/err.h>
#include <stdio.h>

#define HUB_TYPE "com.microsoft:eventhub"
#define PARTITION_TYPE "com.microsoft:partition"

struct answer {
	int status;
	const char *condition, *text;
	struct hf_amqp_field map[8];
	unsigned n;
	char offset[24], why[160];
	bool has_partitions;
};

static const char *const partition_ids[HUB_PARTITIONS] = { "0", "1", "2", "3" };
_Static_assert(HUB_PARTITIONS == 4, "partition_ids names them all");

static void put(struct answer *a, const char *key, struct hf_amqp_value v)
{
	a->map[a->n++] = (struct hf_amqp_field){ hf_span_str(key), v };
}

static struct hf_amqp_value text(struct hf_span s)
{
	return (struct hf_amqp_value){ .kind = HF_AMQP_STRING, .s = s };
}

static struct hf_span text_property(const struct hf_amqp_msg *msg, const char *key)
{
	const struct hf_amqp_value *v = hf_amqp_find(msg->properties, msg->n_properties, key);
	bool is_text = v && (v->kind == HF_AMQP_STRING || v->kind == HF_AMQP_SYMBOL || v->kind == HF_AMQP_BINARY);

	return is_text ? v->s : hf_span(NULL, 0);
}

static void refuse(struct answer *a, int status, const char *condition, const char *why)
{
	a->status = status;
	a->condition = condition;
	a->text = why;
}

static void refuse_unknown(struct answer *a, struct hf_span name)
{
	snprintf(a->why, sizeof a->why, "The messaging entity '%.*s' could not be found", (int)hf_min(name.len, (size_t)100),
		 (const char *)name.ptr);
	refuse(a, 404, "amqp:not-found", a->why);
}

static void tell_hub(struct hub_model *m, struct hf_span name, struct answer *a)
{
	put(a, "name", text(name));
	put(a, "type", HF_AMQP_STR(HUB_TYPE));
	put(a, "created_at", HF_AMQP_NUM(HF_AMQP_TIME, hub_model_created_ms(m)));
	put(a, "partition_count", HF_AMQP_NUM(HF_AMQP_INT, HUB_PARTITIONS));
	put(a, "georeplication_factor", HF_AMQP_NUM(HF_AMQP_INT, 1));
	a->has_partitions = true;
}

static void tell_partition(struct hub_model *m, struct hf_span name, struct hf_span partition, struct answer *a)
{
	struct hub_event_tail tail;
	int64_t n;

	if (hf_parse_i64(partition, 0, HUB_PARTITIONS - 1, &n) != 0) {
		refuse(a, 400, "com.microsoft:argument-out-of-range", "The specified partition is invalid for an EventHub partition sender or receiver: they are 0 to 3");
		return;
	}
	hub_event_partition(m, (unsigned)n, &tail);
	snprintf(a->offset, sizeof a->offset, "%lld", tail.next_seq ? (long long)tail.last_offset : -1ll);
	put(a, "name", text(name));
	put(a, "type", HF_AMQP_STR(PARTITION_TYPE));
	put(a, "partition", HF_AMQP_STR(partition_ids[n]));
	put(a, "begin_sequence_number", HF_AMQP_NUM(HF_AMQP_LONG, (int64_t)tail.begin_seq));
	put(a, "last_enqueued_sequence_number", HF_AMQP_NUM(HF_AMQP_LONG, (int64_t)tail.next_seq - 1));
	put(a, "last_enqueued_offset", HF_AMQP_STR(a->offset));
	put(a, "last_enqueued_time_utc", HF_AMQP_NUM(HF_AMQP_TIME, tail.last_enqueued_ms));
	put(a, "is_partition_empty", HF_AMQP_NUM(HF_AMQP_BOOL, tail.is_empty));
}

static void judge(struct hub_model *m, const struct hf_amqp_msg *msg, struct answer *a)
{
	struct hf_span type = text_property(msg, "type"), name = text_property(msg, "name");

	refuse(a, 200, NULL, "OK");
	if (!hf_span_is(text_property(msg, "operation"), "READ"))
		refuse(a, 501, "amqp:not-implemented", "the operation is READ");
	else if (!hub_amqp_is_entity(m, name))
		refuse_unknown(a, name);
	else if (hf_span_is(type, HUB_TYPE))
		tell_hub(m, name, a);
	else if (hf_span_is(type, PARTITION_TYPE))
		tell_partition(m, name, text_property(msg, "partition"), a);
	else
		refuse(a, 400, "com.microsoft:argument-error", "types are " HUB_TYPE " and " PARTITION_TYPE);
}

/* The receiver that the request names; older clients name none and have one. */
static struct hub_amqp_link *reply_link(struct hub_amqp_conn *c, struct hf_span reply_to)
{
	struct hub_amqp_link *found = NULL;
	struct hf_list *pos;

	hf_list_for_each(pos, &c->links) {
		struct hub_amqp_link *l = hf_container_of(pos, struct hub_amqp_link, node);

		if (l->kind != &hub_amqp_mgmt_replies || l->ended)
			continue;
		if (hf_span_is(reply_to, hf_amqp_link_peer_address(l->link)))
			return l;
		found = reply_to.len == 0 ? l : found;
	}
	return found;
}

static bool on_request(struct hub_amqp_link *l, struct hf_amqp_delivery *d, struct hf_span raw, const struct hf_amqp_msg *msg)
{
	struct hub_amqp_link *to = reply_link(l->conn, msg->reply_to);
	struct answer a = { 0 };
	struct hf_amqp_field properties[3];
	struct hf_amqp_msg reply = { .to = msg->reply_to, .correlation_id = msg->message_id, .properties = properties };

	(void)raw;
	if (!to) {
		hub_amqp_reject(l, d, 404, "there is no receiver with the address of reply-to");
		return true;
	}
	judge(l->conn->head->model, msg, &a);
	properties[reply.n_properties++] = (struct hf_amqp_field){ hf_span_str("status-code"), HF_AMQP_NUM(HF_AMQP_INT, a.status) };
	properties[reply.n_properties++] = (struct hf_amqp_field){ hf_span_str("status-description"), HF_AMQP_STR(a.text) };
	if (a.condition) {
		hub_amqp_note_refusal(l, a.condition, a.text);
		properties[reply.n_properties++] = (struct hf_amqp_field){ hf_span_str("error-condition"), HF_AMQP_STR(a.condition) };
	}
	if (a.status == 200) {
		reply.body_kind = HF_AMQP_BODY_MAP;
		reply.map = a.map;
		reply.n_map = a.n;
		reply.strings_key = a.has_partitions ? "partition_ids" : NULL;
		reply.strings = partition_ids;
		reply.n_strings = HUB_PARTITIONS;
	}
	hf_amqp_settle(d, HF_AMQP_ACCEPTED, NULL, NULL);
	hub_amqp_post(to, &reply);
	return true;
}

const struct hub_amqp_kind hub_amqp_mgmt_requests = {
	.name = "management requests",
	.address = { "$management" },
	.who = HUB_AMQP_SERVICE,
	.credit = 50,
	.max_message = 65536,
	.message = on_request,
};
const struct hub_amqp_kind hub_amqp_mgmt_replies = {
	.name = "management replies",
	.address = { "$management" },
	.we_send = true,
	.who = HUB_AMQP_SERVICE,
};

/* --- redirection ------------------------------------------------------------------------------------------------------ */

static enum hub_amqp_verdict redirect(struct hub_amqp_link *l)
{
	const struct hub_model *m = l->conn->head->model;
	struct hf_span entity = hub_model_short_name(m);
	hf_autobuf struct hf_buf address = HF_BUF_INIT(HUB_AMQP_MAX_ADDR * 2);

	hf_buf_printf(&address, "amqps://%s:5671/%.*s", hub_model_host(m), (int)entity.len, (const char *)entity.ptr);
	for (unsigned i = 2; i < l->addr.n; i++)	/* what follows messages/events */
		hf_buf_printf(&address, "/%.*s", (int)l->addr.word[i].len, (const char *)l->addr.word[i].ptr);
	if (address.err)
		hub_amqp_link_refuse(l, "amqp:internal-error", hf_strerror(address.err));
	else
		hf_amqp_link_redirect(l->link, hub_model_host(m), hf_buf_cstr(&address));
	return HUB_AMQP_ANSWERED;
}

const struct hub_amqp_kind hub_amqp_redirect_readers = {
	.name = "redirection",
	.address = { "messages/events/$management", "messages/events/ConsumerGroups/*/Partitions/*" },
	.we_send = true,
	.who = HUB_AMQP_SERVICE,
	.open = redirect,
};
const struct hub_amqp_kind hub_amqp_redirect_senders = {	/* JavaScript's event-hubs 2 attaches the sender first */
	.name = "redirection",
	.address = { "messages/events/$management" },
	.who = HUB_AMQP_SERVICE,
	.open = redirect,
};
