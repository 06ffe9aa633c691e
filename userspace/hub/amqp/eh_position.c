/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hub/amqp/eh_position.h"
#include "core/util.h"

#include <holdfast/err.h>

#define PREFIX "amqp.annotation."
#define BEGINNING "-1"
#define LATEST "@latest"

static const struct { const char *name; enum hub_eh_by by; } names[] = {
	{ "x-opt-offset", HUB_EH_OFFSET },
	{ "x-opt-sequence-number", HUB_EH_SEQUENCE },
	{ "x-opt-enqueued-time", HUB_EH_TIME },
	{ "x-opt-enqueuedtimeutc", HUB_EH_TIME },	/* of older clients */
};

static struct hf_span trim(struct hf_span s)
{
	while (s.len && s.ptr[0] == ' ')
		s = hf_span_skip(s, 1);
	while (s.len && s.ptr[s.len - 1] == ' ')
		s.len--;
	return s;
}

static bool unquote(struct hf_span *s)
{
	if (s->len == 0 || (s->ptr[0] != '\'' && s->ptr[0] != '"'))
		return true;
	if (s->len < 2 || s->ptr[s->len - 1] != s->ptr[0])
		return false;
	*s = hf_span(s->ptr + 1, s->len - 2);
	return true;
}

/* name, ">" or ">=", value */
static int take_apart(struct hf_span text, enum hub_eh_by *ret_by, bool *ret_inclusive, struct hf_span *ret_value)
{
	struct hf_span name;

	if (!hf_span_cut(&text, '>', &name) || !hf_span_starts(trim(name), PREFIX))
		return HF_EINVALID;
	name = hf_span_skip(trim(name), strlen(PREFIX));
	*ret_inclusive = text.len && text.ptr[0] == '=';
	*ret_value = trim(hf_span_skip(text, *ret_inclusive));
	if (!unquote(ret_value))
		return HF_EINVALID;
	for (size_t i = 0; i < HF_ARRAY_LEN(names); i++)
		if (hf_span_ieq(name, hf_span_str(names[i].name))) {
			*ret_by = names[i].by;
			return 0;
		}
	return HF_EINVALID;
}

int hub_eh_position_parse(struct hf_span text, struct hub_eh_position *ret_position)
{
	struct hub_eh_position p = { .by = HUB_EH_ALL };
	struct hf_span value;
	bool inclusive;

	text = trim(text);
	if (text.len) {
		if (take_apart(text, &p.by, &inclusive, &value) != 0)
			return HF_EINVALID;
		if (p.by == HUB_EH_OFFSET && hf_span_is(value, LATEST))
			p.by = HUB_EH_LATEST;
		else if (p.by != HUB_EH_TIME && hf_span_is(value, BEGINNING))
			p.by = HUB_EH_ALL;
		else if (hf_parse_i64(value, 0, INT64_MAX - 1, &p.from) != 0)
			return HF_EINVALID;
		else
			p.from += !inclusive;
	}
	*ret_position = p;
	return 0;
}
