/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Twin patches: merge, accumulate with nulls kept, difference, limits (edgehub-behaviour 8.4, 8.5). */
#include "core/util.h"
#include "twin/merge.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

static json_t *j(const char *text)
{
	json_t *v = json_loads(text, 0, NULL);

	assert_non_null(v);
	return v;
}

static void expect(json_t *got, const char *want)
{
	json_t *w = j(want);

	if (!json_equal(got, w)) {
		char *text = json_dumps(got, JSON_COMPACT | JSON_ENCODE_ANY);

		fail_msg("got %s, wanted %s", text, want);
	}
	json_decref(w);
}

static void test_merge(void **state)
{
	static const struct { const char *target, *patch, *merged, *accumulated; } cases[] = {
		{ "{}", "{\"a\":1}", "{\"a\":1}", "{\"a\":1}" },
		{ "{\"a\":1}", "{\"a\":null}", "{}", "{\"a\":null}" },
		{ "{\"a\":{\"b\":1,\"c\":2}}", "{\"a\":{\"b\":null}}", "{\"a\":{\"c\":2}}", "{\"a\":{\"b\":null,\"c\":2}}" },
		{ "{\"a\":[1,2]}", "{\"a\":[3]}", "{\"a\":[3]}", "{\"a\":[3]}" },
		{ "{\"a\":1}", "{\"a\":{\"b\":null,\"c\":1}}", "{\"a\":{\"c\":1}}", "{\"a\":{\"b\":null,\"c\":1}}" },
		{ "{\"a\":{\"b\":1}}", "{\"a\":5}", "{\"a\":5}", "{\"a\":5}" },
	};

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_LEN(cases); i++) {
		json_t *a = j(cases[i].target), *b = j(cases[i].target), *patch = j(cases[i].patch);

		assert_int_equal(hf_twin_merge(a, patch), 0);
		assert_int_equal(hf_twin_accumulate(b, patch), 0);
		expect(a, cases[i].merged);
		expect(b, cases[i].accumulated);
		json_decref(a);
		json_decref(b);
		json_decref(patch);
	}
}

static void test_diff_then_merge_gives_the_new_document(void **state)
{
	static const char *const docs[] = { "{}", "{\"a\":1}", "{\"a\":{\"b\":1,\"c\":[1]}}", "{\"a\":{\"c\":[2]},\"d\":\"x\"}", "{\"d\":false}" };
	int err;

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_LEN(docs); i++)
		for (size_t k = 0; k < HF_ARRAY_LEN(docs); k++) {
			json_t *from = j(docs[i]), *to = j(docs[k]), *d = hf_twin_diff(from, to, &err);

			assert_int_equal(err, 0);
			assert_true((d == NULL) == (i == k));
			if (d)
				assert_int_equal(hf_twin_merge(from, d), 0);
			expect(from, docs[k]);
			json_decref(d);
			json_decref(from);
			json_decref(to);
		}
	json_t *from = j("{\"$version\":1,\"a\":1}"), *to = j("{\"$version\":2,\"a\":1}");
	assert_null(hf_twin_diff(from, to, &err));
	json_decref(from);
	json_decref(to);
}

static bool accepted(const char *text, size_t len)
{
	json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);
	char why[160] = "";
	bool ok = v && hf_twin_check_patch(v, len ? len : strlen(text), why, sizeof why) == 0;

	if (!ok)
		assert_true(*why);
	json_decref(v);
	return ok;
}

static void test_limits(void **state)
{
	(void)state;
	assert_true(accepted("{\"a\":{\"b\":{\"c\":{\"d\":{\"e\":{\"f\":{\"g\":{\"h\":{\"i\":{}}}}}}}}}}", 0));
	assert_true(accepted("{\"a\":4503599627370495,\"b\":-4503599627370496,\"c\":null}", 0));
	assert_false(accepted("{\"a\":4503599627370496}", 0));
	assert_false(accepted("{\"a\":{\"b\":{\"c\":{\"d\":{\"e\":{\"f\":{\"g\":{\"h\":{\"i\":{\"j\":{\"k\":{}}}}}}}}}}}}", 0));
	assert_false(accepted("{\"a\":1}", 32769));
	assert_false(accepted("{\"a.b\":1}", 0));
	assert_false(accepted("{\"a b\":1}", 0));
	assert_false(accepted("{\"$a\":1}", 0));
	assert_false(accepted("{\"\":1}", 0));
	assert_false(accepted("{\"a\":[1,null]}", 0));
	assert_false(accepted("{\"a\":[{\"b\":null}]}", 0));
	assert_false(accepted("[1]", 0));
	assert_false(accepted("\"x\"", 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_merge), cmocka_unit_test(test_diff_then_merge_gives_the_new_document),
					    cmocka_unit_test(test_limits) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
