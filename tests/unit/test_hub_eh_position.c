/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Start positions of readers of events. */
#include "core/util.h"
#include "hub/amqp/eh_position.h"

#include <holdfast/err.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void positions_are_read(void **state)
{
	static const struct { const char *text; enum hub_eh_by by; int64_t from; } rows[] = {
		{ "", HUB_EH_ALL, 0 },
		{ "amqp.annotation.x-opt-offset > '-1'", HUB_EH_ALL, 0 },
		{ "amqp.annotation.x-opt-offset > '@latest'", HUB_EH_LATEST, 0 },
		{ "amqp.annotation.x-opt-offset > '12'", HUB_EH_OFFSET, 13 },
		{ "amqp.annotation.x-opt-offset >= '12'", HUB_EH_OFFSET, 12 },
		{ "amqp.annotation.x-opt-sequence-number > '0'", HUB_EH_SEQUENCE, 1 },
		{ "amqp.annotation.x-opt-sequence-number >= '7'", HUB_EH_SEQUENCE, 7 },
		{ "amqp.annotation.x-opt-sequence-number > '-1'", HUB_EH_ALL, 0 },
		{ "amqp.annotation.x-opt-enqueued-time > '1769853600123'", HUB_EH_TIME, 1769853600124 },
		{ "amqp.annotation.x-opt-enqueuedtimeutc > 1769853600123", HUB_EH_TIME, 1769853600124 },
		{ "  amqp.annotation.X-OPT-OFFSET>=\"3\" ", HUB_EH_OFFSET, 3 },
	};
	static const char *const bad[] = {
		"x", "amqp.annotation.x-opt-offset", "amqp.annotation.x-opt-offset = '1'", "amqp.annotation.x-opt-offset > ",
		"amqp.annotation.x-opt-offset > '1", "amqp.annotation.x-opt-offset > ''", "amqp.annotation.x-opt-other > '1'",
		"x-opt-offset > '1'", "amqp.annotation.x-opt-enqueued-time > '@latest'", "amqp.annotation.x-opt-offset > '-2'",
		"amqp.annotation.x-opt-offset > '9223372036854775807'", "amqp.annotation.x-opt-offset > '1' and 1", "'", ">",
	};
	struct hub_eh_position p;

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_LEN(rows); i++) {
		assert_int_equal(hub_eh_position_parse(hf_span_str(rows[i].text), &p), 0);
		assert_int_equal(p.by, rows[i].by);
		assert_int_equal(p.from, rows[i].from);
	}
	for (size_t i = 0; i < HF_ARRAY_LEN(bad); i++)
		assert_int_equal(hub_eh_position_parse(hf_span_str(bad[i]), &p), HF_EINVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(positions_are_read) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
