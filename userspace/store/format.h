/* SPDX-License-Identifier: GPL-3.0-or-later */
/* store/format.h - bytes of the spool on disk (docs/storage-format.md). Keys big-endian, values little-endian. */
#pragma once
#include "core/buf.h"
#include "store/store.h"

#define HF_STORE_FORMAT 1
#define HF_TARGET_UPSTREAM 1u	/* names id of "$upstream" */
#define HF_CLASS_DEFAULT 10	/* rank of priority 2000000000 */
#define HF_KEY_LEN 13
#define HF_HEADER_LEN 28
#define HF_INLINE_MAX 1900	/* larger records keep props and body in `body` parts */
#define HF_PART_LEN 4080	/* fills one overflow page exactly */

enum { HF_T_META, HF_T_NAMES, HF_T_QUEUE, HF_T_BODY, HF_T_LEDGER, HF_T_BLOCKS };

struct hf_header {
	bool parted;
	uint16_t msg_flags;
	uint32_t child, props_len;
	uint64_t expiry_ms, accepted_ms;	/* store time; expiry 0 = never */
};
void hf_key_put(uint8_t key[HF_KEY_LEN], uint32_t target, uint8_t cls, uint64_t seq);
bool hf_key_get(struct hf_span key, uint32_t *ret_target, uint8_t *ret_cls, uint64_t *ret_seq);
void hf_header_put(uint8_t out[HF_HEADER_LEN], const struct hf_header *h);
/* HF_ECORRUPT. *ret_rest: what follows the header. */
int hf_header_get(struct hf_span record, struct hf_header *ret_h, struct hf_span *ret_rest);

/* A ledger row: nine u64. HF_ECORRUPT. */
void hf_ledger_put(struct hf_buf *out, const struct hf_ledger *l);
int hf_ledger_get(struct hf_span value, struct hf_ledger *ret_l);

static inline void hf_put_be32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (24 - 8 * i));
}
static inline void hf_put_be64(uint8_t *p, uint64_t v)
{
	for (int i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> (56 - 8 * i));
}
static inline void hf_put_le64(uint8_t *p, uint64_t v)
{
	for (int i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}
static inline void hf_put_le32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}
