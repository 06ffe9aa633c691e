/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Uploads that devices announced, and the signatures they got for it.
 *
 * Table "upload", key: correlation id. Value: expiry ms le64, length of device id le32, device id, blob name. */
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "hub/blob/blob_int.h"
#include "hub/model/feedback.h"
#include "hub/metrics.h"
#include "tls/tls.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>
#include <time.h>

#define SAS_VERSION "2021-12-02"
#define UPLOADS_A_STEP 64

struct hub_upload {
	struct hf_list node;
	int64_t expiry_ms;
	char correlation_id[HUB_UUID_SIZE];
	char device_id[HF_ID_MAX + 1];
	char blob_name[];
};

/* --- signatures --------------------------------------------------------------------------------------------- */

static void sign(struct hub_model *m, const char *blob_name, const struct hub_blob_sas *sas, uint8_t out[32])
{
	hf_autobuf struct hf_buf text = HF_BUF_INIT(8192);

	hf_buf_printf(&text, "%s\n%s\n%s\n/%s/%s\n%s", sas->sp, sas->sr, sas->se, HUB_BLOB_CONTAINER, blob_name, sas->sv);
	hf_hmac_sha256(hf_span(m->blobs->key, sizeof m->blobs->key), hf_buf_span(&text), out);
	if (text.err)
		hf_random(out, 32);	/* nothing is signed that was not read whole */
}

static int make_sas(struct hub_model *m, const char *blob_name, int64_t expiry_ms, char *out, size_t cap)
{
	hf_autobuf struct hf_buf raw = HF_BUF_INIT(64), sig = HF_BUF_INIT(256), time = HF_BUF_INIT(128);
	struct hub_blob_sas sas = { .sv = SAS_VERSION, .sr = "b", .sp = "rw" };
	size_t seconds = strlen("2026-01-31T10:00:00");
	uint8_t mac[32];
	int n;

	hf_iso8601(expiry_ms, sas.se);
	snprintf(sas.se + seconds, sizeof sas.se - seconds, "Z");
	sign(m, blob_name, &sas, mac);
	hf_b64_encode(hf_span(mac, sizeof mac), &raw);
	hf_uri_encode(hf_buf_span(&raw), &sig);
	hf_uri_encode(hf_span_str(sas.se), &time);
	n = snprintf(out, cap, "?sv=%s&sr=%s&sp=%s&se=%s&sig=%s", sas.sv, sas.sr, sas.sp, hf_buf_cstr(&time), hf_buf_cstr(&sig));
	return raw.err || sig.err || time.err || n >= (int)cap ? -ENOMEM : 0;
}

enum hub_blob_verdict hub_blob_authorize(struct hub_model *m, const char *blob_name, const struct hub_blob_sas *sas,
					 enum hub_blob_right right)
{
	hf_autobuf struct hf_buf given = HF_BUF_INIT(64);
	struct tm tm = { 0 };
	const char *end;
	uint8_t mac[32];

	if (!*sas->sig || !*sas->se || !*sas->sp || strcmp(sas->sr, "b") != 0)
		return HUB_BLOB_UNSIGNED;
	if (hf_b64_decode(hf_span_str(sas->sig), &given) != 0)
		return HUB_BLOB_FORGED;
	sign(m, blob_name, sas, mac);
	if (!hf_ct_eq(hf_buf_span(&given), hf_span(mac, sizeof mac)))
		return HUB_BLOB_FORGED;
	end = strptime(sas->se, "%Y-%m-%dT%H:%M:%SZ", &tm);
	if (!end || *end || timegm(&tm) <= hf_clock_wall_s())
		return HUB_BLOB_EXPIRED;
	return strchr(sas->sp, right) ? HUB_BLOB_GRANTED : HUB_BLOB_NO_RIGHT;
}

/* --- announced uploads ---------------------------------------------------------------------------------------- */

static unsigned *count_of(struct hub_model *m, const char *device_id)
{
	struct hub_entry *e = hub_entry_find(m, hf_span_str(device_id));

	return e ? &e->n_uploads : NULL;
}

static struct hub_upload *upload_new(struct hub_model *m, const char *correlation_id, const char *device_id, const char *blob_name,
				     int64_t expiry_ms)
{
	struct hub_upload *u = calloc(1, sizeof *u + strlen(blob_name) + 1);

	if (!u)
		return NULL;
	snprintf(u->correlation_id, sizeof u->correlation_id, "%s", correlation_id);
	snprintf(u->device_id, sizeof u->device_id, "%s", device_id);
	memcpy(u->blob_name, blob_name, strlen(blob_name));
	u->expiry_ms = expiry_ms;
	if (hf_map_put(m->blobs->uploads, hf_span_str(correlation_id), u) != 0) {
		free(u);
		return NULL;
	}
	hf_list_add_tail(&m->blobs->upload_order, &u->node);
	if (count_of(m, device_id))
		++*count_of(m, device_id);
	hub_model_tick(m);
	return u;
}

static void upload_free(struct hub_model *m, struct hub_upload *u)
{
	unsigned *n = count_of(m, u->device_id);

	if (n && *n)
		--*n;
	hf_map_remove(m->blobs->uploads, hf_span_str(u->correlation_id));
	hf_list_del(&u->node);
	free(u);
}

static int upload_end(struct hub_model *m, struct hub_upload *u)
{
	struct hf_txn *txn;
	int r = hub_state_txn(m, &txn);

	if (r == 0)
		r = hf_txn_del(txn, HUB_T_UPLOAD, hf_span_str(u->correlation_id));
	if (r == 0 || r == HF_ENOTFOUND)
		upload_free(m, u);
	return r == HF_ENOTFOUND ? 0 : r;
}

static int store(struct hub_model *m, const struct hub_upload *u)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(4096);
	struct hf_txn *txn;
	int r;

	hf_buf_le64(&b, (uint64_t)u->expiry_ms);
	hf_buf_le32(&b, (uint32_t)strlen(u->device_id));
	hf_buf_puts(&b, u->device_id);
	hf_buf_puts(&b, u->blob_name);
	r = b.err ? b.err : hub_state_txn(m, &txn);
	return r == 0 ? hf_txn_put(txn, HUB_T_UPLOAD, hf_span_str(u->correlation_id), hf_buf_span(&b)) : r;
}

/* Clients put the name into a URL: what they would change on the way is refused. */
static bool name_ok(const char *name)
{
	struct hf_span rest = hf_span_str(name), part;
	bool more = rest.len > 0;

	for (const char *c = name; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f || *c == '\\')
			return false;
	if (!more || !hf_utf8_ok(rest))
		return false;
	while (more) {
		more = hf_span_cut(&rest, '/', &part);
		if (part.len == 0 || hf_span_is(part, ".") || hf_span_is(part, ".."))
			return false;
	}
	return true;
}

int hub_upload_start(struct hub_model *m, const char *device_id, const char *name, struct hub_upload_ticket *ret_ticket,
		     struct hub_error *err)
{
	struct hub_upload_ticket t;
	const unsigned *n = count_of(m, device_id);
	int64_t expiry = hf_clock_wall_ms() + HUB_BLOB_TTL_MS;
	struct hub_upload *u;
	int r;

	hub_error_default(err);
	if (!hub_blobs_on(m))
		return hub_refuse(err, HF_EINVALID, 400, 400014, "DefaultStorageEndpointNotConfigured",
				  "this hub takes no files: storage.max_blob_bytes is 0");
	if (!name_ok(name) || snprintf(t.blob_name, sizeof t.blob_name, "%s/%s", device_id, name) >= (int)sizeof t.blob_name)
		return hub_refuse(err, HF_EINVALID, 400, 400004, "ArgumentInvalid",
				  "blobName is a path without \"..\", of at most %d bytes with the device id", HUB_BLOB_NAME_MAX);
	if (n && *n >= HUB_UPLOADS_MAX)
		return hub_refuse(err, HF_EFULL, 403, 403006, "DeviceMaximumActiveFileUploadLimitExceeded",
				  "Number of active file upload requests cannot exceed %d", HUB_UPLOADS_MAX);
	hub_uuid(t.correlation_id);
	r = make_sas(m, t.blob_name, expiry, t.sas, sizeof t.sas);
	if (r != 0)
		return r;
	u = upload_new(m, t.correlation_id, device_id, t.blob_name, expiry);
	if (!u)
		return -ENOMEM;
	r = store(m, u);
	if (r != 0)
		upload_free(m, u);
	else
		*ret_ticket = t;
	return r;
}

static int notify(struct hub_model *m, const struct hub_upload *u, const struct hub_blob *blob)
{
	hf_autobuf struct hf_buf uri = HF_BUF_INIT(4 * HUB_BLOB_NAME_MAX);
	struct hf_span rest = hf_span_str(u->blob_name), part;
	char when[32];
	json_t *record;
	bool more = true;
	int r;

	hf_iso8601(blob->modified_ms, when);
	hf_buf_printf(&uri, "https://%s/%s", m->host, HUB_BLOB_CONTAINER);
	while (more) {
		more = hf_span_cut(&rest, '/', &part);
		hf_buf_putc(&uri, '/');
		hf_uri_encode(part, &uri);
	}
	record = uri.err ? NULL : json_pack("{ss ss ss ss sI}", "deviceId", u->device_id, "blobUri", hf_buf_cstr(&uri), "blobName",
					    u->blob_name, "lastUpdatedTime", when, "blobSizeInBytes", (json_int_t)blob->size);
	r = record ? hub_feedback_add(m, HUB_FEEDBACK_FILES, record) : -ENOMEM;
	json_decref(record);
	return r;
}

int hub_upload_finish(struct hub_model *m, const char *device_id, const char *correlation_id, bool is_success,
		      struct hub_error *err)
{
	struct hub_upload *u = m->blobs->uploads ? hf_map_get(m->blobs->uploads, hf_span_str(correlation_id)) : NULL;
	struct hub_blob blob;
	int r = 0;

	hub_error_default(err);
	if (!u || strcmp(u->device_id, device_id) != 0)
		return hub_refuse(err, HF_ENOTFOUND, 400, 400015, "InvalidFileUploadCorrelationId",
				  "no upload of %.128s has this correlation id", device_id);
	if (is_success && hub_blob_find(m, u->blob_name, &blob) != 0)
		return hub_refuse(err, HF_ENOTFOUND, 400, 400020, "InvalidStorageEndpointOrBlob", "the blob was not uploaded");
	if (is_success)
		r = notify(m, u, &blob);
	return r == 0 ? upload_end(m, u) : r;
}

void hub_uploads_drop(struct hub_model *m, const char *device_id)
{
	struct hf_list *pos, *tmp;

	hf_list_for_each_safe(pos, tmp, &m->blobs->upload_order) {
		struct hub_upload *u = hf_container_of(pos, struct hub_upload, node);

		if (strcmp(u->device_id, device_id) == 0)
			upload_end(m, u);
	}
}

bool hub_uploads_step(struct hub_model *m)
{
	int64_t now = hf_clock_wall_ms();

	for (unsigned i = 0; i < UPLOADS_A_STEP && !hf_list_empty(&m->blobs->upload_order); i++) {
		struct hub_upload *u = hf_container_of(m->blobs->upload_order.next, struct hub_upload, node);

		if (u->expiry_ms > now)
			break;
		hf_log(HF_LOG_INFO, "hub.upload.expired", "%s: %.200s was never completed", u->device_id, u->blob_name);
		hf_metric_add(HUB_M_UPLOADS_EXPIRED, 1);
		if (upload_end(m, u) != 0)
			break;
	}
	return !hf_list_empty(&m->blobs->upload_order);
}

/* --- start ---------------------------------------------------------------------------------------------------- */

static int load_one(void *arg, struct hf_span key, struct hf_span value)
{
	struct hub_model *m = arg;
	struct hf_cur c = hf_cur(value);
	int64_t expiry = (int64_t)hf_cur_le64(&c);
	struct hf_span device = hf_cur_take(&c, hf_cur_le32(&c));
	hf_autofree char *id = hf_span_dup(key), *device_id = hf_span_dup(device), *name = hf_span_dup(c.in);

	if (c.err || key.len >= HUB_UUID_SIZE || device.len > HF_ID_MAX || c.in.len > HUB_BLOB_NAME_MAX)
		return HF_ECORRUPT;
	return id && device_id && name && upload_new(m, id, device_id, name, expiry) ? 0 : -ENOMEM;
}

static int by_expiry(const void *a, const void *b)
{
	int64_t x = (*(struct hub_upload *const *)a)->expiry_ms, y = (*(struct hub_upload *const *)b)->expiry_ms;

	return x < y ? -1 : x > y;
}

/* The table is in the order of random ids. */
static int sort(struct hub_model *m)
{
	size_t n = hf_map_count(m->blobs->uploads), pos = 0, i = 0;
	struct hub_upload **all = calloc(n + 1, sizeof(struct hub_upload *));
	struct hf_span key;
	void *v;

	if (!all)
		return -ENOMEM;
	while (hf_map_next(m->blobs->uploads, &pos, &key, &v)) {
		all[i++] = v;
		hf_list_del(&((struct hub_upload *)v)->node);
	}
	qsort(all, n, sizeof(struct hub_upload *), by_expiry);
	for (i = 0; i < n; i++)
		hf_list_add_tail(&m->blobs->upload_order, &all[i]->node);
	free(all);
	return 0;
}

int hub_uploads_load(struct hub_model *m)
{
	int r = hf_db_each(m->state, HUB_T_UPLOAD, load_one, m);

	return r == 0 ? sort(m) : r;
}

void hub_uploads_fini(struct hub_model *m)
{
	while (!hf_list_empty(&m->blobs->upload_order))
		upload_free(m, hf_container_of(m->blobs->upload_order.next, struct hub_upload, node));
	hf_map_destroy(&m->blobs->uploads);
}
