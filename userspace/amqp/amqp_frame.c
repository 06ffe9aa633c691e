/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Frame borders, performatives, the fields of transfers (AMQP 1.0 part 2, sections 2.3 and 2.7). Proton sees the same bytes;
 * here is what it does not tell, passes over in silence, or would abort the process for. */
#include "amqp/amqp_int.h"
#include "core/util.h"

#define BATCH_FORMAT 0x80013700u
enum { OPEN = 0x10, BEGIN, ATTACH, FLOW, TRANSFER, DISPOSITION, DETACH, END, CLOSE };

/* --- fields of a performative --------------------------------------------------------------------------------------- */

struct fields {
	struct hf_cur c;		/* what is left of the list, or of its start in the head */
	uint32_t n;			/* fields left */
	bool is_cut;			/* the list goes on behind the head */
};

void hf_amqp_skip_value(struct hf_cur *c)
{
	static const uint8_t fixed[] = { [4] = 0, [5] = 1, [6] = 2, [7] = 4, [8] = 8, [9] = 16 };
	unsigned described = 1;

	while (described--) {
		uint8_t code = hf_cur_u8(c), kind = code >> 4;

		if (c->err)
			return;
		if (code == 0)
			described += 2;		/* a descriptor and a value */
		else if (kind >= 4 && kind <= 9)
			hf_cur_take(c, fixed[kind]);
		else if (kind >= 0xa)
			hf_cur_take(c, kind & 1 ? hf_cur_be32(c) : hf_cur_u8(c));
		else
			hf_cur_take(c, SIZE_MAX);
	}
}

/* The next field, if it is a uint; false: absent, or of another type. */
static bool next_uint(struct fields *f, uint32_t *ret_u)
{
	uint8_t code = f->n && f->c.in.len ? f->c.in.ptr[0] : 0x40;

	*ret_u = 0;
	if (f->n == 0)
		return false;
	f->n--;
	if (code != 0x43 && code != 0x52 && code != 0x70) {
		hf_amqp_skip_value(&f->c);
		return false;
	}
	hf_cur_u8(&f->c);
	if (code == 0x52)
		*ret_u = hf_cur_u8(&f->c);
	else if (code == 0x70)
		*ret_u = hf_cur_be32(&f->c);
	return !f->c.err;
}

static bool next_true(struct fields *f)
{
	struct hf_span in = f->c.in;

	if (f->n == 0)
		return false;
	f->n--;
	hf_amqp_skip_value(&f->c);
	return in.len >= 1 && (in.ptr[0] == 0x41 || (in.len >= 2 && in.ptr[0] == 0x56 && in.ptr[1] == 1));
}

static void skip_fields(struct fields *f, unsigned n)
{
	for (; n && f->n; n--, f->n--)
		hf_amqp_skip_value(&f->c);
}

/* A list with a descriptor, all of it inside of the frame. head: of the frame's body, size: of all of that. */
static const char *read_performative(struct hf_span head, size_t size, uint64_t *ret_code, struct fields *ret_f)
{
	struct hf_cur c = hf_cur(head);
	size_t list = 0, used;
	uint8_t kind;

	if (hf_cur_u8(&c) != 0)
		return "no performative";
	kind = hf_cur_u8(&c);
	*ret_code = kind == 0x53 ? hf_cur_u8(&c) : kind == 0x80 ? hf_cur_be64(&c) : 0;
	if (*ret_code < OPEN || *ret_code > CLOSE)
		return "unknown performative";
	kind = hf_cur_u8(&c);
	ret_f->n = 0;
	if (kind == 0xc0) {
		list = hf_cur_u8(&c);
		ret_f->n = hf_cur_u8(&c);
		list -= list != 0;
	} else if (kind == 0xd0) {
		list = hf_cur_be32(&c);
		ret_f->n = hf_cur_be32(&c);
		list -= hf_min(list, (size_t)4);
	} else if (kind != 0x45) {
		return "a performative is not a list";
	}
	used = head.len - c.in.len;
	if (c.err || list > size - used)
		return "a performative is longer than its frame";
	ret_f->is_cut = list > c.in.len;
	ret_f->c = hf_cur(hf_span(c.in.ptr, hf_min(list, c.in.len)));
	return NULL;
}

/* --- messages that take several transfers ------------------------------------------------------------------------------ */

static unsigned find_partial(const struct hf_amqp_frames *f, uint16_t channel, uint32_t handle)
{
	unsigned i = 0;

	while (i < f->n_partial && (f->partial[i].channel != channel || f->partial[i].handle != handle))
		i++;
	return i;
}

static void end_partial(struct hf_amqp_frames *f, unsigned i)
{
	if (i < f->n_partial)
		f->partial[i] = f->partial[--f->n_partial];
}

static void end_partials_of(struct hf_amqp_frames *f, uint16_t channel)
{
	for (unsigned i = 0; i < f->n_partial; i++)
		if (f->partial[i].channel == channel)
			end_partial(f, i--);
}

static const char *on_transfer(struct hf_amqp_frames *f, uint16_t channel, struct fields *fields, struct hf_amqp_frame *frame)
{
	uint32_t handle, id, format;
	bool has_id, more, aborted;
	unsigned at;

	next_uint(fields, &handle);
	has_id = next_uint(fields, &id);
	skip_fields(fields, 1);				/* tag */
	next_uint(fields, &format);
	skip_fields(fields, 1);				/* settled */
	more = next_true(fields);
	skip_fields(fields, 3);				/* receive mode, state, resume */
	aborted = next_true(fields);
	if (fields->c.err)
		return fields->is_cut ? "a transfer with too much in front of its message" : "a malformed transfer";
	at = find_partial(f, channel, handle);
	if (at == f->n_partial && !has_id)
		return "a transfer without delivery id";	/* proton's assertion would end the process */
	if (!more || aborted) {
		end_partial(f, at);
	} else if (at == f->n_partial) {
		if (at == HF_ARRAY_LEN(f->partial))
			return "too many messages that are not complete";
		f->partial[f->n_partial].channel = channel;
		f->partial[f->n_partial++].handle = handle;
	}
	frame->is_transfer = true;
	frame->is_batch = format == BATCH_FORMAT;
	return NULL;
}

/* --- frames --------------------------------------------------------------------------------------------------------------- */

static const char *judge(struct hf_amqp_frames *f, struct hf_amqp_frame *frame)
{
	struct hf_span head = hf_span(f->head, hf_min(f->got, (uint32_t)sizeof f->head));
	uint16_t channel = (uint16_t)(f->head[6] << 8 | f->head[7]);
	unsigned offset = f->head[4] * 4u;
	struct fields fields = { 0 };
	uint32_t handle;
	const char *error;
	uint64_t code;

	if (hf_amqp_be32(f->head) == HF_AMQP_HEADER)
		return NULL;
	if (f->head[5] == 1) {			/* each mechanism is one step; proton leaks what a second init says */
		error = f->had_sasl ? "more than one SASL frame" : NULL;
		f->had_sasl = true;
		return error;
	}
	/* Bad offsets are proton's business; frames without a body are heartbeats. */
	if (offset < 8 || offset >= f->size)
		return NULL;
	if (offset > 64)
		return "an extended header that nobody has defined";
	error = read_performative(hf_span_skip(head, offset), f->size - offset, &code, &fields);
	if (error)
		return error;
	switch (code) {
	case OPEN:
		error = f->opened ? "a second open" : NULL;
		f->opened = true;
		return error;
	case BEGIN: case END:
		end_partials_of(f, channel);
		return NULL;
	case ATTACH:
		skip_fields(&fields, 1);		/* name */
		next_uint(&fields, &handle);
		if (fields.c.err)
			return fields.is_cut ? "the name of a link is too long" : "a malformed attach";
		end_partial(f, find_partial(f, channel, handle));
		return NULL;
	case DETACH:
		next_uint(&fields, &handle);
		end_partial(f, find_partial(f, channel, handle));
		return NULL;
	case TRANSFER:
		return on_transfer(f, channel, &fields, frame);
	case CLOSE:
		frame->is_close = true;
		return NULL;
	default:
		return NULL;
	}
}

void hf_amqp_lower_max_frame(uint8_t *frame, size_t len)
{
	size_t offset = len > 8 ? frame[4] * 4u : 0;
	struct fields fields = { 0 };
	uint64_t code = 0;
	uint8_t *p;

	if (offset < 8 || offset >= len || frame[5] != 0 ||
	    read_performative(hf_span(frame + offset, len - offset), len - offset, &code, &fields) || code != OPEN || fields.n < 3)
		return;
	skip_fields(&fields, 2);		/* container-id, hostname */
	if (fields.c.err || fields.c.in.len < 5 || fields.c.in.ptr[0] != 0x70)
		return;				/* no limit, or one that fits into a byte */
	p = frame + (fields.c.in.ptr + 1 - frame);
	if (hf_amqp_be32(p) >= HF_AMQP_MIN_FRAME + HF_AMQP_FULL_ROOM)
		hf_amqp_put_be32(p, hf_amqp_be32(p) - HF_AMQP_FULL_ROOM);
}

size_t hf_amqp_frame_take(struct hf_amqp_frames *f, struct hf_span in, struct hf_amqp_frame *ret_frame)
{
	size_t n = hf_min(in.len, (f->size ? f->size : 4) - (size_t)f->got);

	*ret_frame = (struct hf_amqp_frame){ 0 };
	if (f->got < sizeof f->head)
		memcpy(f->head + f->got, in.ptr, hf_min(n, sizeof f->head - f->got));
	f->got += (uint32_t)n;
	if (f->size == 0 && f->got == 4) {
		f->size = hf_amqp_be32(f->head);
		if (f->size == HF_AMQP_HEADER)
			f->size = 8;
		else if (f->started && (f->size < 8 || f->size > HF_AMQP_MAX_FRAME))
			ret_frame->error = "the size of a frame is out of bounds";
		else
			f->size = hf_max(f->size, 8u);	/* another protocol: proton will say so */
		f->started = true;
	}
	ret_frame->end = f->got == f->size && !ret_frame->error;
	if (ret_frame->end) {
		ret_frame->error = judge(f, ret_frame);
		explicit_bzero(f->head, hf_min(f->got, (uint32_t)sizeof f->head));	/* it may have held a token */
		f->got = f->size = 0;
	}
	return n;
}
