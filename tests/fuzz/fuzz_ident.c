/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Registry documents and twins as the service API takes them: JSON text for a device, a module and their twins. */
#include "fuzz.h"

#include <string.h>

static void twin(struct hub_model *m, const char *id, const json_t *doc, size_t size)
{
	const struct hub_ident *i = hub_ident_find(m, hf_span_str(id));
	struct hub_error err = { 0 };
	json_t *out = NULL;
	int64_t version;

	FUZZ_CHECK(i != NULL);
	if (hub_twin_update(m, i, doc, size % 2, NULL, &out, &err) != 0)
		FUZZ_CHECK(err.http_status >= 400 && err.http_status < 500);
	json_decref(out);
	if (hub_twin_report(m, i, doc, size, -1, &version, &err) != 0)
		FUZZ_CHECK(err.http_status >= 400 && err.http_status < 500);
	out = hub_twin_doc(m, i);
	FUZZ_CHECK(out != NULL);
	json_decref(out);
}

static void put(struct hub_model *m, const char *module, const json_t *doc, size_t size)
{
	const char *const id = module ? "dev/mod" : "dev";
	struct hub_error err = { 0 };
	json_t *out = NULL;

	if (hub_ident_put(m, "dev", module, doc, NULL, &out, &err) != 0) {
		FUZZ_CHECK(err.http_status >= 400 && err.http_status < 500 && err.name);
		return;
	}
	FUZZ_CHECK(out != NULL);
	json_decref(out);
	/* What was read can be written back. */
	out = hub_ident_doc(m, hub_ident_find(m, hf_span_str(id)));
	FUZZ_CHECK(out && hub_ident_put(m, "dev", module, out, "*", NULL, &err) == 0);
	json_decref(out);
	twin(m, id, doc, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hub_model *m = fuzz_model();
	json_t *doc = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
	static unsigned n_runs;
	struct hub_error err;

	if (!doc)
		return 0;
	put(m, NULL, doc, size);
	if (!hub_ident_find(m, hf_span_str("dev"))) {
		json_t *plain = json_object();

		FUZZ_CHECK(hub_ident_put(m, "dev", NULL, plain, NULL, NULL, &err) == 0);
		json_decref(plain);
		twin(m, "dev", doc, size);
	}
	put(m, "mod", doc, size);
	if (n_runs++ % 16 == 0)		/* commits cost most of the time */
		fuzz_commit();
	FUZZ_CHECK(hub_ident_delete(m, "dev", NULL, NULL, &err) == 0);
	json_decref(doc);
	return 0;
}
