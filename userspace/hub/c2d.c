/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Cloud-to-device queues: in memory per device, written through. Key: device id, 0, sequence big-endian. */
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "hub/model_int.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>
#include <time.h>

#define MAX_BYTES 65536
#define DEFAULT_TTL_MS (3600 * 1000)
#define MAX_TTL_MS (2 * 24 * 3600 * 1000ll)
#define KEY_MAX (HF_ID_MAX + 9)
#define BAD(err, ...) hub_refuse(err, HF_EINVALID, 400, 400004, "ArgumentInvalid", __VA_ARGS__)

static struct hf_span make_key(const char *device_id, uint64_t seq, uint8_t out[KEY_MAX])
{
	size_t n = strlen(device_id);

	memcpy(out, device_id, n);
	out[n] = 0;
	for (int i = 0; i < 8; i++)
		out[n + 1 + (size_t)i] = (uint8_t)(seq >> (56 - 8 * i));
	return hf_span(out, n + 9);
}

static struct hub_c2d_item *item_new(uint64_t seq, int64_t enqueued, int64_t expiry, struct hf_span mid,
				     struct hf_span ack, struct hf_span bag, struct hf_span body)
{
	struct hub_c2d_item *i = calloc(1, sizeof *i + mid.len + ack.len + 2 + bag.len + body.len);
	uint8_t *p;

	if (!i)
		return NULL;
	p = i->mem;
	i->msg = (struct hub_c2d){ .seq = seq, .enqueued_ms = enqueued, .expiry_ms = expiry };
	i->msg.message_id = memcpy(p, mid.len ? (const void *)mid.ptr : "", mid.len);
	p += mid.len + 1;
	i->msg.ack = memcpy(p, ack.len ? (const void *)ack.ptr : "", ack.len);
	p += ack.len + 1;
	i->msg.bag = hf_span(p, bag.len);
	memcpy(p, bag.len ? (const void *)bag.ptr : "", bag.len);
	p += bag.len;
	i->msg.body = hf_span(p, body.len);
	memcpy(p, body.len ? (const void *)body.ptr : "", body.len);
	return i;
}

static void enqueue(struct hub_entry *e, struct hub_c2d_item *i)
{
	hf_list_add_tail(&e->c2d, &i->node);
	e->n_c2d++;
}

static int store(struct hub_model *m, const char *device_id, const struct hub_c2d_item *i)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(4 * MAX_BYTES);
	uint8_t key[KEY_MAX];
	struct hf_txn *txn;
	int r;

	hf_buf_le64(&b, (uint64_t)i->msg.enqueued_ms);
	hf_buf_le64(&b, (uint64_t)i->msg.expiry_ms);
	hf_buf_le32(&b, (uint32_t)strlen(i->msg.message_id));
	hf_buf_le32(&b, (uint32_t)strlen(i->msg.ack));
	hf_buf_le32(&b, (uint32_t)i->msg.bag.len);
	hf_buf_puts(&b, i->msg.message_id);
	hf_buf_puts(&b, i->msg.ack);
	hf_buf_put_span(&b, i->msg.bag);
	hf_buf_put_span(&b, i->msg.body);
	r = b.err ? b.err : hub_state_txn(m, &txn);
	return r == 0 ? hf_txn_put(txn, HUB_T_C2D, make_key(device_id, i->msg.seq, key), hf_buf_span(&b)) : r;
}

int hub_c2d_load(struct hub_model *m)
{
	struct hf_cursor *cur = NULL;
	struct hf_span key, value;
	struct hf_txn *txn;
	int at, r = hf_txn_begin(m->state, false, &txn);

	if (r != 0)
		return r;
	r = hf_cursor_open(txn, HUB_T_C2D, &cur);
	if (r != 0) {
		hf_txn_abort(&txn);
		return r;
	}
	at = hf_cursor_seek(cur, hf_span("", 1), &key, &value);
	for (; at == 0 && r == 0; at = hf_cursor_next(cur, &key, &value)) {
		struct hf_cur c = hf_cur(value), k = hf_cur(hf_span_skip(key, key.len < 8 ? 0 : key.len - 8));
		struct hub_entry *e = key.len > 9 ? hub_entry_find(m, hf_span(key.ptr, key.len - 9)) : NULL;
		uint64_t seq = hf_cur_be64(&k);
		int64_t enqueued = (int64_t)hf_cur_le64(&c), expiry = (int64_t)hf_cur_le64(&c);
		uint32_t mid_len = hf_cur_le32(&c), ack_len = hf_cur_le32(&c), bag_len = hf_cur_le32(&c);
		struct hf_span mid = hf_cur_take(&c, mid_len), ack = hf_cur_take(&c, ack_len);
		struct hf_span bag = hf_cur_take(&c, bag_len);
		struct hub_c2d_item *i;

		if (c.err || k.err || !e) {
			r = e ? HF_ECORRUPT : 0;
			continue;
		}
		i = item_new(seq, enqueued, expiry, mid, ack, bag, c.in);
		if (!i)
			r = -ENOMEM;
		else
			enqueue(e, i);
		m->c2d_seq = hf_max(m->c2d_seq, seq);
	}
	hf_cursor_close(&cur);
	hf_txn_abort(&txn);
	return r;
}

static int drop(struct hub_model *m, struct hub_entry *e, struct hub_c2d_item *i)
{
	uint8_t key[KEY_MAX];
	struct hf_txn *txn;
	int r = hub_state_txn(m, &txn);

	if (r == 0)
		r = hf_txn_del(txn, HUB_T_C2D, make_key(e->ident.id, i->msg.seq, key));
	hf_list_del(&i->node);
	e->n_c2d--;
	free(i);
	return r == HF_ENOTFOUND ? 0 : r;
}

void hub_c2d_drop_all(struct hub_model *m, struct hub_entry *e)
{
	while (!hf_list_empty(&e->c2d))
		drop(m, e, hf_container_of(e->c2d.next, struct hub_c2d_item, node));
}

static bool pair(struct hf_buf *bag, const char *key, struct hf_span value, bool has_value)
{
	if (hf_buf_len(bag))
		hf_buf_putc(bag, '&');
	hf_uri_encode(hf_span_str(key), bag);
	if (has_value) {
		hf_buf_putc(bag, '=');
		hf_uri_encode(value, bag);
	}
	return !bag->err;
}

/* ISO 8601 text or a number of milliseconds; 0 = not given, -1 = not a time. */
static int64_t parse_time(const json_t *v)
{
	struct tm tm = { 0 };
	const char *text = json_string_value(v), *end;

	if (json_is_integer(v))
		return json_integer_value(v);
	if (!text || !*text)
		return v && !json_is_null(v) && !text ? -1 : 0;
	end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	return end && (*end == '\0' || *end == 'Z' || *end == '.' || *end == '+') ? (int64_t)timegm(&tm) * 1000 : -1;
}

static const char *text_prop(const json_t *props, const char *name)
{
	const char *s = json_string_value(json_object_get(props, name));

	return s && *s ? s : NULL;
}

/* The bag in the order in which the service writes it (iothub-protocol 1.5). */
static int make_bag(const char *device_id, const json_t *props, const char *mid, int64_t expiry, struct hf_buf *bag)
{
	static const char *const system[][2] = { { "correlationId", "$.cid" }, { "userId", "$.uid" },
						 { "contentType", "$.ct" }, { "contentEncoding", "$.ce" },
						 { "ack", "iothub-ack" } };
	const json_t *app = json_object_get(props, "properties");
	const char *key, *text;
	char to[HF_ID_MAX + 64], when[32];
	json_t *v;

	pair(bag, "$.mid", hf_span_str(mid), true);
	snprintf(to, sizeof to, "/devices/%s/messages/devicebound", device_id);
	pair(bag, "$.to", hf_span_str(to), true);
	hf_iso8601(expiry, when);
	if (parse_time(json_object_get(props, "expiryTimeUtc")) > 0)
		pair(bag, "$.exp", hf_span_str(when), true);
	for (size_t i = 0; i < HF_ARRAY_LEN(system); i++) {
		text = text_prop(props, system[i][0]);
		if (text)
			pair(bag, system[i][1], hf_span_str(text), true);
	}
	json_object_foreach((json_t *)app, key, v) {
		if (!json_is_string(v) && !json_is_null(v))
			return HF_EINVALID;
		pair(bag, key, hf_span(json_string_value(v), json_string_length(v)), json_is_string(v));
	}
	return bag->err;
}

static void random_id(char out[40])
{
	uint64_t a = hf_random_u64(), b = hf_random_u64();

	snprintf(out, 40, "%08llx-%04llx-4%03llx-a%03llx-%012llx", (unsigned long long)(a >> 32),
		 (unsigned long long)(a >> 16 & 0xffff), (unsigned long long)(a & 0xfff),
		 (unsigned long long)(b >> 52), (unsigned long long)(b & 0xffffffffffffull));
}

int hub_c2d_send(struct hub_model *m, const char *device_id, const json_t *props, struct hf_span body,
		 struct hub_error *err)
{
	struct hub_entry *e = hub_entry_find(m, hf_span_str(device_id));
	hf_autobuf struct hf_buf bag = HF_BUF_INIT(2 * MAX_BYTES);
	int64_t now = hf_clock_wall_ms(), expiry = parse_time(json_object_get(props, "expiryTimeUtc"));
	const char *mid = text_prop(props, "messageId"), *ack = text_prop(props, "ack");
	struct hub_c2d_item *i;
	char made[40];
	int r;

	hub_error_default(err);
	if (!e || e->ident.module_id)
		return hub_refuse(err, HF_ENOTFOUND, 404, 404001, "DeviceNotFound", "Device %.128s not registered",
				  device_id);
	if (expiry < 0 || (expiry > 0 && expiry > now + MAX_TTL_MS))
		return BAD(err, "expiryTimeUtc must be a time at most two days ahead");
	if (ack && strcmp(ack, "none") != 0 && strcmp(ack, "positive") != 0 && strcmp(ack, "negative") != 0 &&
	    strcmp(ack, "full") != 0)
		return BAD(err, "ack is none of none, positive, negative, full");
	hub_c2d_next(m, device_id, UINT64_MAX);		/* expired ones make room */
	if (e->n_c2d >= HUB_C2D_MAX_QUEUED)
		return hub_refuse(err, HF_EFULL, 403, 403004, "DeviceMaximumQueueDepthExceeded",
				  "%s has %u messages waiting", device_id, e->n_c2d);
	if (expiry == 0)
		expiry = now + DEFAULT_TTL_MS;
	random_id(made);
	r = make_bag(device_id, props, mid ? mid : made, expiry, &bag);
	if (r == HF_EINVALID)
		return BAD(err, "application properties must be text or null");
	if (body.len + hf_buf_len(&bag) > MAX_BYTES || r == HF_ELIMIT)
		return hub_refuse(err, HF_ELIMIT, 413, 413001, "MessageTooLarge", "a message has at most %d bytes", MAX_BYTES);
	if (r != 0)
		return r;
	i = item_new(++m->c2d_seq, now, expiry, hf_span_str(mid ? mid : made), hf_span_str(ack ? ack : "none"),
		     hf_buf_span(&bag), body);
	if (!i)
		return -ENOMEM;
	r = store(m, device_id, i);
	if (r != 0) {
		free(i);
		return r;
	}
	enqueue(e, i);
	hub_note(m, HUB_NOTE_C2D, device_id, NULL, 0);
	return 0;
}

/* Drops what expired or was offered too often on the way. */
const struct hub_c2d *hub_c2d_next(struct hub_model *m, const char *device_id, uint64_t after)
{
	struct hub_entry *e = hub_entry_find(m, hf_span_str(device_id));
	int64_t now = hf_clock_wall_ms();
	struct hf_list *pos, *tmp;

	if (!e)
		return NULL;
	hf_list_for_each_safe(pos, tmp, &e->c2d) {
		struct hub_c2d_item *i = hf_container_of(pos, struct hub_c2d_item, node);

		if (i->msg.expiry_ms <= now) {
			drop(m, e, i);
			continue;
		}
		if (i->msg.seq <= after)
			continue;
		if (i->msg.delivery_count >= HUB_C2D_MAX_DELIVERY) {
			hf_log(HF_LOG_INFO, "hub.c2d.dead", "message %.60s of %s was offered %u times", i->msg.message_id,
			       device_id, i->msg.delivery_count);
			drop(m, e, i);
			continue;
		}
		m->c2d_out = i->msg;
		i->msg.delivery_count++;
		return &m->c2d_out;
	}
	return NULL;
}

int hub_c2d_complete(struct hub_model *m, const char *device_id, uint64_t seq)
{
	struct hub_entry *e = hub_entry_find(m, hf_span_str(device_id));
	struct hf_list *pos;

	if (e)
		hf_list_for_each(pos, &e->c2d) {
			struct hub_c2d_item *i = hf_container_of(pos, struct hub_c2d_item, node);

			if (i->msg.seq == seq)
				return drop(m, e, i);
		}
	return HF_ENOTFOUND;
}

unsigned hub_c2d_count(struct hub_model *m, const char *device_id)
{
	struct hub_entry *e = hub_entry_find(m, hf_span_str(device_id));

	return e ? e->n_c2d : 0;
}

unsigned hub_c2d_purge(struct hub_model *m, const char *device_id)
{
	struct hub_entry *e = hub_entry_find(m, hf_span_str(device_id));
	unsigned n = e ? e->n_c2d : 0;

	if (e)
		hub_c2d_drop_all(m, e);
	return n;
}
