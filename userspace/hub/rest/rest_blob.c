/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The blob storage over HTTPS, as far as devices use it: Put Blob, Put Block, Put Block List, Get Blob and its properties.
 * Authority is a shared access signature in the query; errors are XML, as clients of that service read them. */
#include "core/log.h"
#include "core/metric.h"
#include "core/util.h"
#include "hub/blob/blob.h"
#include "hub/blob/blocklist.h"
#include "hub/metrics.h"
#include "hub/rest/rest_int.h"
#include "loop/work.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>
#include <time.h>

#define PREFIX "/" HUB_BLOB_CONTAINER "/"
/* What a device uploaded is nothing that a browser may run beside the hub's own pages. */
#define INERT "Content-Security-Policy: sandbox\r\nX-Content-Type-Options: nosniff\r\n"
#define VERSION "x-ms-version: 2021-12-02\r\n"

struct refusal { int status; const char *code, *text; };
static const struct refusal no_memory = { 500, "InternalError", "no memory" };
static const struct refusal not_stored = { 500, "InternalError", "not stored" };
static const struct refusal full = { 507, "InsufficientStorage", "the budget or the disk is full" };
static const struct refusal too_large = { 413, "RequestBodyTooLarge", "longer than a blob may be" };
static const struct refusal bad_header = { 400, "InvalidHeaderValue", "a header is not understood" };
static const struct refusal bad_query = { 400, "InvalidQueryParameterValue", "a query parameter is not understood" };
static const struct refusal bad_md5 = { 400, "Md5Mismatch", "the body is not what Content-MD5 says" };
static const struct refusal exists = { 409, "BlobAlreadyExists", "the blob exists" };
static const struct refusal condition = { 412, "ConditionNotMet", "the condition of the request does not hold" };
static const struct refusal not_found = { 404, "BlobNotFound", "there is no such blob" };
static const struct refusal bad_list = { 400, "InvalidBlockList", "a block of the list was not uploaded" };

static const struct refusal *of_error(int r)
{
	return r == HF_EFULL ? &full : r == HF_ELIMIT ? &too_large : r == HF_ENOTFOUND ? &not_found : r == -ENOMEM ? &no_memory : &not_stored;
}

static void refuse(struct hf_http_exchange *x, const char *name, const struct refusal *why)
{
	static struct hf_log_limit limit;
	char body[512], headers[256];

	hf_metric_add(HUB_M_BLOB_REFUSED, 1);
	hf_log_limited(&limit, HF_LOG_NOTICE, "hub.blob.refused", "%.200s: %d %s: %s", name, why->status, why->code, why->text);
	snprintf(body, sizeof body, "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>%s</Code><Message>%s</Message></Error>",
		 why->code, why->text);
	snprintf(headers, sizeof headers, VERSION "x-ms-error-code: %s\r\nx-ms-request-id: %016llx\r\n", why->code,
		 (unsigned long long)hf_random_u64());
	hf_http_respond(x, why->status, "application/xml", hf_span_str(body), headers);
}

static void put_headers(const struct hub_blob *blob, char *out, size_t cap)
{
	time_t modified = (time_t)(blob->modified_ms / 1000);
	char when[64] = "";
	struct tm tm;

	if (gmtime_r(&modified, &tm))
		strftime(when, sizeof when, "%a, %d %b %Y %H:%M:%S GMT", &tm);
	snprintf(out, cap, VERSION "ETag: \"0x%016llX\"\r\nLast-Modified: %s\r\nx-ms-blob-type: BlockBlob\r\n",
		 (unsigned long long)blob->version, when);
}

/* --- what a request says -------------------------------------------------------------------------------------- */

bool rest_is_blob(const struct hf_http_request *http)
{
	return hf_span_starts(http->path, PREFIX);
}

static bool text_header(const struct hf_http_request *http, const char *name, char *out, size_t cap)
{
	struct hf_span v;

	*out = '\0';
	if (!hf_http_header(http, name, &v))
		return true;
	if (v.len >= cap || !hf_utf8_ok(v))
		return false;
	memcpy(out, v.ptr, v.len);
	out[v.len] = '\0';
	return true;
}

static bool text_query(const struct hf_http_request *http, const char *name, char *out, size_t cap)
{
	hf_autobuf struct hf_buf v = HF_BUF_INIT(1024);

	*out = '\0';
	if (!hf_http_query(http, name, &v))
		return true;
	if (v.err || hf_buf_len(&v) >= cap || memchr(hf_buf_cstr(&v), 0, hf_buf_len(&v)))
		return false;
	memcpy(out, hf_buf_cstr(&v), hf_buf_len(&v) + 1);
	return true;
}

/* Which blob, and may the bearer of the signature do this with it? */
static const struct refusal *check(struct hub_model *m, const struct hf_http_request *http, enum hub_blob_right right,
				   char name[HUB_BLOB_NAME_MAX + 1])
{
	static const struct refusal denied[] = {
		[HUB_BLOB_UNSIGNED] = { 403, "AuthenticationFailed", "there is no shared access signature for a blob" },
		[HUB_BLOB_FORGED] = { 403, "AuthenticationFailed", "the signature does not match" },
		[HUB_BLOB_EXPIRED] = { 403, "AuthenticationFailed", "the signature has expired" },
		[HUB_BLOB_NO_RIGHT] = { 403, "AuthorizationPermissionMismatch", "the signature gives other rights" },
	};
	enum hub_blob_verdict verdict;
	hf_autobuf struct hf_buf path = HF_BUF_INIT(HUB_BLOB_NAME_MAX);
	struct hub_blob_sas sas;

	*name = '\0';
	if (!hub_blobs_on(m) || hf_uri_decode(hf_span_skip(http->path, strlen(PREFIX)), &path) != 0 || path.err ||
	    !hf_utf8_ok(hf_buf_span(&path)))
		return &not_found;
	snprintf(name, HUB_BLOB_NAME_MAX + 1, "%s", hf_buf_cstr(&path));
	if (!text_query(http, "sv", sas.sv, sizeof sas.sv) || !text_query(http, "sr", sas.sr, sizeof sas.sr) ||
	    !text_query(http, "sp", sas.sp, sizeof sas.sp) || !text_query(http, "se", sas.se, sizeof sas.se) ||
	    !text_query(http, "sig", sas.sig, sizeof sas.sig))
		return &bad_query;
	verdict = hub_blob_authorize(m, name, &sas, right);
	return verdict == HUB_BLOB_GRANTED ? NULL : &denied[verdict];
}

/* --- writing ---------------------------------------------------------------------------------------------------- */

enum put_kind { PUT_BLOB, PUT_BLOCK, PUT_LIST };
struct rest_put {
	struct hf_list node;		/* in rest->puts while its file is synced */
	struct hub_rest *rest;		/* NULL once the server stopped */
	struct hf_http_exchange *x;
	const struct refusal *why;	/* set: refused */
	enum put_kind kind;
	struct hub_file file;
	int dir, sync_err;
	struct hf_md5 *md5;		/* of the body, when the client sent one */
	struct hf_buf want_md5;
	bool only_new;
	char if_match[64], type[128], block_id[HUB_BLOCK_ID_MAX + 1], name[HUB_BLOB_NAME_MAX + 1];
};

static void put_free(struct rest_put *p)
{
	if (p->rest)
		hub_file_discard(p->rest->model, &p->file);
	else if (p->file.fd >= 0)
		close(p->file.fd);	/* the next start removes it */
	hf_list_del(&p->node);
	hf_md5_final(&p->md5, NULL);
	hf_buf_fini(&p->want_md5);
	free(p);
}

static bool etag_is(const char *given, const struct hub_blob *blob)
{
	char etag[32];

	snprintf(etag, sizeof etag, "\"0x%016llX\"", (unsigned long long)blob->version);
	return strcmp(given, "*") == 0 || strcmp(given, etag) == 0;
}

static const struct refusal *check_conditions(const struct rest_put *p)
{
	struct hub_blob blob;
	int r = hub_blob_find(p->rest->model, p->name, &blob);

	if (p->only_new && r == 0)
		return &exists;
	if (*p->if_match && (r != 0 || !etag_is(p->if_match, &blob)))
		return &condition;
	return NULL;
}

static const struct refusal *read_headers(struct rest_put *p, const struct hf_http_request *http)
{
	char none_match[64], blob_type[32], md5[64], crc[32];
	struct hf_span length;
	int64_t n;

	if (!text_header(http, "If-Match", p->if_match, sizeof p->if_match) ||
	    !text_header(http, "If-None-Match", none_match, sizeof none_match) || (*none_match && strcmp(none_match, "*") != 0) ||
	    !text_header(http, "x-ms-blob-content-type", p->type, sizeof p->type) ||
	    !text_header(http, "x-ms-blob-type", blob_type, sizeof blob_type) || !text_header(http, "Content-MD5", md5, sizeof md5) ||
	    !text_header(http, "x-ms-content-crc64", crc, sizeof crc) || *crc)
		return &bad_header;
	p->only_new = *none_match != '\0';
	if (p->kind == PUT_BLOB && strcmp(blob_type, "BlockBlob") != 0)
		return &bad_header;
	if (p->kind == PUT_BLOB && !*p->type && !text_header(http, "Content-Type", p->type, sizeof p->type))
		return &bad_header;
	if (*md5 && (hf_b64_decode(hf_span_str(md5), &p->want_md5) != 0 || hf_buf_len(&p->want_md5) != 16))
		return &bad_header;
	if (*md5 && hf_md5_create(&p->md5) != 0)
		return &no_memory;
	if (hf_http_header(http, "Content-Length", &length) && hf_parse_i64(length, 0, INT64_MAX, &n) == 0 &&
	    (uint64_t)n > hub_blob_max_bytes(p->rest->model))
		return &too_large;
	return NULL;
}

static const struct refusal *read_query(struct rest_put *p, const struct hf_http_request *http)
{
	hf_autobuf struct hf_buf raw = HF_BUF_INIT(64);
	char comp[16];

	if (!text_query(http, "comp", comp, sizeof comp) || !text_query(http, "blockid", p->block_id, sizeof p->block_id))
		return &bad_query;
	p->kind = !*comp ? PUT_BLOB : strcmp(comp, "block") == 0 ? PUT_BLOCK : PUT_LIST;
	if (p->kind == PUT_LIST && strcmp(comp, "blocklist") != 0)
		return &bad_query;
	if (p->kind == PUT_BLOCK && (!*p->block_id || hf_b64_decode(hf_span_str(p->block_id), &raw) != 0))
		return &bad_query;
	return NULL;
}

/* All that can be said of a request before its body. NULL: no memory. */
static struct rest_put *put_new(struct hub_rest *rest, const struct hf_http_request *http)
{
	struct rest_put *p = calloc(1, sizeof *p);
	int r;

	if (!p)
		return NULL;
	p->rest = rest;
	p->file.fd = -1;
	p->want_md5 = HF_BUF_INIT(64);
	hf_list_init(&p->node);
	p->why = check(rest->model, http, HUB_BLOB_WRITE, p->name);
	if (!p->why)
		p->why = read_query(p, http);
	if (!p->why)
		p->why = read_headers(p, http);
	if (!p->why)
		p->why = check_conditions(p);
	if (!p->why && p->kind != PUT_LIST) {
		r = hub_file_create(rest->model, &p->file);
		p->why = r == 0 ? NULL : of_error(r);
	}
	return p;
}

static bool on_part(void *arg, struct hf_span part)
{
	struct rest_put *p = arg;
	int r = hub_file_write(p->rest->model, &p->file, part);

	if (r != 0)
		p->why = of_error(r);
	else if (p->md5)
		hf_md5_update(p->md5, part);
	return r == 0;
}

static void on_drop(void *arg)
{
	put_free(arg);
}

void rest_blob_sink(void *arg, const struct hf_http_request *http, struct hf_http_sink *ret_sink)
{
	struct rest_put *p;
	char comp[16];

	/* Lists are read as a whole, within the bound of all requests. */
	if (!rest_is_blob(http) || strcmp(http->method, "PUT") != 0 ||
	    (text_query(http, "comp", comp, sizeof comp) && strcmp(comp, "blocklist") == 0))
		return;
	p = put_new(arg, http);
	if (p)
		*ret_sink = (struct hf_http_sink){ .arg = p, .refuse = p->why != NULL, .write = on_part, .drop = on_drop };
}

static int commit_list(struct rest_put *p, struct hf_span xml, struct hub_blob *ret_blob)
{
	struct hub_block_ref *refs = calloc(HUB_BLOB_MAX_BLOCKS, sizeof *refs);
	size_t n;
	int r = refs ? hub_blocklist_parse(xml, refs, HUB_BLOB_MAX_BLOCKS, &n) : -ENOMEM;

	if (r == 0)
		r = hub_blob_commit(p->rest->model, p->name, p->type, refs, n, ret_blob);
	free(refs);
	return r;
}

/* The bytes are where they were promised to be: now their meaning. xml: of a list. */
static void finish(struct rest_put *p, struct hf_span xml)
{
	struct rest_req q = { .rest = p->rest, .m = p->rest->model, .x = p->x };
	struct hub_blob blob = { 0 };
	char headers[512] = VERSION;
	int r = 0;

	p->why = p->sync_err ? of_error(p->sync_err) : check_conditions(p);
	if (!p->why) {
		if (p->kind == PUT_BLOB)
			r = hub_blob_put(q.m, p->name, p->type, &p->file, &blob);
		else if (p->kind == PUT_BLOCK)
			r = hub_block_put(q.m, p->name, hf_span_str(p->block_id), &p->file);
		else
			r = commit_list(p, xml, &blob);
		p->why = r == 0 ? NULL : p->kind == PUT_LIST && (r == HF_ENOTFOUND || r == HF_EINVALID) ? &bad_list : of_error(r);
	}
	if (p->why) {
		refuse(p->x, p->name, p->why);
	} else {
		if (p->kind != PUT_BLOCK)
			put_headers(&blob, headers, sizeof headers);
		rest_committed(&q, 201, NULL, headers);
	}
	put_free(p);
}

static void run_sync(void *arg)
{
	struct rest_put *p = arg;

	if (fsync(p->file.fd) != 0 || fsync(p->dir) != 0)
		p->sync_err = errno == ENOSPC ? HF_EFULL : -errno;
}

static void on_synced(void *arg)
{
	struct rest_put *p = arg;

	if (p->rest)
		finish(p, hf_span(NULL, 0));
	else
		put_free(p);
}

static bool md5_ok(struct rest_put *p)
{
	uint8_t md5[16];

	if (!p->md5)
		return true;
	hf_md5_final(&p->md5, md5);
	return hf_span_eq(hf_span(md5, sizeof md5), hf_buf_span(&p->want_md5));
}

static void put(struct rest_req *q)
{
	struct rest_put *p = q->http->sink ? q->http->sink : put_new(q->rest, q->http);

	if (!p) {
		refuse(hf_take(q->x), "", &no_memory);
		return;
	}
	p->x = hf_take(q->x);
	if (p->md5 && p->kind == PUT_LIST)
		hf_md5_update(p->md5, q->http->body);
	if (!p->why && !md5_ok(p))
		p->why = &bad_md5;
	if (p->why) {
		refuse(p->x, p->name, p->why);
		put_free(p);
		return;
	}
	if (p->kind == PUT_LIST || !hub_blobs_sync(q->m)) {
		finish(p, q->http->body);
		return;
	}
	p->dir = hub_blob_dir(q->m);
	hf_list_add_tail(&q->rest->puts, &p->node);
	if (hf_work_start(q->rest->loop, run_sync, on_synced, p) != 0) {
		refuse(p->x, p->name, &no_memory);
		put_free(p);
	}
}

void rest_blobs_stop(struct hub_rest *rest)
{
	while (!hf_list_empty(&rest->puts)) {
		struct rest_put *p = hf_container_of(rest->puts.next, struct rest_put, node);

		hf_list_del(&p->node);
		refuse(p->x, p->name, &(struct refusal){ 503, "ServerBusy", "the hub is stopping" });
		p->rest = NULL;		/* on_synced frees it */
	}
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

static int source_read(void *arg, uint8_t *out, size_t cap, size_t *ret_n)
{
	int r = hub_blob_read(arg, out, cap, ret_n);

	return r == 0 && *ret_n == 0 ? HF_ECORRUPT : r;
}

static void source_end(void *arg)
{
	struct hub_blob_reader *r = arg;

	hub_blob_close(&r);
}

/* "bytes=A-B" or "bytes=A-"; *io: the whole blob before. False: not within it. */
static bool take_range(const struct hf_http_request *http, uint64_t size, uint64_t *ret_from, uint64_t *io_length, bool *ret_partial)
{
	struct hf_span v, from;
	int64_t a, b = INT64_MAX;

	*ret_from = 0;
	*ret_partial = false;
	if (!hf_http_header(http, "x-ms-range", &v) && !hf_http_header(http, "Range", &v))
		return true;
	if (!hf_span_starts(v, "bytes="))
		return true;	/* as a server that does not know the unit */
	v = hf_span_skip(v, strlen("bytes="));
	hf_span_cut(&v, '-', &from);
	if (hf_parse_i64(from, 0, INT64_MAX, &a) != 0 || (v.len && hf_parse_i64(v, a, INT64_MAX, &b) != 0) || (uint64_t)a >= size)
		return false;
	*ret_from = (uint64_t)a;
	*io_length = hf_min((uint64_t)b, size - 1) - (uint64_t)a + 1;
	*ret_partial = true;
	return true;
}

static const struct refusal *check_read(const struct hf_http_request *http, const struct hub_blob *blob)
{
	static const struct refusal unchanged = { 304, "ConditionNotMet", "the blob is that one" };
	char match[64], none_match[64];

	if (!text_header(http, "If-Match", match, sizeof match) || !text_header(http, "If-None-Match", none_match, sizeof none_match))
		return &bad_header;
	if (*match && !etag_is(match, blob))
		return &condition;
	return *none_match && etag_is(none_match, blob) ? &unchanged : NULL;
}

static void get(struct rest_req *q)
{
	static const struct refusal bad_range = { 416, "InvalidRange", "the range is not within the blob" };
	char name[HUB_BLOB_NAME_MAX + 1], comp[16], headers[1024], *more;
	struct hf_http_source source = { .read = source_read, .end = source_end };
	const struct refusal *why = check(q->m, q->http, HUB_BLOB_READ, name);
	struct hub_blob_reader *reader = NULL;
	struct hub_blob blob = { 0 };
	uint64_t from = 0;
	bool partial = false;
	int r = 0;

	if (!why && (!text_query(q->http, "comp", comp, sizeof comp) || *comp))
		why = &bad_query;
	if (!why && (r = hub_blob_find(q->m, name, &blob)) != 0)
		why = of_error(r);
	if (!why)
		why = check_read(q->http, &blob);
	source.length = blob.size;
	if (!why && !take_range(q->http, blob.size, &from, &source.length, &partial))
		why = &bad_range;
	if (!why && (r = hub_blob_open(q->m, name, from, &reader)) != 0)
		why = of_error(r);
	if (why) {
		refuse(hf_take(q->x), name, why);
		return;
	}
	put_headers(&blob, headers, sizeof headers);
	more = headers + strlen(headers);
	snprintf(more, (size_t)(headers + sizeof headers - more), "Accept-Ranges: bytes\r\n" INERT);
	more += strlen(more);
	if (partial)
		snprintf(more, (size_t)(headers + sizeof headers - more), "Content-Range: bytes %llu-%llu/%llu\r\n", (unsigned long long)from,
			 (unsigned long long)(from + source.length - 1), (unsigned long long)blob.size);
	source.arg = reader;
	hf_http_respond_source(hf_take(q->x), partial ? 206 : 200, *blob.type ? blob.type : "application/octet-stream", &source, headers);
}

void rest_blob(struct rest_req *q)
{
	static const struct refusal unknown_verb = { 405, "UnsupportedHttpVerb", "blobs know PUT, GET and HEAD here" };

	if (strcmp(q->http->method, "PUT") == 0)
		put(q);
	else if (strcmp(q->http->method, "GET") == 0 || strcmp(q->http->method, "HEAD") == 0)
		get(q);
	else
		refuse(hf_take(q->x), "", &unknown_verb);
}
