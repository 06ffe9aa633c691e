/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Uploads, blobs and blocks in the model: what commits, what time ends, what a start finds and removes. */
#include "core/clock.h"
#include "core/metric.h"
#include "core/util.h"
#include "hub/blob/blob.h"
#include "hub/blob/blocklist.h"
#include "hub/metrics.h"
#include "hub/model/feedback.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <holdfast/err.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define HOUR_MS (3600 * 1000)

struct world {
	char dir[64], blobs[80];
	struct hf_loop *loop;
	struct hub_model *m;
	struct hub_wait wait;
	struct hf_clock_fake clock;
	int err;
};

static void open_model(struct world *w)
{
	struct hub_model_cfg cfg = { .dir = w->dir, .host = "hub.test", .max_blob_bytes = 10000, .blobs_max_bytes = 100000 };

	assert_int_equal(hf_loop_create(&w->loop), 0);
	assert_int_equal(hub_model_open(w->loop, &cfg, &w->m), 0);
}

static void reopen(struct world *w)
{
	hub_model_close(&w->m);
	hf_loop_destroy(&w->loop);
	open_model(w);
}

static void committed(void *arg, int err)
{
	struct world *w = arg;

	w->err = err;
	hf_loop_stop(w->loop);
}

static void commit(struct world *w)
{
	hub_commit_wait(w->m, &w->wait, committed, w);
	hf_loop_run(w->loop);
	assert_int_equal(w->err, 0);
}

static void advance(struct world *w, uint64_t ms)
{
	struct hf_timer *t;

	w->clock.mono_ms += ms;
	w->clock.boot_ms += ms;
	w->clock.wall_ms += (int64_t)ms;
	hf_clock_fake(&w->clock);
	/* The model's own clock looks four times a second. */
	assert_int_equal(hf_timer_create(w->loop, (void (*)(void *))hf_loop_stop, w->loop, &t), 0);
	hf_timer_start(t, 300, 0);
	hf_loop_run(w->loop);
	hf_timer_destroy(&t);
	commit(w);
}

static unsigned files(struct world *w, bool remove)
{
	DIR *dir = opendir(w->blobs);
	struct dirent *e;
	unsigned n = 0;

	assert_non_null(dir);
	while ((e = readdir(dir))) {
		n += e->d_name[0] != '.';
		if (remove && e->d_name[0] != '.')
			unlinkat(dirfd(dir), e->d_name, 0);
	}
	closedir(dir);
	return n;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof *w);
	struct hub_error err;
	json_t *doc = json_object();

	snprintf(w->dir, sizeof w->dir, "/tmp/holdfast-blob-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->blobs, sizeof w->blobs, "%s/blobs", w->dir);
	w->clock = (struct hf_clock_fake){ .mono_ms = 1000000, .boot_ms = 1000000, .wall_ms = 1800000000000 };
	hf_clock_fake(&w->clock);
	open_model(w);
	assert_int_equal(hub_ident_put(w->m, "d", NULL, doc, NULL, NULL, &err), 0);
	json_decref(doc);
	commit(w);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = { "state.mdb", "state.mdb-lock", "events.mdb", "events.mdb-lock", "lock" };
	struct world *w = *state;
	char path[128];

	hub_model_close(&w->m);
	hf_loop_destroy(&w->loop);
	files(w, true);
	rmdir(w->blobs);
	for (unsigned i = 0; i < HF_ARRAY_LEN(names); i++) {
		snprintf(path, sizeof path, "%s/%s", w->dir, names[i]);
		unlink(path);
	}
	assert_int_equal(rmdir(w->dir), 0);
	hf_clock_fake(NULL);
	free(w);
	return 0;
}

static struct hub_file file(struct world *w, const char *text)
{
	struct hub_file f;

	assert_int_equal(hub_file_create(w->m, &f), 0);
	assert_int_equal(hub_file_write(w->m, &f, hf_span_str(text)), 0);
	return f;
}

static void put_block(struct world *w, const char *name, const char *id, const char *text)
{
	struct hub_file f = file(w, text);

	assert_int_equal(hub_block_put(w->m, name, hf_span_str(id), &f), 0);
	assert_int_equal(f.fd, -1);
}

static int put_list(struct world *w, const char *name, const char *xml)
{
	struct hub_block_ref refs[8];
	struct hub_blob blob;
	size_t n;

	assert_int_equal(hub_blocklist_parse(hf_span_str(xml), refs, 8, &n), 0);
	return hub_blob_commit(w->m, name, "text/plain", refs, n, &blob);
}

static void assert_content(struct world *w, const char *name, uint64_t offset, const char *want)
{
	struct hub_blob_reader *r;
	char got[256];
	size_t len = 0, n = 1;

	assert_int_equal(hub_blob_open(w->m, name, offset, &r), 0);
	while (n && len < sizeof got - 3) {
		assert_int_equal(hub_blob_read(r, (uint8_t *)got + len, 3, &n), 0);
		len += n;
	}
	got[len] = '\0';
	hub_blob_close(&r);
	assert_string_equal(got, want);
}

/* --- tests -------------------------------------------------------------------------------------------------- */

static void test_replace_and_restart(void **state)
{
	struct world *w = *state;
	struct hub_blob blob, again;
	struct hub_file f = file(w, "one");

	assert_int_equal(hub_blob_put(w->m, "d/x", "a/b", &f, &blob), 0);
	assert_content(w, "d/x", 0, "one");	/* in the same turn already */
	commit(w);
	f = file(w, "two");
	assert_int_equal(hub_blob_put(w->m, "d/x", "", &f, &again), 0);
	assert_true(again.version > blob.version);
	commit(w);
	assert_int_equal(files(w, false), 1);
	reopen(w);
	assert_content(w, "d/x", 1, "wo");
	assert_content(w, "d/x", 99, "");
	assert_int_equal(hub_blob_find(w->m, "d/x", &blob), 0);
	assert_int_equal(blob.version, again.version);
	assert_int_equal(hub_blob_find(w->m, "d/y", &blob), HF_ENOTFOUND);
	assert_int_equal(hub_blob_delete(w->m, "d/y"), HF_ENOTFOUND);
	assert_int_equal(hub_blob_delete(w->m, "d/x"), 0);
	commit(w);
	assert_int_equal(files(w, false), 0);
}

static void test_blocks_survive_and_expire(void **state)
{
	struct world *w = *state;
	struct hub_blob blob;

	put_block(w, "d/x", "YQ==", "a");
	put_block(w, "d/x", "Yg==", "b1");
	put_block(w, "d/x", "Yg==", "b2");	/* the later one counts */
	put_block(w, "d/old", "YQ==", "gone");
	commit(w);
	assert_int_equal(files(w, false), 3);
	advance(w, HOUR_MS);
	put_block(w, "d/x", "Yw==", "c");
	commit(w);
	reopen(w);
	assert_int_equal(put_list(w, "d/x", "<BlockList><Committed>YQ==</Committed></BlockList>"), HF_ENOTFOUND);
	assert_int_equal(put_list(w, "d/x", "<BlockList><Latest>Yg==</Latest><Uncommitted>YQ==</Uncommitted></BlockList>"), 0);
	commit(w);
	assert_content(w, "d/x", 0, "b2a");
	assert_int_equal(files(w, false), 3);
	advance(w, HOUR_MS + 1);	/* two hours after the last block of d/old */
	assert_int_equal(files(w, false), 2);
	assert_int_equal(put_list(w, "d/old", "<BlockList><Latest>YQ==</Latest></BlockList>"), HF_ENOTFOUND);
	/* Made of its own blocks again, one of them new. */
	put_block(w, "d/x", "YQ==", "A");
	assert_int_equal(put_list(w, "d/x", "<BlockList><Latest>YQ==</Latest><Committed>YQ==</Committed></BlockList>"), 0);
	commit(w);
	assert_content(w, "d/x", 0, "Aa");
	assert_int_equal(files(w, false), 2);
	reopen(w);
	assert_content(w, "d/x", 0, "Aa");
	assert_int_equal(hub_blob_find(w->m, "d/x", &blob), 0);
	assert_string_equal(blob.type, "text/plain");
}

static void test_start_removes_what_nobody_named(void **state)
{
	struct world *w = *state;
	struct hub_file f = file(w, "kept"), lost = file(w, "lost");
	struct hub_blob blob;

	assert_int_equal(hub_blob_put(w->m, "d/x", "", &f, &blob), 0);
	commit(w);
	close(lost.fd);
	assert_int_equal(files(w, false), 2);
	reopen(w);
	assert_int_equal(files(w, false), 1);
	f = file(w, "new");	/* numbers are not given twice */
	assert_int_equal(hub_blob_put(w->m, "d/y", "", &f, &blob), 0);
	commit(w);
	assert_content(w, "d/x", 0, "kept");
	assert_content(w, "d/y", 0, "new");
}

static void test_bounds(void **state)
{
	struct world *w = *state;
	struct hub_file f, some[10];
	char part[5000] = "";
	unsigned n = 0;
	int r = 0;

	assert_int_equal(hub_file_create(w->m, &f), 0);
	assert_int_equal(hub_file_write(w->m, &f, hf_span(part, 5000)), 0);
	assert_int_equal(hub_file_write(w->m, &f, hf_span(part, 5000)), 0);
	assert_int_equal(hub_file_write(w->m, &f, hf_span(part, 1)), HF_ELIMIT);
	hub_file_discard(w->m, &f);
	assert_int_equal(files(w, false), 0);
	while (n < 10 && (r = hub_file_create(w->m, &some[n])) == 0 && (r = hub_file_write(w->m, &some[n], hf_span(part, 5000))) == 0)
		n++;
	assert_int_equal(r, HF_EFULL);
	assert_int_equal(n, 8);		/* of 12 KiB each as they are charged */
	while (n)
		hub_file_discard(w->m, &some[--n]);
	put_block(w, "d/x", "YQ==", "fine again");
	commit(w);
}

/* A block may stand in a list more than once; its file is one, and is paid for once. */
static void test_block_named_twice(void **state)
{
	struct world *w = *state;
	const int64_t before = hf_metric_get(HUB_M_BLOB_BYTES);
	struct hub_file f;
	struct hub_blob blob;

	put_block(w, "d/x", "YQ==", "ab");
	commit(w);
	const int64_t one = hf_metric_get(HUB_M_BLOB_BYTES) - before;

	assert_true(one > 0);
	assert_int_equal(put_list(w, "d/x", "<BlockList><Latest>YQ==</Latest><Latest>YQ==</Latest><Latest>YQ==</Latest></BlockList>"), 0);
	commit(w);
	assert_content(w, "d/x", 0, "ababab");
	assert_int_equal(hf_metric_get(HUB_M_BLOB_BYTES) - before, one);
	reopen(w);
	assert_int_equal(hf_metric_get(HUB_M_BLOB_BYTES), one);
	f = file(w, "cd");
	assert_int_equal(hub_blob_put(w->m, "d/x", "", &f, &blob), 0);
	commit(w);
	assert_int_equal(files(w, false), 1);
	assert_int_equal(hf_metric_get(HUB_M_BLOB_BYTES), one);
	assert_int_equal(hub_blob_delete(w->m, "d/x"), 0);
	commit(w);
	assert_int_equal(hf_metric_get(HUB_M_BLOB_BYTES), 0);
	f = file(w, "there is room");
	hub_file_discard(w->m, &f);
}

static void test_uploads(void **state)
{
	struct world *w = *state;
	struct hub_upload_ticket t[10], more;
	struct hub_feedback batch;
	struct hub_error err;
	struct hub_blob blob;
	struct hub_file f;

	for (int i = 0; i < 10; i++)
		assert_int_equal(hub_upload_start(w->m, "d", "x", &t[i], &err), 0);
	assert_int_equal(hub_upload_start(w->m, "d", "x", &more, &err), HF_EFULL);
	assert_int_equal(err.code, 403006);
	commit(w);
	reopen(w);
	assert_int_equal(hub_upload_start(w->m, "d", "x", &more, &err), HF_EFULL);
	assert_int_equal(hub_upload_finish(w->m, "d", t[0].correlation_id, true, &err), HF_ENOTFOUND);
	assert_int_equal(err.code, 400020);
	assert_int_equal(hub_upload_finish(w->m, "e", t[0].correlation_id, false, &err), HF_ENOTFOUND);
	assert_int_equal(err.code, 400015);
	f = file(w, "content");
	assert_int_equal(hub_blob_put(w->m, "d/x", "", &f, &blob), 0);
	assert_int_equal(hub_upload_finish(w->m, "d", t[0].correlation_id, true, &err), 0);
	assert_int_equal(hub_upload_finish(w->m, "d", t[1].correlation_id, false, &err), 0);
	assert_int_equal(hub_feedback_receive(w->m, HUB_FEEDBACK_FILES, w, &batch), 0);
	assert_non_null(strstr(batch.json, "\"blobSizeInBytes\":7"));
	free(batch.json);
	assert_int_equal(hub_feedback_receive(w->m, HUB_FEEDBACK_FILES, w, &batch), HF_ENOTFOUND);
	advance(w, HOUR_MS + 1);	/* the others have ended by themselves */
	for (int i = 0; i < 10; i++)
		assert_int_equal(hub_upload_start(w->m, "d", "x", &t[i], &err), 0);
	assert_int_equal(hub_ident_delete(w->m, "d", NULL, NULL, &err), 0);
	commit(w);
	assert_int_equal(hub_upload_finish(w->m, "d", t[5].correlation_id, false, &err), HF_ENOTFOUND);
	assert_content(w, "d/x", 0, "content");		/* blobs outlive their device */
}

/* The value of one parameter of a ticket's query, decoded. */
static void param(const char *sas, const char *name, char *out, size_t cap)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(256);
	const char *at = strstr(sas, name);
	size_t n = strlen(name);

	assert_non_null(at);
	assert_int_equal(hf_uri_decode(hf_span(at + n, strcspn(at + n, "&")), &b), 0);
	snprintf(out, cap, "%s", hf_buf_cstr(&b));
}

static void test_signatures(void **state)
{
	struct world *w = *state;
	struct hub_upload_ticket t;
	struct hub_blob_sas sas, bad;
	struct hub_error err;

	assert_int_equal(hub_upload_start(w->m, "d", "x", &t, &err), 0);
	param(t.sas, "sv=", sas.sv, sizeof sas.sv);
	param(t.sas, "sr=", sas.sr, sizeof sas.sr);
	param(t.sas, "sp=", sas.sp, sizeof sas.sp);
	param(t.sas, "se=", sas.se, sizeof sas.se);
	param(t.sas, "sig=", sas.sig, sizeof sas.sig);
	assert_int_equal(hub_blob_authorize(w->m, "d/x", &sas, HUB_BLOB_WRITE), HUB_BLOB_GRANTED);
	assert_int_equal(hub_blob_authorize(w->m, "d/x", &sas, HUB_BLOB_READ), HUB_BLOB_GRANTED);
	assert_int_equal(hub_blob_authorize(w->m, "d/y", &sas, HUB_BLOB_READ), HUB_BLOB_FORGED);
	for (unsigned i = 0; i < 5; i++) {
		char *const part[] = { bad.sv, bad.sp, bad.se, bad.sig, bad.sr };

		bad = sas;
		part[i][1] ^= 1;
		assert_int_not_equal(hub_blob_authorize(w->m, "d/x", &bad, HUB_BLOB_WRITE), HUB_BLOB_GRANTED);
		bad = sas;
		part[i][0] = '\0';
		assert_int_not_equal(hub_blob_authorize(w->m, "d/x", &bad, HUB_BLOB_WRITE), HUB_BLOB_GRANTED);
	}
	commit(w);
	reopen(w);	/* the key stays */
	assert_int_equal(hub_blob_authorize(w->m, "d/x", &sas, HUB_BLOB_WRITE), HUB_BLOB_GRANTED);
	advance(w, HOUR_MS + 1000);
	assert_int_equal(hub_blob_authorize(w->m, "d/x", &sas, HUB_BLOB_WRITE), HUB_BLOB_EXPIRED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_replace_and_restart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_blocks_survive_and_expire, setup, teardown),
		cmocka_unit_test_setup_teardown(test_start_removes_what_nobody_named, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_block_named_twice, setup, teardown),
		cmocka_unit_test_setup_teardown(test_uploads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_signatures, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
