/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Who may hold a connection: prefixes, the share of one address, who gives way, and that every count returns to none. */
#include "core/util.h"
#include "gw/admit.h"
#include "gw/metrics.h"
#include <holdfast/err.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static unsigned told;

static void tell(struct hf_admit_door *door)
{
	(void)door;
	told++;
}

static struct sockaddr_storage peer(const char *text)
{
	struct sockaddr_storage ss = { .ss_family = strchr(text, ':') ? AF_INET6 : AF_INET };
	void *at = ss.ss_family == AF_INET6 ? (void *)&((struct sockaddr_in6 *)&ss)->sin6_addr
					    : (void *)&((struct sockaddr_in *)&ss)->sin_addr;

	assert_int_equal(inet_pton(ss.ss_family, text, at), 1);
	return ss;
}

static bool has(const char *prefix, const char *address)
{
	struct sockaddr_storage ss = peer(address);
	struct hf_prefix p;

	assert_int_equal(hf_prefix_parse(prefix, &p), 0);
	return hf_prefix_has(&p, &ss);
}

static void test_prefixes(void **state)
{
	static const char *const bad[] = { "", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.1/8", "10.0.0/8", "fd00::/129",
					   "fd00::1/64", "::ffff:10.0.0.0/130", "ten/8", "10.0.0.0/8 ", "10.0.0.0/8x",
					   "1111111111111111111111111111111111111111111111111111111111111111/8" };
	struct hf_prefix p;

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_LEN(bad); i++) {
		assert_int_equal(hf_prefix_parse(bad[i], &p), HF_EINVALID);
		assert_non_null(hf_prefix_refuse(bad[i]));
	}
	assert_null(hf_prefix_refuse("10.0.0.0/8"));
	assert_true(has("10.0.0.0/8", "10.255.1.2"));
	assert_false(has("10.0.0.0/8", "11.0.0.0"));
	assert_true(has("172.16.0.0/12", "172.31.255.255"));
	assert_false(has("172.16.0.0/12", "172.32.0.0"));
	assert_true(has("192.0.2.7", "192.0.2.7"));
	assert_false(has("192.0.2.7", "192.0.2.6"));
	assert_true(has("0.0.0.0/0", "198.51.100.1"));
	assert_false(has("0.0.0.0/0", "2001:db8::1"));
	assert_false(has("::/0", "198.51.100.1"));
	assert_true(has("2001:db8:0:8000::/49", "2001:db8:0:ffff::1"));
	assert_false(has("2001:db8:0:8000::/49", "2001:db8:0:7fff::1"));
}

/* --- admission ---------------------------------------------------------------------------------------------- */
struct room {
	struct hf_admit *admit;
	struct hf_admit_door door[2];	/* of two threads */
	struct hf_admit_seat seats[400];
	unsigned n;
};

static void room_up(struct room *r, uint32_t max, uint32_t per_address, const char *exempt)
{
	struct hf_admit_cfg cfg = { .max = max, .per_address = per_address };
	struct hf_prefix p;

	memset(r, 0, sizeof *r);
	told = 0;
	if (exempt) {
		assert_int_equal(hf_prefix_parse(exempt, &p), 0);
		cfg.exempt = &p;
		cfg.n_exempt = 1;
	}
	assert_int_equal(hf_admit_create(&cfg, &r->admit), 0);
	for (int i = 0; i < 2; i++)
		hf_admit_door_init(&r->door[i], tell);
}

static void room_down(struct room *r)
{
	for (unsigned i = 0; i < r->n; i++)
		hf_admit_leave(r->admit, &r->seats[i]);
	assert_int_equal(hf_metric_get(HF_M_CONN_STRANGERS), 0);
	hf_admit_destroy(&r->admit);
}

static enum hf_admit_verdict enter(struct room *r, int door, const char *from)
{
	struct sockaddr_storage ss = peer(from);

	return hf_admit_enter(r->admit, &r->seats[r->n++], &r->door[door], &ss);
}

static void test_share_of_one_address(void **state)
{
	static struct room r;

	(void)state;
	room_up(&r, 100, 3, "10.9.0.0/16");
	for (int i = 0; i < 3; i++)	/* whichever thread they come to */
		assert_int_equal(enter(&r, i % 2, "10.1.1.1"), HF_ADMIT_OK);
	assert_int_equal(enter(&r, 0, "10.1.1.1"), HF_ADMIT_ADDRESS_FULL);
	assert_int_equal(enter(&r, 1, "10.1.1.1"), HF_ADMIT_ADDRESS_FULL);
	assert_int_equal(enter(&r, 1, "10.1.1.2"), HF_ADMIT_OK);
	assert_true(hf_admit_trust(r.admit, &r.seats[0]));	/* who has logged in counts as well */
	assert_int_equal(enter(&r, 0, "10.1.1.1"), HF_ADMIT_ADDRESS_FULL);
	hf_admit_leave(r.admit, &r.seats[0]);
	assert_int_equal(enter(&r, 0, "10.1.1.1"), HF_ADMIT_OK);
	for (int i = 0; i < 20; i++)
		assert_int_equal(enter(&r, 0, "10.9.0.1"), HF_ADMIT_OK);
	/* A whole /64 is one peer. */
	assert_int_equal(enter(&r, 0, "2001:db8::1"), HF_ADMIT_OK);
	assert_int_equal(enter(&r, 0, "2001:db8::2"), HF_ADMIT_OK);
	assert_int_equal(enter(&r, 0, "2001:db8:0:0:ffff::"), HF_ADMIT_OK);
	assert_int_equal(enter(&r, 0, "2001:db8::3"), HF_ADMIT_ADDRESS_FULL);
	assert_int_equal(enter(&r, 0, "2001:db8:0:1::"), HF_ADMIT_OK);
	assert_int_equal(told, 0);
	room_down(&r);
}

static void test_strangers_give_way(void **state)
{
	static struct room r;

	(void)state;
	room_up(&r, 3, 0, NULL);
	for (int i = 0; i < 3; i++)
		assert_int_equal(enter(&r, i % 2, "10.1.1.1"), HF_ADMIT_OK);
	assert_true(hf_admit_trust(r.admit, &r.seats[0]));	/* the oldest, but no stranger */
	assert_int_equal(enter(&r, 0, "10.1.1.2"), HF_ADMIT_OK);
	assert_int_equal(told, 1);
	assert_null(hf_admit_next_leaving(r.admit, &r.door[0]));
	assert_ptr_equal(hf_admit_next_leaving(r.admit, &r.door[1]), &r.seats[1]);
	assert_null(hf_admit_next_leaving(r.admit, &r.door[1]));
	assert_false(hf_admit_trust(r.admit, &r.seats[1]));	/* a login that comes too late */
	hf_admit_leave(r.admit, &r.seats[1]);
	/* Everybody has logged in: nobody gives way. */
	assert_true(hf_admit_trust(r.admit, &r.seats[2]));
	assert_true(hf_admit_trust(r.admit, &r.seats[3]));
	assert_int_equal(enter(&r, 0, "10.1.1.3"), HF_ADMIT_FULL);
	assert_int_equal(told, 1);
	hf_admit_leave(r.admit, &r.seats[3]);
	assert_int_equal(enter(&r, 0, "10.1.1.3"), HF_ADMIT_OK);
	room_down(&r);
}

/* Those that were told and have not closed yet are bounded too, and a seat that leaves before its thread was told is
 * forgotten. */
static void test_leaving_is_bounded(void **state)
{
	static struct room r;
	unsigned n = 0;

	(void)state;
	room_up(&r, 100, 0, NULL);
	for (int i = 0; i < 100; i++)
		assert_int_equal(enter(&r, 0, "10.1.1.1"), HF_ADMIT_OK);
	while (n < 200 && enter(&r, 1, "10.1.1.2") == HF_ADMIT_OK)
		n++;
	assert_in_range(n, 1, 100);
	for (unsigned i = 0; i < n; i++)
		hf_admit_leave(r.admit, &r.seats[i]);
	assert_null(hf_admit_next_leaving(r.admit, &r.door[0]));
	assert_int_equal(enter(&r, 1, "10.1.1.2"), HF_ADMIT_OK);
	room_down(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_prefixes),
		cmocka_unit_test(test_share_of_one_address),
		cmocka_unit_test(test_strangers_give_way),
		cmocka_unit_test(test_leaving_is_bounded),
	};

	hf_metrics_init(hf_metric_table, HF_M__COUNT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
