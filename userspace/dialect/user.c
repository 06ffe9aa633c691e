/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The user name of CONNECT: host/device[/module]/?props (iothub-protocol 1.1, edgehub-behaviour 2.3.1). */
#include "dialect/user.h"
#include "core/util.h"
#include <holdfast/err.h>

static struct hf_span trim(struct hf_span s)
{
	while (s.len && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
		s = hf_span_skip(s, 1);
	while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
		s.len--;
	return s;
}

/* Decoded value into a fixed text; the first occurrence wins. */
static int take_text(struct hf_span value, char *out, size_t cap, bool may_cut)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(4096);

	if (out[0])
		return 0;
	if (hf_uri_decode(value, &b) != 0 || b.err || !hf_utf8_ok(hf_buf_span(&b)))
		return HF_EPROTO;
	if (hf_buf_len(&b) >= cap && !may_cut)
		return HF_ELIMIT;
	size_t n = hf_min(hf_buf_len(&b), cap - 1);

	if (n)
		memcpy(out, hf_buf_span(&b).ptr, n);
	out[n] = 0;
	return 0;
}

static int parse_props(struct hf_span props, struct hf_mqtt_user *u, const char **ret_reason)
{
	struct hf_span pair, key;

	*ret_reason = "user name: a property cannot be decoded or is too long";
	while (props.len) {
		int r = 0;

		hf_span_cut(&props, '&', &pair);
		if (!hf_span_cut(&pair, '=', &key))
			continue;
		if (hf_span_is(key, "auth-chain"))
			r = take_text(pair, u->auth_chain, sizeof u->auth_chain, false);
		else if (hf_span_is(key, "model-id"))
			r = take_text(pair, u->model_id, sizeof u->model_id, false);
		else if (hf_span_is(key, "DeviceClientType"))
			r = take_text(pair, u->client_type, sizeof u->client_type, true);
		if (r != 0)
			return r;
	}
	return 0;
}

static bool is_props(struct hf_span s)
{
	return (s.len && s.ptr[0] == '?') || (s.len && memmem(s.ptr, s.len, "api-version=", 12));
}

int hf_mqtt_user_parse(struct hf_span user, struct hf_mqtt_user *ret_user, const char **ret_reason)
{
	struct hf_mqtt_user u = { 0 };
	struct hf_span rest = user, props = hf_span(NULL, 0), next;

	*ret_reason = "user name is not host/device[/module]/?api-version=...";
	hf_span_cut(&rest, '/', &u.host);
	if (u.host.len == 0 || rest.len == 0)
		return HF_EPROTO;
	hf_span_cut(&rest, '/', &next);
	u.device = trim(next);
	if (u.device.len == 0)
		return HF_EPROTO;
	/* What follows is props, or a module and then props; props may contain '/'. */
	if (is_props(rest)) {
		struct hf_span probe = rest, head;

		if (rest.ptr[0] == '?' || !hf_span_cut(&probe, '/', &head) || memmem(head.ptr, head.len, "api-version=", 12)) {
			props = rest;
		} else {
			u.module = trim(head);
			props = probe;
		}
	} else if (rest.len) {
		hf_span_cut(&rest, '/', &next);
		u.module = trim(next);
		props = rest;
	}
	if (props.len && props.ptr[0] == '?')
		props = hf_span_skip(props, 1);
	int r = parse_props(props, &u, ret_reason);
	if (r == 0)
		*ret_user = u;
	return r;
}
