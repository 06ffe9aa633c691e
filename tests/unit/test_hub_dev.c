/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The MQTT head: what would take too long to wait for. */
#include "hub/mqtt/dev_int.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void keep_alive_is_capped(void **state)
{
	(void)state;
	assert_int_equal(hub_dev_keepalive_ms(1), 1500);
	assert_int_equal(hub_dev_keepalive_ms(60), 90000);
	assert_int_equal(hub_dev_keepalive_ms(1177), 1765500);
	assert_int_equal(hub_dev_keepalive_ms(1178), 1767000);
	assert_int_equal(hub_dev_keepalive_ms(1179), 1767000);
	assert_int_equal(hub_dev_keepalive_ms(65535), 1767000);
	assert_int_equal(hub_dev_keepalive_ms(0), 1767000);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(keep_alive_is_capped) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
