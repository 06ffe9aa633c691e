/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Files on disk and the blobs made of them.
 *
 * Table "blob", key: the name, long ones cut and followed by a hash. Value: version, modified ms, size le64 each, lengths
 * of name and type and number of parts le32 each, name, type, then each part: file, size le64, length of block id le32,
 * block id. */
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "hub/blob/blob_int.h"
#include "hub/metrics.h"
#include "tls/tls.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <holdfast/err.h>
#include <stdio.h>
#include <sys/stat.h>

#define RECORD_MAX ((size_t)2 << 20)
#define FILE_NAME 17

/* --- files ------------------------------------------------------------------------------------------------ */

static const char *file_name(uint64_t id, char out[FILE_NAME])
{
	snprintf(out, FILE_NAME, "%016llx", (unsigned long long)id);
	return out;
}

/* Whole pages, and one for the file's own records. */
uint64_t hub_file_charge(uint64_t size)
{
	return ((size + 4095) & ~(uint64_t)4095) + 4096;
}

static void set_used(struct hub_blobs *b, uint64_t used)
{
	b->used = used;
	hf_metric_set(HUB_M_BLOB_BYTES, (int64_t)used);
}

bool hub_blobs_on(const struct hub_model *m) { return m->blobs->max_blob > 0; }
bool hub_blobs_sync(const struct hub_model *m) { return m->blobs->sync; }
uint64_t hub_blob_max_bytes(const struct hub_model *m) { return m->blobs->max_blob; }
int hub_blob_dir(const struct hub_model *m) { return m->blobs->dir; }

static int disk_error(int err)
{
	static struct hf_log_limit limit;

	hf_log_limited(&limit, HF_LOG_ERR, "hub.blob.disk", "blobs: %s", strerror(err));
	return err == ENOSPC || err == EDQUOT || err == EFBIG ? HF_EFULL : -err;
}

int hub_file_create(struct hub_model *m, struct hub_file *ret_file)
{
	struct hub_blobs *b = m->blobs;
	char name[FILE_NAME];
	int fd;

	if (b->used + hub_file_charge(0) > b->max_bytes)
		return HF_EFULL;
	fd = openat(b->dir, file_name(b->next_id, name), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return disk_error(errno);
	set_used(b, b->used + hub_file_charge(0));
	*ret_file = (struct hub_file){ .fd = fd, .id = b->next_id++ };
	return 0;
}

int hub_file_write(struct hub_model *m, struct hub_file *f, struct hf_span part)
{
	struct hub_blobs *b = m->blobs;
	uint64_t more = hub_file_charge(f->size + part.len) - hub_file_charge(f->size);

	if (f->size + part.len > b->max_blob)
		return HF_ELIMIT;
	if (b->used + more > b->max_bytes)
		return HF_EFULL;
	while (part.len) {
		ssize_t n = write(f->fd, part.ptr, part.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return disk_error(errno);
		set_used(b, b->used + hub_file_charge(f->size + (uint64_t)n) - hub_file_charge(f->size));
		f->size += (uint64_t)n;
		part = hf_span_skip(part, (size_t)n);
	}
	return 0;
}

static void remove_file(struct hub_model *m, uint64_t id, uint64_t size)
{
	char name[FILE_NAME];

	if (unlinkat(m->blobs->dir, file_name(id, name), 0) != 0) {
		/* A blob may name a file twice: the second time it is gone, and was paid back. Else the bytes are still there
		 * and stay charged until the next start. */
		if (errno != ENOENT)
			disk_error(errno);
		return;
	}
	set_used(m->blobs, m->blobs->used - hub_file_charge(size));
}

void hub_file_discard(struct hub_model *m, struct hub_file *f)
{
	if (f->fd < 0)
		return;
	close(f->fd);
	f->fd = -1;
	remove_file(m, f->id, f->size);
}

struct hub_removal {
	struct hub_wait wait;
	struct hub_model *m;
	struct { uint64_t file, size; bool when_ok; } *at;
	size_t n, cap;
	uint64_t *kept;			/* sorted */
	size_t n_kept;
	bool failed;
};

struct hub_removal *hub_removal_new(struct hub_model *m)
{
	struct hub_removal *r = calloc(1, sizeof *r);

	if (r)
		r->m = m;
	return r;
}

void hub_removal_free(struct hub_removal *r)
{
	if (r) {
		free(r->at);
		free(r->kept);
	}
	free(r);
}

/* Of numbers, and of what begins with one. */
static int by_id(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static bool is_among(uint64_t id, const uint64_t *sorted, size_t n)
{
	return n && bsearch(&id, sorted, n, sizeof id, by_id);
}

void hub_removal_keep(struct hub_removal *r, const struct hub_part *parts, size_t n)
{
	if (!r || n == 0)
		return;
	r->kept = calloc(n, sizeof *r->kept);
	r->failed |= !r->kept;
	for (size_t i = 0; r->kept && i < n; i++)
		r->kept[r->n_kept++] = parts[i].file;
	if (r->kept)
		qsort(r->kept, r->n_kept, sizeof *r->kept, by_id);
}

void hub_removal_add(struct hub_removal *r, uint64_t file, uint64_t size, bool when_ok)
{
	if (!r || r->failed)
		return;
	if (r->n == r->cap) {
		size_t cap = r->cap ? 2 * r->cap : 8;
		void *at = realloc(r->at, cap * sizeof *r->at);

		if (!at) {
			r->failed = true;
			return;
		}
		r->at = at;
		r->cap = cap;
	}
	r->at[r->n].file = file;
	r->at[r->n].size = size;
	r->at[r->n++].when_ok = when_ok;
}

static void on_commit(void *arg, int err)
{
	struct hub_removal *r = arg;

	for (size_t i = 0; i < r->n; i++)
		if (r->at[i].when_ok == (err == 0) && !is_among(r->at[i].file, r->kept, r->n_kept))
			remove_file(r->m, r->at[i].file, r->at[i].size);
	hub_removal_free(r);
}

void hub_removal_start(struct hub_removal *r)
{
	if (!r || r->failed)
		hub_removal_free(r);
	else
		hub_commit_wait(r->m, &r->wait, on_commit, r);
}

/* --- records ---------------------------------------------------------------------------------------------- */

static struct hf_span make_key(const char *name, char out[HUB_BLOB_KEY_MAX])
{
	hf_autobuf struct hf_buf hex = HF_BUF_INIT(128);
	size_t n = strlen(name);
	uint8_t hash[32];

	if (n <= 400)
		return hf_span_str(name);
	hf_sha256(hf_span_str(name), hash);
	hf_hex_encode(hf_span(hash, sizeof hash), &hex);
	snprintf(out, HUB_BLOB_KEY_MAX, "%.400s%s", name, hf_buf_cstr(&hex));
	return hf_span_str(out);
}

static int parse(struct hf_span value, struct hub_blob *blob, struct hf_span *ret_name, struct hf_span *ret_parts)
{
	struct hf_cur c = hf_cur(value);
	uint32_t name_len, type_len;
	struct hf_span type;

	memset(blob, 0, sizeof *blob);
	blob->version = hf_cur_le64(&c);
	blob->modified_ms = (int64_t)hf_cur_le64(&c);
	blob->size = hf_cur_le64(&c);
	name_len = hf_cur_le32(&c);
	type_len = hf_cur_le32(&c);
	blob->n_parts = hf_cur_le32(&c);
	*ret_name = hf_cur_take(&c, name_len);
	type = hf_cur_take(&c, type_len);
	*ret_parts = c.in;
	if (c.err || type.len >= sizeof blob->type || ret_name->len > HUB_BLOB_NAME_MAX || blob->n_parts > HUB_BLOB_MAX_BLOCKS)
		return HF_ECORRUPT;
	if (type.len)
		memcpy(blob->type, type.ptr, type.len);
	return 0;
}

static bool next_part(struct hf_cur *c, struct hub_part *ret_part)
{
	ret_part->file = hf_cur_le64(c);
	ret_part->size = hf_cur_le64(c);
	ret_part->id = hf_cur_take(c, hf_cur_le32(c));
	return !c->err;
}

void hub_blob_record_fini(struct hub_blob_record *r)
{
	free(r->parts);
	hf_buf_fini(&r->mem);
	*r = (struct hub_blob_record){ 0 };
}

static int copy_record(struct hf_span value, struct hub_blob_record *r)
{
	struct hf_span name, rest = { 0 };
	struct hf_cur c;
	int e;

	*r = (struct hub_blob_record){ .mem = HF_BUF_INIT(RECORD_MAX) };
	hf_buf_put_span(&r->mem, value);
	e = r->mem.err ? r->mem.err : parse(hf_buf_span(&r->mem), &r->blob, &name, &rest);
	if (e == 0 && r->blob.n_parts && !(r->parts = calloc(r->blob.n_parts, sizeof *r->parts)))
		e = -ENOMEM;
	c = hf_cur(rest);
	for (unsigned i = 0; e == 0 && i < r->blob.n_parts; i++)
		e = next_part(&c, &r->parts[i]) ? 0 : HF_ECORRUPT;
	if (e != 0)
		hub_blob_record_fini(r);
	return e;
}

/* Runs fn on the value, changes of this turn included. */
static int with_record(struct hub_model *m, const char *name, int (*fn)(struct hf_span value, void *arg), void *arg)
{
	struct hf_txn *own = NULL, *txn = m->state_txn;
	char key[HUB_BLOB_KEY_MAX];
	struct hf_span value;
	int r = 0;

	if (!txn) {
		r = hf_txn_begin(m->state, false, &own);
		txn = own;
	}
	if (r == 0)
		r = hf_txn_get(txn, HUB_T_BLOB, make_key(name, key), &value);
	if (r == 0)
		r = fn(value, arg);
	if (own)
		hf_txn_abort(&own);
	return r;
}

static int take_record(struct hf_span value, void *arg) { return copy_record(value, arg); }

static int take_blob(struct hf_span value, void *arg)
{
	struct hf_span name, parts;

	return parse(value, arg, &name, &parts);
}

int hub_blob_load_record(struct hub_model *m, const char *name, struct hub_blob_record *ret_record)
{
	return with_record(m, name, take_record, ret_record);
}

int hub_blob_find(struct hub_model *m, const char *name, struct hub_blob *ret_blob)
{
	return with_record(m, name, take_blob, ret_blob);
}

/* --- changes ---------------------------------------------------------------------------------------------- */

static void add_old(struct hub_model *m, const char *name, struct hub_removal *removal)
{
	struct hub_blob_record old;

	if (hub_blob_load_record(m, name, &old) != 0)
		return;
	for (unsigned i = 0; i < old.blob.n_parts; i++)
		hub_removal_add(removal, old.parts[i].file, old.parts[i].size, true);
	hub_blob_record_fini(&old);
}

int hub_blob_store(struct hub_model *m, const char *name, const char *type, const struct hub_part *parts, size_t n,
		   struct hub_removal *removal, struct hub_blob *ret_blob)
{
	struct hub_blob blob = { .version = m->blobs->next_id++, .modified_ms = hf_clock_wall_ms(), .n_parts = (unsigned)n };
	hf_autobuf struct hf_buf b = HF_BUF_INIT(RECORD_MAX);
	char key[HUB_BLOB_KEY_MAX];
	struct hf_txn *txn;
	int r;

	snprintf(blob.type, sizeof blob.type, "%s", type);
	for (size_t i = 0; i < n; i++)
		blob.size += parts[i].size;
	hf_buf_le64(&b, blob.version);
	hf_buf_le64(&b, (uint64_t)blob.modified_ms);
	hf_buf_le64(&b, blob.size);
	hf_buf_le32(&b, (uint32_t)strlen(name));
	hf_buf_le32(&b, (uint32_t)strlen(blob.type));
	hf_buf_le32(&b, blob.n_parts);
	hf_buf_puts(&b, name);
	hf_buf_puts(&b, blob.type);
	for (size_t i = 0; i < n; i++) {
		hf_buf_le64(&b, parts[i].file);
		hf_buf_le64(&b, parts[i].size);
		hf_buf_le32(&b, (uint32_t)parts[i].id.len);
		hf_buf_put_span(&b, parts[i].id);
	}
	r = b.err ? b.err : hub_state_txn(m, &txn);
	if (r != 0)
		return r;
	add_old(m, name, removal);
	r = hf_txn_put(txn, HUB_T_BLOB, make_key(name, key), hf_buf_span(&b));
	if (r == 0)
		*ret_blob = blob;
	return r;
}

int hub_blob_put(struct hub_model *m, const char *name, const char *type, struct hub_file *f, struct hub_blob *ret_blob)
{
	struct hub_removal *removal = hub_removal_new(m);
	struct hub_part part = { .file = f->id, .size = f->size };
	bool has_file = f->fd >= 0;
	int r = hub_blob_store(m, name, type, &part, has_file, removal, ret_blob);

	if (r != 0) {
		hub_removal_free(removal);
		hub_file_discard(m, f);
		return r;
	}
	if (has_file) {
		hub_removal_add(removal, f->id, f->size, false);
		close(f->fd);
		f->fd = -1;
	}
	hub_blocks_drop(m, name, removal);
	hub_removal_start(removal);
	return 0;
}

int hub_blob_delete(struct hub_model *m, const char *name)
{
	struct hub_removal *removal;
	char key[HUB_BLOB_KEY_MAX];
	struct hf_txn *txn;
	int r = hub_state_txn(m, &txn);

	if (r != 0)
		return r;
	removal = hub_removal_new(m);
	add_old(m, name, removal);
	r = hf_txn_del(txn, HUB_T_BLOB, make_key(name, key));
	if (r == 0)
		hub_removal_start(removal);
	else
		hub_removal_free(removal);
	return r;
}

/* --- start ------------------------------------------------------------------------------------------------ */

/* What records name; a file as often as they do. */
struct stored { uint64_t file, size; };
struct known { struct stored *at; size_t n, cap; };

static int keep(void *arg, uint64_t file, uint64_t size)
{
	struct known *k = arg;

	if (k->n == k->cap) {
		size_t cap = k->cap ? 2 * k->cap : 256;
		struct stored *at = realloc(k->at, cap * sizeof *at);

		if (!at)
			return -ENOMEM;
		k->at = at;
		k->cap = cap;
	}
	k->at[k->n++] = (struct stored){ file, size };
	return 0;
}

struct scan {
	struct hub_model *m;
	struct known *known;
	void (*fn)(void *arg, const char *name, const struct hub_blob *blob);
	void *arg;
};

static int scan_one(void *arg, struct hf_span key, struct hf_span value)
{
	const struct scan *s = arg;
	hf_autofree char *name = NULL;
	struct hf_span text, rest;
	struct hub_blob blob;
	struct hub_part part;
	struct hf_cur c;
	int r = parse(value, &blob, &text, &rest);

	(void)key;
	c = hf_cur(rest);
	for (unsigned i = 0; r == 0 && s->known && i < blob.n_parts; i++)
		r = next_part(&c, &part) ? keep(s->known, part.file, part.size) : HF_ECORRUPT;
	if (r == 0 && s->known)
		s->m->blobs->next_id = hf_max(s->m->blobs->next_id, blob.version + 1);
	if (r != 0 || !s->fn)
		return r;
	name = hf_span_dup(text);
	if (name)
		s->fn(s->arg, name, &blob);
	return name ? 0 : -ENOMEM;
}

static int scan(struct scan *s)
{
	return hf_db_each(s->m->state, HUB_T_BLOB, scan_one, s);
}

void hub_blob_list(struct hub_model *m, void (*fn)(void *arg, const char *name, const struct hub_blob *blob), void *arg)
{
	if (scan(&(struct scan){ .m = m, .fn = fn, .arg = arg }) != 0)
		hf_log(HF_LOG_ERR, "hub.blob.list", "the list of blobs cannot be read");
}

/* What no record names was not acknowledged, or is left of what was replaced. */
static int sweep(struct hub_model *m, const struct known *known)
{
	int fd = openat(m->blobs->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *e;
	unsigned n = 0;

	if (!dir) {
		int err = errno;

		if (fd >= 0)
			close(fd);
		return -err;
	}
	while ((e = readdir(dir))) {
		uint64_t id = strtoull(e->d_name, NULL, 16);

		if (e->d_name[0] == '.' || (known->n && bsearch(&id, known->at, known->n, sizeof *known->at, by_id)))
			continue;
		if (unlinkat(m->blobs->dir, e->d_name, 0) == 0)
			n++;
	}
	closedir(dir);
	if (n)
		hf_log(HF_LOG_NOTICE, "hub.blob.sweep", "removed %u files of uploads that had no end", n);
	return 0;
}

static int load(struct hub_model *m)
{
	struct known known = { 0 };
	uint64_t used = 0;
	int r = scan(&(struct scan){ .m = m, .known = &known });

	if (r == 0)
		r = hub_blocks_load(m, keep, &known);
	if (r == 0)
		r = hub_uploads_load(m);
	if (r == 0 && known.n) {
		qsort(known.at, known.n, sizeof *known.at, by_id);
		m->blobs->next_id = hf_max(m->blobs->next_id, known.at[known.n - 1].file + 1);
	}
	for (size_t i = 0; r == 0 && i < known.n; i++)
		if (i == 0 || known.at[i].file != known.at[i - 1].file)
			used += hub_file_charge(known.at[i].size);
	if (r == 0)
		r = sweep(m, &known);
	set_used(m->blobs, used);
	free(known.at);
	return r;
}

static int load_key(struct hub_model *m)
{
	struct hf_span value;
	struct hf_txn *txn;
	int r = hub_state_txn(m, &txn);

	if (r == 0)
		r = hf_txn_get(txn, HUB_T_META, hf_span_str("blob-key"), &value);
	if (r == 0 && value.len == sizeof m->blobs->key) {
		memcpy(m->blobs->key, value.ptr, value.len);
		return 0;
	}
	if (r != HF_ENOTFOUND)
		return r == 0 ? HF_ECORRUPT : r;
	hf_random(m->blobs->key, sizeof m->blobs->key);
	return hf_txn_put(txn, HUB_T_META, hf_span_str("blob-key"), hf_span(m->blobs->key, sizeof m->blobs->key));
}

int hub_blobs_open(struct hub_model *m, const struct hub_model_cfg *cfg)
{
	struct hub_blobs *b = m->blobs = calloc(1, sizeof *b);
	char path[4096];

	if (!b)
		return -ENOMEM;
	b->dir = -1;
	b->sync = cfg->sync;
	b->max_blob = cfg->max_blob_bytes;
	b->max_bytes = cfg->blobs_max_bytes;
	b->next_id = 1;
	hf_list_init(&b->waiting_order);
	hf_list_init(&b->upload_order);
	if (hf_map_create(&b->waiting) != 0 || hf_map_create(&b->uploads) != 0)
		return -ENOMEM;
	if (snprintf(path, sizeof path, "%s/blobs", cfg->dir) >= (int)sizeof path)
		return -ENAMETOOLONG;
	if (b->max_blob && mkdir(path, 0700) != 0 && errno != EEXIST)
		return -errno;
	b->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (b->dir < 0)
		return b->max_blob ? -errno : 0;
	int r = load_key(m);
	return r == 0 ? load(m) : r;
}

void hub_blobs_fini(struct hub_model *m)
{
	if (!m->blobs)
		return;
	hub_blocks_fini(m);
	hub_uploads_fini(m);
	if (m->blobs->dir >= 0)
		close(m->blobs->dir);
	explicit_bzero(m->blobs->key, sizeof m->blobs->key);
	free(hf_take(m->blobs));
}

bool hub_blobs_step(struct hub_model *m)
{
	bool more = hub_blocks_step(m);

	return hub_uploads_step(m) || more;
}
