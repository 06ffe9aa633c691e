/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/blob/blocklist.h - the XML of Put Block List: which blocks make a blob, in their order. */
#pragma once
#include "hub/blob/blob.h"

/* Reads <BlockList> with <Latest>, <Committed> and <Uncommitted> elements and nothing else; ids are spans of xml.
 * HF_EINVALID; HF_ELIMIT: over cap blocks. */
int hub_blocklist_parse(struct hf_span xml, struct hub_block_ref *refs, size_t cap, size_t *ret_n);
