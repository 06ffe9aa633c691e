/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Requests below /portal/: files, and below /portal/api/ what a signed-in browser asks: the portal's own calls and the
 * service API. Nothing outside takes a session, and nothing here a token. */
#include "core/log.h"
#include "core/metric.h"
#include "core/util.h"
#include "hub/metrics.h"
#include "hub/portal/portal_int.h"

#include <stdio.h>

#define ANY (HUB_REGISTRY_READ | HUB_REGISTRY_WRITE | HUB_SERVICE_CONNECT)

static const struct rest_route routes[] = {
	{ "POST", "logout", ANY, portal_logout, REST_FREE },
	{ "GET", "session", ANY, portal_session, REST_FREE },
	{ "GET", "status", ANY, portal_status, REST_FREE },
	{ "GET", "clients", HUB_REGISTRY_READ, portal_clients, REST_FREE },
	{ "GET", "live", HUB_SERVICE_CONNECT, portal_live, REST_FREE },
	{ "GET", "cutOff", ANY, portal_cut_off_list, REST_FREE },
	{ "PUT", "cutOff/{D}", HUB_REGISTRY_WRITE, portal_cut_off, REST_FREE },
	{ "DELETE", "cutOff/{D}", HUB_REGISTRY_WRITE, portal_cut_off_end, REST_FREE },
	{ "GET", "faults", ANY, portal_fault_list, REST_FREE },
	{ "DELETE", "faults", HUB_REGISTRY_WRITE, portal_fault_clear, REST_FREE },
	{ "POST", "devices/{D}/messages/devicebound", HUB_SERVICE_CONNECT, portal_c2d_send, REST_FREE },
};

static void forged(struct rest_req *q, const char *why)
{
	static struct hf_log_limit limit;

	hf_metric_add(HUB_M_PORTAL_FORGED, 1);
	hf_log_limited(&limit, HF_LOG_NOTICE, "hub.portal.forged", "%s: %s", q->http->method, why);
	rest_refuse(q, 403, 403000, "PortalRequestForged", "The request did not come from the portal's own page: %s. Reload the page.", why);
}

static bool is_change(const struct rest_req *q)
{
	return strcmp(q->http->method, "GET") != 0;
}

/* Browsers say where a request comes from; other programs may not. "none": typed by the person, who can change nothing so.
 * Reads count too: some lock a message, and to a cookie another port of this host is the same site. */
static bool from_own_page(const struct rest_req *q)
{
	struct hf_span site, origin, host;

	if (hf_http_header(q->http, "Sec-Fetch-Site", &site) && !hf_span_is(site, "same-origin") &&
	    (is_change(q) || !hf_span_is(site, "none")))
		return false;
	if (!hf_http_header(q->http, "Origin", &origin))
		return true;
	return hf_http_header(q->http, "Host", &host) && hf_span_starts(origin, "https://") &&
	       hf_span_ieq(hf_span_skip(origin, strlen("https://")), host);
}

static void api(struct rest_req *q, char *const *seg, unsigned n)
{
	struct hf_span token, poll;

	if (!from_own_page(q)) {
		forged(q, "it has another origin");
		return;
	}
	if (n == 1 && strcmp(seg[0], "login") == 0 && strcmp(q->http->method, "POST") == 0) {
		portal_login(q);
		return;
	}
	/* What a page asks by itself, over and over, keeps nobody signed in. */
	q->session = portal_session_of(q, !hf_http_header(q->http, "X-Portal-Poll", &poll));
	if (!q->session) {
		rest_refuse(q, 401, 401003, "PortalSignedOut", "You are signed out. Sign in again.");
		return;
	}
	if (is_change(q) && (!hf_http_header(q->http, "X-CSRF-Token", &token) || !hub_portal_session_csrf_ok(q->session, token))) {
		forged(q, "it lacks the session's X-CSRF-Token");
		return;
	}
	if (!rest_route(q, routes, HF_ARRAY_LEN(routes), seg, n))
		rest_service(q, seg, n);
}

void rest_portal(struct rest_req *q, char *const *seg, unsigned n)
{
	hf_autobuf struct hf_buf path = HF_BUF_INIT(256);

	if (n && strcmp(seg[0], "api") == 0) {
		api(q, seg + 1, n - 1);
		return;
	}
	if (hf_span_is(q->http->path, "/portal")) {
		hf_http_respond(hf_take(q->x), 301, NULL, hf_span(NULL, 0), "Location: /portal/\r\n" PORTAL_HEADERS);
		return;
	}
	for (unsigned i = 0; i < n; i++)
		hf_buf_printf(&path, "%s%s", i ? "/" : "", seg[i]);
	portal_file(q, path.err ? "?" : hf_buf_cstr(&path));
}
