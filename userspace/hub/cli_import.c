/* SPDX-License-Identifier: GPL-3.0-or-later */
/* `holdfast-hub import`: a file of any size, sent in parts that fit into one line of the control protocol. */
#include "hub/cli.h"

#include <stdio.h>

#define PART_BYTES ((size_t)256 << 10)
#define TIMEOUT_MS 120000

static int send_part(const struct hf_cli *cli, json_t *part, size_t first)
{
	json_t *args = json_pack("{s:O, s:I}", "devices", part, "first", (json_int_t)first);
	char *error = NULL;
	int code = args ? hf_ctl_client_run(cli->socket, "import", args, cli->timeout_ms ? cli->timeout_ms : TIMEOUT_MS, NULL,
					    NULL, &error)
			: HF_EXIT_REFUSED;

	if (code != HF_EXIT_OK)
		fprintf(stderr, "%s: %s (%zu records were imported before)\n", cli->tool, error ? error : "failed", first);
	free(error);
	return code;
}

int hub_cli_import(const struct hf_cli *cli, const json_t *args)
{
	json_t *devices = json_object_get(args, "devices"), *record, *part;
	size_t i = 0, first = 0, n = json_array_size(devices), bytes = 0;
	int code = HF_EXIT_OK;

	if (!json_is_array(devices)) {
		fprintf(stderr, "%s: import: the file is no JSON array\n", cli->tool);
		return HF_EXIT_USAGE;
	}
	part = json_array();
	for (i = 0; code == HF_EXIT_OK && i < n; i++) {
		size_t size;

		record = json_array_get(devices, i);
		size = json_dumpb(record, NULL, 0, JSON_ENCODE_ANY) + 2;
		if (json_array_size(part) && bytes + size > PART_BYTES) {
			code = send_part(cli, part, first);
			json_array_clear(part);
			first = i;
			bytes = 0;
		}
		bytes += size;
		if (json_array_append(part, record) != 0)
			code = HF_EXIT_REFUSED;
	}
	if (code == HF_EXIT_OK)
		code = send_part(cli, part, first);
	json_decref(part);
	if (code == HF_EXIT_OK && cli->json)
		printf("{\"imported\":%zu}\n", n);
	else if (code == HF_EXIT_OK)
		printf("imported %zu\n", n);
	return code;
}
