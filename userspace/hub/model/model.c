/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The model's life and its group commit: changes of a turn, one transaction, then whoever waits. */
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "hub/model/clients.h"
#include "hub/jobs/configs.h"
#include "hub/jobs/jobs.h"
#include "hub/model/model_int.h"
#include "hub/jobs/transfer.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdarg.h>
#include <stdio.h>

#define STATE_MAP ((size_t)1 << 30)
#define EVENT_MAP_DEFAULT ((size_t)4 << 30)
#define RETRY_MS 1000
#define EVENT_MAP_MIN ((size_t)4 << 20)

static const char *const state_tables[] = { "meta", "ident", "twin", "c2d", "session", "policy", "feedback",
					      "job", "jobstate", "jobresult", "config", "blob", "block", "upload",
					      "transfer", NULL };
static const char *const event_tables[] = { "events", "partitions", NULL };

int hub_refuse(struct hub_error *err, int ret, int http, int code, const char *name, const char *fmt, ...)
{
	va_list ap;

	if (err) {
		err->http_status = http;
		err->code = code;
		err->name = name;
		va_start(ap, fmt);
		vsnprintf(err->message, sizeof err->message, fmt, ap);
		va_end(ap);
		hf_utf8_repair(err->message);	/* it becomes JSON */
	}
	return ret;
}

void hub_error_default(struct hub_error *err)
{
	hub_refuse(err, 0, 500, 500001, "ServerError", "the hub could not do it");
}

bool hub_etag_fits(const char *if_match, const char *etag)
{
	struct hf_span s = hf_span_str(if_match);

	if (s.len >= 2 && s.ptr[0] == '"' && s.ptr[s.len - 1] == '"')
		s = hf_span(s.ptr + 1, s.len - 2);
	return hf_span_is(s, "*") || hf_span_is(s, etag);
}

int hub_listen(struct hub_listeners *l, void (*fn)(void), void *arg)
{
	if (l->n == HUB_MAX_LISTENERS)
		return HF_EFULL;
	l->at[l->n++] = (struct hub_listener){ fn, arg };
	return 0;
}

void hub_on_ident_change(struct hub_model *m, void (*fn)(void *arg, const char *id), void *arg)
{
	if (hub_listen(&m->on_ident, (void (*)(void))fn, arg) != 0)
		hf_log(HF_LOG_ERR, "hub.listeners", "too many listeners for identity changes");
}

void hub_on_scopes(struct hub_model *m, void (*fn)(void *arg), void *arg)
{
	if (hub_listen(&m->on_scopes, (void (*)(void))fn, arg) != 0)
		hf_log(HF_LOG_ERR, "hub.listeners", "too many listeners for scopes");
}

void hub_on_desired(struct hub_model *m, void (*fn)(void *arg, const char *id, const json_t *patch, int64_t version),
		    void *arg)
{
	if (hub_listen(&m->on_desired, (void (*)(void))fn, arg) != 0)
		hf_log(HF_LOG_ERR, "hub.listeners", "too many listeners for desired properties");
}

void hub_on_c2d(struct hub_model *m, void (*fn)(void *arg, const char *device_id), void *arg)
{
	if (hub_listen(&m->on_c2d, (void (*)(void))fn, arg) != 0)
		hf_log(HF_LOG_ERR, "hub.listeners", "too many listeners for messages to devices");
}

void hub_on_event(struct hub_model *m, void (*fn)(void *arg), void *arg)
{
	if (hub_listen(&m->on_event, (void (*)(void))fn, arg) != 0)
		hf_log(HF_LOG_ERR, "hub.listeners", "too many listeners for events");
}

void hub_note(struct hub_model *m, enum hub_note_kind kind, const char *id, json_t *patch_take, int64_t version)
{
	struct hub_note *n = calloc(1, sizeof *n);

	if (!n) {
		json_decref(patch_take);
		hf_log(HF_LOG_ERR, "hub.note", "no memory to tell of a change of %s", id);
		return;
	}
	n->kind = kind;
	n->patch = patch_take;
	n->version = version;
	snprintf(n->id, sizeof n->id, "%s", id);
	hf_list_add_tail(&m->notes, &n->node);
	hub_model_touch(m);
}

static void tell(struct hub_model *m, const struct hub_note *n)
{
	struct hub_listeners *l = n->kind == HUB_NOTE_IDENT ? &m->on_ident :
				  n->kind == HUB_NOTE_C2D ? &m->on_c2d :
				  n->kind == HUB_NOTE_FEEDBACK ? &m->on_feedback : &m->on_desired;

	for (unsigned i = 0; i < l->n; i++) {
		if (n->kind == HUB_NOTE_DESIRED)
			((void (*)(void *, const char *, const json_t *, int64_t))l->at[i].fn)(
				l->at[i].arg, n->id, n->patch, n->version);
		else if (n->kind == HUB_NOTE_FEEDBACK)
			((void (*)(void *, enum hub_feedback_kind))l->at[i].fn)(l->at[i].arg,
										(enum hub_feedback_kind)n->version);
		else
			((void (*)(void *, const char *))l->at[i].fn)(l->at[i].arg, n->id);
	}
}

/* Moves a list to another head, so that what its callbacks add waits for the next turn. */
static void splice(struct hf_list *from, struct hf_list *to)
{
	hf_list_init(to);
	while (!hf_list_empty(from)) {
		struct hf_list *n = from->next;

		hf_list_del(n);
		hf_list_add_tail(to, n);
	}
}

void hub_model_touch(struct hub_model *m)
{
	if (!m->armed && !m->closing) {
		m->armed = true;
		hf_task_at_turn_end(m->loop, &m->task);
	}
}

static void on_tick(void *arg)
{
	struct hub_model *m = arg;
	bool more = hub_c2d_step(m);

	more |= hub_feedback_step(m);
	more |= hub_jobs_step(m->jobs);
	more |= hub_blobs_step(m);
	more |= hub_children_step(m);
	if (more)
		hub_model_tick(m);
}

void hub_model_tick(struct hub_model *m)
{
	if (m->tick && !m->closing && !hf_timer_active(m->tick))
		hf_timer_start(m->tick, HUB_TICK_MS, 0);
}

/* A deletion that could not be stored left these behind; nothing that belongs to a new identity is stored yet. */
static int erase_leftovers(struct hub_model *m, struct hf_txn *txn)
{
	struct hf_span id;
	size_t pos = 0;
	void *v;
	int r = 0;

	while (r == 0 && hf_map_next(m->leftovers, &pos, &id, &v)) {
		r = hf_txn_del(txn, HUB_T_SESSION, id);
		if (r == 0 || r == HF_ENOTFOUND)
			r = hub_c2d_erase(txn, id);
	}
	return r;
}

static int begin_state(struct hub_model *m, struct hf_txn **ret_txn)
{
	int r = hf_txn_begin(m->state, true, ret_txn);

	if (r == 0)
		r = erase_leftovers(m, *ret_txn);
	if (r == 0)
		r = hub_configs_write(m->configs, *ret_txn);
	if (r != 0)
		hf_txn_abort(ret_txn);
	return r;
}

int hub_state_txn(struct hub_model *m, struct hf_txn **ret_txn)
{
	hub_model_touch(m);
	if (!m->state_txn) {
		int r = begin_state(m, &m->state_txn);

		if (r != 0)
			return r;
	}
	*ret_txn = m->state_txn;
	return 0;
}

static void mark(struct hub_model *m, struct hf_map *set, const char *id)
{
	if (hf_map_put(set, hf_span_str(id), m) != 0) {
		m->turn_err = -ENOMEM;	/* whoever waits learns that the change was not written */
		hf_log(HF_LOG_ERR, "hub.commit", "no memory to note the change of %s", id);
	}
	hub_configs_touch(m->configs, id);
	hub_model_touch(m);
}

void hub_dirty_ident(struct hub_model *m, const char *id) { mark(m, m->dirty_idents, id); }
void hub_dirty_twin(struct hub_model *m, const char *id) { mark(m, m->dirty_twins, id); }

void hub_leftover(struct hub_model *m, const char *id)
{
	if (hf_map_put(m->leftovers, hf_span_str(id), m) != 0)
		hf_log(HF_LOG_ERR, "hub.commit", "no memory to note the end of %s", id);
}

void hub_scopes_changed(struct hub_model *m)
{
	m->new_scopes = true;
	hub_model_touch(m);
}

static int write_records(struct hub_model *m, struct hf_txn *txn, struct hf_map *idents, struct hf_map *twins)
{
	struct hf_span id;
	size_t pos;
	void *v;
	int r = 0;

	for (pos = 0; r == 0 && hf_map_next(idents, &pos, &id, &v);)
		r = hub_registry_write(m, txn, id);
	for (pos = 0; r == 0 && hf_map_next(twins, &pos, &id, &v);)
		r = hub_twin_write(m, txn, id);
	return r;
}

static int write_dirty(struct hub_model *m)
{
	struct hf_txn *txn;
	int r;

	if (hf_map_count(m->dirty_idents) + hf_map_count(m->dirty_twins) == 0 && !hub_jobs_changed(m->jobs))
		return 0;
	r = hub_state_txn(m, &txn);
	if (r == 0)
		r = write_records(m, txn, m->dirty_idents, m->dirty_twins);
	return r ? r : hub_jobs_write(m->jobs, txn);
}

static void clear_set(struct hf_map *set)
{
	struct hf_span id;
	size_t pos = 0;
	void *v;

	while (hf_map_next(set, &pos, &id, &v))
		hf_map_remove(set, id);
}

static int commit_state(struct hub_model *m, struct hf_txn **txn)
{
	int r = hub_counters_write(m, *txn);

	if (r != 0) {
		hf_txn_abort(txn);
		return r;
	}
	r = hf_txn_commit(txn);
	if (r == 0) {
		hub_counters_stored(m);
		hub_configs_written(m->configs, 0);
		clear_set(m->leftovers);
	}
	return r;
}

int hub_event_flush(struct hub_model *m)
{
	int r;

	if (!m->event_txn)
		return 0;
	r = hub_partitions_write(m);
	if (r == 0)
		r = hf_txn_commit(&m->event_txn);
	else
		hf_txn_abort(&m->event_txn);
	hub_events_committed(m, r == 0);
	if (r != 0)
		m->turn_err = r;
	return r;
}

static void move_set(struct hf_map *from, struct hf_map *to)
{
	struct hf_span id;
	size_t pos = 0;
	void *v;

	while (hf_map_next(from, &pos, &id, &v)) {
		if (hf_map_put(to, id, v) != 0)
			hf_log(HF_LOG_ERR, "hub.commit", "no memory to store %.*s later", (int)id.len, (const char *)id.ptr);
		hf_map_remove(from, id);
	}
}

/* Records that could not be written: those who changed them were told so, but the change stands in memory. They are
 * written apart, once there is room, so that nobody else's commit fails with them. */
static void on_retry(void *arg)
{
	struct hub_model *m = arg;
	struct hf_txn *txn;
	int r;

	if (m->state_txn) {
		hf_timer_start(m->retry, 1, 0);	/* one writer at a time */
		return;
	}
	r = begin_state(m, &txn);
	if (r == 0) {
		r = write_records(m, txn, m->late_idents, m->late_twins);
		if (r == 0)
			r = commit_state(m, &txn);
		else
			hf_txn_abort(&txn);
	}
	if (r != 0) {
		hf_timer_start(m->retry, RETRY_MS, 0);
		return;
	}
	clear_set(m->late_idents);
	clear_set(m->late_twins);
	hf_log(HF_LOG_NOTICE, "hub.commit", "changes that could not be stored before are stored now");
	hub_model_touch(m);	/* what was held back can be told */
}

static void set_aside(struct hub_model *m, int err)
{
	hub_c2d_drop_unstored(m);
	hub_configs_written(m->configs, err);
	move_set(m->dirty_idents, m->late_idents);
	move_set(m->dirty_twins, m->late_twins);
	if (!m->closing && (hf_map_count(m->late_idents) + hf_map_count(m->late_twins) > 0 || hub_configs_unstored(m->configs)))
		hf_timer_start(m->retry, RETRY_MS, 0);
}

/* Records are written whole, so one that is stored now holds what an earlier commit could not store. */
static void forget_late(struct hub_model *m)
{
	struct hf_span id;
	size_t pos = 0;
	void *v;

	if (hf_map_count(m->late_idents))
		while (hf_map_next(m->dirty_idents, &pos, &id, &v))
			hf_map_remove(m->late_idents, id);
	pos = 0;
	if (hf_map_count(m->late_twins))
		while (hf_map_next(m->dirty_twins, &pos, &id, &v))
			hf_map_remove(m->late_twins, id);
}

/* ret_stored: the changes of identities and twins are, whatever became of the events. */
static int commit(struct hub_model *m, bool *ret_stored)
{
	static struct hf_log_limit limit;
	int r = write_dirty(m), e;

	if (r != 0 && m->state_txn)
		hf_txn_abort(&m->state_txn);
	if (r == 0 && m->state_txn)
		r = commit_state(m, &m->state_txn);
	if (r == 0) {
		forget_late(m);
		clear_set(m->dirty_idents);
		clear_set(m->dirty_twins);
	} else {
		set_aside(m, r);
	}
	*ret_stored = r == 0;
	hub_jobs_written(m->jobs, r);
	e = hub_event_flush(m);
	if (m->turn_err && !e)
		e = m->turn_err;
	m->turn_err = 0;
	if (r == 0)
		r = e;
	if (r != 0)
		hf_log_limited(&limit, HF_LOG_ERR, "hub.commit", "the changes of this turn are not stored: %s",
			       hf_strerror(r));
	return r;
}

/* One call for however many changes. */
static void tell_all(struct hub_model *m, const struct hub_listeners *l, bool *flag)
{
	bool news = *flag;

	*flag = false;
	for (unsigned i = 0; news && i < l->n && !m->closing; i++)
		((void (*)(void *))l->at[i].fn)(l->at[i].arg);
}

static void tell_notes(struct hub_model *m, struct hf_list *notes)
{
	while (!hf_list_empty(notes)) {
		struct hub_note *n = hf_container_of(notes->next, struct hub_note, node);

		hf_list_del(&n->node);
		if (!m->closing)
			tell(m, n);
		json_decref(n->patch);
		free(n);
	}
}

/* What was held back until now and is stored by now: all of it, or while records still wait, all but what is in them.
 * Before the notes of a turn that changed the same records, so that their order holds. */
static void release_held(struct hub_model *m, struct hf_list *to)
{
	struct hf_list *pos, *tmp;

	hf_list_init(to);
	hf_list_for_each_safe(pos, tmp, &m->held) {
		struct hub_note *n = hf_container_of(pos, struct hub_note, node);

		if (n->kind == HUB_NOTE_DESIRED && hf_map_get(m->late_twins, hf_span_str(n->id)))
			continue;
		hf_list_del(&n->node);
		hf_list_add_tail(to, &n->node);
	}
}

/* Nobody is told what is not stored. That an identity lost its right is told at once: logins are judged by memory. */
static void hold_back(struct hub_model *m, struct hf_list *notes, struct hf_list *ret_now)
{
	hf_list_init(ret_now);
	while (!hf_list_empty(notes)) {
		struct hub_note *n = hf_container_of(notes->next, struct hub_note, node);

		hf_list_del(&n->node);
		hf_list_add_tail(n->kind == HUB_NOTE_IDENT ? ret_now : &m->held, &n->node);
	}
}

static void turn_end(void *arg)
{
	struct hub_model *m = arg;
	struct hf_list waits, notes, earlier;
	bool stored;
	int r;

	m->armed = false;
	r = commit(m, &stored);
	splice(&m->notes, &notes);
	splice(&m->waits, &waits);
	if (stored) {
		release_held(m, &earlier);
		tell_notes(m, &earlier);
		tell_notes(m, &notes);
	} else {
		hold_back(m, &notes, &earlier);
		tell_notes(m, &earlier);
	}
	while (!hf_list_empty(&waits)) {
		struct hub_wait *w = hf_container_of(waits.next, struct hub_wait, node);

		hf_list_del(&w->node);
		w->fn(w->arg, r);
	}
	tell_all(m, &m->on_scopes, &m->new_scopes);
	tell_all(m, &m->on_event, &m->new_events);
}

void hub_commit_wait(struct hub_model *m, struct hub_wait *wait, void (*fn)(void *arg, int err), void *arg)
{
	wait->fn = fn;
	wait->arg = arg;
	hf_list_add_tail(&m->waits, &wait->node);
	hub_model_touch(m);
}

void hub_wait_cancel(struct hub_wait *wait)
{
	if (hf_list_linked(&wait->node))
		hf_list_del(&wait->node);
}

int hub_session_save(struct hub_model *m, const char *id, json_t *filters)
{
	struct hf_txn *txn;
	char *text;
	int r = hub_state_txn(m, &txn);

	if (r != 0)
		return r;
	if (filters && !hub_entry_find(m, hf_span_str(id)))
		return HF_ENOTFOUND;
	if (!filters) {
		r = hf_txn_del(txn, HUB_T_SESSION, hf_span_str(id));
		return r == HF_ENOTFOUND ? 0 : r;
	}
	text = json_dumps(filters, JSON_COMPACT);
	if (!text)
		return -ENOMEM;
	r = hf_txn_put(txn, HUB_T_SESSION, hf_span_str(id), hf_span_str(text));
	free(text);
	return r;
}

json_t *hub_session_load(struct hub_model *m, const char *id)
{
	struct hf_txn *own = NULL, *txn = m->state_txn;	/* a change of this turn is visible */
	struct hf_span value;
	json_t *doc = NULL;

	if (!txn) {
		if (hf_txn_begin(m->state, false, &own) != 0)
			return NULL;
		txn = own;
	}
	if (hf_txn_get(txn, HUB_T_SESSION, hf_span_str(id), &value) == 0)
		doc = json_loadb((const char *)value.ptr, value.len, 0, NULL);
	if (own)
		hf_txn_abort(&own);
	return doc;
}

static int open_dbs(struct hub_model *m, const struct hub_model_cfg *cfg)
{
	unsigned flags = cfg->sync ? 0 : HF_DB_NOSYNC;
	size_t map = cfg->max_bytes ? cfg->max_bytes : EVENT_MAP_DEFAULT;
	char path[4096];
	int r;

	r = hf_lock_dir(cfg->dir, &m->lock_fd);
	if (r != 0)
		return r;
	m->max_event_bytes = hf_max(map, EVENT_MAP_MIN) & ~(size_t)4095;
	if (snprintf(path, sizeof path, "%s/state.mdb", cfg->dir) >= (int)sizeof path)
		return -ENAMETOOLONG;
	r = hf_db_open(&(struct hf_db_cfg){ .path = path, .map_size = STATE_MAP, .flags = flags,
					    .tables = state_tables }, &m->state);
	if (r != 0)
		return r;
	if (snprintf(path, sizeof path, "%s/events.mdb", cfg->dir) >= (int)sizeof path)
		return -ENAMETOOLONG;
	return hf_db_open(&(struct hf_db_cfg){ .path = path, .map_size = m->max_event_bytes, .flags = flags,
					       .tables = event_tables }, &m->events);
}

/* A directory from before there was a version is of the first format. */
static int check_format(struct hub_model *m)
{
	static const uint8_t ours = HUB_FORMAT;
	struct hf_span value;
	struct hf_txn *txn;
	int r = hub_state_txn(m, &txn);

	if (r == 0)
		r = hf_txn_get(txn, HUB_T_META, hf_span_str("format"), &value);
	if (r == HF_ENOTFOUND)
		return hf_txn_put(txn, HUB_T_META, hf_span_str("format"), hf_span(&ours, 1));
	if (r == 0 && (value.len != 1 || value.ptr[0] != ours)) {
		hf_log(HF_LOG_ERR, "hub.open", "storage of format %u; this program knows format %u: use the program that wrote it, "
		       "or `holdfast-hub export` there and `import` here", value.len ? value.ptr[0] : 0, ours);
		return HF_EUNSUPPORTED;
	}
	return r;
}

static int load_created(struct hub_model *m)
{
	static const char key[] = "created";
	struct hf_span value;
	struct hf_txn *txn;
	uint8_t row[8];
	int r = hub_state_txn(m, &txn);

	if (r == 0)
		r = hf_txn_get(txn, HUB_T_META, hf_span_str(key), &value);
	if (r == 0) {
		m->created_ms = (int64_t)hub_key_seq(value);
	} else if (r == HF_ENOTFOUND) {
		m->created_ms = hf_clock_wall_ms();
		hub_seq_key((uint64_t)m->created_ms, row);
		r = hf_txn_put(txn, HUB_T_META, hf_span_str(key), hf_span(row, sizeof row));
	}
	return r;
}

static int load(struct hub_model *m, const struct hub_model_cfg *cfg)
{
	bool stored;
	int r = check_format(m);

	if (r == 0)
		r = load_created(m);
	if (r == 0)
		r = hub_policies_load(m);
	if (r == 0)
		r = hub_registry_load(m);
	if (r == 0)
		r = hub_twin_load(m);
	if (r == 0)
		r = hub_c2d_load(m);
	if (r == 0)
		r = hub_feedback_load(m);
	if (r == 0)
		r = hub_blobs_open(m, cfg);
	if (r == 0)
		r = hub_events_load(m);
	if (r == 0)
		r = hub_jobs_load(m->jobs);
	if (r == 0)
		r = hub_configs_load(m->configs);
	if (r == 0)
		r = hub_transfers_load(m->transfers);
	if (r == 0)
		r = hub_counters_load(m);
	return r == 0 ? commit(m, &stored) : r;
}

int hub_model_open(struct hf_loop *loop, const struct hub_model_cfg *cfg, struct hub_model **ret_m)
{
	struct hub_model *m = calloc(1, sizeof *m);
	int r = m ? 0 : -ENOMEM;

	if (r != 0)
		return r;
	m->loop = loop;
	m->lock_fd = -1;
	m->max_age_ms = (int64_t)cfg->max_age_s * 1000;
	hub_throttle_init(&m->throttle, cfg->throttle);
	m->next_rid = hf_random_u64() & 0xffffff;
	hf_list_init(&m->waits);
	hf_list_init(&m->notes);
	hf_list_init(&m->held);
	hf_list_init(&m->calls);
	hf_list_init(&m->c2d_busy);
	hub_feedback_init(m);
	hf_task_init(&m->task, turn_end, m);
	m->host = strdup(cfg->host ? cfg->host : "");
	if (!m->host || hf_map_create(&m->idents) || hf_map_create(&m->dirty_idents) ||
	    hf_map_create(&m->dirty_twins) || hf_map_create(&m->late_idents) || hf_map_create(&m->late_twins) ||
	    hf_map_create(&m->leftovers) || hf_map_create(&m->policies) || hf_map_create(&m->sinks) ||
	    hub_faults_create(&m->faults) || hub_clients_create(m, &m->clients) ||
	    hub_jobs_create(m, &m->jobs) || hub_configs_create(m, &m->configs) ||
	    hub_transfers_create(m, &m->transfers))
		r = -ENOMEM;
	if (r == 0)
		r = hf_timer_create(loop, on_tick, m, &m->tick);
	if (r == 0)
		r = hf_timer_create(loop, on_retry, m, &m->retry);
	if (r == 0)
		r = open_dbs(m, cfg);
	if (r == 0)
		r = load(m, cfg);
	if (r == 0)
		r = hub_retention_start(m);
	if (r != 0) {
		hf_log(HF_LOG_ERR, "hub.open", "storage %s: %s", cfg->dir,
		       r == -EBUSY ? "in use by another holdfast-hub" : hf_strerror(r));
		hub_model_close(&m);
		return r;
	}
	*ret_m = m;
	return 0;
}

const char *hub_model_host(const struct hub_model *m)
{
	return m->host;
}

struct hf_span hub_model_short_name(const struct hub_model *m)
{
	struct hf_span rest = hf_span_str(m->host), name;

	hf_span_cut(&rest, '.', &name);
	return name;
}

int64_t hub_model_created_ms(const struct hub_model *m)
{
	return m->created_ms;
}

struct hub_faults *hub_model_faults(struct hub_model *m)
{
	return m->faults;
}

struct hub_clients *hub_model_clients(struct hub_model *m)
{
	return m->clients;
}

/* Calls and waiters that are still there get their one answer, so their owners must outlive the model. */
void hub_model_close(struct hub_model **pm)
{
	struct hub_model *m = *pm;

	if (!m)
		return;
	*pm = NULL;
	m->closing = true;
	hf_task_cancel(&m->task);
	hf_timer_destroy(&m->tick);
	hf_timer_destroy(&m->retry);
	hf_timer_destroy(&m->retention);
	if (m->sinks)
		hub_methods_fini(m);
	if (m->state && m->events) {
		move_set(m->late_idents, m->dirty_idents);
		move_set(m->late_twins, m->dirty_twins);
		hub_children_save(m);
		turn_end(m);
	}
	tell_notes(m, &m->held);	/* closing: they are only freed */
	if (m->state_txn)
		hf_txn_abort(&m->state_txn);
	if (m->event_txn)
		hf_txn_abort(&m->event_txn);
	hub_transfers_destroy(&m->transfers);	/* it holds files */
	hub_blobs_fini(m);
	if (m->idents)
		hub_registry_fini(m);
	if (m->policies)
		hub_policies_fini(m);
	hub_feedback_fini(m);
	hf_map_destroy(&m->idents);
	hf_map_destroy(&m->dirty_idents);
	hf_map_destroy(&m->dirty_twins);
	hf_map_destroy(&m->late_idents);
	hf_map_destroy(&m->late_twins);
	hf_map_destroy(&m->leftovers);
	hf_map_destroy(&m->policies);
	hf_map_destroy(&m->sinks);
	hf_db_close(&m->state);
	hf_db_close(&m->events);
	if (m->lock_fd >= 0)
		close(m->lock_fd);
	free(m->host);
	hub_faults_destroy(&m->faults);
	hub_clients_destroy(&m->clients);
	hub_jobs_destroy(&m->jobs);
	hub_configs_destroy(&m->configs);
	free(m);
}
