/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Tokens: the vectors of iothub-protocol 6.2, the spellings clients use, and what must be refused. */
#include "auth/sas.h"
#include "core/util.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#define DEVICE_KEY "ZGV2aWNla2V5MDEyMzQ1Njc4OQ=="
#define POLICY_KEY "b3duZXJrZXkwMTIzNDU2Nzg5"
#define DEVICE_TOKEN "SharedAccessSignature sr=hub.example.test%2Fdevices%2Fdev1&sig=K4E2ftp6rdrfMkGjqrSdGWyZyfTRQPyZYggnvzZ9dok%3D&se=1700000000"
#define MODULE_TOKEN "SharedAccessSignature sr=hub.example.test%2Fdevices%2Fdev1%2Fmodules%2Fmod1&sig=Xt9oACj67nBaSpGO2Q%2BORe%2Bq1FBDDl8%2Fe4YAM1DH3z0%3D&se=1700000000"
#define POLICY_TOKEN "SharedAccessSignature sr=hub.example.test&sig=6GfeDyzGf3UmIb8mQ1cyVWlamnUegsYc94ROUzJ%2BHtI%3D&skn=iothubowner&se=1700000000"
#define EVENTS_TOKEN "SharedAccessSignature sr=sb%3A%2F%2Flocalhost%2Fhub&sig=MTi2HStK9IJZWPl2tp1NsSYnVuDIcl3fYQUcft43E4Y%3D&se=1795473222"

static struct hf_sas parse(const char *token)
{
	const char *why = NULL;
	struct hf_sas s;

	assert_int_equal(hf_sas_parse(hf_span_str(token), &s, &why), 0);
	return s;
}

static void test_vectors(void **state)
{
	struct hf_sas s = parse(DEVICE_TOKEN);

	(void)state;
	assert_string_equal(s.host, "hub.example.test");
	assert_string_equal(s.path, "/devices/dev1");
	assert_int_equal(s.expiry_s, 1700000000);
	assert_true(hf_sas_verify(&s, DEVICE_KEY));
	assert_false(hf_sas_verify(&s, POLICY_KEY));
	assert_false(hf_sas_verify(&s, ""));
	s = parse(MODULE_TOKEN);
	assert_true(hf_sas_verify(&s, DEVICE_KEY));
	assert_true(hf_sas_audience_is(&s, "dev1", "mod1", false, false));
	assert_false(hf_sas_audience_is(&s, "dev1", NULL, false, false));
	s = parse(POLICY_TOKEN);
	assert_true(hf_sas_verify(&s, POLICY_KEY));
	assert_true(hf_span_is(s.skn, "iothubowner"));
	assert_string_equal(s.path, "");
	s = parse(EVENTS_TOKEN);
	assert_true(hf_sas_verify_raw(&s, hf_span_str(POLICY_KEY)));
	assert_string_equal(s.host, "localhost");
}

static void test_one_changed_byte_fails(void **state)
{
	char token[] = DEVICE_TOKEN;
	const char *why;
	struct hf_sas s;

	(void)state;
	for (size_t i = 25; i < sizeof token - 1; i++) {
		token[i] ^= 1;
		if (hf_sas_parse(hf_span_str(token), &s, &why) == 0)
			assert_false(hf_sas_verify(&s, DEVICE_KEY));
		token[i] ^= 1;
	}
	s = parse(token);
	assert_true(hf_sas_verify(&s, DEVICE_KEY));
}

static void test_made_tokens_verify(void **state)
{
	hf_autobuf struct hf_buf t = HF_BUF_INIT(4096);
	struct hf_sas s;

	(void)state;
	assert_int_equal(hf_sas_create("Hub.Example.Test/devices/edge1/modules/%24edgeHub", DEVICE_KEY, NULL, 5000, &t), 0);
	s = parse(hf_buf_cstr(&t));
	assert_true(hf_sas_verify(&s, DEVICE_KEY));
	assert_true(hf_sas_audience_is(&s, "edge1", "$edgeHub", false, false));
	assert_string_equal(s.host, "hub.example.test");
	hf_buf_reset(&t);
	assert_int_not_equal(hf_sas_create("h/devices/d", "not base64!", NULL, 1, &t), 0);
}

static void test_audiences(void **state)
{
	struct hf_sas s = parse("SharedAccessSignature sr=H.test/devices/dev1&sig=AAAA&se=1");

	(void)state;
	assert_true(hf_sas_audience_is(&s, "dev1", NULL, false, false));
	assert_false(hf_sas_audience_is(&s, "DEV1", NULL, false, false));
	assert_true(hf_sas_audience_is(&s, "DEV1", NULL, false, true));
	assert_true(hf_sas_audience_is(&s, "dev1", "m", true, false));
	assert_false(hf_sas_audience_is(&s, "dev1", "m", false, false));
	assert_false(hf_sas_audience_is(&s, "dev", NULL, true, true));
	s = parse("SharedAccessSignature se=1&sig=AAAA&skn=&sr=amqps%3a%2f%2fh.test%3a5671%2fdevices%2fdev%25231");
	assert_string_equal(s.host, "h.test");
	assert_int_equal(s.skn.len, 0);
	assert_true(hf_sas_audience_is(&s, "dev#1", NULL, false, false));
}

static void test_refused(void **state)
{
	static const char *const bad[] = {
		"", "SharedAccessSignature", "SharedAccessSignature ", "Bearer x", "sharedaccesssignature sr=a&sig=AAAA&se=1",
		"SharedAccessSignature sr=a&sig=AAAA", "SharedAccessSignature sr=a&se=1", "SharedAccessSignature sig=AAAA&se=1",
		"SharedAccessSignature sr=a&sr=b&sig=AAAA&se=1", "SharedAccessSignature sr=a&sig=AAAA&se=abc",
		"SharedAccessSignature sr=a&sig=A&se=1", "SharedAccessSignature sr=a&sig=%zz&se=1", "SharedAccessSignature sr=%&sig=AAAA&se=1",
		"SharedAccessSignature sr=a&sig=AAAA&se=1 x", "SharedAccessSignature sr=&sig=AAAA&se=1", "SharedAccessSignature sr=a&sig=AAAA&se=-1",
		"SharedAccessSignature sr=a&sig=AAAA&se=99999999999999999999",
	};
	const char *why;
	struct hf_sas s;

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_LEN(bad); i++) {
		why = NULL;
		if (hf_sas_parse(hf_span_str(bad[i]), &s, &why) == 0)
			fail_msg("accepted: %s", bad[i]);
		assert_non_null(why);
	}
}

static void test_connection_strings(void **state)
{
	struct hf_span v, text = hf_span_str("HostName=h.test;DeviceId=d;ModuleId=$edgeHub;SharedAccessKey=abc==");

	(void)state;
	assert_true(hf_connstr_get(text, "SharedAccessKey", &v));
	assert_true(hf_span_is(v, "abc=="));
	assert_true(hf_connstr_get(text, "ModuleId", &v));
	assert_false(hf_connstr_get(text, "GatewayHostName", &v));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors), cmocka_unit_test(test_one_changed_byte_fails), cmocka_unit_test(test_made_tokens_verify),
		cmocka_unit_test(test_audiences), cmocka_unit_test(test_refused), cmocka_unit_test(test_connection_strings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
