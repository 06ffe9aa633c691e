/* SPDX-License-Identifier: GPL-3.0-or-later */
/* `holdfast-hub blob get`: an uploaded file into a file, or to standard output. */
#include "core/util.h"
#include "hub/ctl/cli.h"

#include <errno.h>
#include <stdio.h>

struct target {
	const char *path;	/* NULL: standard output */
	FILE *out;		/* NULL until there is something to write: a refusal leaves a file as it was */
	int err;
};

static bool open_out(struct target *t)
{
	if (!t->out && !t->err)
		t->out = t->path ? fopen(t->path, "wb") : stdout;
	if (!t->out && !t->err)
		t->err = errno;
	return t->out != NULL;
}

static void on_item(void *arg, const json_t *item)
{
	hf_autobuf struct hf_buf data = HF_BUF_INIT(1 << 20);
	const char *text = json_string_value(json_object_get(item, "dataBase64"));
	struct target *t = arg;

	if (!text || hf_b64_decode(hf_span_str(text), &data) != 0)
		t->err = EPROTO;
	else if (open_out(t) && fwrite(hf_buf_span(&data).ptr, 1, hf_buf_len(&data), t->out) != hf_buf_len(&data))
		t->err = errno;
}

int hub_cli_blob_get(const struct hf_cli *cli, const json_t *args)
{
	struct target t = { .path = json_string_value(json_object_get(args, "file")) };
	char *error = NULL;
	int code = hf_ctl_client_run(cli->socket, "blob.read", json_pack("{sO}", "blobName", json_object_get(args, "blobName")), 0,
				     on_item, &t, &error);

	if (code == HF_EXIT_OK)
		open_out(&t);	/* an empty file has no parts */
	if (t.out && (t.path ? fclose(t.out) : fflush(t.out)) != 0 && !t.err)
		t.err = errno;
	if (code != HF_EXIT_OK)
		fprintf(stderr, "%s: %s\n", cli->tool, error ? error : "failed");
	else if (t.err)
		fprintf(stderr, "%s: %s: %s\n", cli->tool, t.path ? t.path : "standard output", strerror(t.err));
	free(error);
	return code == HF_EXIT_OK && t.err ? HF_EXIT_REFUSED : code;
}
