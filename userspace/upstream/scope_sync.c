/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The identity scope: full passes and single refreshes over the hub's HTTPS API (edgehub-behaviour 3.3, 4). A pass
 * replaces the snapshot only when complete; a failed or partial one removes nobody. */
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "upstream/up_int.h"
#include <errno.h>
#include <holdfast/err.h>
#include <netinet/in.h>
#include <stdio.h>

#define PAGE 100
#define RETRY_MS 5000
#define ASK_TIME_MS 30000	/* least time between questions for the time alone */

enum job { JOB_NONE, JOB_PASS, JOB_SINGLE, JOB_TIME };
struct hf_scope_sync {
	enum job job;
	struct hf_http_call *call;
	struct hf_scope_builder *builder;	/* of the pass */
	char *link;				/* continuation */
	bool classic;				/* the hub has no nested API */
	char ident[HF_IDENT_MAX + 1];		/* of the single refresh */
	bool pass_wanted;
	uint64_t last_pass_ms, retry_at_ms, ask_time_at_ms;
	unsigned n_passes, n_failures, n_pages, n_singles;
	char last_error[160];
};

static void request_page(struct hf_upstream *up);

/* --- keeping a snapshot --------------------------------------------------------------------------------------- */
struct saved {
	struct hf_store_state req;
	struct hf_buf data;
	struct hf_state_op *ops;
	struct { size_t at, len; } *spans;
	struct hf_scope *scope;
	struct hf_upstream *up;
};

static void on_saved(struct hf_store_state *req)
{
	struct saved *s = hf_container_of(req, struct saved, req);

	s->up->n_saving--;
	if (req->err)
		hf_log(HF_LOG_ERR, "upstream.scope", "the scope could not be stored: %s", hf_strerror(req->err));
	hf_buf_wipe(&s->data);
	free(s->ops);
	free(s->spans);
	hf_scope_unref(&s->scope);
	free(s);
}

/* One record to be put, or with NULL deleted. id lives as long as the snapshot. */
static void add_op(struct saved *s, const char *id, const struct hf_scope_ident *ident)
{
	size_t n = s->req.n;

	s->spans[n].at = hf_buf_len(&s->data);
	if (ident && hf_scope_ident_encode(ident, &s->data) != 0)
		return;
	s->spans[n].len = hf_buf_len(&s->data) - s->spans[n].at;
	s->ops[n] = (struct hf_state_op){ HF_STATE_IDENT, ident != NULL, hf_span_str(id), { 0 } };
	s->req.n++;
}

/* Only what differs from `old`; with NULL everything, in place of what is stored. */
static int save(struct hf_upstream *up, const struct hf_scope *old, struct hf_scope *scope)
{
	struct saved *s = calloc(1, sizeof *s);
	const struct hf_scope_ident *ident;
	size_t pos = 0, count = 0;
	const char *id;

	if (!s)
		return -ENOMEM;
	if (old)
		while (hf_scope_next_change(old, scope, &pos, &id, &ident))
			count++;
	else
		count = hf_scope_count(scope);
	s->up = up;
	up->n_saving++;
	s->data = HF_BUF_INIT(256u << 20);
	s->ops = calloc(count + 1, sizeof *s->ops);
	s->spans = calloc(count + 1, sizeof *s->spans);
	s->scope = hf_scope_ref(scope);	/* keys borrow from it */
	s->req = (struct hf_store_state){ .reply_to = up->inbox, .done = on_saved, .ops = s->ops, .replace_ident = !old };
	pos = 0;
	while (old && s->ops && s->spans && hf_scope_next_change(old, scope, &pos, &id, &ident))
		add_op(s, id, ident);
	while (!old && s->ops && s->spans && hf_scope_next(scope, &pos, &ident))
		add_op(s, ident->id, ident);
	for (size_t i = 0; i < s->req.n; i++)
		s->ops[i].value = hf_span(hf_buf_span(&s->data).ptr + s->spans[i].at, s->spans[i].len);
	if (!s->ops || !s->spans || s->data.err) {
		s->req.err = -ENOMEM;
		on_saved(&s->req);
		return -ENOMEM;
	}
	hf_store_state(up->store, &s->req);
	return 0;
}

/* Who lost the right to be here. Changed keys are judged by the workers, which hold the credentials. */
static void cut_off_if_lost(struct hf_upstream *up, const struct hf_scope_ident *was, const struct hf_scope_ident *is)
{
	if (!is)
		up->ops->cut_off(up->arg, was->id, "left the scope");
	else if (was->enabled && !is->enabled)
		up->ops->cut_off(up->arg, was->id, "disabled");
}

static void swap(struct hf_upstream *up, struct hf_scope *scope)
{
	up->scope = scope;
	up->ops->scope(up->arg, scope);
}

/* The scope of a full pass. Takes it over. */
static void install(struct hf_upstream *up, struct hf_scope *scope)
{
	struct hf_scope *old = up->scope;
	const struct hf_scope_ident *was;
	size_t pos = 0;

	swap(up, scope);
	while (hf_scope_next(old, &pos, &was))
		cut_off_if_lost(up, was, hf_scope_find(scope, hf_span_str(was->id)));
	hf_scope_unref(&old);
	save(up, NULL, scope);
}

/* A scope that changes some records of the one in force. Takes it over. True: something is different. */
static bool install_changes(struct hf_upstream *up, struct hf_scope *scope)
{
	struct hf_scope *old = up->scope;
	const struct hf_scope_ident *was, *is;
	const char *id;
	size_t pos = 0;

	if (!hf_scope_next_change(old, scope, &pos, &id, &is)) {
		hf_scope_unref(&scope);
		return false;
	}
	swap(up, scope);
	pos = 0;
	while (hf_scope_next_change(old, scope, &pos, &id, &is))
		if ((was = hf_scope_find(old, hf_span_str(id))))
			cut_off_if_lost(up, was, is);
	save(up, old, scope);
	hf_scope_unref(&old);
	return true;
}

/* --- requests ---------------------------------------------------------------------------------------------- */
static void end_job(struct hf_upstream *up, const char *error)
{
	struct hf_scope_sync *y = up->sync;

	if (error) {
		static struct hf_log_limit limit;

		snprintf(y->last_error, sizeof y->last_error, "%s", error);
		hf_log_limited(&limit, HF_LOG_WARN, "upstream.scope", "%s: nobody was removed", error);
		y->n_failures++;
		if (y->job == JOB_PASS) {
			y->pass_wanted = true;
			y->retry_at_ms = hf_loop_now_ms(up->loop) + RETRY_MS;
		}
	} else {
		y->last_error[0] = 0;
	}
	hf_scope_builder_destroy(&y->builder);
	free(y->link);
	y->link = NULL;
	y->job = JOB_NONE;
	hf_scope_sync_next(up);
}

static int call(struct hf_upstream *up, const char *method, const char *target, json_t *body, hf_http_reply_fn fn)
{
	const struct hf_address *a = hf_link_address(up);
	struct sockaddr_storage addr = a->addr;
	const char *token = hf_own_token(up);
	hf_autobuf struct hf_buf headers = HF_BUF_INIT(8192);
	hf_autofree char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	struct hf_http_call_cfg cfg = { .addr = (struct sockaddr *)&addr, .addr_len = a->len, .tls = up->tls,
					.host = up->hub_host, .method = method, .target = target };
	int r;

	json_decref(body);
	if (!token)
		return HF_EDENIED;
	if (addr.ss_family == AF_INET)
		((struct sockaddr_in *)&addr)->sin_port = htons(up->https_port);
	else
		((struct sockaddr_in6 *)&addr)->sin6_port = htons(up->https_port);
	hf_buf_printf(&headers, "Authorization: %s\r\nContent-Type: application/json; charset=utf-8\r\n", token);
	cfg.extra_headers = hf_buf_cstr(&headers);
	cfg.body = hf_span_str(text ? text : "");
	cfg.timeout_ms = 20000;
	r = hf_http_call(up->loop, &cfg, fn, up, &up->sync->call);
	if (headers.mem)
		explicit_bzero(headers.mem, headers.size);
	return r;
}

static void target_of(const struct hf_upstream *up, const char *rest, struct hf_buf *out)
{
	hf_buf_puts(out, "/devices/");
	hf_uri_encode(hf_span_str(up->edge_id), out);
	hf_buf_printf(out, "/modules/$edgeHub/%s", rest);
}

static int add_records(struct hf_scope_builder *b, const json_t *page, unsigned *ret_n)
{
	static const char *const lists[] = { "devices", "modules" };
	unsigned n = 0;

	for (int k = 0; k < 2; k++) {
		json_t *list = json_object_get(page, lists[k]), *record;
		size_t i;

		json_array_foreach(list, i, record) {
			int r = hf_scope_builder_add_json(b, record, k == 1);

			if (r == HF_EINVALID) {	/* one bad record does not stop the rest */
				const char *id = json_string_value(json_object_get(record, "deviceId"));

				hf_log(HF_LOG_WARN, "upstream.scope", "record of \"%.128s\" is not understood: skipped", id ? id : "?");
				continue;
			}
			if (r != 0)
				return r;
			n++;
		}
	}
	*ret_n = n;
	return 0;
}

static void pass_complete(struct hf_upstream *up)
{
	struct hf_scope_sync *y = up->sync;
	struct hf_scope *scope;

	if (hf_scope_builder_finish(&y->builder, hf_clock_wall_ms(), &scope) != 0) {
		end_job(up, "scope pass: out of memory");
		return;
	}
	if (!hf_scope_find(scope, hf_span_str(up->edge_id))) {
		hf_scope_unref(&scope);
		end_job(up, "scope pass: the answer does not hold the gateway itself");
		return;
	}
	hf_log(HF_LOG_INFO, "upstream.scope", "%zu identities", hf_scope_count(scope));
	y->last_pass_ms = hf_loop_now_ms(up->loop);
	y->n_passes++;
	install(up, scope);
	end_job(up, NULL);
}

/* Any answer carries the hub's time, and its certificate was verified. */
static void learn_time(struct hf_upstream *up, int err, const struct hf_http_reply *reply)
{
	if (err == 0 && reply->date_s && up->clock)
		hf_auth_clock_trust(up->clock, reply->date_s, HF_CLOCK_HUB);
}

static void on_page(void *arg, int err, const struct hf_http_reply *reply)
{
	struct hf_upstream *up = arg;
	struct hf_scope_sync *y = up->sync;
	char why[160];
	json_t *page, *link;
	unsigned n;

	y->call = NULL;
	learn_time(up, err, reply);
	if (err == 0 && (reply->status == 404 || reply->status == 405) && !y->classic && !y->link) {
		y->classic = true;	/* an older hub: first generation API */
		request_page(up);
		return;
	}
	if (err || reply->status != 200) {
		if (!err && reply->status == 401)
			hf_own_token_forget(up);
		if (err)
			snprintf(why, sizeof why, "scope pass: %s", hf_strerror(err));
		else
			snprintf(why, sizeof why, "scope pass: HTTP %d", reply->status);
		end_job(up, why);
		return;
	}
	page = json_loadb((const char *)reply->body.ptr, reply->body.len, 0, NULL);
	link = json_object_get(page, "continuationLink");
	y->n_pages++;
	if (!json_is_object(page) || !json_object_get(page, "devices") || add_records(y->builder, page, &n) != 0) {
		json_decref(page);
		end_job(up, "scope pass: the answer is not a scope page");
		return;
	}
	free(y->link);
	y->link = json_string_length(link) ? strdup(json_string_value(link)) : NULL;
	json_decref(page);
	if (y->link)
		request_page(up);
	else
		pass_complete(up);
}

static void request_page(struct hf_upstream *up)
{
	struct hf_scope_sync *y = up->sync;
	hf_autobuf struct hf_buf target = HF_BUF_INIT(16384);
	json_t *body = NULL;
	int r;

	if (y->classic && y->link) {
		hf_buf_puts(&target, y->link);
	} else if (y->classic) {
		target_of(up, "devicesAndModulesInDeviceScope?deviceCount=100&continuationToken=&api-version=2018-08-30-preview",
			  &target);
	} else {
		target_of(up, "devicesAndModulesInTargetDeviceScope?api-version=2020-06-30-preview", &target);
		body = json_pack("{s:i, s:s}", "pageSize", PAGE, "authChain", up->edge_id);
		if (y->link)
			json_object_set_new(body, "continuationLink", json_string(y->link));
	}
	r = call(up, y->classic ? "GET" : "POST", hf_buf_cstr(&target), body, on_page);
	if (r != 0) {
		char why[160];

		snprintf(why, sizeof why, "scope pass: %s", hf_strerror(r));
		end_job(up, why);
	}
}

/* The current snapshot with one identity's records replaced (page) or removed (NULL). True: it is different. */
static bool install_single(struct hf_upstream *up, const char *ident, const json_t *page)
{
	struct hf_scope_builder *b = NULL;
	struct hf_scope *scope;
	unsigned n = 0;
	int r = hf_scope_builder_create_over(up->scope, &b);

	if (r == 0)
		r = page ? add_records(b, page, &n) : hf_scope_builder_remove(b, ident);
	if (r == 0)
		r = hf_scope_builder_finish(&b, hf_scope_synced_at_ms(up->scope), &scope);
	hf_scope_builder_destroy(&b);
	if (r != 0)
		hf_log(HF_LOG_ERR, "upstream.scope", "%s: the fresh record is not taken: %s", ident, hf_strerror(r));
	return r == 0 && install_changes(up, scope);
}

static void on_single(void *arg, int err, const struct hf_http_reply *reply)
{
	struct hf_upstream *up = arg;
	struct hf_scope_sync *y = up->sync;
	bool fresh = false, changed = false;
	json_t *page = NULL;

	y->call = NULL;
	learn_time(up, err, reply);
	if (err == 0 && reply->status == 200)
		page = json_loadb((const char *)reply->body.ptr, reply->body.len, 0, NULL);
	if (page && json_array_size(json_object_get(page, "devices")) + json_array_size(json_object_get(page, "modules"))) {
		fresh = true;
		changed = install_single(up, y->ident, page);
	} else if (err == 0 && (reply->status == 200 || reply->status == 400 || reply->status == 401 || reply->status == 403 ||
				reply->status == 404)) {
		/* an explicit negative: only that takes a right away */
		fresh = true;
		changed = hf_scope_find(up->scope, hf_span_str(y->ident)) && install_single(up, y->ident, NULL);
	}
	json_decref(page);
	hf_refresh_answered(up, y->ident, fresh, changed);	/* after the new scope went to the workers */
	end_job(up, NULL);
}

static void request_single(struct hf_upstream *up, const char *ident)
{
	const char *slash = strchr(ident, '/');
	hf_autobuf struct hf_buf target = HF_BUF_INIT(4096);
	json_t *body = json_pack("{s:s%, s:s}", "targetDeviceId", ident,
				 slash ? (size_t)(slash - ident) : strlen(ident), "authChain", up->edge_id);

	up->sync->n_singles++;
	if (slash)
		json_object_set_new(body, "targetModuleId", json_string(slash + 1));
	target_of(up, "getDeviceAndModuleOnBehalfOf?api-version=2020-06-30-preview", &target);
	if (call(up, "POST", hf_buf_cstr(&target), body, on_single) != 0) {
		hf_refresh_answered(up, ident, false, false);
		end_job(up, "single refresh could not be started");
	}
}

static void on_time(void *arg, int err, const struct hf_http_reply *reply)
{
	struct hf_upstream *up = arg;

	up->sync->call = NULL;
	learn_time(up, err, reply);
	hf_own_token_forget(up);	/* made anew with the time that is known now */
	end_job(up, NULL);
}

/* A wrong clock makes tokens that the hub takes for expired, or for ones of a distant future. Its refusal of a plain
 * request tells the time without a login. */
void hf_scope_sync_ask_time(struct hf_upstream *up)
{
	struct hf_scope_sync *y = up->sync;
	uint64_t now = hf_loop_now_ms(up->loop);

	if (!up->clock || y->job != JOB_NONE || up->stopping || now < y->ask_time_at_ms)
		return;
	y->ask_time_at_ms = now + ASK_TIME_MS;
	y->job = JOB_TIME;
	if (call(up, "GET", "/", NULL, on_time) != 0)
		end_job(up, "the hub's time could not be asked for");
}

void hf_scope_sync_next(struct hf_upstream *up)
{
	struct hf_scope_sync *y = up->sync;

	if (y->job != JOB_NONE || up->stopping || !hf_link_online(up))
		return;
	if (y->pass_wanted && hf_loop_now_ms(up->loop) >= y->retry_at_ms) {
		y->pass_wanted = false;
		y->classic = false;
		y->job = JOB_PASS;
		if (hf_scope_builder_create(&y->builder) == 0)
			request_page(up);
		else
			end_job(up, "scope pass: out of memory");
	} else if (hf_refresh_next(up, y->ident)) {
		y->job = JOB_SINGLE;
		request_single(up, y->ident);
	}
}

void hf_scope_sync_start(struct hf_upstream *up)
{
	struct hf_scope_sync *y = up->sync;

	y->pass_wanted = true;
	y->retry_at_ms = 0;
	hf_scope_sync_next(up);
}

void hf_scope_sync_tick(struct hf_upstream *up)
{
	struct hf_scope_sync *y = up->sync;

	if (y->last_pass_ms && hf_loop_now_ms(up->loop) - y->last_pass_ms > (uint64_t)up->scope_refresh_s * 1000)
		y->pass_wanted = true;
	hf_scope_sync_next(up);
}

static void on_stored(void *arg, struct hf_span key, struct hf_span value)
{
	if (hf_scope_builder_add_encoded(arg, value) != 0)
		hf_log(HF_LOG_ERR, "upstream.scope", "stored record of \"%.*s\" cannot be read: skipped", (int)hf_min(key.len, 128u),
		       (const char *)key.ptr);
}

int hf_scope_sync_init(struct hf_upstream *up)
{
	struct hf_scope_builder *b;
	int r;

	up->sync = calloc(1, sizeof *up->sync);
	if (!up->sync)
		return -ENOMEM;
	r = hf_scope_builder_create(&b);
	if (r != 0)
		return r;
	r = hf_store_state_load(up->store, HF_STATE_IDENT, on_stored, b);
	if (r == 0)
		r = hf_scope_builder_finish(&b, 0, &up->scope);
	hf_scope_builder_destroy(&b);
	if (r == 0)
		up->ops->scope(up->arg, up->scope);
	return r;
}

void hf_scope_sync_fini(struct hf_upstream *up)
{
	struct hf_scope_sync *y = up->sync;

	if (!y)
		return;
	hf_http_call_cancel(&y->call);
	hf_scope_builder_destroy(&y->builder);
	free(y->link);
	free(y);
	up->sync = NULL;
	hf_scope_unref(&up->scope);
}

json_t *hf_scope_sync_show(const struct hf_upstream *up)
{
	char at[32] = "";

	if (hf_scope_synced_at_ms(up->scope))
		hf_iso8601(hf_scope_synced_at_ms(up->scope), at);
	return json_pack("{s:i, s:s, s:i, s:i, s:i, s:b, s:s}", "identities", (int)hf_scope_count(up->scope), "syncedAt", at, "passes",
			 up->sync->n_passes, "refreshes", up->sync->n_singles, "failures", up->sync->n_failures, "classicApi", up->sync->classic, "lastError",
			 up->sync->last_error);
}
