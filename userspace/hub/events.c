/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Telemetry: one append per message, bounded by the map, turned into JSON only when read.
 *
 * Key: sequence number, big-endian. Value: enqueued ms le64, five lengths le16, bag length le32, then
 * identity, generation id, authentication method, model id, source, bag, body. */
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "hub/model_int.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define TURN_MAX (4 << 20)	/* bytes of one transaction; more in a turn are committed in parts */
#define FIXED (8 + 5 * 2 + 4)

static void seq_key(uint64_t seq, uint8_t out[8])
{
	for (int i = 0; i < 8; i++)
		out[i] = (uint8_t)(seq >> (56 - 8 * i));
}

static uint64_t key_seq(struct hf_span key)
{
	uint64_t v = 0;

	for (size_t i = 0; i < 8 && i < key.len; i++)
		v = v << 8 | key.ptr[i];
	return v;
}

int hub_events_load(struct hub_model *m)
{
	struct hf_span key, value;
	struct hf_cursor *cur;
	struct hf_txn *txn;
	int r = hf_txn_begin(m->events, false, &txn);

	if (r != 0)
		return r;
	m->next_seq = m->first_seq = 1;
	r = hf_cursor_open(txn, HUB_T_EVENT, &cur);
	if (r == 0) {
		if (hf_cursor_last(cur, &key, &value) == 0)
			m->next_seq = key_seq(key) + 1;
		if (hf_cursor_seek(cur, hf_span("", 1), &key, &value) == 0)
			m->first_seq = key_seq(key);
		hf_cursor_close(&cur);
	}
	m->committed_end = m->next_seq;
	hf_txn_abort(&txn);
	return r;
}

/* Frees the oldest events when over three quarters are used: pages come back only two commits later, so there
 * must be room meanwhile. The newest stays, it carries the sequence number across a restart. */
static int retain(struct hub_model *m)
{
	struct hf_db_usage u;
	size_t want, freed = 0;
	uint64_t n = 0;
	uint8_t key[8];
	int r = hf_db_usage(m->event_txn, &u);

	if (r != 0 || u.used_pages < u.map_pages / 4 * 3)
		return r;
	want = hf_min(m->max_event_bytes / 16, (size_t)2 * TURN_MAX);
	while (freed < want && m->first_seq + 1 < m->next_seq) {
		struct hf_span value;

		seq_key(m->first_seq, key);
		r = hf_txn_get(m->event_txn, HUB_T_EVENT, hf_span(key, 8), &value);
		if (r == 0) {
			freed += value.len + 32;
			r = hf_txn_del(m->event_txn, HUB_T_EVENT, hf_span(key, 8));
		}
		if (r != 0 && r != HF_ENOTFOUND)
			return r;
		m->first_seq++;
		n++;
	}
	hf_log(HF_LOG_DEBUG, "hub.retention", "dropped the %llu oldest events", (unsigned long long)n);
	return 0;
}

static int event_txn(struct hub_model *m)
{
	int r;

	hub_model_touch(m);
	if (m->event_txn && m->turn_bytes > hf_min(m->max_event_bytes / 32, (size_t)TURN_MAX)) {
		r = hub_event_flush(m);
		if (r != 0)
			return r;
	}
	if (m->event_txn)
		return 0;
	r = hf_txn_begin(m->events, true, &m->event_txn);
	return r == 0 ? retain(m) : r;
}

static uint8_t *le(uint8_t *p, uint64_t v, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		*p++ = (uint8_t)(v >> (8 * i));
	return p;
}

int hub_event_append(struct hub_model *m, const struct hub_ident *ident, const char *auth_type, struct hf_span bag,
		     struct hf_span body, const char *message_source, uint64_t *ret_seq)
{
	const struct hub_entry *e = hf_container_of(ident, struct hub_entry, ident);
	struct hf_span part[7] = { hf_span_str(ident->id), hf_span_str(ident->generation_id), hf_span_str(auth_type),
				   hf_span_str(e->model_id), hf_span_str(message_source), bag, body };
	size_t len = FIXED;
	uint8_t key[8], *p;
	void *mem;
	int r;

	if (bag.len + body.len > HF_MSG_MAX_SIZE)
		return HF_ELIMIT;
	for (unsigned i = 0; i < 7; i++)
		len += part[i].len;
	r = event_txn(m);
	if (r != 0)
		return r;
	seq_key(m->next_seq, key);
	r = hf_txn_reserve(m->event_txn, HUB_T_EVENT, hf_span(key, 8), len, true, &mem);
	if (r != 0)
		return r;
	p = le(mem, (uint64_t)hf_clock_wall_ms(), 8);
	for (unsigned i = 0; i < 5; i++)
		p = le(p, part[i].len, 2);
	p = le(p, bag.len, 4);
	for (unsigned i = 0; i < 7; i++)
		if (part[i].len) {
			memcpy(p, part[i].ptr, part[i].len);
			p += part[i].len;
		}
	m->turn_bytes += len + 64;
	*ret_seq = m->next_seq++;
	return 0;
}

/* --- reading ---------------------------------------------------------------------------------------------- */

static const struct { const char *key, *name; } system_names[] = {
	{ "$.mid", "messageId" }, { "$.cid", "correlationId" }, { "$.uid", "userId" }, { "$.to", "to" },
	{ "$.ct", "contentType" }, { "$.ce", "contentEncoding" }, { "$.exp", "absoluteExpiryTime" },
	{ "$.on", "outputName" }, { "$.ctime", "creationTimeUtc" }, { "$.ifid", "iothub-interface-id" },
	{ "$.sub", "dt-subject" }, { "$.schema", "iothub-message-schema" }, { "$.diagid", "Diagnostic-Id" },
	{ "$.diagctx", "Correlation-Context" }, { "$.cdid", NULL }, { "$.cmid", NULL },
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

		for (size_t i = 0; i < HF_ARRAY_LEN(system_names); i++)
			if (strcmp(name, system_names[i].key) == 0) {
				to = sys;
				name = system_names[i].name;
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

/* auth: "sas", "x509", or "policy" for a token of a shared access policy. */
static void put_auth_method(struct hf_buf *out, struct hf_span auth, bool is_module)
{
	bool policy = hf_span_is(auth, "policy"), x509 = hf_span_is(auth, "x509");

	hf_buf_printf(out, "{\"scope\":\"%s\",\"type\":\"%s\",\"issuer\":\"%s\",\"acceptingIpFilterRule\":null}",
		      policy ? "hub" : is_module ? "module" : "device", x509 ? "x509" : "sas", x509 ? "external" : "iothub");
}

static json_t *event_json(uint64_t seq, struct hf_span value)
{
	hf_autobuf struct hf_buf b64 = HF_BUF_INIT(2 * HF_MSG_MAX_SIZE), text = HF_BUF_INIT(1024);
	struct hf_cur c = hf_cur(value);
	struct hf_span part[5], bag, device, module;
	int64_t ms = (int64_t)hf_cur_le64(&c);
	json_t *o = json_object(), *sys = json_object(), *app = json_object();
	char when[32];
	size_t len[5];
	uint32_t bag_len;
	bool is_module;
	int r;

	for (unsigned i = 0; i < 5; i++) {
		len[i] = hf_cur_u8(&c);
		len[i] |= (size_t)hf_cur_u8(&c) << 8;
	}
	bag_len = hf_cur_le32(&c);
	for (unsigned i = 0; i < 5; i++)
		part[i] = hf_cur_take(&c, len[i]);
	bag = hf_cur_take(&c, bag_len);
	hf_iso8601(ms, when);
	module = part[0];
	is_module = hf_span_cut(&module, '/', &device);

	r = c.err || read_bag(bag, sys, app);
	hf_b64_encode(c.in, &b64);
	put_auth_method(&text, part[2], is_module);
	r |= put_span(sys, "iothub-connection-device-id", device);
	if (is_module)
		r |= put_span(sys, "iothub-connection-module-id", module);
	r |= put_span(sys, "iothub-connection-auth-method", hf_buf_span(&text));
	r |= put_span(sys, "iothub-connection-auth-generation-id", part[1]);
	r |= json_object_set_new(sys, "iothub-enqueuedtime", json_string(when));
	r |= put_span(sys, "iothub-message-source", part[4]);
	if (part[3].len)
		r |= put_span(sys, "dt-dataschema", part[3]);
	r |= put_span(o, "deviceId", device);
	r |= json_object_set_new(o, "moduleId", is_module ? json_stringn((const char *)module.ptr, module.len)
							  : json_null());
	r |= json_object_set_new(o, "sequence", json_integer((json_int_t)seq));
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

json_t *hub_event_get(struct hub_model *m, uint64_t *seq)
{
	struct hf_span found, value;
	struct hf_cursor *cur;
	struct hf_txn *txn;
	json_t *o = NULL;
	uint8_t key[8];

	if (*seq >= m->committed_end || hf_txn_begin(m->events, false, &txn) != 0)
		return NULL;
	seq_key(*seq, key);
	if (hf_cursor_open(txn, HUB_T_EVENT, &cur) == 0) {
		if (hf_cursor_seek(cur, hf_span(key, 8), &found, &value) == 0) {
			uint64_t at = key_seq(found);

			o = event_json(at, value);
			if (o)
				*seq = at;
		}
		hf_cursor_close(&cur);
	}
	hf_txn_abort(&txn);
	return o;
}

uint64_t hub_event_end(struct hub_model *m)
{
	return m->next_seq;
}
