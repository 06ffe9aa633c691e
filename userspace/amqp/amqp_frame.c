/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Frame borders, performatives, and the message format of transfers (AMQP 1.0 part 2, sections 2.3 and 2.7). What is inside
 * of a performative is left to proton, which sees the same bytes. */
#include "amqp/amqp_int.h"
#include "core/util.h"

#define PROTOCOL_HEADER 0x414d5150u	/* "AMQP": eight bytes that are no frame */
#define BATCH_FORMAT 0x80013700u
enum { OPEN = 0x10, TRANSFER = 0x14, CLOSE = 0x18 };

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Skips one primitive value, one that a transfer has in front of its format. *ret_u: its value if it is a uint. */
static void skip_value(struct hf_cur *c, uint32_t *ret_u)
{
	uint8_t code = hf_cur_u8(c);

	*ret_u = 0;
	switch (code) {
	case 0x40: case 0x43: break;			/* null, uint 0 */
	case 0x52: *ret_u = hf_cur_u8(c); break;
	case 0x70: *ret_u = hf_cur_be32(c); break;
	case 0xa0: hf_cur_take(c, hf_cur_u8(c)); break;
	case 0xb0: hf_cur_take(c, hf_cur_be32(c)); break;
	default: hf_cur_take(c, SIZE_MAX); break;	/* nothing that belongs here */
	}
}

static bool is_batch(struct hf_cur fields)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < 4; i++)		/* handle, delivery id, delivery tag, message format */
		skip_value(&fields, &value);
	return !fields.err && value == BATCH_FORMAT;
}

/* The performative of an AMQP frame: a list with a descriptor, all of it inside of the frame. Its fields are left in *c. */
static const char *read_performative(struct hf_cur *c, size_t frame_left, uint64_t *ret_code)
{
	size_t before = c->in.len, size = 0;

	if (hf_cur_u8(c) != 0)
		return "no performative";
	*ret_code = hf_cur_u8(c) == 0x53 ? hf_cur_u8(c) : hf_cur_be64(c);
	switch (hf_cur_u8(c)) {
	case 0x45: break;
	case 0xc0: size = hf_cur_u8(c); hf_cur_take(c, 1); size -= size != 0; break;
	case 0xd0: size = hf_cur_be32(c); hf_cur_take(c, 4); size -= hf_min(size, (size_t)4); break;
	default: return "a performative is not a list";
	}
	if (c->err || before - c->in.len + size > frame_left)
		return "a performative is longer than its frame";
	return *ret_code < OPEN || *ret_code > CLOSE ? "unknown performative" : NULL;
}

static void judge(struct hf_amqp_frames *f, struct hf_amqp_frame *frame)
{
	struct hf_cur c = hf_cur(hf_span(f->head, hf_min(f->got, (uint32_t)sizeof f->head)));
	unsigned offset = f->head[4] * 4u;
	uint64_t code;

	/* SASL frames, bad offsets and long extended headers are proton's business; frames without a body are heartbeats. */
	if (be32(f->head) == PROTOCOL_HEADER || f->head[5] != 0 || offset < 8 || offset >= f->size || offset > 64)
		return;
	hf_cur_take(&c, offset);
	frame->error = read_performative(&c, f->size - offset, &code);
	if (frame->error)
		return;
	if (code == OPEN && f->opened)
		frame->error = "a second open";
	f->opened |= code == OPEN;
	frame->is_transfer = code == TRANSFER;
	frame->is_batch = code == TRANSFER && is_batch(c);
}

size_t hf_amqp_frame_take(struct hf_amqp_frames *f, struct hf_span in, struct hf_amqp_frame *ret_frame)
{
	size_t n = hf_min(in.len, (f->size ? f->size : 4) - (size_t)f->got);

	*ret_frame = (struct hf_amqp_frame){ 0 };
	if (f->got < sizeof f->head)
		memcpy(f->head + f->got, in.ptr, hf_min(n, sizeof f->head - f->got));
	f->got += (uint32_t)n;
	if (f->size == 0 && f->got == 4) {
		f->size = be32(f->head);
		if (f->size == PROTOCOL_HEADER)
			f->size = 8;
		else if (f->started && (f->size < 8 || f->size > HF_AMQP_MAX_FRAME))
			ret_frame->error = "the size of a frame is out of bounds";
		else
			f->size = hf_max(f->size, 8u);	/* another protocol: proton will say so */
		f->started = true;
	}
	ret_frame->end = f->got == f->size;
	if (ret_frame->end) {
		judge(f, ret_frame);
		f->got = f->size = 0;
	}
	return n;
}
