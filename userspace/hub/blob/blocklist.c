/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hub/blob/blocklist.h"
#include "core/util.h"

#include <holdfast/err.h>

static const char *const names[] = { [HUB_BLOCK_LATEST] = "Latest", [HUB_BLOCK_UNCOMMITTED] = "Uncommitted",
				     [HUB_BLOCK_COMMITTED] = "Committed" };

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct hf_span trim(struct hf_span s)
{
	while (s.len && is_blank(s.ptr[0]))
		s = hf_span_skip(s, 1);
	while (s.len && is_blank(s.ptr[s.len - 1]))
		s.len--;
	return s;
}

static bool eat(struct hf_span *in, const char *text)
{
	if (!hf_span_starts(*in, text))
		return false;
	*in = hf_span_skip(*in, strlen(text));
	return true;
}

/* "<Name>id</Name>" */
static int element(struct hf_span *in, struct hub_block_ref *ref)
{
	struct hf_span name, text, closing;

	if (!eat(in, "<") || !hf_span_cut(in, '>', &name) || !hf_span_cut(in, '<', &text) || !eat(in, "/") ||
	    !hf_span_cut(in, '>', &closing) || !hf_span_eq(name, closing))
		return HF_EINVALID;
	ref->id = trim(text);
	if (ref->id.len == 0 || ref->id.len > HUB_BLOCK_ID_MAX)
		return HF_EINVALID;
	for (size_t i = 0; i < HF_ARRAY_LEN(names); i++)
		if (hf_span_is(name, names[i])) {
			ref->from = (enum hub_block_from)i;
			return 0;
		}
	return HF_EINVALID;
}

int hub_blocklist_parse(struct hf_span xml, struct hub_block_ref *refs, size_t cap, size_t *ret_n)
{
	struct hf_span in = xml, head;
	size_t n = 0;
	int r;

	eat(&in, "\xef\xbb\xbf");
	in = trim(in);
	if (hf_span_starts(in, "<?xml") && !hf_span_cut(&in, '>', &head))
		return HF_EINVALID;
	in = trim(in);
	*ret_n = 0;
	if (hf_span_is(in, "<BlockList/>") || hf_span_is(in, "<BlockList />"))
		return 0;
	if (!eat(&in, "<BlockList>"))
		return HF_EINVALID;
	for (in = trim(in); !hf_span_is(in, "</BlockList>"); in = trim(in)) {
		if (n == cap)
			return HF_ELIMIT;
		r = element(&in, &refs[n++]);
		if (r != 0)
			return r;
	}
	*ret_n = n;
	return 0;
}
