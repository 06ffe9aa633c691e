/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Telemetry: one append per message, bounded by the map, turned into JSON only when read.
 *
 * Table "events", key: sequence number, big-endian. Value: enqueued ms le64, sequence number in its partition le64,
 * partition u8, five lengths le16, bag length le32, then identity, generation id, authentication method, model id,
 * source, bag, body. Table "partitions", key: partition u8; value: struct hub_partition,
 * its members le64 in the order next, first, last_seq, last_enqueued_ms. */
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "hub/model/model_int.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define TURN_MAX (4 << 20)	/* bytes of one transaction; more in a turn are committed in parts */
#define FIXED (8 + 8 + 1 + 5 * 2 + 4)

void hub_seq_key(uint64_t seq, uint8_t out[8])
{
	for (int i = 0; i < 8; i++)
		out[i] = (uint8_t)(seq >> (56 - 8 * i));
}

uint64_t hub_key_seq(struct hf_span key)
{
	uint64_t v = 0;

	for (size_t i = 0; i < 8 && i < key.len; i++)
		v = v << 8 | key.ptr[i];
	return v;
}

static uint8_t *le(uint8_t *p, uint64_t v, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		*p++ = (uint8_t)(v >> (8 * i));
	return p;
}

/* The same for ever: FNV-1a of the device id, so that a device's events stay in one partition, in order. */
static unsigned partition_of(const char *device_id)
{
	uint32_t h = 2166136261u;

	for (const char *p = device_id; *p; p++)
		h = (h ^ (uint8_t)*p) * 16777619u;
	return h % HUB_PARTITIONS;
}

static int load_partitions(struct hub_model *m, struct hf_txn *txn)
{
	int r = 0;

	for (uint8_t i = 0; i < HUB_PARTITIONS && (r == 0 || r == HF_ENOTFOUND); i++) {
		struct hf_span value;

		r = hf_txn_get(txn, HUB_T_PARTITION, hf_span(&i, 1), &value);
		if (r == 0) {
			struct hf_cur c = hf_cur(value);
			struct hub_partition p = { .next = hf_cur_le64(&c) };

			p.first = hf_cur_le64(&c);
			p.last_seq = hf_cur_le64(&c);
			p.last_enqueued_ms = (int64_t)hf_cur_le64(&c);
			if (c.err)
				return HF_ECORRUPT;
			m->partitions[i] = p;
		}
	}
	return r == HF_ENOTFOUND ? 0 : r;
}

int hub_partitions_write(struct hub_model *m)
{
	int r = 0;

	for (uint8_t i = 0; i < HUB_PARTITIONS && r == 0; i++) {
		const struct hub_partition *p = &m->partitions[i];
		uint64_t row[] = { p->next, p->first, p->last_seq, (uint64_t)p->last_enqueued_ms };
		uint8_t value[sizeof row];

		if (p->next == m->committed[i].next && p->first == m->committed[i].first)
			continue;
		for (size_t k = 0; k < HF_ARRAY_LEN(row); k++)
			le(value + 8 * k, row[k], 8);
		r = hf_txn_put(m->event_txn, HUB_T_PARTITION, hf_span(&i, 1), hf_span(value, sizeof value));
	}
	return r;
}

void hub_events_committed(struct hub_model *m, bool ok)
{
	m->turn_bytes = 0;
	if (ok) {
		m->new_events |= m->committed_end != m->next_seq;
		m->committed_end = m->next_seq;
		m->committed_first = m->first_seq;
		memcpy(m->committed, m->partitions, sizeof m->committed);
	} else {
		m->next_seq = m->committed_end;
		m->first_seq = m->committed_first;
		memcpy(m->partitions, m->committed, sizeof m->partitions);
	}
}

int hub_events_load(struct hub_model *m)
{
	struct hf_span key, value;
	struct hf_cursor *cur;
	struct hf_txn *txn;
	bool is_empty = true;
	int r = hf_txn_begin(m->events, false, &txn);

	if (r != 0)
		return r;
	m->next_seq = m->first_seq = 1;
	r = hf_cursor_open(txn, HUB_T_EVENT, &cur);
	if (r == 0) {
		if (hf_cursor_last(cur, &key, &value) == 0)
			m->next_seq = hub_key_seq(key) + 1;
		is_empty = hf_cursor_seek(cur, hf_span("", 1), &key, &value) != 0;
		if (!is_empty)
			m->first_seq = hub_key_seq(key);
		hf_cursor_close(&cur);
	}
	if (r == 0)
		r = load_partitions(m, txn);
	/* Retention may have taken all events. */
	for (unsigned i = 0; i < HUB_PARTITIONS; i++)
		m->next_seq = hf_max(m->next_seq, m->partitions[i].last_seq + 1);
	if (is_empty)
		m->first_seq = m->next_seq;
	hub_events_committed(m, true);
	m->new_events = false;
	hf_txn_abort(&txn);
	return r;
}

int hub_event_txn(struct hub_model *m)
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
	return r == 0 ? hub_retain_size(m) : r;
}

/* Into the open transaction. */
static int append(struct hub_model *m, const struct hub_ident *ident, const char *auth_type, struct hf_span bag,
		  struct hf_span body, const char *message_source)
{
	const struct hub_entry *e = hf_container_of(ident, struct hub_entry, ident);
	struct hf_span part[7] = { hf_span_str(ident->id), hf_span_str(ident->generation_id), hf_span_str(auth_type),
				   hf_span_str(e->model_id), hf_span_str(message_source), bag, body };
	unsigned partition = partition_of(ident->device_id);
	struct hub_partition *in = &m->partitions[partition];
	int64_t now = hf_clock_wall_ms();
	size_t len = FIXED;
	uint8_t key[8], *p;
	void *mem;
	int r;

	for (unsigned i = 0; i < 7; i++)
		len += part[i].len;
	hub_seq_key(m->next_seq, key);
	r = hf_txn_reserve(m->event_txn, HUB_T_EVENT, hf_span(key, 8), len, true, &mem);
	if (r != 0)
		return r;
	p = le(mem, (uint64_t)now, 8);
	p = le(p, in->next, 8);
	p = le(p, partition, 1);
	for (unsigned i = 0; i < 5; i++)
		p = le(p, part[i].len, 2);
	p = le(p, bag.len, 4);
	for (unsigned i = 0; i < 7; i++)
		if (part[i].len) {
			memcpy(p, part[i].ptr, part[i].len);
			p += part[i].len;
		}
	m->turn_bytes += len + 64;
	in->next++;
	in->last_seq = m->next_seq;
	in->last_enqueued_ms = now;
	m->next_seq++;
	return 0;
}

int hub_event_append(struct hub_model *m, const struct hub_ident *ident, const char *auth_type, struct hf_span bag,
		     struct hf_span body, const char *message_source, uint64_t *ret_seq)
{
	int r = bag.len + body.len > HF_MSG_MAX_SIZE ? HF_ELIMIT : hub_event_txn(m);

	if (r == 0)
		r = append(m, ident, auth_type, bag, body, message_source);
	if (r == 0)
		*ret_seq = m->next_seq - 1;
	return r;
}

int hub_event_append_all(struct hub_model *m, const struct hub_ident *ident, const char *auth_type,
			 const struct hf_batch_part *parts, size_t n, const char *message_source)
{
	size_t bytes = n > 1 ? n * HF_BATCH_COST : 0;
	int r;

	for (size_t i = 0; i < n; i++)
		bytes += parts[i].bag.len + parts[i].body.len;
	r = bytes > HF_MSG_MAX_SIZE ? HF_ELIMIT : hub_event_txn(m);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = append(m, ident, auth_type, parts[i].bag, parts[i].body, message_source);
	return r;
}
