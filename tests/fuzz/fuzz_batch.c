/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Batches of the HTTPS device API, and their properties on the way back into headers. */
#include "fuzz.h"
#include "dialect/bag.h"
#include "dialect/bag_http.h"
#include "dialect/batch.h"

#include <holdfast/err.h>

/* Headers stay lines: nothing of a message breaks out of one. */
static void check_headers(struct hf_span bag)
{
	struct hf_buf out = HF_BUF_INIT(8 << 20);
	struct hf_span text, line;

	hf_bag_http_headers(bag, &out);
	FUZZ_CHECK(!out.err);
	for (text = hf_buf_span(&out); text.len;) {
		hf_span_cut(&text, '\n', &line);
		FUZZ_CHECK(line.len > 3 && line.ptr[line.len - 1] == '\r');
		for (size_t i = 0; i + 1 < line.len; i++)
			FUZZ_CHECK(line.ptr[i] >= 0x20);
	}
	hf_buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hf_batch batch;
	const char *why = NULL;
	int r = hf_batch_parse(hf_span(data, size), &batch, &why);

	if (r != 0) {
		FUZZ_CHECK((r == HF_EINVALID && why) || r == HF_ELIMIT);
		return 0;
	}
	FUZZ_CHECK(batch.n > 0);
	for (size_t i = 0; i < batch.n; i++) {
		struct hf_buf again = HF_BUF_INIT(1 << 20);

		FUZZ_CHECK(batch.parts[i].bag.len + batch.parts[i].body.len <= HF_MSG_MAX_SIZE);
		FUZZ_CHECK(hf_bag_canonical(batch.parts[i].bag, NULL, &again) == 0);
		FUZZ_CHECK(hf_span_eq(hf_buf_span(&again), batch.parts[i].bag));
		hf_buf_fini(&again);
		check_headers(batch.parts[i].bag);
	}
	hf_batch_fini(&batch);
	return 0;
}
