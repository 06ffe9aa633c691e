/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/session_connect.c - CONNECT, authentication and its re-checks, the claim on the identity. */
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "dialect/user.h"
#include "gw/session.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdlib.h>

enum { CHECK_MIN_S = 5, CHECK_MAX_S = 300 };

void hf_session_connack(struct hf_session *s, uint8_t code, enum hf_end why, const char *detail)
{
	if (s->conn && s->state < HF_S_CLOSING) {
		hf_mqtt_put_connack(hf_conn_out(s->conn), false, code);
		hf_conn_flush_later(s->conn);
	}
	hf_session_end(s, why, detail);
}

static char *make_ident(struct hf_span device, struct hf_span module)
{
	size_t n = device.len + (module.len ? module.len + 1 : 0);
	char *text;

	if (!device.len || device.len > HF_ID_MAX || module.len > HF_ID_MAX)
		return NULL;
	text = malloc(n + 1);
	if (!text)
		return NULL;
	memcpy(text, device.ptr, device.len);
	if (module.len) {
		text[device.len] = '/';
		memcpy(text + device.len + 1, module.ptr, module.len);
	}
	text[n] = '\0';
	return text;
}

/* --- authentication ------------------------------------------------------------------------------------ */
static struct hf_span peer_cert(const struct hf_session *s)
{
	struct hf_tls *tls = s->conn ? hf_conn_tls(s->conn) : NULL;

	return tls ? hf_tls_peer_cert(tls) : hf_span(NULL, 0);
}

/* The chain is judged once, and only for children that log in by it. */
static int64_t chain_until_s(struct hf_session *s, struct hf_span cert, int64_t now_s)
{
	const struct hf_scope_ident *id = cert.len ? hf_scope_find(s->w->scope, hf_span_str(s->ident)) : NULL;

	if (id && id->auth == HF_AUTH_CA && !s->chain_until_s && !s->chain_refusal)
		s->chain_refusal = hf_tls_peer_refused(hf_conn_tls(s->conn), now_s, &s->chain_until_s);
	return s->chain_until_s;
}

static enum hf_auth_verdict decide(struct hf_session *s, int64_t *ret_expiry_s)
{
	struct hf_gw *gw = s->w->gw;
	struct hf_auth_request req = {
		.device = hf_session_device(s),
		.module = hf_session_module(s),
		.password = hf_span(s->token, s->token_len),
		.now_s = hf_gw_auth_now_s(gw),
		.hub_host = gw->hub_host,
		.gateway_host = gw->gateway_host,
		.edge_id = gw->edge_id,
	};

	if (!s->w->scope)
		return HF_DENY_UNKNOWN;
	if (!s->token_len)
		req.cert_der = peer_cert(s);
	req.chain_until_s = chain_until_s(s, req.cert_der, req.now_s);
	return hf_auth_decide(s->w->scope, &req, ret_expiry_s);
}

static void plan_check(struct hf_session *s, uint64_t now_ms)
{
	int64_t left = CHECK_MAX_S;

	if (s->expiry_s)
		left = s->expiry_s - hf_gw_auth_now_s(s->w->gw);
	left = hf_max(hf_min(left, (int64_t)CHECK_MAX_S), (int64_t)CHECK_MIN_S);
	s->next_check_ms = now_ms + (uint64_t)left * 1000;
}

void hf_session_recheck(struct hf_session *s, uint64_t now_ms, bool scope_changed)
{
	enum hf_auth_verdict v = decide(s, &s->expiry_s);
	bool right_lost = v == HF_DENY_UNKNOWN || v == HF_DENY_DISABLED || scope_changed;

	if (v == HF_ALLOW) {
		plan_check(s, now_ms);
		return;
	}
	if (v == HF_DENY_EXPIRED)
		right_lost = false;
	hf_session_end(s, right_lost ? HF_END_CUT_OFF : HF_END_CREDENTIAL, hf_auth_verdict_name(v));
}

static bool same_record(const struct hf_scope *a, const struct hf_scope *b, struct hf_span id)
{
	const struct hf_scope_ident *x = a ? hf_scope_find(a, id) : NULL, *y = b ? hf_scope_find(b, id) : NULL;

	return x && y ? hf_scope_ident_equal(x, y) : x == y;
}

void hf_session_scope_swapped(struct hf_worker *w, const struct hf_scope *old)
{
	bool edge_same = same_record(old, w->scope, hf_span_str(w->gw->edge_id));
	uint64_t now = hf_loop_now_ms(w->loop);
	struct hf_list *pos, *tmp;

	hf_list_for_each_safe(pos, tmp, &w->sessions)
	{
		struct hf_session *s = hf_container_of(pos, struct hf_session, node);

		if (s->state != HF_S_UP && s->state != HF_S_CLAIMING)
			continue;
		if (edge_same && same_record(old, w->scope, hf_span_str(s->ident)) &&
		    same_record(old, w->scope, hf_session_device(s)))
			continue;
		hf_session_recheck(s, now, true);
	}
}

/* The scope may be older than the child's right, key or state. */
static bool fresh_scope_may_help(enum hf_auth_verdict v)
{
	return v == HF_DENY_UNKNOWN || v == HF_DENY_DISABLED || v == HF_DENY_SIGNATURE || v == HF_DENY_CERT || v == HF_DENY_TYPE;
}

static void claim(struct hf_session *s)
{
	if (!hf_admit_trust(s->w->gw->admit, &s->seat))
		return;		/* it was told to give way: the worker is about to end it */
	s->ticket = hf_dir_mail_new(s->w, s, s->sid, s->ident);
	if (!s->ticket) {
		hf_session_connack(s, HF_CONNACK_UNAVAILABLE, HF_END_NO_MEMORY, "claim");
		return;
	}
	s->ticket->clean = s->clean;
	s->state = HF_S_CLAIMING;
	s->wait_claim = true;	/* packets behind the CONNECT wait for the answer */
	s->deadline_ms = hf_loop_now_ms(s->w->loop) + HF_CLAIM_MS;
	hf_dir_claim(s->ticket);
}

/* Clients take "not authorised" for final, so it is said only by evidence that is fresh, or all there is. */
static void judged(struct hf_session *s, enum hf_auth_verdict v, enum hf_refresh_result evidence)
{
	bool unsure = fresh_scope_may_help(v) && evidence == HF_REFRESH_LATER;

	hf_metric_add(HF_M_AUTH_ALLOW + (unsigned)v, 1);
	if (v == HF_ALLOW)
		claim(s);
	else
		hf_session_connack(s, unsure ? HF_CONNACK_UNAVAILABLE : HF_CONNACK_NOT_AUTHORISED, HF_END_AUTH,
				   v == HF_DENY_CERT && s->chain_refusal ? s->chain_refusal : hf_auth_verdict_name(v));
}

void hf_session_judge_again(struct hf_session *s, enum hf_refresh_result result)
{
	judged(s, decide(s, &s->expiry_s), result);
}

/* --- CONNECT ---------------------------------------------------------------------------------------------- */
/* Fills what the CONNECT says. False: refused already. */
static bool take_user(struct hf_session *s, const struct hf_mqtt_connect *c)
{
	struct hf_mqtt_user user;
	const char *reason = "no user name";

	if (!c->has_user || hf_mqtt_user_parse(c->user, &user, &reason)) {
		hf_session_connack(s, HF_CONNACK_UNAVAILABLE, HF_END_USER, reason);
		return false;
	}
	s->ident = make_ident(user.device, user.module);
	if (!s->ident) {
		hf_session_connack(s, HF_CONNACK_UNAVAILABLE, HF_END_USER, "bad identity");
		return false;
	}
	s->device_len = (uint16_t)user.device.len;
	if (!hf_span_is(c->client_id, s->ident)) {
		hf_session_connack(s, HF_CONNACK_NOT_AUTHORISED, HF_END_CLIENT_ID, NULL);
		return false;
	}
	if (user.client_type[0])
		s->client_type = strdup(user.client_type);
	if (user.model_id[0])
		s->model_id = strdup(user.model_id);
	return true;
}

static bool take_token(struct hf_session *s, const struct hf_mqtt_connect *c)
{
	if (!c->has_password || !c->password.len)
		return true;
	s->token = malloc(c->password.len);
	if (!s->token) {
		hf_session_connack(s, HF_CONNACK_UNAVAILABLE, HF_END_NO_MEMORY, "token");
		return false;
	}
	memcpy(s->token, c->password.ptr, c->password.len);
	s->token_len = (uint32_t)c->password.len;
	return true;
}

void hf_session_connect(struct hf_session *s, const struct hf_mqtt_connect *c)
{
	enum hf_refresh_result evidence = HF_REFRESH_FRESH;
	enum hf_auth_verdict v;
	const char *reason = NULL;
	int err;

	if (c->level != 4) {
		hf_session_connack(s, HF_CONNACK_VERSION, HF_END_VERSION, NULL);
		return;
	}
	if (!take_user(s, c) || !take_token(s, c))
		return;
	s->clean = c->clean_session;
	s->keep_alive_s = c->keep_alive_s;
	/* Before the verdict: that may come when the packet is gone. */
	err = c->has_will ? hf_session_make_will(s, c, &reason) : 0;
	if (err) {
		hf_session_connack(s, HF_CONNACK_NOT_AUTHORISED, HF_END_WILL, reason);
		return;
	}
	v = decide(s, &s->expiry_s);
	if (!fresh_scope_may_help(v) || !hf_session_wait_refresh(s, &evidence))
		judged(s, v, evidence);
}

/* --- answers of the directory ------------------------------------------------------------------------------ */
static void on_granted(struct hf_dir_mail *t)
{
	struct hf_session *s = t->claimant;
	bool present = t->subs != NULL;

	if (!s || s->state != HF_S_CLAIMING) {
		/* Too late for it. The session before was told to go without a word to upstream. */
		hf_session_left_unseen(t->from, t->ident);
		if (s)
			s->ticket = NULL;
		hf_dir_gone(t);
		return;
	}
	if (hf_map_put(s->w->by_ident, hf_span_str(s->ident), s)) {
		s->ticket = NULL;
		hf_dir_gone(t);
		hf_session_connack(s, HF_CONNACK_UNAVAILABLE, HF_END_NO_MEMORY, "identity map");
		return;
	}
	s->claimed = true;
	s->subs = hf_take(t->subs);
	s->state = HF_S_UP;
	s->connected_wall_ms = hf_clock_wall_ms();
	plan_check(s, hf_loop_now_ms(s->w->loop));
	s->counted = true;
	hf_metric_add(HF_M_CHILDREN, 1);
	hf_mqtt_put_connack(hf_conn_out(s->conn), present, HF_CONNACK_OK);
	hf_conn_flush_later(s->conn);
	hf_log(HF_LOG_INFO, "child.connect", "peer %s child %s: connected%s", hf_conn_peer(s->conn), s->ident,
	       present ? ", session resumed" : "");
	hf_session_here(s);
	s->wait_claim = false;
	hf_session_wake(s);
	hf_session_settle(s);	/* the gateway may have begun to stop */
}

static void on_refused(struct hf_dir_mail *t)
{
	struct hf_session *s = t->claimant;
	int err = t->err;

	hf_dir_mail_free(t);
	if (!s)
		return;
	s->ticket = NULL;
	if (s->state != HF_S_CLAIMING)
		return;
	if (err == HF_ESTALE)
		hf_session_connack(s, HF_CONNACK_UNAVAILABLE, HF_END_REPLACED, "while connecting");
	else
		hf_session_connack(s, HF_CONNACK_UNAVAILABLE, HF_END_NO_MEMORY, "directory");
}

static void on_release(struct hf_dir_mail *release)
{
	struct hf_worker *w = release->at;
	struct hf_session *s = hf_map_get(w->by_ident, hf_span_str(release->ident));

	if (!s || s->sid != release->sid || s->release) {
		/* It is gone already, or its "gone" is on the way: nothing of it is outstanding. */
		hf_dir_released(release);
		return;
	}
	s->release = release;
	if (s->conn && s->state == HF_S_UP)
		hf_conn_pause(s->conn);
	hf_session_settle(s);
}

const struct hf_dir_ops hf_session_dir_ops = {
	.granted = on_granted, .refused = on_refused, .release = on_release, .down = hf_session_down,
};
