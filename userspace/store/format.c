/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "store/format.h"
#include <holdfast/err.h>

void hf_key_put(uint8_t key[HF_KEY_LEN], uint32_t target, uint8_t cls, uint64_t seq)
{
	hf_put_be32(key, target);
	key[4] = cls;
	hf_put_be64(key + 5, seq);
}

bool hf_key_get(struct hf_span key, uint32_t *ret_target, uint8_t *ret_cls, uint64_t *ret_seq)
{
	struct hf_cur c = hf_cur(key);

	*ret_target = hf_cur_be32(&c);
	*ret_cls = hf_cur_u8(&c);
	*ret_seq = hf_cur_be64(&c);
	return c.err == 0 && c.in.len == 0;
}

void hf_header_put(uint8_t out[HF_HEADER_LEN], const struct hf_header *h)
{
	out[0] = HF_STORE_FORMAT;
	out[1] = h->parted;
	out[2] = (uint8_t)h->msg_flags;
	out[3] = (uint8_t)(h->msg_flags >> 8);
	hf_put_le32(out + 4, h->child);
	hf_put_le64(out + 8, h->expiry_ms);
	hf_put_le64(out + 16, h->accepted_ms);
	hf_put_le32(out + 24, h->props_len);
}

int hf_header_get(struct hf_span record, struct hf_header *ret_h, struct hf_span *ret_rest)
{
	struct hf_cur c = hf_cur(record);
	struct hf_header h;
	uint8_t version = hf_cur_u8(&c), flags = hf_cur_u8(&c);

	h.parted = flags & 1;
	h.msg_flags = hf_cur_u8(&c);
	h.msg_flags |= (uint16_t)(hf_cur_u8(&c) << 8);
	h.child = hf_cur_le32(&c);
	h.expiry_ms = hf_cur_le64(&c);
	h.accepted_ms = hf_cur_le64(&c);
	h.props_len = hf_cur_le32(&c);
	if (c.err || version != HF_STORE_FORMAT || (!h.parted && h.props_len > c.in.len))
		return HF_ECORRUPT;
	*ret_h = h;
	*ret_rest = c.in;
	return 0;
}

void hf_ledger_put(struct hf_buf *out, const struct hf_ledger *l)
{
	const uint64_t v[] = { l->accepted, l->delivered, l->expired, l->evicted, l->refused,
			       l->purged,   l->pending,	  l->pending_bytes, l->oldest_seq };

	for (size_t i = 0; i < sizeof v / sizeof v[0]; i++)
		hf_buf_le64(out, v[i]);
}

int hf_ledger_get(struct hf_span value, struct hf_ledger *ret_l)
{
	struct hf_cur c = hf_cur(value);
	struct hf_ledger l;

	l.accepted = hf_cur_le64(&c);
	l.delivered = hf_cur_le64(&c);
	l.expired = hf_cur_le64(&c);
	l.evicted = hf_cur_le64(&c);
	l.refused = hf_cur_le64(&c);
	l.purged = hf_cur_le64(&c);
	l.pending = hf_cur_le64(&c);
	l.pending_bytes = hf_cur_le64(&c);
	l.oldest_seq = hf_cur_le64(&c);
	if (c.err)
		return HF_ECORRUPT;
	*ret_l = l;
	return 0;
}
