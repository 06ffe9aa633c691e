/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "db/db.h"
#include "core/log.h"
#include "core/util.h"
#include <errno.h>
#include <holdfast/err.h>
#include <lmdb.h>

#define MAX_TABLES 16

struct hf_db {
	MDB_env *env;
	MDB_dbi tables[MAX_TABLES];
	unsigned n_tables;
};
struct hf_txn {
	struct hf_db *db;
	MDB_txn *mdb;
	int err;	/* sticky */
};
struct hf_cursor {
	struct hf_txn *txn;
	MDB_cursor *mdb;
};

static int translate(int r)
{
	switch (r) {
	case 0:
		return 0;
	case MDB_NOTFOUND:
		return HF_ENOTFOUND;
	case MDB_KEYEXIST:
		return HF_EEXISTS;
	case MDB_MAP_FULL:
	case MDB_TXN_FULL:
	case ENOSPC:
	case EDQUOT:
		return HF_EFULL;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_PANIC:
	case MDB_INVALID:
	case MDB_VERSION_MISMATCH:
	case MDB_BAD_TXN:
		return HF_ECORRUPT;
	case MDB_READERS_FULL:
		return HF_ELIMIT;
	default:
		return r > 0 ? -r : HF_ECORRUPT;
	}
}

static int stick(struct hf_txn *txn, int r)
{
	int err = translate(r);

	if (err && !txn->err) {
		txn->err = err;
		hf_log(HF_LOG_DEBUG, "db.error", "%s", mdb_strerror(r));
	}
	return err;
}

static MDB_val val(struct hf_span s)
{
	return (MDB_val){ .mv_size = s.len, .mv_data = (void *)s.ptr };
}

static struct hf_span span(MDB_val v)
{
	return hf_span(v.mv_data, v.mv_size);
}

static int open_tables(struct hf_db *db, const char *const *names)
{
	MDB_txn *txn;
	int r = mdb_txn_begin(db->env, NULL, 0, &txn);

	if (r != 0)
		return r;
	for (; names[db->n_tables]; db->n_tables++) {
		r = db->n_tables < MAX_TABLES
			    ? mdb_dbi_open(txn, names[db->n_tables], MDB_CREATE, &db->tables[db->n_tables])
			    : EINVAL;
		if (r != 0) {
			mdb_txn_abort(txn);
			return r;
		}
	}
	return mdb_txn_commit(txn);
}

int hf_db_open(const struct hf_db_cfg *cfg, struct hf_db **ret_db)
{
	unsigned flags = MDB_NOSUBDIR | MDB_NOTLS | MDB_NORDAHEAD | (cfg->flags & HF_DB_NOSYNC ? MDB_NOSYNC : 0);
	struct hf_db *db = calloc(1, sizeof *db);
	int r, dead;

	if (!db)
		return -ENOMEM;
	r = mdb_env_create(&db->env);
	if (r != 0) {
		free(db);
		return translate(r);
	}
	mdb_env_set_maxdbs(db->env, MAX_TABLES);
	mdb_env_set_maxreaders(db->env, cfg->max_readers ? cfg->max_readers : 32);
	r = mdb_env_set_mapsize(db->env, cfg->map_size);
	if (r == 0)
		r = mdb_env_open(db->env, cfg->path, flags, 0600);
	if (r == 0) {
		mdb_reader_check(db->env, &dead);
		r = open_tables(db, cfg->tables);
	}
	if (r != 0) {
		hf_log(HF_LOG_ERR, "db.open", "%s: %s", cfg->path, mdb_strerror(r));
		mdb_env_close(db->env);
		free(db);
		return translate(r);
	}
	*ret_db = db;
	return 0;
}

void hf_db_close(struct hf_db **db)
{
	if (!*db)
		return;
	mdb_env_close((*db)->env);
	free(*db);
	*db = NULL;
}

int hf_txn_begin(struct hf_db *db, bool write, struct hf_txn **ret_txn)
{
	struct hf_txn *txn = calloc(1, sizeof *txn);
	int r;

	if (!txn)
		return -ENOMEM;
	txn->db = db;
	r = mdb_txn_begin(db->env, NULL, write ? 0 : MDB_RDONLY, &txn->mdb);
	if (r != 0) {
		free(txn);
		return translate(r);
	}
	*ret_txn = txn;
	return 0;
}

int hf_txn_commit(struct hf_txn **ptxn)
{
	struct hf_txn *txn = *ptxn;
	int err = txn->err;

	if (err)
		mdb_txn_abort(txn->mdb);
	else
		err = translate(mdb_txn_commit(txn->mdb));
	free(txn);
	*ptxn = NULL;
	return err;
}

void hf_txn_abort(struct hf_txn **txn)
{
	if (!*txn)
		return;
	mdb_txn_abort((*txn)->mdb);
	free(*txn);
	*txn = NULL;
}

int hf_txn_error(const struct hf_txn *txn)
{
	return txn->err;
}

int hf_txn_get(struct hf_txn *txn, hf_table_t t, struct hf_span key, struct hf_span *ret_value)
{
	MDB_val k = val(key), v;
	int r;

	if (txn->err)
		return txn->err;
	r = mdb_get(txn->mdb, txn->db->tables[t], &k, &v);
	if (r == MDB_NOTFOUND)
		return HF_ENOTFOUND;
	if (r == 0)
		*ret_value = span(v);
	return stick(txn, r);
}

static int put(struct hf_txn *txn, hf_table_t t, struct hf_span key, MDB_val *v, unsigned flags)
{
	MDB_val k = val(key);

	if (txn->err)
		return txn->err;
	return stick(txn, mdb_put(txn->mdb, txn->db->tables[t], &k, v, flags));
}

int hf_txn_put(struct hf_txn *txn, hf_table_t t, struct hf_span key, struct hf_span value)
{
	MDB_val v = val(value);

	return put(txn, t, key, &v, 0);
}

int hf_txn_append(struct hf_txn *txn, hf_table_t t, struct hf_span key, struct hf_span value)
{
	MDB_val v = val(value);

	return put(txn, t, key, &v, MDB_APPEND);
}

int hf_txn_reserve(struct hf_txn *txn, hf_table_t t, struct hf_span key, size_t len, bool append, void **ret_p)
{
	MDB_val v = { .mv_size = len };
	int r = put(txn, t, key, &v, MDB_RESERVE | (append ? MDB_APPEND : 0));

	if (r == 0)
		*ret_p = v.mv_data;
	return r;
}

int hf_txn_del(struct hf_txn *txn, hf_table_t t, struct hf_span key)
{
	MDB_val k = val(key);
	int r;

	if (txn->err)
		return txn->err;
	r = mdb_del(txn->mdb, txn->db->tables[t], &k, NULL);
	return r == MDB_NOTFOUND ? HF_ENOTFOUND : stick(txn, r);
}

int hf_txn_clear(struct hf_txn *txn, hf_table_t t)
{
	return txn->err ? txn->err : stick(txn, mdb_drop(txn->mdb, txn->db->tables[t], 0));
}

int hf_cursor_open(struct hf_txn *txn, hf_table_t t, struct hf_cursor **ret_cur)
{
	struct hf_cursor *c;
	int r;

	if (txn->err)
		return txn->err;
	c = calloc(1, sizeof *c);
	if (!c)
		return -ENOMEM;
	c->txn = txn;
	r = mdb_cursor_open(txn->mdb, txn->db->tables[t], &c->mdb);
	if (r != 0) {
		free(c);
		return stick(txn, r);
	}
	*ret_cur = c;
	return 0;
}

void hf_cursor_close(struct hf_cursor **cur)
{
	if (!*cur)
		return;
	mdb_cursor_close((*cur)->mdb);
	free(*cur);
	*cur = NULL;
}

static int step(struct hf_cursor *c, MDB_val *k, MDB_cursor_op op, struct hf_span *ret_key, struct hf_span *ret_value)
{
	MDB_val v;
	int r;

	if (c->txn->err)
		return c->txn->err;
	r = mdb_cursor_get(c->mdb, k, &v, op);
	if (r == MDB_NOTFOUND || (r == EINVAL && op == MDB_GET_CURRENT))
		return HF_ENOTFOUND;
	if (r != 0)
		return stick(c->txn, r);
	if (ret_key)
		*ret_key = span(*k);
	if (ret_value)
		*ret_value = span(v);
	return 0;
}

int hf_cursor_seek(struct hf_cursor *c, struct hf_span key, struct hf_span *ret_key, struct hf_span *ret_value)
{
	MDB_val k = val(key);

	return step(c, &k, key.len ? MDB_SET_RANGE : MDB_FIRST, ret_key, ret_value);
}

int hf_cursor_next(struct hf_cursor *c, struct hf_span *ret_key, struct hf_span *ret_value)
{
	MDB_val k;

	/* After a delete LMDB's cursor stands on the successor, and NEXT knows it (C_DEL). */
	return step(c, &k, MDB_NEXT, ret_key, ret_value);
}

int hf_cursor_last(struct hf_cursor *c, struct hf_span *ret_key, struct hf_span *ret_value)
{
	MDB_val k;

	return step(c, &k, MDB_LAST, ret_key, ret_value);
}

int hf_txn_each(struct hf_txn *txn, hf_table_t t, hf_each_fn fn, void *arg)
{
	struct hf_cursor *cur;
	struct hf_span key, value;
	int at, r = hf_cursor_open(txn, t, &cur);

	if (r != 0)
		return r;
	at = hf_cursor_seek(cur, hf_span("", 1), &key, &value);
	for (; at == 0 && r == 0; at = hf_cursor_next(cur, &key, &value))
		r = fn(arg, key, value);
	hf_cursor_close(&cur);
	return r != 0 || at == HF_ENOTFOUND ? r : at;
}

int hf_db_each(struct hf_db *db, hf_table_t t, hf_each_fn fn, void *arg)
{
	struct hf_txn *txn;
	int r = hf_txn_begin(db, false, &txn);

	if (r != 0)
		return r;
	r = hf_txn_each(txn, t, fn, arg);
	hf_txn_abort(&txn);
	return r;
}

int hf_cursor_del(struct hf_cursor *c)
{
	if (c->txn->err)
		return c->txn->err;
	return stick(c->txn, mdb_cursor_del(c->mdb, 0));
}

int hf_db_usage(struct hf_txn *txn, struct hf_db_usage *ret_usage)
{
	MDB_envinfo info;
	MDB_stat st;
	struct hf_db_usage u;
	size_t used = 2;	/* the two meta pages */

	if (txn->err)
		return txn->err;
	mdb_env_info(txn->db->env, &info);
	mdb_env_stat(txn->db->env, &st);
	u.page_size = st.ms_psize;
	u.map_pages = info.me_mapsize / st.ms_psize;
	for (unsigned i = 0; i < txn->db->n_tables + 2; i++) {
		/* 0 = free list, 1 = table of tables, then ours */
		MDB_dbi dbi = i < 2 ? (MDB_dbi)i : txn->db->tables[i - 2];
		int r = mdb_stat(txn->mdb, dbi, &st);

		if (r != 0)
			return stick(txn, r);
		used += st.ms_branch_pages + st.ms_leaf_pages + st.ms_overflow_pages;
	}
	u.used_pages = used;
	u.free_pages = u.map_pages > used ? u.map_pages - used : 0;
	*ret_usage = u;
	return 0;
}
