/* SPDX-License-Identifier: GPL-3.0-or-later */
/* `holdfast-hub blob get`: an uploaded file into a file, or to standard output. */
#include "core/util.h"
#include "hub/ctl/cli.h"

#include <errno.h>
#include <stdio.h>

struct target { FILE *out; int err; };

static void on_item(void *arg, const json_t *item)
{
	hf_autobuf struct hf_buf data = HF_BUF_INIT(1 << 20);
	const char *text = json_string_value(json_object_get(item, "dataBase64"));
	struct target *t = arg;

	if (!text || hf_b64_decode(hf_span_str(text), &data) != 0)
		t->err = EPROTO;
	else if (fwrite(hf_buf_span(&data).ptr, 1, hf_buf_len(&data), t->out) != hf_buf_len(&data))
		t->err = errno;
}

int hub_cli_blob_get(const struct hf_cli *cli, const json_t *args)
{
	const char *path = json_string_value(json_object_get(args, "file"));
	struct target t = { .out = path ? fopen(path, "wb") : stdout };
	char *error = NULL;
	int code;

	if (!t.out) {
		fprintf(stderr, "%s: %s: %s\n", cli->tool, path, strerror(errno));
		return HF_EXIT_REFUSED;
	}
	code = hf_ctl_client_run(cli->socket, "blob.read", json_pack("{sO}", "blobName", json_object_get(args, "blobName")), 0, on_item, &t,
				 &error);
	if ((path ? fclose(t.out) : fflush(t.out)) != 0 && !t.err)
		t.err = errno;
	if (code != HF_EXIT_OK)
		fprintf(stderr, "%s: %s\n", cli->tool, error ? error : "failed");
	else if (t.err)
		fprintf(stderr, "%s: %s: %s\n", cli->tool, path ? path : "standard output", strerror(t.err));
	free(error);
	return code == HF_EXIT_OK && t.err ? HF_EXIT_REFUSED : code;
}
