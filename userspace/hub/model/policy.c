/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Shared access policies: made at the first open, with random keys. */
#include "core/util.h"
#include "hub/model/model_int.h"

#include <errno.h>
#include <holdfast/err.h>

static const struct { const char *name; unsigned rights; } defaults[] = {
	{ "iothubowner", HUB_REGISTRY_READ | HUB_REGISTRY_WRITE | HUB_SERVICE_CONNECT | HUB_DEVICE_CONNECT },
	{ "service", HUB_SERVICE_CONNECT },
	{ "device", HUB_DEVICE_CONNECT },
	{ "registryRead", HUB_REGISTRY_READ },
	{ "registryReadWrite", HUB_REGISTRY_READ | HUB_REGISTRY_WRITE },
};

char *hub_new_key(void)
{
	struct hf_buf b = HF_BUF_INIT(128);
	uint8_t raw[32];
	char *text;

	hf_random(raw, sizeof raw);
	hf_b64_encode(hf_span(raw, sizeof raw), &b);
	explicit_bzero(raw, sizeof raw);
	text = b.err ? NULL : strdup(hf_buf_cstr(&b));
	hf_buf_wipe(&b);
	return text;
}

static void policy_free(struct hub_policy *p)
{
	if (p->primary_key)
		explicit_bzero(p->primary_key, strlen(p->primary_key));
	if (p->secondary_key)
		explicit_bzero(p->secondary_key, strlen(p->secondary_key));
	free(p->name);
	free(p->primary_key);
	free(p->secondary_key);
	free(p);
}

static int store(struct hub_model *m, const struct hub_policy *p)
{
	struct hf_txn *txn;
	json_t *doc = json_pack("{ss ss}", "primaryKey", p->primary_key, "secondaryKey", p->secondary_key);
	char *text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
	int r = text ? hub_state_txn(m, &txn) : -ENOMEM;

	if (r == 0)
		r = hf_txn_put(txn, HUB_T_POLICY, hf_span_str(p->name), hf_span_str(text));
	if (text)
		explicit_bzero(text, strlen(text));
	free(text);
	json_decref(doc);
	return r;
}

int hub_policies_load(struct hub_model *m)
{
	struct hf_txn *txn;
	int r = hub_state_txn(m, &txn);

	for (size_t i = 0; r == 0 && i < HF_ARRAY_LEN(defaults); i++) {
		struct hub_policy *p = calloc(1, sizeof *p);
		json_t *doc = NULL;
		struct hf_span value;
		const char *one, *two;

		if (!p)
			return -ENOMEM;
		p->rights = defaults[i].rights;
		p->name = strdup(defaults[i].name);
		r = hf_txn_get(txn, HUB_T_POLICY, hf_span_str(defaults[i].name), &value);
		if (r == 0)
			doc = json_loadb((const char *)value.ptr, value.len, 0, NULL);
		one = json_string_value(json_object_get(doc, "primaryKey"));
		two = json_string_value(json_object_get(doc, "secondaryKey"));
		if (r == 0 && (!one || !two))
			r = HF_ECORRUPT;
		if (r == HF_ENOTFOUND || r == 0) {
			p->primary_key = one ? strdup(one) : hub_new_key();
			p->secondary_key = two ? strdup(two) : hub_new_key();
			if (!p->name || !p->primary_key || !p->secondary_key)
				r = -ENOMEM;
			else
				r = r == 0 ? 0 : store(m, p);
		}
		json_decref(doc);
		if (r == 0)
			r = hf_map_put(m->policies, hf_span_str(p->name), p);
		if (r != 0)
			policy_free(p);
	}
	return r;
}

const struct hub_policy *hub_policy_find(struct hub_model *m, const char *name)
{
	return hf_map_get(m->policies, hf_span_str(name));
}

void hub_policies_fini(struct hub_model *m)
{
	struct hf_span key;
	size_t pos = 0;
	void *v;

	while (hf_map_next(m->policies, &pos, &key, &v))
		policy_free(v);
}
