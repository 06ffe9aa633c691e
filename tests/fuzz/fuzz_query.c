/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Query text, run page by page over a small registry and its jobs. Behind a NUL byte: a continuation token. The text is
 * also read as a condition alone. */
#include "core/util.h"
#include "fuzz.h"
#include "hub/jobs/jobs.h"
#include "hub/query/query.h"

#include <holdfast/err.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ROWS 64	/* more than there are */

static void fill(struct hub_model *m)
{
	struct hub_error err;
	json_t *doc = json_pack("{s{sb}}", "capabilities", "iotEdge", 1), *twin, *rep;
	int64_t version;

	FUZZ_CHECK(hub_ident_put(m, "edge1", NULL, doc, NULL, NULL, &err) == 0);
	json_decref(doc);
	for (int i = 0; i < 7; i++) {
		char id[16];

		snprintf(id, sizeof id, "dev%d", i);
		doc = json_pack("{ss}", "deviceScope", i % 2 ? hub_ident_find(m, hf_span_str("edge1"))->device_scope : "");
		FUZZ_CHECK(hub_ident_put(m, id, NULL, doc, NULL, NULL, &err) == 0);
		twin = json_pack("{s{s{ss} sI} s{s{sf s[isb]}}}", "tags", "location", "region", i % 2 ? "US" : "Zürich", "n",
				 (json_int_t)(i == 6 ? -4503599627370495 : i), "properties", "desired", "x", i * 1e300, "list", i, "a", 1);
		rep = json_pack("{si ss}", "x", i, "odd-name", "v");
		FUZZ_CHECK(hub_twin_update(m, hub_ident_find(m, hf_span_str(id)), twin, false, NULL, NULL, &err) == 0);
		FUZZ_CHECK(hub_twin_report(m, hub_ident_find(m, hf_span_str(id)), rep, 20, -1, &version, &err) == 0);
		json_decref(doc);
		json_decref(twin);
		json_decref(rep);
	}
	doc = json_object();
	FUZZ_CHECK(hub_ident_put(m, "dev0", "mod", doc, NULL, NULL, &err) == 0);
	json_decref(doc);
	doc = json_pack("{ss ss s{}}", "type", "scheduleUpdateTwin", "queryCondition", "*", "updateTwin");
	FUZZ_CHECK(hub_job_create(m, "j1", doc, &twin, &err) == 0);
	json_decref(doc);
	json_decref(twin);
	fuzz_commit();
	fuzz_commit();
}

static void as_condition(struct hub_model *m, struct hf_span text)
{
	char reason[192], pos[HF_IDENT_MAX + 1] = "";
	struct hub_query *q = NULL;
	unsigned visits = MAX_ROWS;
	int r = hub_query_parse_condition(text, &q, reason, sizeof reason);

	FUZZ_CHECK(r == 0 || (r == HF_EINVALID && *reason && hf_utf8_ok(hf_span_str(reason))));
	while (r == 0 && hub_query_next(m, q, pos, &visits))
		;
	FUZZ_CHECK(visits > 0);
	hub_query_destroy(&q);
}

static void run(struct hub_model *m, const struct hub_query *q, char *token)
{
	char *next = NULL;
	json_t *rows;
	unsigned n = 0;

	do {
		int r = hub_query_run(m, q, 3, token, &rows, &next);

		free(token);
		token = NULL;
		if (r != 0) {
			FUZZ_CHECK(r == HF_EINVALID && n == 0);	/* the token of the input */
			return;
		}
		n += (unsigned)json_array_size(rows);
		FUZZ_CHECK(json_array_size(rows) <= 3 && n < MAX_ROWS);
		json_decref(rows);
		token = next;
	} while (token);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct hub_model *m;
	struct hub_query *q = NULL;
	const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
	struct hf_span text = hf_span(data, nul ? (size_t)(nul - data) : size);
	char reason[192];
	int r;

	if (!m)
		fill(m = fuzz_model());
	r = hub_query_parse(text, &q, reason, sizeof reason);
	if (r == 0) {
		const char *type = hub_query_item_type(q);

		FUZZ_CHECK(strcmp(type, "Twin") == 0 || strcmp(type, "DeviceJob") == 0 || strcmp(type, "Raw") == 0);
		run(m, q, nul ? hf_span_dup(hf_span(nul + 1, size - text.len - 1)) : NULL);
	} else {
		FUZZ_CHECK(r == HF_EINVALID && *reason && hf_utf8_ok(hf_span_str(reason)));
	}
	hub_query_destroy(&q);
	as_condition(m, text);
	return 0;
}
