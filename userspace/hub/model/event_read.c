/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Reading stored telemetry: in place for the Event Hubs endpoint, as JSON for everybody else. */
#include "core/util.h"
#include "dialect/bag.h"
#include "hub/model/model_int.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

/* --- records ---------------------------------------------------------------------------------------------- */

int hub_event_parse(uint64_t seq, struct hf_span value, struct hub_event *ret_event)
{
	struct hf_cur c = hf_cur(value);
	struct hub_event e = { .seq = seq };
	struct hf_span *part[] = { &e.ident, &e.generation_id, &e.auth_type, &e.model_id, &e.source };
	size_t len[HF_ARRAY_LEN(part)];
	uint32_t bag_len;

	e.enqueued_ms = (int64_t)hf_cur_le64(&c);
	e.partition_seq = hf_cur_le64(&c);
	e.partition = hf_cur_u8(&c);
	for (unsigned i = 0; i < HF_ARRAY_LEN(part); i++) {
		len[i] = hf_cur_u8(&c);
		len[i] |= (size_t)hf_cur_u8(&c) << 8;
	}
	bag_len = hf_cur_le32(&c);
	for (unsigned i = 0; i < HF_ARRAY_LEN(part); i++)
		*part[i] = hf_cur_take(&c, len[i]);
	e.bag = hf_cur_take(&c, bag_len);
	e.body = c.in;
	if (c.err || e.partition >= HUB_PARTITIONS)
		return HF_ECORRUPT;
	*ret_event = e;
	return 0;
}

int hub_event_scan(struct hub_model *m, uint64_t from, bool (*fn)(void *arg, const struct hub_event *e), void *arg)
{
	struct hf_span found, value;
	struct hf_cursor *cur;
	struct hf_txn *txn;
	struct hub_event e;
	uint8_t key[8];
	int r;

	if (from >= m->committed_end)
		return 0;
	r = hf_txn_begin(m->events, false, &txn);
	if (r != 0)
		return r;
	hub_seq_key(from, key);
	r = hf_cursor_open(txn, HUB_T_EVENT, &cur);
	if (r == 0) {
		int at = hf_cursor_seek(cur, hf_span(key, 8), &found, &value);

		for (; at == 0; at = hf_cursor_next(cur, &found, &value)) {
			r = hub_event_parse(hub_key_seq(found), value, &e);
			if (r != 0 || !fn(arg, &e))
				break;
		}
		hf_cursor_close(&cur);
	}
	hf_txn_abort(&txn);
	return r;
}

#define PROBE_MAX 256	/* events looked at for one step */

struct probe {
	const struct hub_event_position *at;
	unsigned left;
	bool past;		/* the first fitting event is at or after the position wanted */
	bool found;
};

static bool probe_one(void *arg, const struct hub_event *e)
{
	struct probe *p = arg;

	if (p->at->by_partition_seq && e->partition != p->at->partition)
		return --p->left > 0;
	p->found = true;
	p->past = p->at->by_partition_seq ? e->partition_seq >= p->at->partition_seq : e->enqueued_ms >= p->at->enqueued_ms;
	return false;
}

/* Both grow with the sequence number, so that halving finds the place. Where a partition is so sparse that a step finds
 * none of its events, the search ends: what comes before `low` is too early in any case. */
uint64_t hub_event_seek(struct hub_model *m, const struct hub_event_position *at)
{
	uint64_t low = m->first_seq, high = m->committed_end;

	while (low < high) {
		uint64_t mid = low + (high - low) / 2;
		struct probe p = { .at = at, .left = PROBE_MAX };

		if (hub_event_scan(m, mid, probe_one, &p) != 0 || p.left == 0)
			break;
		if (!p.found || p.past)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

void hub_event_partition(struct hub_model *m, unsigned partition, struct hub_event_tail *ret_tail)
{
	const struct hub_partition *p = &m->committed[partition];

	*ret_tail = (struct hub_event_tail){ .is_empty = p->first == p->next, .begin_seq = p->first, .next_seq = p->next,
					     .last_offset = p->last_seq, .last_enqueued_ms = p->last_enqueued_ms };
}

/* --- properties ------------------------------------------------------------------------------------------- */

const struct hub_event_name hub_event_names[] = {
	{ "$.mid", "messageId" }, { "$.cid", "correlationId" }, { "$.uid", "userId" }, { "$.to", "to" },
	{ "$.ct", "contentType" }, { "$.ce", "contentEncoding" }, { "$.exp", "absoluteExpiryTime" },
	{ "$.on", "outputName" }, { "$.ctime", "creationTimeUtc" }, { "$.ifid", "iothub-interface-id" },
	{ "$.sub", "dt-subject" }, { "$.schema", "iothub-message-schema" }, { "$.diagid", "Diagnostic-Id" },
	{ "$.diagctx", "Correlation-Context" }, { "$.cdid", NULL }, { "$.cmid", NULL }, { NULL, NULL },
};

static int read_bag(struct hf_span bag, json_t *sys, json_t *app)
{
	struct hf_bag_iter it = { .rest = bag };
	hf_autobuf struct hf_buf key = HF_BUF_INIT(HF_MSG_MAX_SIZE), value = HF_BUF_INIT(HF_MSG_MAX_SIZE);
	bool has_value;
	int r = 0;

	while (r == 0 && hf_bag_next(&it, &key, &value, &has_value)) {
		const char *name = hf_buf_cstr(&key);
		json_t *to = app;

		for (size_t i = 0; hub_event_names[i].key; i++)
			if (strcmp(name, hub_event_names[i].key) == 0) {
				to = sys;
				name = hub_event_names[i].name;
				break;
			}
		if (!name)
			continue;	/* a claimed origin never stands beside the authenticated one */
		r = json_object_set_new_nocheck(to, name, has_value ?
						json_stringn_nocheck(hf_buf_cstr(&value), hf_buf_len(&value)) :
						json_null());
	}
	return r == 0 && !key.err && !value.err ? 0 : -ENOMEM;
}

static int put_span(json_t *o, const char *name, struct hf_span s)
{
	return json_object_set_new_nocheck(o, name, json_stringn_nocheck(s.len ? (const char *)s.ptr : "", s.len));
}

void hub_event_auth_method(const struct hub_event *e, struct hf_buf *out)
{
	struct hf_span auth = e->auth_type;
	bool is_module = memchr(e->ident.ptr, '/', e->ident.len) != NULL;
	bool policy = hf_span_is(auth, "policy"), x509 = hf_span_is(auth, "x509");

	hf_buf_printf(out, "{\"scope\":\"%s\",\"type\":\"%s\",\"issuer\":\"%s\",\"acceptingIpFilterRule\":null}",
		      policy ? "hub" : is_module ? "module" : "device", x509 ? "x509" : "sas", x509 ? "external" : "iothub");
}

json_t *hub_event_doc(const struct hub_event *e)
{
	hf_autobuf struct hf_buf b64 = HF_BUF_INIT(2 * HF_MSG_MAX_SIZE), text = HF_BUF_INIT(1024);
	json_t *o = json_object(), *sys = json_object(), *app = json_object();
	struct hf_span device, module = e->ident;
	bool is_module = hf_span_cut(&module, '/', &device);
	char when[32];
	int r;

	hf_iso8601(e->enqueued_ms, when);
	r = read_bag(e->bag, sys, app);
	hf_b64_encode(e->body, &b64);
	hub_event_auth_method(e, &text);
	r |= put_span(sys, "iothub-connection-device-id", device);
	if (is_module)
		r |= put_span(sys, "iothub-connection-module-id", module);
	r |= put_span(sys, "iothub-connection-auth-method", hf_buf_span(&text));
	r |= put_span(sys, "iothub-connection-auth-generation-id", e->generation_id);
	r |= json_object_set_new(sys, "iothub-enqueuedtime", json_string(when));
	r |= put_span(sys, "iothub-message-source", e->source);
	if (e->model_id.len)
		r |= put_span(sys, "dt-dataschema", e->model_id);
	r |= put_span(o, "deviceId", device);
	r |= json_object_set_new(o, "moduleId", is_module ? json_stringn((const char *)module.ptr, module.len)
							  : json_null());
	r |= json_object_set_new(o, "sequence", json_integer((json_int_t)e->seq));
	r |= json_object_set_new(o, "partition", json_integer(e->partition));
	r |= json_object_set_new(o, "partitionSequence", json_integer((json_int_t)e->partition_seq));
	r |= json_object_set_new(o, "enqueuedTime", json_string(when));
	r |= json_object_set(o, "systemProperties", sys);
	r |= json_object_set(o, "properties", app);
	r |= put_span(o, "bodyBase64", hf_buf_span(&b64));
	json_decref(sys);
	json_decref(app);
	if (r != 0 || b64.err || text.err) {
		json_decref(o);
		return NULL;
	}
	return o;
}

struct one { json_t *doc; uint64_t seq; };

static bool take_json(void *arg, const struct hub_event *e)
{
	struct one *one = arg;

	one->doc = hub_event_doc(e);
	one->seq = e->seq;
	return false;
}

json_t *hub_event_get(struct hub_model *m, uint64_t *seq)
{
	struct one one = { 0 };

	hub_event_scan(m, *seq, take_json, &one);
	if (one.doc)
		*seq = one.seq;
	return one.doc;
}

uint64_t hub_event_end(struct hub_model *m)
{
	return m->next_seq;
}

uint64_t hub_event_first(struct hub_model *m)
{
	return m->committed_first;
}
