/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The state environment: scope, twins, sessions, key-value. Scope and twins are sealed (architecture 6.6). */
#include "core/log.h"
#include "core/list.h"
#include "core/util.h"
#include "store/store_int.h"
#include "tls/tls.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

static const char *const tables[] = { "ident", "twin", "sess", "kv", NULL };
/* What one commit of states may hold: an append that comes meanwhile waits for no more than that. */
enum { STATE_TURN_MAX = 64, STATE_TURN_BYTES = 256 * 1024 };

static const char seal_probe[] = "holdfast seal";

static bool is_sealed(enum hf_state_table t)
{
	return t == HF_STATE_IDENT || t == HF_STATE_TWIN;
}

/* table, key and format version are authenticated with the value: records cannot be swapped. */
static void make_aad(struct hf_buf *aad, enum hf_state_table t, struct hf_span key)
{
	hf_buf_u8(aad, HF_STORE_FORMAT);
	hf_buf_u8(aad, (uint8_t)t);
	hf_buf_put_span(aad, key);
}

static int seal(const struct hf_store *s, enum hf_state_table t, struct hf_span key, struct hf_span value,
		struct hf_buf *out)
{
	hf_autobuf struct hf_buf aad = HF_BUF_INIT(1024);

	make_aad(&aad, t, key);
	return aad.err ? aad.err : hf_aead_seal(s->cfg.seal_key, hf_buf_span(&aad), value, out);
}

static int unseal(const struct hf_store *s, enum hf_state_table t, struct hf_span key, struct hf_span value,
		  struct hf_buf *out)
{
	hf_autobuf struct hf_buf aad = HF_BUF_INIT(1024);

	make_aad(&aad, t, key);
	return aad.err ? aad.err : hf_aead_open(s->cfg.seal_key, hf_buf_span(&aad), value, out);
}

/* A record that only the right key opens: a wrong key is told at once, before anything is overwritten. */
static int check_key(struct hf_store *s)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(256);
	struct hf_span key = hf_span_str("seal.probe"), v;
	struct hf_txn *txn;
	int r = hf_txn_begin(s->state, true, &txn);

	if (r != 0)
		return r;
	r = hf_txn_get(txn, HF_STATE_KV, key, &v);
	if (r == HF_ENOTFOUND) {
		r = seal(s, HF_STATE_KV, key, hf_span_str(seal_probe), &b);
		if (r == 0)
			r = hf_txn_put(txn, HF_STATE_KV, key, hf_buf_span(&b));
	} else if (r == 0 && unseal(s, HF_STATE_KV, key, v, &b) != 0) {
		hf_log(HF_LOG_ERR, "store.seal",
		       "storage.seal_key_file does not fit the scope and twins stored in %s: put the right key back, or move "
		       "state.mdb away to start without them", s->cfg.dir);
		r = HF_EDENIED;
	}
	if (r != 0) {
		hf_txn_abort(&txn);
		return r;
	}
	return hf_txn_commit(&txn);
}

int hf_state_open(struct hf_store *s)
{
	char path[512];
	struct hf_db_cfg cfg = { .path = path, .map_size = s->cfg.state_bytes, .tables = tables };
	int r;

	snprintf(path, sizeof path, "%s/state.mdb", s->cfg.dir);
	r = hf_db_open(&cfg, &s->state);
	return r ? r : check_key(s);
}

static int apply(struct hf_store *s, struct hf_txn *txn, const struct hf_store_state *req)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(4u << 20);

	if (req->replace_ident)
		hf_txn_clear(txn, HF_STATE_IDENT);
	for (unsigned i = 0; i < req->n; i++) {
		const struct hf_state_op *op = &req->ops[i];
		struct hf_span value = op->value;
		int r = 0;

		if (!op->is_put) {
			r = hf_txn_del(txn, op->table, op->key);
			if (r == HF_ENOTFOUND)
				continue;
		} else {
			if (is_sealed(op->table)) {
				hf_buf_reset(&b);
				r = seal(s, op->table, op->key, value, &b);
				value = hf_buf_span(&b);
			}
			if (r == 0)
				r = hf_txn_put(txn, op->table, op->key, value);
		}
		if (r != 0)
			return r;
	}
	return hf_txn_error(txn);
}

static int run_one(struct hf_store *s, struct hf_store_state *req)
{
	struct hf_txn *txn;
	int r = hf_txn_begin(s->state, true, &txn);

	if (r == 0) {
		r = apply(s, txn, req);
		if (r == 0)
			return hf_txn_commit(&txn);
		hf_txn_abort(&txn);
	}
	return r;
}

static void on_reply(struct hf_mail *mail)
{
	struct hf_store_state *req = hf_container_of(mail, struct hf_store_state, mail);

	req->done(req);
}

static void reply(struct hf_store_state *req, int err)
{
	req->err = err;
	if (err)
		hf_log(HF_LOG_ERR, "store.state", "state not stored: %s", hf_strerror(err));
	req->mail.fn = on_reply;
	if (req->reply_to)
		hf_inbox_post(req->reply_to, &req->mail);
	else if (req->done)
		req->done(req);
}

static size_t request_bytes(const struct hf_store_state *req)
{
	size_t sum = 0;

	for (unsigned i = 0; i < req->n; i++)
		sum += req->ops[i].key.len + req->ops[i].value.len;
	return sum;
}

/* Cuts what one turn takes off the front of a chain. The last one may go over the bytes, so a large one has its turn. */
static struct hf_mail *cut_turn(struct hf_mail *first)
{
	struct hf_mail *last = first, *rest;
	size_t bytes = 0;
	unsigned n = 0;

	for (struct hf_mail *m = first; m && n < STATE_TURN_MAX && bytes < STATE_TURN_BYTES; m = m->next) {
		bytes += request_bytes(hf_container_of(m, struct hf_store_state, mail));
		n++;
		last = m;
	}
	rest = last->next;
	last->next = NULL;
	return rest;
}

/* All requests of a turn in one transaction; if that fails, one by one, so that one bad request (or a full map) does not
 * take the others with it. */
struct hf_mail *hf_state_batch(struct hf_store *s, struct hf_mail *first)
{
	struct hf_mail *rest = cut_turn(first);
	struct hf_txn *txn = NULL;
	int r = hf_txn_begin(s->state, true, &txn);

	for (struct hf_mail *m = first; m && r == 0; m = m->next)
		r = apply(s, txn, hf_container_of(m, struct hf_store_state, mail));
	if (r == 0)
		r = hf_txn_commit(&txn);
	else
		hf_txn_abort(&txn);
	s->g.state_commits++;
	while (first) {
		struct hf_store_state *req = hf_container_of(first, struct hf_store_state, mail);

		first = first->next;
		s->g.state_writes++;
		reply(req, r == 0 ? 0 : run_one(s, req));
	}
	return rest;
}

int hf_store_state_load(struct hf_store *s, enum hf_state_table table,
			void (*fn)(void *arg, struct hf_span key, struct hf_span value), void *arg)
{
	struct hf_buf b = HF_BUF_INIT(4u << 20);
	struct hf_span key, value;
	struct hf_cursor *cur;
	struct hf_txn *txn;
	unsigned n_bad = 0;
	int r = hf_txn_begin(s->state, false, &txn);

	if (r != 0)
		return r;
	r = hf_cursor_open(txn, table, &cur);
	if (r != 0) {
		hf_txn_abort(&txn);
		return r;
	}
	for (r = hf_cursor_seek(cur, hf_span(NULL, 0), &key, &value); r == 0; r = hf_cursor_next(cur, &key, &value)) {
		hf_buf_reset(&b);
		if (is_sealed(table) && unseal(s, table, key, value, &b) != 0) {
			n_bad++;
			continue;
		}
		fn(arg, key, is_sealed(table) ? hf_buf_span(&b) : value);
	}
	hf_cursor_close(&cur);
	hf_txn_abort(&txn);
	hf_buf_wipe(&b);
	if (n_bad)
		hf_log(HF_LOG_ERR, "store.corrupt", "%u records of table %s cannot be read: skipped", n_bad, tables[table]);
	return r == HF_ENOTFOUND ? 0 : r;
}
