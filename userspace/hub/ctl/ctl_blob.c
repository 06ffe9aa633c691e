/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Control commands about uploaded files. */
#include "core/util.h"
#include "hub/blob/blob.h"
#include "hub/ctl/ctl_int.h"
#include <errno.h>
#include <holdfast/err.h>

#define PART_BYTES (48 * 1024)	/* a whole number of base64 groups */

static void add(void *arg, const char *name, const struct hub_blob *blob)
{
	char when[32];

	hf_iso8601(blob->modified_ms, when);
	hf_ctl_item(arg, json_pack("{ss sI ss ss}", "blobName", name, "blobSizeInBytes", (json_int_t)blob->size, "contentType", blob->type,
				   "lastUpdatedTime", when));
}

void hub_ctl_blob_list(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;

	(void)args;
	hub_blob_list(ctl->model, add, call);
	hf_ctl_ok(call);
}

/* One `blob.read`: parts of the content until its end. */
struct reading {
	struct hf_list node;
	struct hub_ctl *ctl;
	struct hf_ctl_call *call;
	struct hub_blob_reader *reader;
	struct hf_task task;
};

static void end(struct reading *r, int err)
{
	hf_task_cancel(&r->task);
	hub_blob_close(&r->reader);
	hf_list_del(&r->node);
	if (err)
		hf_ctl_fail(r->call, "failed", "the file cannot be read: %s", hf_strerror(err));
	else
		hf_ctl_ok(r->call);
	free(r);
}

/* One part a turn, so that a large file does not hold the loop. */
static void produce(void *arg)
{
	struct reading *r = arg;
	hf_autobuf struct hf_buf raw = HF_BUF_INIT(PART_BYTES), text = HF_BUF_INIT(2 * PART_BYTES);
	size_t n = 1;
	int e = 0;

	while (e == 0 && n && hf_buf_len(&raw) < PART_BYTES) {
		uint8_t *p = hf_buf_reserve(&raw, PART_BYTES - hf_buf_len(&raw));

		e = p ? hub_blob_read(r->reader, p, PART_BYTES - hf_buf_len(&raw), &n) : -ENOMEM;
		if (e == 0)
			hf_buf_grow(&raw, n);
	}
	hf_b64_encode(hf_buf_span(&raw), &text);
	if (e == 0)
		e = text.err;
	if (e != 0 || hf_buf_len(&raw) == 0)
		end(r, e);
	else if (hf_ctl_item(r->call, json_pack("{ss}", "dataBase64", hf_buf_cstr(&text))))
		hf_task_next_turn(r->ctl->loop, &r->task);
}

static void on_gone(void *arg)
{
	end(arg, 0);
}

void hub_ctl_blob_read(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	const char *name = hub_arg(args, "blobName");
	struct reading *r = name ? calloc(1, sizeof *r) : NULL;
	int e;

	if (!r) {
		hf_ctl_fail(call, name ? "failed" : "invalid", name ? "out of memory" : "blobName is missing");
		return;
	}
	e = hub_blob_open(ctl->model, name, 0, &r->reader);
	if (e != 0) {
		free(r);
		hf_ctl_fail(call, e == HF_ENOTFOUND ? "not-found" : "failed", "\"%.200s\": %s", name,
			    e == HF_ENOTFOUND ? "there is no such file; see blob list" : hf_strerror(e));
		return;
	}
	r->ctl = ctl;
	r->call = call;
	hf_task_init(&r->task, produce, r);
	hf_list_add_tail(&ctl->readings, &r->node);
	hf_ctl_on_drain(call, produce, r);
	hf_ctl_on_gone(call, on_gone, r);
	hf_task_next_turn(ctl->loop, &r->task);
}

void hub_ctl_blobs_stop(struct hub_ctl *ctl)
{
	while (!hf_list_empty(&ctl->readings))
		end(hf_container_of(ctl->readings.next, struct reading, node), HF_ECLOSED);
}

void hub_ctl_blob_delete(void *arg, struct hf_ctl_call *call, const json_t *args)
{
	struct hub_ctl *ctl = arg;
	const char *name = hub_arg(args, "blobName");
	int r = name ? hub_blob_delete(ctl->model, name) : HF_EINVALID;

	if (r == HF_EINVALID)
		hf_ctl_fail(call, "invalid", "blobName is missing");
	else if (r == HF_ENOTFOUND)
		hf_ctl_fail(call, "not-found", "\"%.200s\": there is no such file; see blob list", name);
	else if (r != 0)
		hf_ctl_fail(call, "failed", "%s", hf_strerror(r));
	else
		hub_ctl_ok_committed(ctl, call, NULL);
}
