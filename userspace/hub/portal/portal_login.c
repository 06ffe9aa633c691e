/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Signing in and out: by a service connection string, or by the key that works once. */
#include "core/log.h"
#include "core/metric.h"
#include "core/util.h"
#include "hub/metrics.h"
#include "hub/portal/portal_int.h"

#include <stdio.h>

#define COOKIE "__Host-holdfast"
#define COOKIE_RULES "; Path=/; Secure; HttpOnly; SameSite=Strict"
#define ALL_RIGHTS (HUB_REGISTRY_READ | HUB_REGISTRY_WRITE | HUB_SERVICE_CONNECT | HUB_DEVICE_CONNECT)

/* What was typed stands for a policy and its rights. */
struct login { const char *policy; unsigned rights; };

/* The part NAME of "NAME=value;NAME=value"; the value may hold '='. */
static struct hf_span part(struct hf_span text, const char *name)
{
	struct hf_span item, key;

	while (text.len) {
		hf_span_cut(&text, ';', &item);
		hf_span_cut(&item, '=', &key);
		if (hf_span_ieq(key, hf_span_str(name)))
			return item;
	}
	return hf_span(NULL, 0);
}

/* NULL: fine, else what to do. */
static const char *by_connection_string(struct hub_portal *p, struct hf_span text, struct login *login)
{
	struct hf_span key = part(text, "SharedAccessKey"), skn = part(text, "SharedAccessKeyName");
	hf_autofree char *name = hf_span_dup(skn);
	const struct hub_policy *policy = name ? hub_policy_find(p->model, name) : NULL;

	if (part(text, "DeviceId").len)
		return "This is a device's connection string. Use a service's: `holdfast-hub policy show` prints it.";
	if (!skn.len || !key.len)
		return "A part is missing. A service connection string is HostName=...;SharedAccessKeyName=...;SharedAccessKey=...";
	if (!hf_span_ieq(part(text, "HostName"), hf_span_str(hub_model_host(p->model))))
		return "The connection string is for another hub: check its HostName.";
	/* Both are compared, so that time tells nothing. */
	if (!policy || (int)hf_ct_eq(key, hf_span_str(policy->primary_key)) + (int)hf_ct_eq(key, hf_span_str(policy->secondary_key)) == 0)
		return "The policy name or the key is wrong. `holdfast-hub policy show` prints the right connection string.";
	if (!(policy->rights & (HUB_REGISTRY_READ | HUB_REGISTRY_WRITE | HUB_SERVICE_CONNECT)))
		return "This policy has no right that the portal needs. Use iothubowner, service, registryRead or registryReadWrite.";
	login->policy = policy->name;
	login->rights = policy->rights;
	return NULL;
}

static const char *judge(struct hub_portal *p, const char *credential, struct login *login)
{
	if (!credential || !*credential)
		return "Enter a service connection string or the portal key.";
	if (strchr(credential, '='))
		return by_connection_string(p, hf_span_str(credential), login);
	if (!hf_ct_eq(hf_span_str(credential), hf_span_str(p->key)))
		return "The key is wrong or was used already. `holdfast-hub portal key` prints the one that works now.";
	hub_portal_key_renew(p);
	*login = (struct login){ "portal key", ALL_RIGHTS };
	return NULL;
}

static void answer_session(struct rest_req *q, const struct hub_portal_session *s, const char *headers)
{
	static const struct { unsigned right; const char *name; } rights[] = {
		{ HUB_REGISTRY_READ, "registryRead" }, { HUB_REGISTRY_WRITE, "registryWrite" },
		{ HUB_SERVICE_CONNECT, "serviceConnect" }, { HUB_DEVICE_CONNECT, "deviceConnect" },
	};
	json_t *list = json_array();

	for (size_t i = 0; i < HF_ARRAY_LEN(rights); i++)
		if (s->rights & rights[i].right)
			json_array_append_new(list, json_string(rights[i].name));
	rest_json(q, 200, json_pack("{ss ss ss ss so}", "host", hub_model_host(q->m), "version", HF_VERSION, "policy",
				    s->policy, "csrfToken", s->csrf, "rights", list), headers);
}

/* "10.1.2.3:4567" -> "10.1.2.3" */
static void address_of(struct rest_req *q, char out[56])
{
	struct hf_conn *conn = hf_http_exchange_conn(q->x);
	char *colon;

	snprintf(out, 56, "%s", conn ? hf_conn_peer(conn) : "");
	colon = strrchr(out, ':');
	if (colon)
		*colon = '\0';
}

void portal_login(struct rest_req *q)
{
	static struct hf_log_limit log_limit;
	struct hub_portal *p = q->rest->portal;
	json_t *body = json_loadb((const char *)q->http->body.ptr, q->http->body.len, 0, NULL);
	const char *credential = json_string_value(json_object_get(body, "credential")), *why;
	uint64_t now = hf_loop_now_ms(p->loop);
	struct hub_portal_session *s;
	struct login login = { 0 };
	char address[56], cookie[160];
	unsigned wait;

	address_of(q, address);
	wait = hub_portal_limit_wait_s(&p->limit, address, now);
	why = wait ? NULL : judge(p, credential, &login);
	if (credential)
		explicit_bzero((char *)credential, strlen(credential));
	json_decref(body);
	if (wait || why) {
		hf_metric_add(wait ? HUB_M_PORTAL_LIMITED : HUB_M_PORTAL_REFUSED, 1);
		hf_log_limited(&log_limit, HF_LOG_NOTICE, "hub.portal.refused", "%s: %s", address, wait ? "too many failed logins" : why);
	}
	if (wait) {
		rest_refuse(q, 429, 429001, "ThrottlingException", "Too many failed logins from your address. Try again in %u seconds.", wait);
		return;
	}
	if (why) {
		hub_portal_limit_failed(&p->limit, address, now);
		rest_refuse(q, 401, 401002, "PortalLoginRefused", "%s", why);
		return;
	}
	s = hub_portal_session_open(&p->sessions, login.policy, login.rights, now);
	if (!s) {
		rest_refuse(q, 500, 500001, "ServerError", "no memory");
		return;
	}
	hf_metric_add(HUB_M_PORTAL_LOGINS, 1);
	hf_log(HF_LOG_NOTICE, "hub.portal.login", "%s: signed in with the rights of %s", address, s->policy);
	snprintf(cookie, sizeof cookie, "Set-Cookie: " COOKIE "=%s" COOKIE_RULES "\r\n", s->token);
	answer_session(q, s, cookie);
	explicit_bzero(cookie, sizeof cookie);
}

struct hub_portal_session *portal_session_of(const struct rest_req *q, bool use)
{
	struct hub_portal *p = q->rest->portal;
	struct hf_span cookies, item, name;

	if (!hf_http_header(q->http, "Cookie", &cookies))
		return NULL;
	while (cookies.len) {
		hf_span_cut(&cookies, ';', &item);
		while (item.len && item.ptr[0] == ' ')
			item = hf_span_skip(item, 1);
		hf_span_cut(&item, '=', &name);
		if (hf_span_is(name, COOKIE))
			return hub_portal_session_find(&p->sessions, item, use, hf_loop_now_ms(p->loop));
	}
	return NULL;
}

void portal_session(struct rest_req *q)
{
	answer_session(q, q->session, NULL);
}

void portal_logout(struct rest_req *q)
{
	struct hub_portal *p = q->rest->portal;

	hub_portal_session_close(&p->sessions, portal_session_of(q, false));
	q->session = NULL;
	portal_live_check(p);
	rest_json(q, 204, NULL, "Set-Cookie: " COOKIE "=" COOKIE_RULES "; Max-Age=0\r\n");
}
