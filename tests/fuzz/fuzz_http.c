/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The HTTP reader: messages from bytes that come in pieces. First byte: 1 = requests; the rest of it = piece size. Bodies of
 * requests for /s go to a sink, of /sn are refused, of /sc cut after 100 bytes. */
#include "fuzz.h"
#include "http/http_int.h"

#include <holdfast/err.h>

/* A sink is asked for once a body, gets no part after its last, and ends in one of two ways: taken or dropped. */
static struct { unsigned open; size_t taken, limit; bool full; } sink;

static bool on_part(void *arg, struct hf_span part)
{
	FUZZ_CHECK(arg == &sink && sink.open == 1 && !sink.full && part.len > 0);
	sink.taken += part.len;
	sink.full = sink.taken > sink.limit;
	return !sink.full;
}

static void on_drop(void *arg)
{
	FUZZ_CHECK(arg == &sink && sink.open == 1);
	sink.open = 0;
}

static void on_body(void *arg, const struct hf_http_head *head, struct hf_http_sink *ret_sink)
{
	(void)arg;
	FUZZ_CHECK(sink.open == 0);
	if (!hf_span_starts(head->target, "/s"))
		return;
	memset(&sink, 0, sizeof sink);
	sink.open = 1;
	sink.limit = hf_span_starts(head->target, "/sc") ? 100 : SIZE_MAX;
	*ret_sink = (struct hf_http_sink){ .arg = &sink, .write = on_part, .drop = on_drop,
					   .refuse = hf_span_starts(head->target, "/sn") };
}

static void take_sink(struct hf_http_reader *r)
{
	if (!r->sink.arg)
		return;
	FUZZ_CHECK(sink.open == 1 && sink.taken == r->sink_taken && hf_buf_len(&r->body) == 0);
	FUZZ_CHECK(r->is_cut == (sink.full || r->sink.refuse));
	memset(&r->sink, 0, sizeof r->sink);
	sink.open = 0;
}

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
	r.is_tls = true;
	if (r.is_request)
		r.on_body = on_body;
	in = hf_span(data + 1, size - 1);
	while (in.len && (err == 0 || err == HF_EMORE)) {
		struct hf_span part = hf_span(in.ptr, in.len < piece ? in.len : piece);
		size_t used = 0;

		err = hf_http_reader_feed(&r, part, &used);
		FUZZ_CHECK(used <= part.len && (err != HF_EMORE || used == part.len));
		in = hf_span_skip(in, used);
		if (err == 0) {
			bool is_cut = r.is_cut;

			use(&r);
			take_sink(&r);
			if (is_cut)
				break;	/* so does the server */
			hf_http_reader_next(&r);
			FUZZ_CHECK(hf_http_reader_idle(&r));
		} else if (err != HF_EMORE && r.is_request) {
			FUZZ_CHECK(r.refuse_status >= 400 && r.reason);
		}
	}
	hf_http_reader_fini(&r);
	FUZZ_CHECK(sink.open == 0);
	return 0;
}
