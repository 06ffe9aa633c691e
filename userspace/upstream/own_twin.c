/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The gateway's own twin, {edge}/$edgeHub: the message time to live, and the report of what was applied. */
#include "core/log.h"
#include "core/util.h"
#include "upstream/up_int.h"
#include <stdio.h>

static void report(struct hf_upstream *up, int64_t version, int code, const char *text)
{
	json_t *doc = json_pack("{s:I, s:{s:i, s:s}, s:{s:s}}", "lastDesiredVersion", (json_int_t)version, "lastDesiredStatus",
				"code", code, "description", text, "version", "version", HF_VERSION);
	hf_autofree char *body = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
	char topic[96];

	json_decref(doc);
	snprintf(topic, sizeof topic, "$iothub/twin/PATCH/properties/reported/?$rid=%llu", (unsigned long long)++up->next_rid);
	if (body && hf_hub_session_is_up(up->own))
		hf_hub_session_publish(up->own, hf_span_str(topic), hf_span_str(body));
}

/* The twin's value wins over the configuration; without one the configuration's holds (edgehub-behaviour 10.2).
 * Zero and negative mean unlimited (architecture 6.5). */
void hf_own_twin_apply(struct hf_upstream *up, const json_t *desired, bool from_hub)
{
	json_t *ttl = json_object_get(json_object_get(desired, "storeAndForwardConfiguration"), "timeToLiveSecs");
	int64_t version = json_integer_value(json_object_get(desired, "$version"));

	if (ttl && (!json_is_integer(ttl) || json_integer_value(ttl) > INT32_MAX || json_integer_value(ttl) < INT32_MIN)) {
		hf_log(HF_LOG_ERR, "upstream.twin", "storeAndForwardConfiguration.timeToLiveSecs of the gateway's twin is not a "
		       "32-bit integer: the value in force stays");
		if (from_hub)
			report(up, version, 400, "storeAndForwardConfiguration.timeToLiveSecs is not a 32-bit integer");
		return;
	}
	int64_t want = ttl ? json_integer_value(ttl) : up->ttl_default;

	if (want != up->ttl_s || !!ttl != up->ttl_from_twin)
		hf_log(HF_LOG_NOTICE, "upstream.twin", "time to live of messages: %lld s (%s)", (long long)want,
		       ttl ? "gateway's twin" : "configuration");
	up->ttl_s = want;
	up->ttl_from_twin = ttl != NULL;
	hf_store_set_ttl(up->store, want);
	if (from_hub)
		report(up, version, 200, "");
}
