/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Who may: tokens of policies and devices, certificates, sessions of the portal. */
#include "hub/auth.h"
#include "hub/portal/portal_session.h"
#include "hub/rest/rest_int.h"

#define POLICY_RIGHTS (HUB_REGISTRY_READ | HUB_REGISTRY_WRITE | HUB_SERVICE_CONNECT | HUB_DEVICE_CONNECT)

/* $edgeHub of an edge device, or the edge device for it. */
static const char *check_scope_caller(struct rest_req *q, const struct hub_claim *claim)
{
	const struct hub_ident *device = hub_ident_find(q->m, hf_span_str(q->device)), *who;
	const char *why;

	if (strcmp(q->module, "$edgeHub") != 0 || !device || !device->is_edge)
		return "the caller is not the $edgeHub of an edge device";
	why = hub_ident_usable(q->m, hf_span_str(strcmp(claim->ident, q->device) == 0 ? q->device : q->id), &who);
	if (!why)
		why = hub_claim_act_as(q->m, claim, who, NULL);
	if (!why)
		q->caller = who;
	return why;
}

/* The identity of the path. Whether it is enabled is another question, with another answer. */
static const char *check_identity(struct rest_req *q, const struct hub_claim *claim, unsigned rights)
{
	const struct hub_ident *who = hub_ident_find(q->m, hf_span_str(q->id));
	const char *why;

	if (rights & REST_SCOPE_CALLER)
		return check_scope_caller(q, claim);
	if (!(rights & REST_DEVICE_TOKEN))
		return "a device token cannot do this";
	why = who ? hub_claim_act_as(q->m, claim, who, NULL) : "identity unknown";
	if (!why)
		q->caller = who;
	return why;
}

/* No token: the TLS certificate speaks for a device. */
static const char *check_cert(struct rest_req *q, unsigned rights)
{
	struct hf_conn *conn = hf_http_exchange_conn(q->x);
	const struct hub_ident *who = hub_ident_find(q->m, hf_span_str(q->id));
	const char *why;

	if (!(rights & REST_DEVICE_TOKEN) || !conn)
		return "no Authorization header";
	why = who ? hub_cert_act_as(hf_conn_tls(conn), who) : "identity unknown";
	q->auth_type = "x509";
	if (!why)
		q->caller = who;
	return why;
}

const char *rest_authorize(struct rest_req *q, unsigned rights)
{
	struct hub_claim claim;
	struct hf_span token;
	const char *why;

	if (q->session && (rights & REST_DEVICE_TOKEN))
		return "the portal is no device";
	if (q->session)
		return q->session->rights & rights & POLICY_RIGHTS ? NULL : "the policy lacks the right";
	if (!hf_http_header(q->http, "Authorization", &token))
		return check_cert(q, rights);
	why = hub_claim_verify(q->m, token, &claim);
	if (why)
		return why;
	q->auth_type = claim.is_policy ? "policy" : "sas";
	if (!claim.is_policy)
		return check_identity(q, &claim, rights);
	if (claim.is_event_hub)
		return "the token is for the event hub";
	if (!(claim.rights & rights & POLICY_RIGHTS))
		return "the policy lacks the right";
	return hub_claim_covers(&claim, q->device, q->module) ? NULL : "the token is for something else";
}
