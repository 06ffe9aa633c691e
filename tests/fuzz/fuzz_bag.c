/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Property bags of topics: what is taken is canonical, and canonical text stays as it is. */
#include "core/util.h"
#include "dialect/bag.h"
#include "fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hf_buf out = HF_BUF_INIT(HF_MSG_MAX_SIZE), again = HF_BUF_INIT(HF_MSG_MAX_SIZE);
	struct hf_buf key = HF_BUF_INIT(HF_MSG_MAX_SIZE), value = HF_BUF_INIT(HF_MSG_MAX_SIZE);
	bool has_value, first = true;

	if (hf_bag_canonical(hf_span(data, size), NULL, &out) == 0 && !out.err) {
		struct hf_bag_iter it = { hf_buf_span(&out) };

		while (hf_bag_next(&it, &key, &value, &has_value)) {
			FUZZ_CHECK(hf_buf_len(&key) > 0 && hf_utf8_ok(hf_buf_span(&key)) && hf_utf8_ok(hf_buf_span(&value)));
			FUZZ_CHECK(has_value || hf_buf_len(&value) == 0);
			if (!first)
				hf_buf_putc(&again, '&');
			first = false;
			hf_uri_encode(hf_buf_span(&key), &again);
			if (has_value)
				hf_buf_putc(&again, '=');
			hf_uri_encode(hf_buf_span(&value), &again);
		}
		hf_buf_reset(&key);
		FUZZ_CHECK(hf_bag_canonical(hf_buf_span(&again), NULL, &key) == 0);
	}
	hf_buf_fini(&out);
	hf_buf_fini(&again);
	hf_buf_fini(&key);
	hf_buf_fini(&value);
	return 0;
}
