/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sessions of the portal: tokens, ends, bounds, failed logins; the key that works once; the switch among the fault rules. */
#include "core/util.h"
#include "hub/fault/fault.h"
#include "hub/portal/portal.h"
#include "hub/portal/portal_files.h"
#include "hub/portal/portal_session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define IDLE 1000
#define MAX 5000

static struct hub_portal_session *find(struct hub_portal_sessions *ss, const char *token, bool use, uint64_t now)
{
	return hub_portal_session_find(ss, hf_span_str(token), use, now);
}

static void tokens_are_random_and_compared_whole(void **state)
{
	struct hub_portal_session *a, *b;
	struct hub_portal_sessions ss;
	char token[HUB_PORTAL_TOKEN_SIZE];

	(void)state;
	hub_portal_sessions_init(&ss, IDLE, MAX);
	a = hub_portal_session_open(&ss, "iothubowner", 15, 0);
	b = hub_portal_session_open(&ss, "service", 4, 0);
	assert_int_equal(strlen(a->token), 32);
	assert_string_not_equal(a->token, b->token);
	assert_string_not_equal(a->token, a->csrf);
	assert_ptr_equal(find(&ss, a->token, true, 0), a);
	assert_ptr_equal(find(&ss, b->token, true, 0), b);
	memcpy(token, a->token, sizeof token);
	token[31] ^= 1;
	assert_null(find(&ss, token, true, 0));
	token[31] = '\0';
	assert_null(find(&ss, token, true, 0));
	assert_null(find(&ss, "", true, 0));
	assert_true(hub_portal_session_csrf_ok(a, hf_span_str(a->csrf)));
	assert_false(hub_portal_session_csrf_ok(a, hf_span_str(b->csrf)));
	assert_false(hub_portal_session_csrf_ok(a, hf_span(NULL, 0)));
	memcpy(token, a->token, sizeof token);
	hub_portal_session_close(&ss, a);
	assert_null(find(&ss, token, true, 0));
	assert_int_equal(ss.n, 1);
	hub_portal_sessions_fini(&ss);
	assert_int_equal(ss.n, 0);
}

static void they_end_unused_and_for_good(void **state)
{
	struct hub_portal_session *s;
	struct hub_portal_sessions ss;
	char token[HUB_PORTAL_TOKEN_SIZE];
	uint64_t now;

	(void)state;
	hub_portal_sessions_init(&ss, IDLE, MAX);
	s = hub_portal_session_open(&ss, "p", 1, 100);
	memcpy(token, s->token, sizeof token);
	assert_non_null(find(&ss, token, false, 100 + IDLE - 1));	/* not a use */
	assert_null(find(&ss, token, true, 100 + IDLE));
	assert_int_equal(ss.n, 0);
	s = hub_portal_session_open(&ss, "p", 1, 100);
	memcpy(token, s->token, sizeof token);
	for (now = 100; now < 100 + MAX; now += IDLE / 2)
		assert_non_null(find(&ss, token, true, now));
	assert_null(find(&ss, token, true, 100 + MAX));
	hub_portal_sessions_fini(&ss);
}

static void the_longest_unused_makes_room(void **state)
{
	char first[HUB_PORTAL_TOKEN_SIZE], second[HUB_PORTAL_TOKEN_SIZE];
	struct hub_portal_sessions ss;

	(void)state;
	hub_portal_sessions_init(&ss, IDLE, MAX);
	memcpy(first, hub_portal_session_open(&ss, "p", 1, 0)->token, sizeof first);
	memcpy(second, hub_portal_session_open(&ss, "p", 1, 0)->token, sizeof second);
	while (ss.n < HUB_PORTAL_SESSIONS)
		hub_portal_session_open(&ss, "p", 1, 1);
	assert_non_null(find(&ss, first, true, 2));
	hub_portal_session_open(&ss, "p", 1, 3);
	assert_int_equal(ss.n, HUB_PORTAL_SESSIONS);
	assert_non_null(find(&ss, first, true, 3));
	assert_null(find(&ss, second, true, 3));
	hub_portal_sessions_fini(&ss);
}

static void failures_are_limited_by_address(void **state)
{
	struct hub_portal_limit l = { 0 };
	char address[56];

	(void)state;
	for (unsigned i = 0; i < HUB_PORTAL_FAILURES; i++) {
		assert_int_equal(hub_portal_limit_wait_s(&l, "10.0.0.1", 5000), 0);
		hub_portal_limit_failed(&l, "10.0.0.1", 5000);
	}
	assert_int_equal(hub_portal_limit_wait_s(&l, "10.0.0.1", 5000), 60);
	assert_int_equal(hub_portal_limit_wait_s(&l, "10.0.0.1", 64999), 1);
	assert_int_equal(hub_portal_limit_wait_s(&l, "10.0.0.1", 65000), 0);
	assert_int_equal(hub_portal_limit_wait_s(&l, "10.0.0.2", 5000), 0);
	hub_portal_limit_failed(&l, "10.0.0.1", 65000);
	assert_int_equal(hub_portal_limit_wait_s(&l, "10.0.0.1", 65000), 0);
	/* Many addresses: the oldest are forgotten, memory stays. */
	for (unsigned i = 0; i < HUB_PORTAL_FAILURES; i++)
		hub_portal_limit_failed(&l, "10.0.0.3", 70000);
	for (unsigned i = 0; i < HF_ARRAY_LEN(l.at) - 1; i++) {
		snprintf(address, sizeof address, "10.1.0.%u", i);
		hub_portal_limit_failed(&l, address, 70001);
	}
	assert_int_not_equal(hub_portal_limit_wait_s(&l, "10.0.0.3", 70001), 0);
	hub_portal_limit_failed(&l, "10.2.0.1", 70002);
	assert_int_equal(hub_portal_limit_wait_s(&l, "10.0.0.3", 70002), 0);
}

static unsigned hits(struct hub_faults *f, const char *id)
{
	struct hub_fault fault;

	return hub_fault_hit(f, HUB_ON_CONNECT, id, &fault) ? fault.action == HUB_DO_DROP ? 2 : 1 : 0;
}

static void the_switch_stands_before_all_rules(void **state)
{
	struct hub_fault_rule rule = { .rate = 100 };
	struct hub_faults *f;
	json_t *doc;
	char why[256];
	unsigned id;

	(void)state;
	assert_int_equal(hub_faults_create(&f), 0);
	assert_int_equal(hub_fault_parse("connect", "delay=5", &rule, why, sizeof why), 0);
	assert_int_equal(hub_fault_add(f, &rule, &id), 0);
	assert_int_equal(hits(f, "d"), 1);
	assert_int_equal(hub_fault_cut_off(f, "d", true), 0);
	assert_int_equal(hub_fault_cut_off(f, "d", true), 0);
	assert_int_equal(hits(f, "d"), 2);
	assert_int_equal(hits(f, "d/m"), 2);
	assert_int_equal(hits(f, "d2"), 1);
	doc = hub_faults_doc(f);
	assert_int_equal(json_array_size(doc), 2);
	assert_true(json_is_true(json_object_get(json_array_get(doc, 0), "cutOff")));
	assert_null(json_object_get(json_array_get(doc, 1), "cutOff"));
	json_decref(doc);
	assert_int_equal(hub_fault_cut_off(f, "d", false), 0);
	assert_int_equal(hub_fault_cut_off(f, "d", false), 0);
	assert_int_equal(hits(f, "d"), 1);
	hub_faults_destroy(&f);
}

static void the_key_is_renewed(void **state)
{
	char dir[] = "/tmp/holdfast-portal-XXXXXX", path[64], key[64];
	static const char *const files[] = { "state.mdb", "state.mdb-lock", "events.mdb", "events.mdb-lock", "lock" };
	struct hub_portal_cfg cfg = { .listen_https = "0.0.0.0:8443", .idle_ms = IDLE, .max_ms = MAX };
	struct hub_model_cfg model = { .dir = dir, .host = "hub.test" };
	struct hub_portal *p;
	struct hf_loop *loop;
	struct hub_model *m;

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(hf_loop_create(&loop), 0);
	assert_int_equal(hub_model_open(loop, &model, &m), 0);
	assert_int_equal(hub_portal_create(loop, m, &cfg, &p), 0);
	assert_string_equal(hub_portal_url(p), "https://hub.test:8443/portal/");
	snprintf(key, sizeof key, "%s", hub_portal_key(p));
	assert_int_equal(strlen(key), 32);
	hub_portal_key_renew(p);
	assert_string_not_equal(hub_portal_key(p), key);
	hub_portal_destroy(&p);
	hub_model_close(&m);
	hf_loop_destroy(&loop);
	for (unsigned i = 0; i < HF_ARRAY_LEN(files); i++) {
		snprintf(path, sizeof path, "%s/%s", dir, files[i]);
		unlink(path);
	}
	rmdir(dir);
}

static void the_files_are_whole(void **state)
{
	const struct hub_portal_file *f = hub_portal_files;
	unsigned n = 0;

	(void)state;
	for (; f->name; f++, n++) {
		hf_autobuf struct hf_buf text = HF_BUF_INIT(1 << 20);
		char path[256];

		snprintf(path, sizeof path, "userspace/hub/portal/pages/%s", f->name);
		if (access(path, R_OK) != 0)
			continue;	/* started elsewhere */
		assert_int_equal(hf_read_file(path, 1 << 20, &text), 0);
		assert_true(hf_span_eq(hf_buf_span(&text), hf_span(f->begin, (size_t)(f->end - f->begin))));
		assert_int_equal(strlen(f->etag), 34);
	}
	assert_true(n > 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tokens_are_random_and_compared_whole), cmocka_unit_test(they_end_unused_and_for_good),
		cmocka_unit_test(the_longest_unused_makes_room),	cmocka_unit_test(failures_are_limited_by_address),
		cmocka_unit_test(the_switch_stands_before_all_rules),	cmocka_unit_test(the_key_is_renewed),
		cmocka_unit_test(the_files_are_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
