/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "mqtt/mqtt_stream.h"
#include <holdfast/err.h>

void hf_mqtt_stream_init(struct hf_mqtt_stream *st, bool from_client, size_t max_packet, size_t kept_max)
{
	*st = (struct hf_mqtt_stream){ .max_packet = max_packet, .from_client = from_client, .in = HF_BUF_INIT(kept_max) };
}

void hf_mqtt_stream_reset(struct hf_mqtt_stream *st)
{
	hf_buf_fini(&st->in);
	st->in.err = 0;
	st->need = 0;
	st->is_held = false;
}

/* Packets at the front of `in`, as far as they go. *ret_used is set unless the owner ended the connection. */
static int packets(struct hf_mqtt_stream *st, struct hf_span in, hf_mqtt_packet_fn fn, void *arg, size_t *ret_used,
		   bool *ret_ended, const char **ret_reason)
{
	size_t used = 0;

	st->need = 0;
	*ret_ended = false;
	while (used < in.len && !st->is_held) {
		struct hf_mqtt_packet p;
		int r;

		*ret_reason = "malformed packet";
		r = hf_mqtt_decode(hf_span_skip(in, used), st->max_packet, st->from_client, &p, &st->need, ret_reason);
		if (r == HF_EMORE)
			break;
		st->need = 0;
		if (r != 0)
			return r;
		switch (fn(arg, &p)) {
		case HF_MQTT_NEXT:
			used += p.size;
			break;
		case HF_MQTT_HOLD:
			used += p.size;
			st->is_held = true;
			break;
		case HF_MQTT_HOLD_AGAIN:
			st->is_held = true;
			break;
		case HF_MQTT_END:
			*ret_ended = true;
			return 0;
		}
	}
	*ret_used = used;
	return 0;
}

static int kept_packets(struct hf_mqtt_stream *st, hf_mqtt_packet_fn fn, void *arg, const char **ret_reason)
{
	bool ended;
	size_t used;
	int r;

	if (st->is_held || hf_buf_len(&st->in) < st->need)
		return 0;
	r = packets(st, hf_buf_span(&st->in), fn, arg, &used, &ended, ret_reason);
	if (r != 0 || ended)
		return r;
	hf_buf_consume(&st->in, used);
	hf_buf_shrink(&st->in);
	return 0;
}

int hf_mqtt_stream_feed(struct hf_mqtt_stream *st, struct hf_span in, hf_mqtt_packet_fn fn, void *arg,
			const char **ret_reason)
{
	bool is_first = !st->is_held && !hf_buf_len(&st->in), ended;
	size_t used;
	int r;

	if (is_first) {
		r = packets(st, in, fn, arg, &used, &ended, ret_reason);
		if (r != 0 || ended)
			return r;
		in = hf_span_skip(in, used);
	}
	if (in.len == 0)
		return 0;
	hf_buf_put_span(&st->in, in);
	if (st->in.err) {
		*ret_reason = "input buffer";
		return st->in.err;
	}
	return is_first ? 0 : kept_packets(st, fn, arg, ret_reason);
}

int hf_mqtt_stream_resume(struct hf_mqtt_stream *st, hf_mqtt_packet_fn fn, void *arg, const char **ret_reason)
{
	st->is_held = false;
	st->need = 0;
	return hf_buf_len(&st->in) ? kept_packets(st, fn, arg, ret_reason) : 0;
}
