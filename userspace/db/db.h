/* SPDX-License-Identifier: GPL-3.0-or-later */
/* db/db.h - LMDB behind transactions with a sticky error. The only includer of lmdb.h is db/db.c; it knows
 * nothing of tables' meaning. MDB_MAP_FULL and ENOSPC both become HF_EFULL, corruption HF_ECORRUPT.
 *
 * A failed step makes later steps of the transaction no-ops; commit then aborts and returns the first error.
 * Spans returned by reads point into the map and die with the transaction (or the next write in it). */
#pragma once
#include "core/span.h"

struct hf_db;
struct hf_txn;
typedef unsigned hf_table_t;
enum { HF_DB_NOSYNC = 1 /* survives kill -9 of the process, not a power cut */ };

struct hf_db_cfg {
	const char *path;		/* the data file (MDB_NOSUBDIR) */
	size_t map_size;		/* bytes; the file cannot grow past it */
	unsigned max_readers;		/* 0 = 32 */
	unsigned flags;
	const char *const *tables;	/* names, created when missing; ends with NULL; hf_table_t = index */
};
int hf_db_open(const struct hf_db_cfg *cfg, struct hf_db **ret_db);
void hf_db_close(struct hf_db **db);
/* ret starts a transaction; one writer at a time (blocks for it). NULL is never returned on 0. */
int hf_txn_begin(struct hf_db *db, bool write, struct hf_txn **ret_txn);
int hf_txn_commit(struct hf_txn **txn);		/* synced unless HF_DB_NOSYNC */
void hf_txn_abort(struct hf_txn **txn);
int hf_txn_error(const struct hf_txn *txn);
/* 0, or HF_ENOTFOUND (not sticky), or the sticky error. */
int hf_txn_get(struct hf_txn *txn, hf_table_t t, struct hf_span key, struct hf_span *ret_value);
int hf_txn_put(struct hf_txn *txn, hf_table_t t, struct hf_span key, struct hf_span value);
/* Key must be above all keys of the table (MDB_APPEND): fastest. */
int hf_txn_append(struct hf_txn *txn, hf_table_t t, struct hf_span key, struct hf_span value);
/* As put, but reserves len bytes and returns where to write them before the next call on txn. */
int hf_txn_reserve(struct hf_txn *txn, hf_table_t t, struct hf_span key, size_t len, bool append, void **ret_p);
int hf_txn_del(struct hf_txn *txn, hf_table_t t, struct hf_span key);	/* absent: HF_ENOTFOUND, not sticky */
int hf_txn_clear(struct hf_txn *txn, hf_table_t t);

/* Cursor over one table, ascending; lives inside the transaction. */
struct hf_cursor;
int hf_cursor_open(struct hf_txn *txn, hf_table_t t, struct hf_cursor **ret_cur);
void hf_cursor_close(struct hf_cursor **cur);
int hf_cursor_seek(struct hf_cursor *cur, struct hf_span key, struct hf_span *ret_key, struct hf_span *ret_value); /* first >= key */
int hf_cursor_next(struct hf_cursor *cur, struct hf_span *ret_key, struct hf_span *ret_value);
int hf_cursor_last(struct hf_cursor *cur, struct hf_span *ret_key, struct hf_span *ret_value);
/* Calls fn for each entry in order; stops at its first non-zero result and returns that. fn changes nothing here. */
typedef int (*hf_each_fn)(void *arg, struct hf_span key, struct hf_span value);
int hf_txn_each(struct hf_txn *txn, hf_table_t t, hf_each_fn fn, void *arg);
int hf_db_each(struct hf_db *db, hf_table_t t, hf_each_fn fn, void *arg);	/* in a read transaction of its own */
int hf_cursor_del(struct hf_cursor *cur);	/* the current entry; next() then goes to its successor */

struct hf_db_usage { size_t page_size, map_pages, used_pages, free_pages; };
int hf_db_usage(struct hf_txn *txn, struct hf_db_usage *ret_usage);	/* exact to a page, cheap */
