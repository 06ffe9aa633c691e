/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The HTTP reader: messages from bytes that come in pieces. First byte: 1 = requests; the rest of it = piece size. */
#include "fuzz.h"
#include "http/http_int.h"

#include <holdfast/err.h>

static void use(const struct hf_http_reader *r)
{
	struct hf_http_request req = { .path = r->head.target };
	struct hf_buf value = HF_BUF_INIT(65536);
	struct hf_span h;

	for (unsigned i = 0; i < r->head.n_headers; i++)
		FUZZ_CHECK(r->head.headers[i].name.len > 0);
	hf_http_head_find(&r->head, "content-type", &h);
	if (r->is_request) {
		hf_span_cut(&req.path, '?', &h);
		req.query = req.path;
		hf_http_query(&req, "api-version", &value);
	}
	hf_buf_fini(&value);
	FUZZ_CHECK(hf_buf_len(&r->body) <= r->max_body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hf_http_reader r;
	struct hf_span in;
	size_t piece;
	int err = 0;

	if (size == 0)
		return 0;
	piece = data[0] >> 1 ? data[0] >> 1 : SIZE_MAX;
	hf_http_reader_init(&r, data[0] & 1, 1024, 4096);
	in = hf_span(data + 1, size - 1);
	while (in.len && (err == 0 || err == HF_EMORE)) {
		struct hf_span part = hf_span(in.ptr, in.len < piece ? in.len : piece);
		size_t used = 0;

		err = hf_http_reader_feed(&r, part, &used);
		FUZZ_CHECK(used <= part.len && (err != HF_EMORE || used == part.len));
		in = hf_span_skip(in, used);
		if (err == 0) {
			use(&r);
			hf_http_reader_next(&r);
			FUZZ_CHECK(hf_http_reader_idle(&r));
		} else if (err != HF_EMORE && r.is_request) {
			FUZZ_CHECK(r.refuse_status >= 400 && r.reason);
		}
	}
	hf_http_reader_fini(&r);
	return 0;
}
