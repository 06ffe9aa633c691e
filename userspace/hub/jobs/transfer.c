/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Life of import and export jobs. */
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "hub/jobs/transfer_int.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>
#include <strings.h>

#define KEEP_MS (30ll * 86400 * 1000)
#define BAD(err, ...) hub_refuse(err, HF_EINVALID, 400, 400004, "ArgumentInvalid", __VA_ARGS__)
#define BAD_STORAGE(err, ...) hub_refuse(err, HF_EINVALID, 400, 400004, "BlobContainerValidationError", __VA_ARGS__)

static const char *const status_names[] = { "enqueued", "running", "completed", "failed", "cancelled" };
_Static_assert(HF_ARRAY_LEN(status_names) == HUB_TRANSFER__COUNT, "one name for each status");
static const char *const repeated[] = { "inputBlobContainerUri", "outputBlobContainerUri", "inputBlobName", "outputBlobName",
					"excludeKeysInExport", "storageAuthenticationType", "identity" };

static void transfer_free(struct hub_transfer *x)
{
	json_decref(x->request);
	json_decref(x->errors);
	free(x);
}

static struct hub_transfer *find(const struct hub_transfers *t, const char *id)
{
	struct hf_list *pos;

	hf_list_for_each(pos, &t->all) {
		struct hub_transfer *x = hf_container_of(pos, struct hub_transfer, node);

		if (strcmp(x->id, id) == 0)
			return x;
	}
	return NULL;
}

static json_t *time_or_null(int64_t ms)
{
	char text[32];

	if (ms == 0)
		return json_null();
	hf_iso8601(ms, text);
	return json_string(text);
}

static json_t *doc_of(const struct hub_transfers *t, const struct hub_transfer *x)
{
	json_t *o = json_pack("{ss ss ss so so si ss?}", "jobId", x->id, "type", x->is_import ? "import" : "export", "status",
			      status_names[x->status], "startTimeUtc", time_or_null(x->start_ms), "endTimeUtc",
			      time_or_null(x->end_ms), "progress", (int)hub_transfer_progress(t, x), "failureReason",
			      *x->failure ? x->failure : NULL);

	if (o && json_object_update(o, x->request) != 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

/* --- records ------------------------------------------------------------------------------------------------------ */

int hub_transfer_store(struct hub_transfers *t, const struct hub_transfer *x)
{
	json_t *o = json_pack("{sI sb sb si sI sI sO ss ss ss sI sI sO sI sI}", "seq", (json_int_t)x->seq, "import", x->is_import,
			      "withoutKeys", x->without_keys, "status", (int)x->status, "start", (json_int_t)x->start_ms, "end",
			      (json_int_t)x->end_ms, "request", x->request, "input", x->input, "output", x->output, "failure",
			      x->failure, "offset", (json_int_t)x->offset, "version", (json_int_t)x->version, "errors", x->errors,
			      "nErrors", (json_int_t)x->n_errors, "nLines", (json_int_t)x->n_lines);
	char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	struct hf_txn *txn;
	int r = text ? hub_state_txn(t->m, &txn) : -ENOMEM;

	if (r == 0)
		r = hf_txn_put(txn, HUB_T_TRANSFER, hf_span_str(x->id), hf_span_str(text));
	json_decref(o);
	free(text);
	return r;
}

static void add(struct hub_transfers *t, struct hub_transfer *x)
{
	struct hf_list *pos = t->all.prev;

	while (pos != &t->all && hf_container_of(pos, struct hub_transfer, node)->seq > x->seq)
		pos = pos->prev;
	hf_list_add_head(pos, &x->node);
	t->n++;
	t->last_seq = hf_max(t->last_seq, x->seq);
	if (x->status <= HUB_TRANSFER_RUNNING) {
		t->active = x;
		if (!t->m->closing)
			hf_task_next_turn(t->m->loop, &t->task);
	}
}

static int load_one(struct hub_transfers *t, struct hf_span key, struct hf_span value)
{
	json_t *o = json_loadb((const char *)value.ptr, value.len, 0, NULL);
	struct hub_transfer *x = calloc(1, sizeof *x);
	json_int_t seq, start, end, offset, version, n_errors, n_lines;
	const char *input, *output, *failure;
	int import, without_keys, status;
	int r = !x ? -ENOMEM : json_unpack(o, "{sI sb sb si sI sI sO ss ss ss sI sI sO sI sI}", "seq", &seq, "import", &import,
					   "withoutKeys", &without_keys, "status", &status, "start", &start, "end", &end, "request",
					   &x->request, "input", &input, "output", &output, "failure", &failure, "offset", &offset,
					   "version", &version, "errors", &x->errors, "nErrors", &n_errors, "nLines", &n_lines) != 0 ||
		key.len >= sizeof x->id || status < 0 || status >= HUB_TRANSFER__COUNT ? HF_ECORRUPT : 0;

	if (r == 0) {
		memcpy(x->id, key.ptr, key.len);
		x->seq = (uint64_t)seq;
		x->is_import = import;
		x->without_keys = without_keys;
		x->status = (enum hub_transfer_status)status;
		x->start_ms = start;
		x->end_ms = end;
		snprintf(x->input, sizeof x->input, "%s", input);
		snprintf(x->output, sizeof x->output, "%s", output);
		snprintf(x->failure, sizeof x->failure, "%s", failure);
		x->offset = (uint64_t)offset;
		x->version = (uint64_t)version;
		x->n_errors = (uint64_t)n_errors;
		x->n_lines = (uint64_t)n_lines;
		add(t, x);
	} else if (x) {
		transfer_free(x);
	}
	json_decref(o);
	return r;
}

static int load_record(void *arg, struct hf_span key, struct hf_span value)
{
	int r = load_one(arg, key, value);

	if (r != 0)
		hf_log(HF_LOG_ERR, "hub.load", "import or export %.*s: %s", (int)key.len, (const char *)key.ptr, hf_strerror(r));
	return r;
}

int hub_transfers_load(struct hub_transfers *t)
{
	return hf_db_each(t->m->state, HUB_T_TRANSFER, load_record, t);
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

/* "https://HOST/uploads/folder?..." and a blob's name to "folder/name". What follows '?' is not needed: whoever may write
 * the registry may use the hub's storage. */
static int blob_name(struct hub_model *m, const json_t *uri, const json_t *name, const char *dflt, char out[HUB_TRANSFER_NAME_MAX + 1],
		     struct hub_error *err)
{
	hf_autobuf struct hf_buf folder = HF_BUF_INIT(HUB_TRANSFER_NAME_MAX);
	struct hf_span rest, host, part;
	const char *blob = json_is_string(name) && json_string_length(name) ? json_string_value(name) : dflt;

	if (!json_is_string(uri) || !hf_span_starts(hf_span_str(json_string_value(uri)), "https://"))
		return BAD(err, "a container's address is https://%.100s/" HUB_BLOB_CONTAINER, hub_model_host(m));
	rest = hf_span_skip(hf_span_str(json_string_value(uri)), strlen("https://"));
	hf_span_cut(&rest, '?', &part);
	rest = part;
	hf_span_cut(&rest, '/', &host);
	part = host;
	hf_span_cut(&part, ':', &host);
	if (!hf_span_ieq(host, hf_span_str(hub_model_host(m))))
		return BAD_STORAGE(err, "the hub reaches no storage but its own, https://%.100s/" HUB_BLOB_CONTAINER, hub_model_host(m));
	hf_span_cut(&rest, '/', &part);
	while (rest.len && rest.ptr[rest.len - 1] == '/')
		rest.len--;
	if (!hf_span_is(part, HUB_BLOB_CONTAINER) || hf_uri_decode(rest, &folder) != 0 || folder.err ||
	    !hf_utf8_ok(hf_buf_span(&folder)))
		return BAD_STORAGE(err, "the hub's container is " HUB_BLOB_CONTAINER);
	if (snprintf(out, HUB_TRANSFER_NAME_MAX + 1, "%s%s%s", hf_buf_cstr(&folder), hf_buf_len(&folder) ? "/" : "", blob) >
	    HUB_TRANSFER_NAME_MAX)
		return BAD(err, "the name of a blob is over %d bytes", HUB_TRANSFER_NAME_MAX);
	return 0;
}

static int read_request(struct hub_model *m, struct hub_transfer *x, const json_t *o, struct hub_error *err)
{
	const char *type = json_string_value(json_object_get(o, "type"));
	const json_t *keys = json_object_get(o, "excludeKeysInExport");
	int r;

	x->is_import = type && strcasecmp(type, "import") == 0;
	if (!x->is_import && (!type || strcasecmp(type, "export") != 0))
		return BAD(err, "type must be import or export");
	if (json_is_true(json_object_get(o, "includeConfigurations")))
		return BAD(err, "configurations are not transferred");
	if (keys && !json_is_null(keys) && !json_is_boolean(keys))
		return BAD(err, "excludeKeysInExport must be true or false");
	if (!hub_blobs_on(m))
		return BAD_STORAGE(err, "the hub's storage of blobs is off");
	x->without_keys = json_is_true(keys);
	r = blob_name(m, json_object_get(o, "outputBlobContainerUri"), x->is_import ? NULL : json_object_get(o, "outputBlobName"),
		      x->is_import ? "importErrors.log" : "devices.txt", x->output, err);
	if (r == 0 && x->is_import)
		r = blob_name(m, json_object_get(o, "inputBlobContainerUri"), json_object_get(o, "inputBlobName"), "devices.txt", x->input, err);
	x->request = json_object();
	x->errors = json_array();
	for (size_t i = 0; r == 0 && i < HF_ARRAY_LEN(repeated); i++) {
		json_t *v = json_object_get(o, repeated[i]);

		if (v && json_object_set(x->request, repeated[i], v) != 0)
			r = -ENOMEM;
	}
	return r ? r : x->request && x->errors ? 0 : -ENOMEM;
}

/* What is too old, and the oldest when there are too many. */
static void forget_old(struct hub_transfers *t)
{
	int64_t now = hf_clock_wall_ms();
	struct hf_list *pos, *tmp;
	struct hf_txn *txn;

	hf_list_for_each_safe(pos, tmp, &t->all) {
		struct hub_transfer *x = hf_container_of(pos, struct hub_transfer, node);

		if (x == t->active || (t->n < HUB_MAX_TRANSFERS && now - x->end_ms <= KEEP_MS))
			continue;
		if (hub_state_txn(t->m, &txn) != 0 || hf_txn_del(txn, HUB_T_TRANSFER, hf_span_str(x->id)) != 0)
			return;
		hf_list_del(&x->node);
		t->n--;
		transfer_free(x);
	}
}

int hub_transfer_create(struct hub_model *m, const json_t *request, json_t **ret_doc, struct hub_error *err)
{
	struct hub_transfers *t = m->transfers;
	struct hub_transfer *x;
	int r;

	hub_error_default(err);
	if (!json_is_object(request))
		return BAD(err, "a job is an object");
	if (t->active)
		return hub_refuse(err, HF_ELIMIT, 403, 403001, "JobQuotaExceeded", "job %s is not finished", t->active->id);
	forget_old(t);
	x = calloc(1, sizeof *x);
	if (!x)
		return -ENOMEM;
	hf_list_init(&x->node);
	snprintf(x->id, sizeof x->id, "%016llx%016llx", (unsigned long long)hf_random_u64(), (unsigned long long)hf_random_u64());
	x->seq = t->last_seq + 1;
	x->start_ms = hf_clock_wall_ms();
	r = read_request(m, x, request, err);
	if (r == 0)
		r = hub_transfer_store(t, x);
	if (r != 0) {
		transfer_free(x);
		return r;
	}
	add(t, x);
	*ret_doc = doc_of(t, x);
	return *ret_doc ? 0 : -ENOMEM;
}

json_t *hub_transfer_doc(struct hub_model *m, const char *id)
{
	const struct hub_transfer *x = find(m->transfers, id);

	return x ? doc_of(m->transfers, x) : NULL;
}

json_t *hub_transfer_list(struct hub_model *m)
{
	json_t *list = json_array();
	struct hf_list *pos;

	hf_list_for_each(pos, &m->transfers->all)
		if (json_array_append_new(list, doc_of(m->transfers, hf_container_of(pos, struct hub_transfer, node))) != 0) {
			json_decref(list);
			return NULL;
		}
	return list;
}

void hub_transfer_end(struct hub_transfers *t, enum hub_transfer_status status, const char *failure)
{
	static struct hf_log_limit limit;
	struct hub_transfer *x = t->active;

	hub_transfer_stop(t);
	t->active = NULL;
	x->status = status;
	x->end_ms = hf_clock_wall_ms();
	snprintf(x->failure, sizeof x->failure, "%s", failure ? failure : "");
	hf_utf8_repair(x->failure);
	if (failure)
		hf_log_limited(&limit, HF_LOG_WARN, "hub.transfer", "%s %s: %s", x->is_import ? "import" : "export", x->id, failure);
	if (hub_transfer_store(t, x) != 0)
		hf_log_limited(&limit, HF_LOG_ERR, "hub.transfer", "the end of job %s is not stored", x->id);
}

int hub_transfer_cancel(struct hub_model *m, const char *id, struct hub_error *err)
{
	struct hub_transfer *x = find(m->transfers, id);

	hub_error_default(err);
	if (!x)
		return hub_refuse(err, HF_ENOTFOUND, 404, 404002, "JobNotFound", "Job %.128s not found", id);
	if (x != m->transfers->active)
		return hub_refuse(err, HF_EINVALID, 400, 400003, "InvalidOperation", "Job %s has ended: %s", x->id, status_names[x->status]);
	hub_transfer_end(m->transfers, HUB_TRANSFER_CANCELLED, NULL);
	return 0;
}

int hub_transfers_create(struct hub_model *m, struct hub_transfers **ret_t)
{
	struct hub_transfers *t = calloc(1, sizeof *t);

	if (!t)
		return -ENOMEM;
	t->m = m;
	hf_list_init(&t->all);
	hf_list_init(&t->orphans);
	hf_task_init(&t->task, hub_transfers_work, t);
	*ret_t = t;
	return 0;
}

void hub_transfers_destroy(struct hub_transfers **pt)
{
	struct hub_transfers *t = *pt;

	if (!t)
		return;
	*pt = NULL;
	hub_transfer_stop(t);
	hub_transfer_forsake(t);
	hf_task_cancel(&t->task);
	while (!hf_list_empty(&t->all)) {
		struct hub_transfer *x = hf_container_of(t->all.next, struct hub_transfer, node);

		hf_list_del(&x->node);
		transfer_free(x);
	}
	free(t);
}
