/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Performatives of ours with every field written out. Proton leaves trailing null fields away, as AMQP 1.0 part 1, section
 * 1.4 allows; clients that read fields by position (PyPI azure-eventhub) cannot read such a list. */
#include "amqp/amqp_int.h"
#include "core/util.h"

#include <holdfast/err.h>

#define PERFORMATIVES 0x10

/* Fields of open, begin, attach, flow, transfer, disposition, detach, end, close (part 2, section 2.7). */
static const uint8_t n_fields[] = { 10, 8, 14, 11, 11, 6, 3, 1, 1 };
enum { BEGIN = 1, HANDLE_MAX = 4 };

struct list {
	size_t at, body, end;		/* constructor, first field, behind the last */
	unsigned code, n;		/* index in n_fields, fields that are there */
};
/* The list of a frame's performative. False: it lacks nothing, or the frame is to go as it is. */
static bool find_list(struct hf_span f, uint32_t max_frame, struct list *l)
{
	size_t at = f.len > 8 ? f.ptr[4] * 4u : 0, size;
	const uint8_t *p = f.ptr + at;

	if (f.len < 12 || f.ptr[5] != 0 || at < 8 || f.len - at < 4 || p[0] != 0 || p[1] != 0x53 || p[2] < PERFORMATIVES ||
	    p[2] >= PERFORMATIVES + HF_ARRAY_LEN(n_fields))
		return false;
	l->code = p[2] - PERFORMATIVES;
	l->at = at + 3;
	if (p[3] == 0x45) {
		l->n = 0;
		l->body = l->end = at + 4;
	} else if (p[3] == 0xc0 && f.len - at >= 6) {
		l->n = p[5];
		l->body = at + 6;
		l->end = at + 5 + p[4];
	} else if (p[3] == 0xd0 && f.len - at >= 12) {
		size = hf_amqp_be32(p + 4);
		l->n = hf_amqp_be32(p + 8);
		l->body = at + 12;
		l->end = at + 8 + size;
	} else {
		return false;
	}
	if (l->body > l->end || l->end > f.len || l->n >= n_fields[l->code])
		return false;
	/* Proton keeps to a limit that leaves room (hf_amqp_lower_max_frame), unless the peer's is about the minimum: a frame
	 * that would outgrow that one goes as it is. */
	return max_frame >= HF_AMQP_MIN_FRAME + HF_AMQP_FULL_ROOM || f.len + HF_AMQP_FULL_ROOM <= max_frame;
}

static void write_full(struct hf_conn *conn, struct hf_span f, const struct list *l)
{
	uint8_t size[4], head[9], tail[16];
	size_t n_tail = 0, fields = l->end - l->body;

	for (unsigned i = l->n; i < n_fields[l->code]; i++) {
		if (l->code == BEGIN && i == HANDLE_MAX) {
			tail[n_tail++] = 0x70;
			hf_amqp_put_be32(tail + n_tail, UINT32_MAX);	/* its default */
			n_tail += 4;
		} else {
			tail[n_tail++] = 0x40;
		}
	}
	head[0] = 0xd0;
	hf_amqp_put_be32(head + 1, (uint32_t)(4 + fields + n_tail));
	hf_amqp_put_be32(head + 5, n_fields[l->code]);
	hf_amqp_put_be32(size, (uint32_t)(l->at + 9 + fields + n_tail + (f.len - l->end)));
	hf_conn_write(conn, hf_span(size, sizeof size));
	hf_conn_write(conn, hf_span(f.ptr + 4, l->at - 4));
	hf_conn_write(conn, hf_span(head, sizeof head));
	hf_conn_write(conn, hf_span(f.ptr + l->body, fields));
	hf_conn_write(conn, hf_span(tail, n_tail));
	hf_conn_write(conn, hf_span_skip(f, l->end));
}

/* Bytes of the unit at the start of `in`: the protocol header or a frame; 0: not to be seen yet. */
static size_t unit_size(struct hf_span in)
{
	uint32_t size = in.len >= 4 ? hf_amqp_be32(in.ptr) : 0;

	return size == HF_AMQP_HEADER ? 8 : size;
}

static void write_unit(struct hf_amqp *a, struct hf_span f)
{
	uint32_t max = pn_transport_get_remote_max_frame(a->driver.transport);
	struct list l;

	if (hf_amqp_be32(f.ptr) != HF_AMQP_HEADER && find_list(f, max ? max : UINT32_MAX, &l))
		write_full(a->conn, f, &l);
	else
		hf_conn_write(a->conn, f);
}

int hf_amqp_write_full(struct hf_amqp *a, struct hf_span in)
{
	/* What was begun is completed first. */
	while (hf_buf_len(&a->out_frame) && in.len) {
		size_t size = unit_size(hf_buf_span(&a->out_frame)), got = hf_buf_len(&a->out_frame);
		size_t n = hf_min(in.len, (size ? hf_max(size, got) : 4) - got);

		hf_buf_put(&a->out_frame, in.ptr, n);
		in = hf_span_skip(in, n);
		if (a->out_frame.err)
			return a->out_frame.err;
		size = unit_size(hf_buf_span(&a->out_frame));
		if (size && hf_buf_len(&a->out_frame) >= size) {
			write_unit(a, hf_buf_span(&a->out_frame));
			hf_buf_reset(&a->out_frame);
		}
	}
	while (in.len) {
		size_t size = unit_size(in);

		if (size == 0 || size > in.len) {
			hf_buf_put_span(&a->out_frame, in);
			return a->out_frame.err;
		}
		write_unit(a, hf_span(in.ptr, size));
		in = hf_span_skip(in, size);
	}
	return 0;
}
