/* SPDX-License-Identifier: GPL-3.0-or-later */
/* `holdfast-hub import`: a file of any size, sent in parts that fit into one line of the control protocol; and
 * `export`, which prints such a file. */
#include "hub/ctl/cli.h"

#include <stdio.h>
#include <unistd.h>

#define PART_BYTES ((size_t)256 << 10)
#define IMPORT_TIMEOUT_MS 120000
#define EXPORT_TIMEOUT_MS 120000

static int send_part(const struct hf_cli *cli, json_t *part, size_t first)
{
	json_t *args = json_pack("{s:O, s:I}", "devices", part, "first", (json_int_t)first);
	char *error = NULL;
	int code = args ? hf_ctl_client_run(cli->socket, "import", args, cli->timeout_ms ? cli->timeout_ms : IMPORT_TIMEOUT_MS,
					    NULL, NULL, &error)
			: HF_EXIT_REFUSED;

	if (code == HF_EXIT_REFUSED && error)
		fprintf(stderr, "%s: %s (those before it are imported; the first is record 0)\n", cli->tool, error);
	else if (code != HF_EXIT_OK)
		fprintf(stderr, "%s: %s (at least %zu records are imported)\n", cli->tool, error ? error : "failed", first);
	free(error);
	return code;
}

/* For people who wait: not when the output goes to a file. */
static void progress(size_t done, size_t all)
{
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r%zu of %zu%s", done, all, done == all ? "\n" : "");
}

static int send_all(const struct hf_cli *cli, json_t *devices, json_t *part)
{
	size_t i = 0, first = 0, n = json_array_size(devices), bytes = 0;

	for (; i < n; i++) {
		json_t *record = json_array_get(devices, i);
		size_t size = json_dumpb(record, NULL, 0, JSON_ENCODE_ANY) + 2;

		if (json_array_size(part) && bytes + size > PART_BYTES) {
			int code = send_part(cli, part, first);

			if (code != HF_EXIT_OK)
				return code;
			json_array_clear(part);
			first = i;
			bytes = 0;
			progress(i, n);
		}
		bytes += size;
		if (json_array_append(part, record) != 0) {
			fprintf(stderr, "%s: out of memory\n", cli->tool);
			return HF_EXIT_REFUSED;
		}
	}
	int code = send_part(cli, part, first);

	if (code == HF_EXIT_OK)
		progress(n, n);
	return code;
}

int hub_cli_import(const struct hf_cli *cli, const json_t *args)
{
	json_t *devices = json_object_get(args, "devices"), *part;
	size_t n = json_array_size(devices);
	int code;

	if (!json_is_array(devices)) {
		fprintf(stderr, "%s: import: the file is no JSON array; export prints one\n", cli->tool);
		return HF_EXIT_USAGE;
	}
	part = json_array();
	code = send_all(cli, devices, part);
	json_decref(part);
	if (code == HF_EXIT_OK && cli->json)
		printf("{\"imported\":%zu}\n", n);
	else if (code == HF_EXIT_OK)
		printf("imported %zu\n", n);
	return code;
}

/* One record a line: readable, and good for diff. */
static void print_record(void *arg, const json_t *record)
{
	size_t *n = arg;

	fputs((*n)++ ? ",\n" : "[\n", stdout);
	json_dumpf(record, stdout, JSON_COMPACT);
}

int hub_cli_export(const struct hf_cli *cli, const json_t *args)
{
	char *error = NULL;
	size_t n = 0;
	int code;

	(void)args;
	code = hf_ctl_client_run(cli->socket, "export", NULL, cli->timeout_ms ? cli->timeout_ms : EXPORT_TIMEOUT_MS, print_record, &n,
				 &error);
	if (code == HF_EXIT_OK && (fputs(n ? "\n]\n" : "[]\n", stdout) < 0 || fflush(stdout) != 0)) {
		perror(cli->tool);
		code = HF_EXIT_REFUSED;
	} else if (code != HF_EXIT_OK) {
		fprintf(stderr, "%s: %s\n", cli->tool, error ? error : "failed");
	}
	free(error);
	return code;
}
