/* SPDX-License-Identifier: GPL-3.0-or-later */
/* `holdfast-hub status --wait`: for scripts that have just started the hub. */
#include "core/clock.h"
#include "hub/ctl/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define TIMEOUT_MS 10000
#define PAUSE_MS 50

int hub_cli_status(const struct hf_cli *cli, const json_t *args)
{
	const json_t *wait = json_object_get(args, "wait");
	uint64_t deadline = hf_clock_mono_ms() + (uint64_t)json_integer_value(wait) * 1000;
	unsigned timeout = cli->timeout_ms ? cli->timeout_ms : TIMEOUT_MS;

	if (wait && (json_integer_value(wait) < 1 || json_integer_value(wait) > 3600)) {
		fprintf(stderr, "%s: --wait is 1 to 3600 seconds\n", cli->tool);
		return HF_EXIT_USAGE;
	}
	while (wait && hf_clock_mono_ms() < deadline) {
		int code = hf_ctl_client_run(cli->socket, "status", NULL, timeout, NULL, NULL, NULL);

		if (code != HF_EXIT_UNREACHABLE)
			break;
		nanosleep(&(struct timespec){ .tv_nsec = PAUSE_MS * 1000000l }, NULL);
	}
	return hf_cli_call(cli, "status", NULL, NULL, timeout);
}
