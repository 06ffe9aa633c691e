/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Frame borders and the message format of transfers (AMQP 1.0 part 2, sections 2.3 and 2.7.5). What is malformed here is
 * left to proton, which sees the same bytes. */
#include "amqp/amqp_int.h"
#include "core/util.h"

#define PROTOCOL_HEADER 0x414d5150u	/* "AMQP": eight bytes that are no frame */
#define BATCH_FORMAT 0x80013700u
#define TRANSFER 0x14

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

static bool is_batch(struct hf_span frame)
{
	struct hf_cur c = hf_cur(frame);
	uint32_t value = 0;
	uint64_t descriptor;

	hf_cur_be32(&c);
	hf_cur_take(&c, hf_cur_u8(&c) * 4u - 5u);	/* the rest of the frame header, by its length in words */
	if (hf_cur_u8(&c) != 0)
		return false;
	descriptor = hf_cur_u8(&c) == 0x53 ? hf_cur_u8(&c) : hf_cur_be64(&c);
	if (descriptor != TRANSFER)
		return false;
	switch (hf_cur_u8(&c)) {
	case 0xc0: hf_cur_take(&c, 2); break;
	case 0xd0: hf_cur_take(&c, 8); break;
	default: return false;
	}
	for (unsigned i = 0; i < 4; i++)		/* handle, delivery id, delivery tag, message format */
		skip_value(&c, &value);
	return !c.err && value == BATCH_FORMAT;
}

size_t hf_amqp_frame_take(struct hf_amqp_frames *f, struct hf_span in, bool *ret_end, bool *ret_batch)
{
	size_t n = hf_min(in.len, (f->size ? f->size : 4) - (size_t)f->got);

	if (f->got < sizeof f->head)
		memcpy(f->head + f->got, in.ptr, hf_min(n, sizeof f->head - f->got));
	f->got += (uint32_t)n;
	if (f->size == 0 && f->got == 4) {
		f->size = be32(f->head);
		f->size = f->size == PROTOCOL_HEADER ? 8 : hf_max(f->size, 8u);
	}
	*ret_end = f->got == f->size;
	*ret_batch = *ret_end && is_batch(hf_span(f->head, hf_min(f->got, (uint32_t)sizeof f->head)));
	if (*ret_end)
		f->got = f->size = 0;
	return n;
}
