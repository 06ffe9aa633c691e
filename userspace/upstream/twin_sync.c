/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Twins of the children: passed through while the hub answers, served and queued here while it does not, brought
 * together again when it is back (edgehub-behaviour 8; docs/decisions/0001). */
#include "core/list.h"
#include "core/log.h"
#include "core/util.h"
#include "twin/merge.h"
#include "upstream/up_int.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

enum op_kind { OP_CHILD_GET, OP_CHILD_PATCH, OP_PUSH_PENDING, OP_RECONCILE_GET };
struct op {			/* one request to the hub, on the way or waiting for its session */
	struct hf_list node;
	enum op_kind kind;
	struct hf_twin_request *req;	/* of a child; NULL for ours */
	uint64_t rid, since_ms;		/* rid 0 = not sent yet */
};
struct hf_twin {
	char ident[HF_IDENT_MAX + 1];
	json_t *desired, *reported;	/* NULL = never seen */
	json_t *pending;		/* reported patch that the hub has not got */
	json_t *pushing;		/* the part of it that is on the way */
	struct hf_list ops;
	bool reconciled;		/* since the session came up */
	bool pull_again;		/* the hub had no answer to a pull: the next tick asks again */
	bool saving, unsaved;		/* on its way to the store; changed since */
	struct hf_mail *waiting, **waiting_end;	/* requests that the next commit answers */
};

static struct hf_twin *get(struct hf_upstream *up, const char *ident)
{
	struct hf_twin *t = hf_map_get(up->twins, hf_span_str(ident));

	if (t)
		return t;
	t = calloc(1, sizeof *t);
	if (!t)
		return NULL;
	snprintf(t->ident, sizeof t->ident, "%s", ident);
	hf_list_init(&t->ops);
	t->waiting_end = &t->waiting;
	if (hf_map_put(up->twins, hf_span_str(ident), t) != 0) {
		free(t);
		return NULL;
	}
	return t;
}

/* --- keeping ------------------------------------------------------------------------------------------------- */
struct saved {
	struct hf_store_state req;
	struct hf_state_op op;
	char *text;
	struct hf_upstream *up;
	struct hf_twin *twin;
	struct hf_mail *answers;	/* requests to be told 204 once this is on disk */
};

static void on_reply(struct hf_mail *mail)
{
	struct hf_twin_request *req = hf_container_of(mail, struct hf_twin_request, mail);

	req->done(req);
}

static void finish(struct hf_twin_request *req, int status, int64_t version)
{
	req->mail.fn = on_reply;
	req->status = status;
	req->version = version;
	hf_inbox_post(req->reply_to, &req->mail);
}

static void finish_all(struct hf_mail *first, int status)
{
	while (first) {
		struct hf_twin_request *req = hf_container_of(first, struct hf_twin_request, mail);

		first = first->next;
		finish(req, status, -1);
	}
}

static void save_now(struct hf_upstream *up, struct hf_twin *t);

static void on_saved(struct hf_store_state *state)
{
	struct saved *s = hf_container_of(state, struct saved, req);
	struct hf_twin *t = s->twin;

	s->up->n_saving--;
	t->saving = false;
	finish_all(s->answers, state->err ? 500 : 204);
	if (t->unsaved)
		save_now(s->up, t);
	free(s->text);
	free(s);
}

static char *stored_form(const struct hf_twin *t)
{
	json_t *doc = json_object();
	char *text;

	if (t->desired)
		json_object_set(doc, "desired", t->desired);
	if (t->reported)
		json_object_set(doc, "reported", t->reported);
	if (t->pushing || t->pending) {
		/* what is on the way is not there yet: both count as pending after a restart */
		json_t *all = t->pushing ? json_deep_copy(t->pushing) : json_object();

		if (t->pending)
			hf_twin_accumulate(all, t->pending);
		json_object_set_new(doc, "pending", all);
	}
	text = json_dumps(doc, JSON_COMPACT);
	json_decref(doc);
	return text;
}

static void save_now(struct hf_upstream *up, struct hf_twin *t)
{
	struct saved *s = calloc(1, sizeof *s);
	struct hf_mail *answers = hf_take(t->waiting);

	t->waiting_end = &t->waiting;
	t->unsaved = false;
	if (s)
		s->text = stored_form(t);
	if (!s || !s->text) {
		free(s);
		finish_all(answers, 500);
		return;
	}
	s->answers = answers;
	s->up = up;
	s->twin = t;
	s->op = (struct hf_state_op){ HF_STATE_TWIN, true, hf_span_str(t->ident), hf_span_str(s->text) };
	s->req = (struct hf_store_state){ .reply_to = up->inbox, .done = on_saved, .ops = &s->op, .n = 1 };
	t->saving = true;
	up->n_saving++;
	hf_store_state(up->store, &s->req);
}

/* One write of a twin is on its way at most; what changes meanwhile goes with the next one, so that a child that patches
 * all the time costs one write a commit. answer: a request that waits for the commit, or NULL. */
static void save(struct hf_upstream *up, struct hf_twin *t, struct hf_twin_request *answer)
{
	if (answer) {
		answer->mail.next = NULL;
		*t->waiting_end = &answer->mail;
		t->waiting_end = &answer->mail.next;
	}
	t->unsaved = true;
	if (!t->saving)
		save_now(up, t);
}

static void on_stored(void *arg, struct hf_span key, struct hf_span value)
{
	struct hf_upstream *up = arg;
	json_t *doc = json_loadb((const char *)value.ptr, value.len, 0, NULL);
	char ident[HF_IDENT_MAX + 1];
	struct hf_twin *t;

	if (key.len > HF_IDENT_MAX || !json_is_object(doc)) {
		hf_log(HF_LOG_ERR, "upstream.twin", "a stored twin cannot be read: skipped");
		json_decref(doc);
		return;
	}
	memcpy(ident, key.ptr, key.len);
	ident[key.len] = 0;
	t = get(up, ident);
	if (t) {
		t->desired = json_incref(json_object_get(doc, "desired"));
		t->reported = json_incref(json_object_get(doc, "reported"));
		t->pending = json_incref(json_object_get(doc, "pending"));
		if (strcmp(ident, up->own_id) == 0 && t->desired)
			hf_own_twin_apply(up, t->desired, false);
	}
	json_decref(doc);
}

int hf_twins_load(struct hf_upstream *up)
{
	int r = hf_map_create(&up->twins);

	return r ? r : hf_store_state_load(up->store, HF_STATE_TWIN, on_stored, up);
}

/* --- answers from here ------------------------------------------------------------------------------------------ */
static json_t *overlaid_reported(const struct hf_twin *t)
{
	json_t *r = t->reported ? json_deep_copy(t->reported) : json_object();

	if (r && t->pushing)
		hf_twin_merge(r, t->pushing);
	if (r && t->pending)
		hf_twin_merge(r, t->pending);
	return r;
}

/* As the hub words it, so that clients see one answer online and offline. */
static void refuse(struct hf_twin_request *req, int status, int code, const char *why)
{
	json_t *doc = json_pack("{s:i, s:s}", "errorCode", code, "message", why);
	hf_autofree char *text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;

	json_decref(doc);
	if (text)
		hf_buf_puts(&req->reply, text);
	else
		hf_buf_printf(&req->reply, "{\"errorCode\":%d}", code);
	finish(req, status, -1);
}

/* The precondition is judged by the version that a GET shows here; what is pending has none yet. */
static bool is_stale(const struct hf_twin *t, const struct hf_twin_request *req)
{
	const json_t *have = json_object_get(t->reported, "$version");

	return req->if_version >= 0 && have && json_integer_value(have) != req->if_version;
}

static void answer_get(struct hf_twin *t, struct hf_twin_request *req)
{
	json_t *doc = json_object();

	json_object_set_new(doc, "desired", t->desired ? json_incref(t->desired) : json_object());
	json_object_set_new(doc, "reported", overlaid_reported(t));
	hf_autofree char *text = json_dumps(doc, JSON_COMPACT);

	hf_buf_puts(&req->reply, text ? text : "");
	json_decref(doc);
	finish(req, text ? 200 : 500, -1);
}

static void answer_patch(struct hf_upstream *up, struct hf_twin *t, struct hf_twin_request *req)
{
	json_t *patch = json_loadb((const char *)req->body.ptr, req->body.len, JSON_REJECT_DUPLICATES, NULL);
	char why[160] = "body is not a JSON object";
	int r = patch ? hf_twin_check_patch(patch, req->body.len, why, sizeof why) : HF_EINVALID;

	if (r == HF_ELIMIT) {
		refuse(req, 413, 413001, why);
	} else if (r != 0) {
		refuse(req, 400, 400004, why);
	} else if (is_stale(t, req)) {
		refuse(req, 412, 412001, "$version is not that of the reported properties");
	} else {
		if (!t->pending)
			t->pending = json_object();
		if (!t->pending || hf_twin_accumulate(t->pending, patch) != 0)
			finish(req, 500, -1);
		else
			save(up, t, req);	/* 204 after the commit */
	}
	json_decref(patch);
}

static void answer_local(struct hf_upstream *up, struct hf_twin *t, struct hf_twin_request *req)
{
	struct hf_hub_session *s;

	up->n.twin_local++;
	if (!req->is_patch) {
		answer_get(t, req);
		return;
	}
	answer_patch(up, t, req);
	/* If the hub is there after all (its answer was late), push now. */
	s = hf_link_online(up) && t->pending ? hf_hub_session_get(up, t->ident) : NULL;
	if (s && hf_hub_session_is_up(s))
		hf_twin_session_up(s);
	else if (s)
		hf_hub_session_want(s);
}

/* --- requests to the hub ---------------------------------------------------------------------------------------- */
static void transmit(struct hf_hub_session *s, struct op *op, const char *body)
{
	struct hf_upstream *up = hf_hub_session_up(s);
	bool patch = op->kind == OP_CHILD_PATCH || op->kind == OP_PUSH_PENDING;
	char topic[128];

	op->rid = ++up->next_rid;
	op->since_ms = hf_loop_now_ms(up->loop);
	snprintf(topic, sizeof topic, patch ? "$iothub/twin/PATCH/properties/reported/?$rid=%llu" : "$iothub/twin/GET/?$rid=%llu",
		 (unsigned long long)op->rid);
	if (op->req && op->req->is_patch && op->req->if_version >= 0)
		snprintf(topic + strlen(topic), sizeof topic - strlen(topic), "&$version=%lld", (long long)op->req->if_version);
	if (op->req && op->req->is_patch)
		hf_hub_session_publish(s, hf_span_str(topic), op->req->body);
	else
		hf_hub_session_publish(s, hf_span_str(topic), hf_span_str(body));
	up->n.twin_passed++;
}

static struct op *add_op(struct hf_upstream *up, struct hf_twin *t, enum op_kind kind, struct hf_twin_request *req)
{
	struct op *op = calloc(1, sizeof *op);

	if (!op)
		return NULL;
	op->kind = kind;
	op->req = req;
	op->since_ms = hf_loop_now_ms(up->loop);
	hf_list_add_tail(&t->ops, &op->node);
	return op;
}

static void remove_op(struct op *op)
{
	hf_list_del(&op->node);
	free(op);
}

static void push_pending(struct hf_hub_session *s, struct hf_twin *t)
{
	struct op *op;

	if (t->pushing || !t->pending || !hf_hub_session_has_room(s))
		return;
	op = add_op(hf_hub_session_up(s), t, OP_PUSH_PENDING, NULL);
	if (!op)
		return;
	t->pushing = t->pending;
	t->pending = NULL;
	hf_autofree char *text = json_dumps(t->pushing, JSON_COMPACT);
	transmit(s, op, text ? text : "{}");
}

static void reconcile_get(struct hf_hub_session *s, struct hf_twin *t)
{
	struct op *op = add_op(hf_hub_session_up(s), t, OP_RECONCILE_GET, NULL);

	if (op)
		transmit(s, op, " ");
}

/* What the child asked, as far as the session takes it. */
static void send_waiting(struct hf_hub_session *s, struct hf_twin *t)
{
	struct hf_list *pos;

	hf_list_for_each(pos, &t->ops) {
		struct op *op = hf_container_of(pos, struct op, node);

		if (op->rid)
			continue;
		if (!hf_hub_session_has_room(s))
			return;
		transmit(s, op, " ");
	}
}

/* Reported first, then the pull and the desired diff, then what the child asked meanwhile. */
void hf_twin_session_up(struct hf_hub_session *s)
{
	struct hf_upstream *up = hf_hub_session_up(s);
	struct hf_twin *t = hf_map_get(up->twins, hf_span_str(hf_hub_session_ident(s)));
	bool own = strcmp(hf_hub_session_ident(s), up->own_id) == 0, wants_desired = hf_hub_session_subs(s) & HF_SUB_DESIRED;

	if (!t && (own || wants_desired))
		t = get(up, hf_hub_session_ident(s));
	if (!t)
		return;
	push_pending(s, t);
	if (!t->reconciled && (own || wants_desired || t->desired)) {
		t->reconciled = true;
		reconcile_get(s, t);
	}
	send_waiting(s, t);
}

void hf_twin_send_waiting(struct hf_hub_session *s)
{
	struct hf_twin *t = hf_map_get(hf_hub_session_up(s)->twins, hf_span_str(hf_hub_session_ident(s)));

	if (t)
		send_waiting(s, t);
}

void hf_twin_subscribed(struct hf_hub_session *s)
{
	struct hf_twin *t = get(hf_hub_session_up(s), hf_hub_session_ident(s));

	if (t)
		t->reconciled = true;	/* the SDK sends its own GET after subscribing */
}

void hf_twin_session_down(struct hf_upstream *up, const char *ident)
{
	struct hf_twin *t = hf_map_get(up->twins, hf_span_str(ident));
	struct hf_list *pos, *tmp;

	if (!t)
		return;
	t->reconciled = false;
	t->pull_again = false;
	if (t->pushing) {	/* whether it arrived is unknown; merging it twice does no harm */
		if (t->pending)
			hf_twin_accumulate(t->pushing, t->pending);
		json_decref(t->pending);
		t->pending = t->pushing;
		t->pushing = NULL;
	}
	hf_list_for_each_safe(pos, tmp, &t->ops) {
		struct op *op = hf_container_of(pos, struct op, node);
		struct hf_twin_request *req = op->req;

		remove_op(op);
		if (req)
			answer_local(up, t, req);
	}
}

void hf_twin_handle(struct hf_upstream *up, struct hf_twin_request *req)
{
	struct hf_twin *t = get(up, req->ident);
	struct hf_hub_session *s;
	struct op *op;

	if (!t) {
		finish(req, 500, -1);
		return;
	}
	s = hf_link_online(up) ? hf_hub_session_get(up, req->ident) : NULL;
	op = s ? add_op(up, t, req->is_patch ? OP_CHILD_PATCH : OP_CHILD_GET, req) : NULL;
	if (!op) {
		answer_local(up, t, req);
	} else if (hf_hub_session_is_up(s)) {
		push_pending(s, t);	/* older patches go first */
		send_waiting(s, t);
	} else {
		hf_hub_session_want(s);
	}
}

bool hf_twin_wants_session(struct hf_upstream *up, const char *ident)
{
	const struct hf_twin *t = hf_map_get(up->twins, hf_span_str(ident));

	return t && (t->pending || t->pushing || !hf_list_empty(&t->ops));
}

void hf_twin_open_pending(struct hf_upstream *up)
{
	struct hf_span key;
	size_t pos = 0;
	void *v;

	while (hf_map_next(up->twins, &pos, &key, &v)) {
		const struct hf_twin *t = v;
		struct hf_hub_session *s = t->pending ? hf_hub_session_get(up, t->ident) : NULL;

		if (s)
			hf_hub_session_want(s);
	}
}

/* --- what the hub says --------------------------------------------------------------------------------------------- */
static void replace(json_t **slot, json_t *value)
{
	json_decref(*slot);
	*slot = json_incref(value);
}

static void on_get(struct hf_hub_session *s, struct hf_twin *t, struct op *op, struct hf_span body)
{
	struct hf_upstream *up = hf_hub_session_up(s);
	json_t *doc = json_loadb((const char *)body.ptr, body.len, 0, NULL), *diff = NULL;
	json_t *desired = json_object_get(doc, "desired"), *reported = json_object_get(doc, "reported");
	int err = 0;

	if (!json_is_object(desired) || !json_is_object(reported)) {
		json_decref(doc);
		if (op->req)
			answer_local(up, t, op->req);
		return;
	}
	if (op->kind == OP_RECONCILE_GET && t->desired && (hf_hub_session_subs(s) & HF_SUB_DESIRED))
		diff = hf_twin_diff(t->desired, desired, &err);
	replace(&t->desired, desired);
	replace(&t->reported, reported);
	save(up, t, NULL);
	if (strcmp(t->ident, up->own_id) == 0)
		hf_own_twin_apply(up, t->desired, true);
	if (diff) {
		int64_t version = json_integer_value(json_object_get(desired, "$version"));

		json_object_set(diff, "$version", json_object_get(desired, "$version"));
		hf_autofree char *text = json_dumps(diff, JSON_COMPACT);

		if (text)
			hf_hub_session_send_desired(s, version, hf_span_str(text));
		json_decref(diff);
	}
	json_decref(doc);
	if (op->req) {
		op->req->is_patch = false;
		if (t->pending || t->pushing) {	/* the hub's answer does not know them yet */
			answer_local(up, t, op->req);
		} else {
			hf_buf_put_span(&op->req->reply, body);
			finish(op->req, 200, -1);
		}
	}
}

static void on_patched(struct hf_hub_session *s, struct hf_twin *t, struct op *op, int status, int64_t version,
		       struct hf_span body)
{
	struct hf_upstream *up = hf_hub_session_up(s);
	bool ok = status >= 200 && status < 300;

	if (op->kind == OP_PUSH_PENDING) {
		if (ok || (status >= 400 && status < 500 && status != 429)) {
			if (!ok)
				hf_log(HF_LOG_ERR, "upstream.twin", "%s: the hub refuses the queued reported properties (%d): dropped",
				       t->ident, status);
			if (ok && t->reported)
				hf_twin_merge(t->reported, t->pushing);
			json_decref(t->pushing);
			t->pushing = NULL;
			save(up, t, NULL);
			if (t->pending)
				push_pending(s, t);
		} else {	/* 429, 5xx: again later */
			if (t->pending)
				hf_twin_accumulate(t->pushing, t->pending);
			json_decref(t->pending);
			t->pending = t->pushing;
			t->pushing = NULL;
		}
		return;
	}
	if (ok && t->reported) {
		json_t *patch = json_loadb((const char *)op->req->body.ptr, op->req->body.len, 0, NULL);

		if (patch)
			hf_twin_merge(t->reported, patch);
		if (version >= 0)
			json_object_set_new(t->reported, "$version", json_integer(version));
		json_decref(patch);
		save(up, t, NULL);
	}
	hf_buf_put_span(&op->req->reply, body);
	finish(op->req, status, version);
}

void hf_twin_on_response(struct hf_hub_session *s, int status, struct hf_span rid_text, int64_t version, struct hf_span body)
{
	struct hf_upstream *up = hf_hub_session_up(s);
	struct hf_twin *t = hf_map_get(up->twins, hf_span_str(hf_hub_session_ident(s)));
	struct hf_list *pos;
	int64_t rid;

	if (!t || hf_parse_i64(rid_text, 1, INT64_MAX, &rid) != 0)
		return;
	hf_list_for_each(pos, &t->ops) {
		struct op *op = hf_container_of(pos, struct op, node);

		if (op->rid != (uint64_t)rid)
			continue;
		hf_list_del(&op->node);	/* nested calls must not find it again */
		if (op->kind == OP_CHILD_PATCH || op->kind == OP_PUSH_PENDING) {
			on_patched(s, t, op, status, version, body);
		} else if (status == 200) {
			on_get(s, t, op, body);
		} else if (op->req && status < 500) {
			hf_buf_put_span(&op->req->reply, body);
			finish(op->req, status, -1);
		} else if (op->req) {
			answer_local(up, t, op->req);
		} else {
			t->pull_again = status == 429 || status >= 500;
		}
		free(op);
		return;
	}
}

void hf_twin_on_desired(struct hf_hub_session *s, int64_t version, struct hf_span body)
{
	struct hf_upstream *up = hf_hub_session_up(s);
	struct hf_twin *t = get(up, hf_hub_session_ident(s));
	json_t *patch = json_loadb((const char *)body.ptr, body.len, 0, NULL);
	int64_t have = t && t->desired ? json_integer_value(json_object_get(t->desired, "$version")) : -1;

	if (!t || !json_is_object(patch)) {
		json_decref(patch);
		return;
	}
	if (have >= 0 && version <= have) {	/* known already */
		json_decref(patch);
		return;
	}
	if (have >= 0 && version > have + 1) {	/* a gap: pull, and send the difference */
		json_decref(patch);
		reconcile_get(s, t);
		return;
	}
	if (t->desired) {
		hf_twin_merge(t->desired, patch);
		save(up, t, NULL);
		if (strcmp(t->ident, up->own_id) == 0)
			hf_own_twin_apply(up, t->desired, true);
	}
	if (hf_hub_session_subs(s) & HF_SUB_DESIRED)
		hf_hub_session_send_desired(s, version, body);
	json_decref(patch);
}

/* --- once a second: requests that the hub leaves open, pulls that it refused ---------------------------------------- */
void hf_twin_tick(struct hf_upstream *up)
{
	uint64_t now = hf_loop_now_ms(up->loop);
	struct hf_span key;
	size_t at = 0;
	void *v;

	while (hf_map_next(up->twins, &at, &key, &v)) {
		struct hf_twin *t = v;
		struct hf_list *pos, *tmp;

		hf_list_for_each_safe(pos, tmp, &t->ops) {
			struct op *op = hf_container_of(pos, struct op, node);
			struct hf_twin_request *req = op->req;

			if (now - op->since_ms < HF_OP_TIMEOUT_MS)
				continue;
			if (op->kind == OP_PUSH_PENDING && t->pushing) {
				if (t->pending)
					hf_twin_accumulate(t->pushing, t->pending);
				json_decref(t->pending);
				t->pending = t->pushing;
				t->pushing = NULL;
			}
			t->pull_again |= op->kind == OP_RECONCILE_GET;
			remove_op(op);
			if (req)
				answer_local(up, t, req);
		}
		bool wanted = t->pull_again || (t->pending && !t->pushing);
		struct hf_hub_session *s = wanted ? hf_hub_session_find(up, hf_span_str(t->ident)) : NULL;

		if (!s || !hf_hub_session_is_up(s))
			continue;
		push_pending(s, t);
		if (t->pull_again) {
			t->pull_again = false;
			reconcile_get(s, t);
		}
	}
}

void hf_twins_fini(struct hf_upstream *up)
{
	struct hf_span key;
	size_t at = 0;
	void *v;

	while (up->twins && hf_map_next(up->twins, &at, &key, &v)) {
		struct hf_twin *t = v;
		struct hf_list *pos, *tmp;

		hf_list_for_each_safe(pos, tmp, &t->ops) {
			struct op *op = hf_container_of(pos, struct op, node);

			if (op->req)
				finish(op->req, 503, -1);
			remove_op(op);
		}
		json_decref(t->desired);
		json_decref(t->reported);
		json_decref(t->pending);
		json_decref(t->pushing);
		free(t);
	}
	hf_map_destroy(&up->twins);
}
