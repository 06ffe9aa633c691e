/* SPDX-License-Identifier: GPL-3.0-or-later */
/* dialect/batch.h - the batch format of the HTTPS device API, application/vnd.microsoft.iothub.json (iothub-protocol 4.1). */
#pragma once
#include "core/buf.h"

#define HF_BATCH_TYPE "application/vnd.microsoft.iothub.json"

/* Each of several messages counts for so many bytes beside its own, so that a batch of empty ones has an end, too. */
#define HF_BATCH_COST 32

struct hf_batch_part { struct hf_span bag, body; };
struct hf_batch {
	struct hf_buf mem;
	struct hf_batch_part *parts;	/* spans into mem */
	size_t n;
};
/* Reads the whole batch. HF_EINVALID: *ret_why says what is wrong (static); HF_ELIMIT: over 256 KiB, 32 bytes for
 * each message included; -ENOMEM. */
int hf_batch_parse(struct hf_span text, struct hf_batch *ret_batch, const char **ret_why);
void hf_batch_fini(struct hf_batch *batch);
