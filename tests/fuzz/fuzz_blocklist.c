/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The XML of Put Block List. */
#include "fuzz.h"
#include "hub/blob/blocklist.h"

#include <holdfast/err.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hub_block_ref refs[64];
	size_t n = 0;
	int r = hub_blocklist_parse(hf_span(data, size), refs, 64, &n);

	FUZZ_CHECK(r == 0 || r == HF_EINVALID || r == HF_ELIMIT);
	FUZZ_CHECK(r == 0 ? n <= 64 : n == 0);
	for (size_t i = 0; r == 0 && i < n; i++) {
		FUZZ_CHECK(refs[i].id.len > 0 && refs[i].id.len <= HUB_BLOCK_ID_MAX);
		FUZZ_CHECK(refs[i].id.ptr >= data && refs[i].id.ptr + refs[i].id.len <= data + size);
		FUZZ_CHECK(memchr(refs[i].id.ptr, '<', refs[i].id.len) == NULL);
	}
	return 0;
}
