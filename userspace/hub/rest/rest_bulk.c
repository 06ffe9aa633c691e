/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Many identities in one request: bulk registry (iothub-protocol 5.7) and key rotation. */
#include "core/util.h"
#include "hub/model/bulk.h"
#include "hub/rest/rest_int.h"

#include <holdfast/err.h>
#include <stdio.h>
#include <strings.h>

#define MAX_ENTRIES 100

static const char *text_of(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));

	return s && *s ? s : NULL;
}

static int invalid(struct hub_error *err, const char *text)
{
	*err = (struct hub_error){ .http_status = 400, .code = 400004, .name = "ArgumentInvalid" };
	snprintf(err->message, sizeof err->message, "%s", text);
	return HF_EINVALID;
}

void rest_bulk(struct rest_req *q)
{
	json_t *errors, *item;
	size_t i;
	bool ok;

	if (!json_is_array(q->body) || json_array_size(q->body) == 0 || json_array_size(q->body) > MAX_ENTRIES) {
		rest_refuse(q, 400, 400004, "ArgumentInvalid", "the body must be an array of 1 to %d entries", MAX_ENTRIES);
		return;
	}
	errors = json_array();
	json_array_foreach(q->body, i, item) {
		const char *id = text_of(item, "id"), *module = text_of(item, "moduleId"), *mode = text_of(item, "importMode");
		struct hub_error err;

		if (hub_bulk_entry(q->m, item, &err) != 0)
			json_array_append_new(errors, json_pack("{ss? si ss ss? ss?}", "deviceId", id, "errorCode", err.code,
								"errorStatus", err.message, "moduleId", module,
								"operation", mode));
	}
	ok = json_array_size(errors) == 0;
	rest_committed(q, ok ? 200 : 400, json_pack("{sb so s[]}", "isSuccessful", ok, "errors", errors, "warnings"),
		       ok ? NULL : "iothub-errorcode: BulkRegistryOperationFailure\r\n");
}

/* --- keys ------------------------------------------------------------------------------------------------- */

static char *new_key(void)
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

static int rotate(struct hub_model *m, const char *device, const char *module, bool first, bool second,
		  struct hub_error *err)
{
	char *one = first ? new_key() : NULL, *two = second ? new_key() : NULL;
	const struct hub_ident *i = hub_ident_lookup(m, device, module);
	json_t *doc = NULL;
	int r;

	if (i && i->auth != HUB_AUTH_SAS) {
		r = invalid(err, "the identity has no symmetric keys");
	} else {
		doc = json_pack("{s{ss s{ss* ss*}}}", "authentication", "type", "sas", "symmetricKey", "primaryKey", one,
				"secondaryKey", two);
		r = doc ? hub_ident_put(m, device, module, doc, "*", NULL, err) : invalid(err, "no memory");
	}
	json_decref(doc);
	if (one)
		explicit_bzero(one, strlen(one));
	if (two)
		explicit_bzero(two, strlen(two));
	free(one);
	free(two);
	return r;
}

void rest_keys(struct rest_req *q)
{
	const json_t *list = json_object_get(q->body, "devices");
	const char *which = text_of(q->body, "policyKey");
	bool both = which && strcasecmp(which, "both") == 0;
	bool first = both || (which && strcasecmp(which, "primaryKey") == 0);
	bool second = both || (which && strcasecmp(which, "secondaryKey") == 0);
	json_t *rotated, *errors, *item;
	size_t i, n_bad;

	if ((!first && !second) || !json_is_array(list) || json_array_size(list) == 0 ||
	    json_array_size(list) > MAX_ENTRIES) {
		rest_refuse(q, 400, 400004, "ArgumentInvalid",
			    "policyKey must be primaryKey, secondaryKey or both, devices an array of 1 to %d", MAX_ENTRIES);
		return;
	}
	rotated = json_array();
	errors = json_array();
	json_array_foreach((json_t *)list, i, item) {
		const char *id = text_of(item, "id"), *module = text_of(item, "moduleId");
		struct hub_error err;
		int r = id ? rotate(q->m, id, module, first, second, &err) : invalid(&err, "an entry needs an id");
		const struct hub_ident *now = r == 0 ? hub_ident_lookup(q->m, id, module) : NULL;

		if (now)
			json_array_append_new(rotated, json_pack("{ss ss? ss? ss?}", "id", id, "moduleId", module, "primaryKey",
								 first ? now->primary_key : NULL, "secondaryKey",
								 second ? now->secondary_key : NULL));
		else
			json_array_append_new(errors, json_pack("{ss? ss? si ss}", "id", id, "moduleId", module, "errorCode",
								err.code, "errorMessage", err.message));
	}
	n_bad = json_array_size(errors);
	rest_committed(q, n_bad == 0 ? 200 : n_bad == json_array_size(list) ? 400 : 207,
		       json_pack("{so so}", "rotatedKeys", rotated, "errors", errors), NULL);
}
