/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/rest/batch.h - the batch format of the HTTPS device API, application/vnd.microsoft.iothub.json (iothub-protocol 4.1). */
#pragma once
#include "hub/model/model.h"

#define HUB_BATCH_TYPE "application/vnd.microsoft.iothub.json"

struct hub_batch {
	struct hf_buf mem;
	struct hub_event_part *parts;	/* spans into mem */
	size_t n;
};
/* Reads the whole batch. HF_EINVALID: *ret_why says what is wrong (static); HF_ELIMIT: over 256 KiB, 32 bytes for
 * each message included; -ENOMEM. */
int hub_batch_parse(struct hf_span text, struct hub_batch *ret_batch, const char **ret_why);
void hub_batch_fini(struct hub_batch *batch);
