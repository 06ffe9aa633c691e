/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Opening, the writer thread and its group commit (architecture 6.4). */
#include "store/store.h"
#include "core/clock.h"
#include "core/list.h"
#include "core/log.h"
#include "core/util.h"
#include "store/store_int.h"
#include <errno.h>
#include <fcntl.h>
#include <holdfast/err.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>

#define SWEEP_MS 500
#define REOPEN_MS 1000
#define REPLY_INBOXES 64
/* Bytes of notices that the pump has not taken: above the first, messages go without their content, to be read back; above
 * the second it is not told at all and finds them by a scan. */
#define NOTICES_BY_REFERENCE ((size_t)4 << 20)
#define NOTICES_MAX ((size_t)8 << 20)

static const char *const spool_tables[] = { "meta", "names", "queue", "body", "ledger", "blocks", NULL };

/* --- requests -------------------------------------------------------------------------------------------- */
enum mail_kind { MAIL_APPEND, MAIL_RESOLVE, MAIL_STATE, MAIL_STOP };

void hf_store_append(struct hf_store *store, struct hf_store_append *req)
{
	req->mail.kind = MAIL_APPEND;
	hf_inbox_post(store->inbox, &req->mail);
}

void hf_store_resolve(struct hf_store *store, struct hf_store_resolve *req)
{
	req->mail.kind = MAIL_RESOLVE;
	hf_inbox_post(store->inbox, &req->mail);
}

void hf_store_state(struct hf_store *store, struct hf_store_state *req)
{
	req->mail.kind = MAIL_STATE;
	hf_inbox_post(store->inbox, &req->mail);
}

/* --- replies: one chain per inbox and batch ------------------------------------------------------------ */
struct replies {
	struct { struct hf_inbox *to; struct hf_mail *first, *last; } box[REPLY_INBOXES];
	unsigned n;
};

static void add_reply(struct replies *r, struct hf_inbox *to, struct hf_mail *mail)
{
	unsigned i = 0;

	mail->next = NULL;
	while (i < r->n && r->box[i].to != to)
		i++;
	if (i == REPLY_INBOXES) {
		hf_inbox_post(to, mail);
		return;
	}
	if (i == r->n) {
		r->box[r->n].to = to;
		r->box[r->n].first = r->box[r->n].last = mail;
		r->n++;
		return;
	}
	r->box[i].last->next = mail;
	r->box[i].last = mail;
}

static void send_replies(struct replies *r)
{
	for (unsigned i = 0; i < r->n; i++)
		hf_inbox_post_chain(r->box[i].to, r->box[i].first, r->box[i].last);
	r->n = 0;
}

static void on_append_reply(struct hf_mail *mail)
{
	struct hf_store_append *req = hf_container_of(mail, struct hf_store_append, mail);

	req->done(req);
}

static void on_resolve_reply(struct hf_mail *mail)
{
	struct hf_store_resolve *req = hf_container_of(mail, struct hf_store_resolve, mail);

	req->done(req);
}

/* A refused append closes its stream: what follows in it is refused too, so nothing passes it. */
static bool stream_broken(const struct hf_store_append *req)
{
	return req && req->broken && atomic_load(req->broken);
}

static void answer_append(struct replies *r, struct hf_store_append *req, int err, uint64_t seq)
{
	if (err && req->broken)
		atomic_store(req->broken, true);
	req->err = err;
	req->seq = seq;
	req->mail.fn = on_append_reply;
	add_reply(r, req->reply_to, &req->mail);
}

/* --- the batch ------------------------------------------------------------------------------------------ */
static size_t op_size(const struct hf_msg *m)
{
	size_t data = (size_t)m->props_len + m->body_len;

	return HF_HEADER_LEN + data <= HF_INLINE_MAX ? data + 96 : (data / HF_PART_LEN + 2) * 4200;
}

static uint64_t reserve_bytes(const struct hf_store *s)
{
	return hf_min((uint64_t)16 << 20, s->cfg.max_bytes / 4);
}

static uint64_t limit_bytes(const struct hf_store *s)
{
	return s->cfg.max_bytes - reserve_bytes(s);
}

/* Freed pages come back two commits later: the reserve must hold what three commits dirty. */
static size_t batch_bytes(const struct hf_store *s)
{
	return (size_t)hf_min((uint64_t)HF_BATCH_BYTES, reserve_bytes(s) / 8);
}

static int used_bytes(struct hf_store *s, struct hf_txn *txn, uint64_t *ret_used)
{
	struct hf_db_usage u;
	int r = hf_db_usage(txn, &u);

	if (r != 0)
		return r;
	*ret_used = (uint64_t)u.used_pages * u.page_size;
	s->g.used_bytes = *ret_used;
	return 0;
}

/* Appends ops[from..to) in a transaction that may hold deletes already. Refuses what the budget does not admit. */
static int append_ops(struct hf_store *s, struct hf_txn *txn, unsigned from, unsigned to)
{
	uint64_t used, limit = limit_bytes(s);
	int r = used_bytes(s, txn, &used);

	for (unsigned i = from; i < to && r == 0; i++) {
		struct hf_op *op = &s->ops[i];
		size_t need = op_size(op->msg);

		if (used + need > limit && s->cfg.when_full == HF_FULL_DROP_OLDEST) {
			r = hf_evict_oldest(s, txn, need * 2 + 65536);
			if (r == 0)
				r = used_bytes(s, txn, &used);
			if (r != 0)
				break;
		}
		/* What was answered already (durability "interval") was admitted then: the reserve holds it. */
		if (op->req && used + need > limit)
			s->g.full = true;
		op->err = op->req && (used + need > limit || stream_broken(op->req)) ? HF_EFULL : 0;
		if (op->err) {
			if (op->req && op->req->broken)
				atomic_store(op->req->broken, true);
			continue;
		}
		r = hf_spool_append(s, txn, op);
		used += need;
	}
	return r;
}

static int commit(struct hf_store *s, struct hf_txn **txn)
{
	uint64_t start = hf_clock_mono_ns(), used;
	int r = hf_spool_finish(s, *txn);

	if (r == 0)
		r = used_bytes(s, *txn, &used);	/* what the next admission starts from */
	if (r == 0 && used + HF_PART_LEN * 16 < limit_bytes(s))
		s->g.full = false;

	if (r != 0) {
		hf_txn_abort(txn);
		return r;
	}
	r = hf_txn_commit(txn);
	s->g.commits++;
	s->g.commit_us_sum += (hf_clock_mono_ns() - start) / 1000;
	return r;
}

static int append_txn(struct hf_store *s, unsigned from, unsigned to)
{
	struct hf_txn *txn;
	int r = hf_txn_begin(s->spool, true, &txn);

	if (r != 0)
		return r;
	r = append_ops(s, txn, from, to);
	if (r == 0)
		r = commit(s, &txn);
	else
		hf_txn_abort(&txn);
	if (r == 0)
		hf_spool_committed(s);
	else
		hf_spool_aborted(s);
	return r;
}

/* Pages that a commit frees can be used two commits later: eviction in commits of its own makes room. */
static void evict_alone(struct hf_store *s)
{
	struct hf_txn *txn;
	int r = hf_txn_begin(s->spool, true, &txn);

	if (r != 0)
		return;
	r = hf_evict_oldest(s, txn, 65536);
	if (r == 0)
		r = commit(s, &txn);
	else
		hf_txn_abort(&txn);
	if (r == 0)
		hf_spool_committed(s);
	else
		hf_spool_aborted(s);
}

/* One transaction for part of the appends; halves when the map is full, refuses the one that does not fit. */
static void append_part(struct hf_store *s, unsigned from, unsigned to)
{
	int r = append_txn(s, from, to);

	for (int i = 0; r == HF_EFULL && to - from == 1 && s->cfg.when_full == HF_FULL_DROP_OLDEST && i < 4; i++) {
		evict_alone(s);
		r = append_txn(s, from, to);
	}
	if (r == 0)
		return;
	if (r == HF_EFULL && to - from > 1) {
		append_part(s, from, from + (to - from) / 2);
		append_part(s, from + (to - from) / 2, to);
		return;
	}
	for (unsigned i = from; i < to; i++)
		s->ops[i].err = r;
}

static int remove_all(struct hf_store *s, struct hf_txn *txn, struct hf_mail *resolves)
{
	int r = 0;

	for (struct hf_mail *m = resolves; m && r == 0; m = m->next) {
		struct hf_store_resolve *req = hf_container_of(m, struct hf_store_resolve, mail);

		for (unsigned i = 0; i < req->n && r == 0; i++)
			r = hf_spool_remove(s, txn, req->items[i].cls, req->items[i].seq,
					    (enum hf_outcome)req->items[i].outcome, false, false);
	}
	if (r == 0 && resolves)
		r = hf_blocks_trim(s, txn);
	if (r == 0 && hf_expire_due(s, hf_store_now_ms(s)))
		r = hf_expire_run(s, txn, hf_store_now_ms(s), 2048);
	return r;
}

static void send_notice(struct hf_store *s)
{
	struct hf_inbox *inbox = atomic_load_explicit(&s->pump_inbox, memory_order_acquire);
	size_t waiting = atomic_load_explicit(&s->noticed, memory_order_relaxed), size;
	struct hf_store_notice *n;
	unsigned k = 0;

	if (!inbox || s->n_ops + s->n_gone == 0) {
		s->n_gone = s->gone_committed = 0;
		return;
	}
	size = sizeof *n + (s->n_ops + s->n_gone) * sizeof n->items[0];
	n = waiting < NOTICES_MAX ? malloc(size) : NULL;
	if (!n) {
		/* The records are safe; the pump finds them by a scan. */
		if (!atomic_exchange_explicit(&s->lost_notice, true, memory_order_relaxed))
			hf_log(HF_LOG_ERR, "store.notice", "the pump is not told of %u records: %s", s->n_ops,
			       waiting < NOTICES_MAX ? "out of memory" : "it does not take its notices");
		s->n_gone = s->gone_committed = 0;
		return;
	}
	n->held = size;
	for (unsigned i = 0; i < s->n_gone; i++)
		n->items[k++] = s->gone[i];
	for (unsigned i = 0; i < s->n_ops; i++) {
		const struct hf_op *op = &s->ops[i];
		uint32_t bytes = op->msg->props_len + op->msg->body_len;
		bool by_reference = waiting + n->held + bytes <= NOTICES_BY_REFERENCE;

		if (op->err)
			continue;
		n->held += by_reference ? bytes : 0;
		n->items[k++] = (struct hf_notice_item){
			.seq = op->seq, .expiry_ms = op->expiry_ms, .child = op->child->id, .cls = HF_CLASS_DEFAULT,
			.bytes = bytes, .msg = by_reference ? hf_msg_ref(op->msg) : NULL,
		};
	}
	s->n_gone = s->gone_committed = 0;
	n->n = k;
	n->store = s;
	n->arg = s->pump_arg;
	n->mail.fn = s->pump_fn;
	atomic_fetch_add_explicit(&s->noticed, n->held, memory_order_relaxed);
	if (k)
		hf_inbox_post(inbox, &n->mail);
	else
		hf_store_notice_free(n);
}

void hf_store_notice_free(struct hf_store_notice *n)
{
	for (unsigned i = 0; i < n->n; i++)
		hf_msg_unref(&n->items[i].msg);
	atomic_fetch_sub_explicit(&n->store->noticed, n->held, memory_order_relaxed);
	free(n);
}

static int reopen(struct hf_store *s);

static void fail_spool(struct hf_store *s, int err)
{
	if (!s->failed)
		hf_log(HF_LOG_ERR, "store.failed", "the spool cannot be written: %s; refusing until it can", hf_strerror(err));
	s->failed = true;
	s->g.failed = true;
	s->retry_at_ms = hf_clock_mono_ms() + REOPEN_MS;
}

/* Deletes first, then appends; if that transaction fails for lack of space, the deletes alone and the appends
 * in smaller parts. Fills op->err; returns an error only when nothing could be written. */
static int write_batch(struct hf_store *s, struct hf_mail *resolves)
{
	struct hf_txn *txn;
	int r;

	if (s->failed && (hf_clock_mono_ms() < s->retry_at_ms || reopen(s) != 0))
		return -EIO;
	r = hf_txn_begin(s->spool, true, &txn);
	if (r != 0)
		return r;
	r = remove_all(s, txn, resolves);
	if (r == 0)
		r = append_ops(s, txn, 0, s->n_ops);
	if (r == 0)
		r = commit(s, &txn);
	else
		hf_txn_abort(&txn);
	if (r == 0) {
		hf_spool_committed(s);
		return 0;
	}
	hf_spool_aborted(s);
	if (r != HF_EFULL)
		return r;
	r = hf_txn_begin(s->spool, true, &txn);
	if (r == 0) {
		r = remove_all(s, txn, resolves);
		if (r == 0)
			r = commit(s, &txn);
		else
			hf_txn_abort(&txn);
	}
	if (r != 0) {
		hf_spool_aborted(s);
		return r;
	}
	hf_spool_committed(s);
	if (s->n_ops)
		append_part(s, 0, s->n_ops);
	return 0;
}

static void run_batch(struct hf_store *s, struct hf_mail *resolves)
{
	struct replies out = { 0 };
	int r = write_batch(s, resolves);

	if (r != 0)
		fail_spool(s, r);
	for (unsigned i = 0; r != 0 && i < s->n_ops; i++)
		s->ops[i].err = r;
	for (unsigned i = 0; i < s->n_ops; i++) {
		struct hf_op *op = &s->ops[i];

		if (!op->err)
			s->g.appends++;
		if (op->req)
			answer_append(&out, op->req, op->err, op->seq);
		else if (op->err)
			hf_log(HF_LOG_ERR, "store.lost", "a message answered under durability=interval is lost: %s",
			       hf_strerror(op->err));
	}
	while (resolves) {
		struct hf_store_resolve *req = hf_container_of(resolves, struct hf_store_resolve, mail);

		resolves = resolves->next;
		req->err = r;
		req->mail.fn = on_resolve_reply;
		add_reply(&out, req->reply_to, &req->mail);
	}
	send_notice(s);	/* takes its own references before the requests' owners let go */
	send_replies(&out);
	for (unsigned i = 0; i < s->n_ops; i++)
		if (!s->ops[i].req)
			hf_msg_unref(&s->ops[i].msg);
	s->n_ops = 0;
	s->op_bytes = 0;
}

static void add_op(struct hf_store *s, struct hf_store_append *req)
{
	if (s->n_ops == 0)
		s->first_op_ms = hf_clock_mono_ms();
	s->ops[s->n_ops++] = (struct hf_op){ .req = req, .msg = req->msg };
	s->op_bytes += op_size(req->msg);
}

/* durability = "interval": the answer goes out once the operation is in the batch and admitted for good. */
static void answer_early(struct hf_store *s, unsigned from)
{
	struct replies out = { 0 };
	uint64_t limit = limit_bytes(s), used = s->g.used_bytes;
	unsigned keep = from;

	for (unsigned i = 0; i < from; i++)
		used += op_size(s->ops[i].msg);
	for (unsigned i = from; i < s->n_ops; i++) {
		struct hf_op *op = &s->ops[i];
		struct hf_store_append *req = op->req;
		bool full = used + op_size(op->msg) > limit && s->cfg.when_full == HF_FULL_REFUSE;
		int err = s->failed ? -EIO : full || stream_broken(req) ? HF_EFULL : 0;

		s->g.full = s->g.full || full;
		if (err == 0) {
			used += op_size(op->msg);
			op->req = NULL;
			op->msg = hf_msg_ref(op->msg);
			s->ops[keep++] = *op;
		} else {
			s->op_bytes -= op_size(op->msg);
		}
		answer_append(&out, req, err, 0);
	}
	s->n_ops = keep;
	send_replies(&out);
}

/* What was taken from the inbox beside appends. Resolves all go with the next commit; states wait for their turns. */
struct intake {
	struct hf_mail *resolves, **resolves_end, *states, **states_end;
	bool stop;
};

static void chain(struct hf_mail ***end, struct hf_mail *mail)
{
	mail->next = NULL;
	**end = mail;
	*end = &mail->next;
}

/* Moves mails into the batch until it is full; returns what is left. */
static struct hf_mail *take_in(struct hf_store *s, struct hf_mail *mail, struct intake *in)
{
	while (mail && s->n_ops < HF_BATCH_OPS && s->op_bytes < batch_bytes(s)) {
		struct hf_mail *next = mail->next;

		switch ((enum mail_kind)mail->kind) {
		case MAIL_APPEND:
			add_op(s, hf_container_of(mail, struct hf_store_append, mail));
			break;
		case MAIL_RESOLVE:
			chain(&in->resolves_end, mail);
			break;
		case MAIL_STATE:
			chain(&in->states_end, mail);
			break;
		case MAIL_STOP:
			in->stop = true;
			break;
		}
		mail = next;
	}
	return mail;
}

static int wait_ms(const struct hf_store *s)
{
	uint64_t now = hf_clock_mono_ms(), due;

	if (s->n_ops == 0)
		return SWEEP_MS;
	due = s->first_op_ms + s->cfg.interval_ms;
	return now >= due ? 0 : (int)hf_min(due - now, (uint64_t)SWEEP_MS);
}

static void *writer(void *arg)
{
	struct hf_store *s = arg;
	struct pollfd p = { .fd = hf_inbox_fd(s->inbox), .events = POLLIN };
	struct hf_mail *mail = NULL;
	struct intake in = { .states_end = &in.states };

	while (!in.stop || mail || s->n_ops || in.states) {
		unsigned before = s->n_ops;
		bool due, sweep;

		in.resolves = NULL;
		in.resolves_end = &in.resolves;
		if (!mail && !in.stop && !in.states && poll(&p, 1, wait_ms(s)) < 0 && errno != EINTR)
			hf_log(HF_LOG_ERR, "store.poll", "%s", strerror(errno));
		if (!mail)
			mail = hf_inbox_take(s->inbox);
		mail = take_in(s, mail, &in);
		if (s->cfg.interval_ms && s->n_ops > before)
			answer_early(s, before);
		due = s->n_ops && (!s->cfg.interval_ms || in.stop || s->n_ops >= HF_BATCH_OPS ||
				   s->op_bytes >= batch_bytes(s) || wait_ms(s) == 0);
		sweep = !s->failed ? hf_expire_due(s, hf_store_now_ms(s)) : hf_clock_mono_ms() >= s->retry_at_ms;
		if (due || in.resolves || sweep)
			run_batch(s, in.resolves);
		if (in.states)
			in.states = hf_state_batch(s, in.states);
		if (!in.states)
			in.states_end = &in.states;
	}
	return NULL;
}

/* --- opening -------------------------------------------------------------------------------------------- */
static void quarantine(const struct hf_store *s)
{
	char from[512], to[600];

	snprintf(from, sizeof from, "%s/spool.mdb", s->cfg.dir);
	for (unsigned n = 1; n < 1000; n++) {
		snprintf(to, sizeof to, "%s/spool.quarantine.%u", s->cfg.dir, n);
		if (access(to, F_OK) != 0)
			break;
	}
	if (rename(from, to) < 0)
		hf_log(HF_LOG_ERR, "store.quarantine", "%s: %s", from, strerror(errno));
	else
		hf_log(HF_LOG_ERR, "store.quarantine", "the spool is damaged: moved to %s, starting an empty one", to);
	snprintf(from, sizeof from, "%s/spool.mdb-lock", s->cfg.dir);
	unlink(from);
}

/* Debug builds can be told to break the promise, so that the power-cut test is seen to turn red. */
static bool skips_sync(void)
{
#ifdef HF_DEBUG
	const char *fault = getenv("HOLDFAST_FAULT");

	if (fault && strcmp(fault, "nosync") == 0) {
		hf_log(HF_LOG_ERR, "store.fault", "HOLDFAST_FAULT=nosync: nothing is synced");
		return true;
	}
#endif
	return false;
}

static int open_spool(struct hf_store *s)
{
	char path[512];
	struct hf_db_cfg cfg = { .path = path, .map_size = s->cfg.max_bytes, .tables = spool_tables };
	int r;

	cfg.flags = skips_sync() ? HF_DB_NOSYNC : 0;
	snprintf(path, sizeof path, "%s/spool.mdb", s->cfg.dir);
	for (int attempt = 0; attempt < 2; attempt++) {
		r = hf_map_create(&s->children);
		if (r != 0)
			return r;
		r = hf_db_open(&cfg, &s->spool);
		if (r == 0)
			r = hf_spool_load(s);
		if (r != HF_ECORRUPT)
			return r;
		hf_db_close(&s->spool);
		hf_spool_fini(s);
		quarantine(s);
	}
	return r;
}

/* After a failed write nothing of the page cache is believed: close, drop it, open and read again. The names
 * keep their addresses for other threads, so only the environment is opened anew. */
static int reopen(struct hf_store *s)
{
	char path[512];
	struct hf_db_cfg cfg = { .path = path, .map_size = s->cfg.max_bytes, .tables = spool_tables };
	struct hf_txn *txn;
	int fd, r;

	snprintf(path, sizeof path, "%s/spool.mdb", s->cfg.dir);
	s->retry_at_ms = hf_clock_mono_ms() + REOPEN_MS;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		close(fd);
	}
	/* A write transaction that begins and commits proves that the file takes writes again. */
	r = s->spool ? 0 : hf_db_open(&cfg, &s->spool);
	if (r == 0)
		r = hf_txn_begin(s->spool, true, &txn);
	if (r == 0) {
		hf_spool_finish(s, txn);
		r = hf_txn_commit(&txn);
	}
	if (r != 0)
		return r;
	s->failed = false;
	s->g.failed = false;
	hf_log(HF_LOG_NOTICE, "store.back", "the spool can be written again");
	return 0;
}

static int lock_dir(struct hf_store *s)
{
	int r = hf_lock_dir(s->cfg.dir, &s->lock_fd);

	if (r == -EBUSY)
		hf_log(HF_LOG_ERR, "store.open", "%s is in use by another daemon", s->cfg.dir);
	if (r == 0 && chmod(s->cfg.dir, 0700) < 0)
		hf_log(HF_LOG_WARN, "store.open", "%s: mode 0700: %s", s->cfg.dir, strerror(errno));
	return r;
}

static void store_free(struct hf_store *s)
{
	hf_spool_fini(s);
	hf_db_close(&s->spool);
	hf_db_close(&s->state);
	hf_inbox_destroy(&s->inbox);
	if (s->lock_fd >= 0)
		close(s->lock_fd);
	free(s->ops);
	free(s->gone);
	free((char *)s->cfg.dir);
	explicit_bzero(s->cfg.seal_key, sizeof s->cfg.seal_key);
	free(s);
}

int hf_store_create(const struct hf_store_cfg *cfg, struct hf_store **ret_store)
{
	struct hf_store *s = calloc(1, sizeof *s);
	int r;

	if (!s)
		return -ENOMEM;
	s->cfg = *cfg;
	s->cfg.dir = strdup(cfg->dir);
	s->lock_fd = -1;
	s->ttl_s = cfg->ttl_s;
	s->ops = calloc(HF_BATCH_OPS, sizeof *s->ops);
	r = s->cfg.dir && s->ops ? lock_dir(s) : -ENOMEM;
	if (r == 0)
		r = hf_state_open(s);
	if (r == 0)
		r = open_spool(s);
	if (r == 0)
		r = hf_inbox_create_fd(&s->inbox);
	if (r == 0)
		r = -pthread_create(&s->thread, NULL, writer, s);
	if (r != 0) {
		hf_log(HF_LOG_ERR, "store.open", "%s: %s", cfg->dir, hf_strerror(r));
		store_free(s);
		return r;
	}
	*ret_store = s;
	return 0;
}

void hf_store_destroy(struct hf_store **pstore)
{
	struct hf_store *s = *pstore;
	struct hf_mail stop = { .kind = MAIL_STOP };

	if (!s)
		return;
	hf_inbox_post(s->inbox, &stop);
	pthread_join(s->thread, NULL);
	store_free(s);
	*pstore = NULL;
}

void hf_store_set_ttl(struct hf_store *store, int64_t ttl_s)
{
	atomic_store(&store->ttl_s, ttl_s);
}

void hf_store_set_pump(struct hf_store *s, struct hf_inbox *inbox, void (*fn)(struct hf_mail *mail), void *arg)
{
	s->pump_fn = fn;
	s->pump_arg = arg;
	atomic_store_explicit(&s->pump_inbox, inbox, memory_order_release);
}

bool hf_store_take_lost_notice(struct hf_store *s)
{
	return atomic_exchange_explicit(&s->lost_notice, false, memory_order_relaxed);
}

void hf_store_gauges(const struct hf_store *s, struct hf_store_gauges *ret)
{
	*ret = (struct hf_store_gauges){
		.pending = s->g.pending, .pending_bytes = s->g.pending_bytes, .accepted = s->g.accepted,
		.delivered = s->g.delivered, .expired = s->g.expired, .evicted = s->g.evicted, .refused = s->g.refused,
		.purged = s->g.purged, .used_bytes = s->g.used_bytes, .max_bytes = s->cfg.max_bytes,
		.commits = s->g.commits, .commit_us_sum = s->g.commit_us_sum, .appends = s->g.appends,
		.next_seq = s->g.next_seq, .state_commits = s->g.state_commits, .state_writes = s->g.state_writes,
		.failed = s->g.failed, .full = s->g.full,
	};
}
