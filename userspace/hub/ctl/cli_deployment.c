/* SPDX-License-Identifier: GPL-3.0-or-later */
/* `holdfast-hub deployment show`: prints what `deployment apply` takes. */
#include "hub/ctl/cli.h"

#include <stdio.h>
#include <stdlib.h>

#define TIMEOUT_MS 10000

static void print_content(void *arg, const json_t *content)
{
	const struct hf_cli *cli = arg;

	json_dumpf(content, stdout, cli->json ? JSON_COMPACT : JSON_INDENT(2));
	putchar('\n');
}

int hub_cli_deployment_show(const struct hf_cli *cli, const json_t *args)
{
	char *error = NULL;
	int code = hf_ctl_client_run(cli->socket, "deployment.show", json_incref((json_t *)args),
				     cli->timeout_ms ? cli->timeout_ms : TIMEOUT_MS, print_content, (void *)cli, &error);

	if (code != HF_EXIT_OK)
		fprintf(stderr, "%s: %s\n", cli->tool, error ? error : "failed");
	free(error);
	return code;
}
