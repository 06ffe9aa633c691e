/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Work of import and export jobs, some lines per loop turn. */
#include "core/log.h"
#include "core/util.h"
#include "hub/model/bulk.h"
#include "hub/jobs/transfer_int.h"
#include "loop/work.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define SLICE 100		/* devices or lines */
#define READ_SIZE 65536
#define MAX_LINE (256 * 1024)

struct hub_transfer_work {
	struct hf_list orphan_node;	/* in transfers->orphans: given up while its file is being synced */
	struct hub_transfers *t;	/* NULL: gone */
	struct hub_file file;		/* export; fd -1 = none */
	char device[HF_ID_MAX + 1];	/* the last one written */
	uint64_t n_devices;
	struct hub_blob_reader *reader;	/* import */
	uint64_t size;
	struct hf_buf text;		/* what was read and is not used up */
	bool at_end;
	bool syncing;
	int dir, sync_err;
};

static void work_free(struct hub_transfer_work *w)
{
	hf_buf_wipe(&w->text);		/* it may hold keys */
	free(w);
}

void hub_transfer_stop(struct hub_transfers *t)
{
	struct hub_transfer_work *w = t->work;

	if (!w)
		return;
	t->work = NULL;
	hub_blob_close(&w->reader);
	if (w->syncing) {
		hf_list_add_tail(&t->orphans, &w->orphan_node);
		return;
	}
	hub_file_discard(t->m, &w->file);
	work_free(w);
}

void hub_transfer_forsake(struct hub_transfers *t)
{
	while (!hf_list_empty(&t->orphans)) {
		struct hub_transfer_work *w = hf_container_of(t->orphans.next, struct hub_transfer_work, orphan_node);

		hf_list_del(&w->orphan_node);
		w->t = NULL;		/* on_synced frees it; its file is left for the next start to remove */
	}
}

unsigned hub_transfer_progress(const struct hub_transfers *t, const struct hub_transfer *x)
{
	const struct hub_transfer_work *w = x == t->active ? t->work : NULL;

	if (x->status == HUB_TRANSFER_COMPLETED)
		return 100;
	if (!w)
		return 0;
	if (x->is_import)
		return w->size ? (unsigned)(x->offset * 100 / w->size) : 0;
	return t->m->n_devices ? (unsigned)hf_min(w->n_devices * 100 / t->m->n_devices, 99ull) : 0;
}

static void failed(struct hub_transfers *t, int r, const char *what)
{
	char why[160];

	snprintf(why, sizeof why, "%s: %s", what, hf_strerror(r));
	hub_transfer_end(t, HUB_TRANSFER_FAILED, why);
}

static void again(struct hub_transfers *t)
{
	if (!t->m->closing)
		hf_task_next_turn(t->m->loop, &t->task);
}

/* --- export --------------------------------------------------------------------------------------------------------- */

/* The entry of a bulk request that would make this identity and its twin. */
static json_t *entry(struct hub_model *m, const struct hub_ident *i, bool without_keys)
{
	static const char *const wanted[] = { "status", "statusReason", "authentication", "capabilities", "deviceScope", "parentScopes",
					      "managedBy" };
	json_t *ident = hub_ident_doc(m, i), *twin = hub_twin_doc(m, i), *v;
	json_t *o = json_pack("{ss ss* ss sO* sO*}", "id", i->device_id, "moduleId", i->module_id, "eTag", i->etag, "tags",
			      json_object_get(twin, "tags"), "properties", json_object_get(twin, "properties"));
	int r = o && ident && twin ? json_object_set(o, "twinETag", json_object_get(twin, "etag")) : -1;

	for (size_t n = 0; r == 0 && n < HF_ARRAY_LEN(wanted); n++)
		if ((v = json_object_get(ident, wanted[n])))
			r = json_object_set(o, wanted[n], v);
	if (i->is_edge)
		json_object_del(o, "deviceScope");	/* its own, which the next generation will not have */
	v = json_object_get(json_object_get(o, "authentication"), "symmetricKey");
	if (r == 0 && without_keys)
		r = json_object_set_new(v, "primaryKey", json_null()) | json_object_set_new(v, "secondaryKey", json_null());
	json_decref(ident);
	json_decref(twin);
	if (r != 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

static int write_line(struct hub_model *m, struct hub_file *file, const json_t *o)
{
	char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	int r = text ? hub_file_write(m, file, hf_span_str(text)) : -ENOMEM;

	if (r == 0)
		r = hub_file_write(m, file, hf_span("\n", 1));
	if (text)
		explicit_bzero(text, strlen(text));
	free(text);
	return r;
}

static int write_ident(struct hub_transfers *t, const struct hub_ident *i)
{
	json_t *o = entry(t->m, i, t->active->without_keys);
	int r = write_line(t->m, &t->work->file, o);

	json_decref(o);
	return r;
}

/* The file becomes the blob. */
static void finish_export(struct hub_transfers *t, int r)
{
	struct hub_blob blob;

	if (r == 0)
		r = hub_blob_put(t->m, t->active->output, "text/plain", &t->work->file, &blob);
	if (r != 0)
		failed(t, r, "the blob is not stored");
	else
		hub_transfer_end(t, HUB_TRANSFER_COMPLETED, NULL);
}

static void run_sync(void *arg)
{
	struct hub_transfer_work *w = arg;

	if (fsync(w->file.fd) != 0 || fsync(w->dir) != 0)
		w->sync_err = errno == ENOSPC ? HF_EFULL : -errno;
}

static void on_synced(void *arg)
{
	struct hub_transfer_work *w = arg;

	w->syncing = false;
	if (w->t && w->t->work == w) {
		finish_export(w->t, w->sync_err);
		return;
	}
	hf_list_del(&w->orphan_node);
	if (w->t)
		hub_file_discard(w->t->m, &w->file);
	else
		close(w->file.fd);
	work_free(w);
}

static void export_slice(struct hub_transfers *t)
{
	struct hub_transfer_work *w = t->work;
	const struct hub_ident *d = NULL, *mod;
	int r = 0;

	for (unsigned n = 0; n < SLICE && r == 0; n++) {
		d = hub_device_next(t->m, *w->device ? w->device : NULL);
		if (!d)
			break;
		snprintf(w->device, sizeof w->device, "%s", d->device_id);
		r = write_ident(t, d);
		for (mod = hub_module_next(t->m, w->device, NULL); r == 0 && mod; mod = hub_module_next(t->m, w->device, mod->module_id))
			r = write_ident(t, mod);
		w->n_devices++;
	}
	if (r != 0) {
		failed(t, r, "the devices cannot be written");
	} else if (d) {
		again(t);
	} else if (!hub_blobs_sync(t->m)) {
		finish_export(t, 0);
	} else {
		w->dir = hub_blob_dir(t->m);
		w->syncing = true;
		if (hf_work_start(t->m->loop, run_sync, on_synced, w) != 0) {
			w->syncing = false;
			failed(t, -ENOMEM, "the blob is not stored");
		}
	}
}

/* --- import --------------------------------------------------------------------------------------------------------- */

static int note_error(struct hub_transfer *x, const json_t *item, const struct hub_error *err)
{
	const json_t *id = json_object_get(item, "id"), *mode = json_object_get(item, "importMode");

	x->n_errors++;
	if (json_array_size(x->errors) >= HUB_TRANSFER_MAX_ERRORS)
		return 0;
	return json_array_append_new(x->errors, json_pack("{sI ss? si ss ss?}", "line", (json_int_t)x->n_lines, "id", json_string_value(id),
							  "errorCode", err->code, "errorStatus", err->message, "operation",
							  json_string_value(mode)));
}

static int import_line(struct hub_transfers *t, struct hf_span line)
{
	struct hub_transfer *x = t->active;
	struct hub_error err;
	json_t *item;
	int r = 0;

	x->n_lines++;
	while (line.len && (line.ptr[line.len - 1] == '\r' || line.ptr[line.len - 1] == ' '))
		line.len--;
	if (line.len == 0)
		return 0;
	item = json_loadb((const char *)line.ptr, line.len, 0, NULL);
	hub_error_default(&err);
	if (!json_is_object(item))
		r = hub_refuse(&err, HF_EINVALID, 400, 400006, "IotHubFormatError", "the line is not a JSON object");
	else
		r = hub_bulk_entry(t->m, item, &err);
	r = r ? note_error(x, item, &err) : 0;
	json_decref(item);
	return r ? -ENOMEM : 0;
}

static int fill(struct hub_transfer_work *w)
{
	size_t n = 0;
	uint8_t *p = hf_buf_reserve(&w->text, READ_SIZE);
	int r = p ? hub_blob_read(w->reader, p, READ_SIZE, &n) : w->text.err;

	if (r == 0)
		hf_buf_grow(&w->text, n);
	w->at_end = r == 0 && n == 0;
	return r;
}

/* Errors go to a blob of their own; few enough to be written at once. */
static int write_errors(struct hub_transfers *t)
{
	struct hub_transfer *x = t->active;
	struct hub_file file;
	struct hub_blob blob;
	json_t *item;
	size_t i;
	int r;

	if (x->n_errors == 0)
		return 0;
	r = hub_file_create(t->m, &file);
	if (r != 0)
		return r;
	json_array_foreach(x->errors, i, item)
		if (r == 0)
			r = write_line(t->m, &file, item);
	if (r != 0)
		hub_file_discard(t->m, &file);
	return r ? r : hub_blob_put(t->m, x->output, "text/plain", &file, &blob);
}

static void import_slice(struct hub_transfers *t)
{
	struct hub_transfer_work *w = t->work;
	unsigned n = 0;
	int r = 0;

	while (r == 0 && n < SLICE) {
		struct hf_span text = hf_buf_span(&w->text);
		const uint8_t *end = text.len ? memchr(text.ptr, '\n', text.len) : NULL;
		size_t len = end ? (size_t)(end - text.ptr) : text.len;

		if (!end && !w->at_end) {
			r = fill(w);
			continue;
		}
		if (!end && text.len == 0)
			break;
		r = import_line(t, hf_span(text.ptr, len));
		t->active->offset += len + (end != NULL);
		hf_buf_consume(&w->text, len + (end != NULL));
		n++;
	}
	if (r == 0 && n < SLICE) {
		r = write_errors(t);
		if (r != 0)
			failed(t, r, "the errors cannot be written");
		else
			hub_transfer_end(t, HUB_TRANSFER_COMPLETED, NULL);
		return;
	}
	if (r == 0)
		r = hub_transfer_store(t, t->active);	/* in one transaction with what was done */
	if (r != 0)
		failed(t, r, r == HF_ELIMIT ? "a line is too long" : "the blob cannot be read");
	else
		again(t);
}

/* --- turns ---------------------------------------------------------------------------------------------------------- */

static int start(struct hub_transfers *t)
{
	struct hub_transfer *x = t->active;
	struct hub_transfer_work *w = calloc(1, sizeof *w);
	struct hub_blob blob;
	int r;

	if (!w)
		return -ENOMEM;
	t->work = w;
	w->t = t;
	hf_list_init(&w->orphan_node);
	w->file.fd = -1;
	w->text = HF_BUF_INIT(MAX_LINE + READ_SIZE);
	if (!x->is_import) {
		r = hub_file_create(t->m, &w->file);
	} else {
		r = hub_blob_find(t->m, x->input, &blob);
		if (r == 0 && x->version && x->version != blob.version)
			r = HF_ESTALE;		/* not the file that it began with */
		if (r == 0)
			r = hub_blob_open(t->m, x->input, x->offset, &w->reader);
		x->version = r == 0 ? blob.version : 0;
		w->size = r == 0 ? blob.size : 0;
	}
	x->status = HUB_TRANSFER_RUNNING;
	return r ? r : hub_transfer_store(t, x);
}

void hub_transfers_work(void *arg)
{
	struct hub_transfers *t = arg;
	int r = 0;

	if (!t->active || (t->work && t->work->syncing))
		return;
	if (!t->work)
		r = start(t);
	if (r != 0)
		failed(t, r, t->active->is_import ? "the input blob cannot be read" : "the output blob cannot be written");
	else if (t->active->is_import)
		import_slice(t);
	else
		export_slice(t);
}
