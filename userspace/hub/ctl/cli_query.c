/* SPDX-License-Identifier: GPL-3.0-or-later */
/* `holdfast-hub query`: with --ids one "D" or "D/M" a line, which a shell hands on as words. */
#include "hub/ctl/cli.h"

#include <stdio.h>

#define TIMEOUT_MS 60000

struct ids { bool json, missing; };

static void print_id(void *arg, const json_t *row)
{
	const char *device = json_string_value(json_object_get(row, "deviceId"));
	const char *module = json_string_value(json_object_get(row, "moduleId"));
	const char *quote = ((struct ids *)arg)->json ? "\"" : "";	/* ids hold nothing that JSON escapes */

	if (device)
		printf("%s%s%s%s%s\n", quote, device, module ? "/" : "", module ? module : "", quote);
	else
		((struct ids *)arg)->missing = true;
}

int hub_cli_query(const struct hf_cli *cli, const json_t *args)
{
	unsigned timeout = cli->timeout_ms ? cli->timeout_ms : TIMEOUT_MS;
	json_t *request = json_pack("{sO}", "query", json_object_get(args, "query"));
	struct ids ids = { .json = cli->json };
	char *error = NULL;
	int code;

	if (!json_object_get(args, "ids"))
		return hf_cli_call(cli, "query", request, NULL, timeout);
	code = hf_ctl_client_run(cli->socket, "query", request, timeout, print_id, &ids, &error);
	if (code == HF_EXIT_OK && ids.missing) {
		fprintf(stderr, "%s: --ids: a row has no deviceId; select it, or everything (*)\n", cli->tool);
		code = HF_EXIT_REFUSED;
	} else if (code != HF_EXIT_OK) {
		fprintf(stderr, "%s: %s\n", cli->tool, error ? error : "failed");
	}
	free(error);
	return code;
}
