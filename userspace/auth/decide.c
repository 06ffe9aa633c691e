/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Allow or deny one client: scope snapshot and credentials in, verdict out (edgehub-behaviour 3.4 - 3.6). */
#include "auth/sas.h"
#include "auth/scope.h"
#include "core/util.h"
#include "msg/msg.h"
#include "tls/tls.h"
#include <stdio.h>

static const char *const names[HF_AUTH_VERDICT__COUNT] = {
	[HF_ALLOW] = "allowed",
	[HF_DENY_UNKNOWN] = "identity not in scope",
	[HF_DENY_DISABLED] = "identity disabled",
	[HF_DENY_BAD_TOKEN] = "token malformed",
	[HF_DENY_SIGNATURE] = "token signature does not match",
	[HF_DENY_AUDIENCE] = "token is for another identity or host",
	[HF_DENY_EXPIRED] = "token expired",
	[HF_DENY_CERT] = "certificate refused",
	[HF_DENY_NO_CREDENTIALS] = "neither token nor certificate",
	[HF_DENY_TYPE] = "identity uses another kind of credential",
};

const char *hf_auth_verdict_name(enum hf_auth_verdict v)
{
	return (unsigned)v < HF_AUTH_VERDICT__COUNT ? names[v] : "unknown";
}

static bool signed_by(const struct hf_sas *sas, const struct hf_scope_ident *who)
{
	return who && who->auth == HF_AUTH_SAS && who->enabled &&
	       (hf_sas_verify(sas, who->primary_key) || hf_sas_verify(sas, who->secondary_key));
}

/* Order: parse, signature and identity state, audience, expiry. */
static enum hf_auth_verdict decide_sas(const struct hf_auth_request *req, const struct hf_scope_ident *ident,
				       const struct hf_scope_ident *device, const char *d, const char *m,
				       int64_t *ret_expiry_s)
{
	const char *reason;
	struct hf_sas sas;
	bool by_device = false;

	if (hf_sas_parse(req->password, &sas, &reason) != 0)
		return HF_DENY_BAD_TOKEN;
	if (ident->auth != HF_AUTH_SAS && !(req->module.len && device->auth == HF_AUTH_SAS))
		return HF_DENY_TYPE;
	if (!signed_by(&sas, ident)) {
		/* A module may use a token signed with its device's key, never the reverse. */
		by_device = req->module.len && signed_by(&sas, device);
		if (!by_device)
			return HF_DENY_SIGNATURE;
	}
	if (!hf_span_ieq(hf_span_str(sas.host), hf_span_str(req->hub_host)) &&
	    !(req->gateway_host && hf_span_ieq(hf_span_str(sas.host), hf_span_str(req->gateway_host))))
		return HF_DENY_AUDIENCE;
	if (!hf_sas_audience_is(&sas, d, m, true, true))
		return HF_DENY_AUDIENCE;
	if (sas.expiry_s < req->now_s - HF_SAS_SKEW_S)
		return HF_DENY_EXPIRED;
	*ret_expiry_s = sas.expiry_s;
	return HF_ALLOW;
}

static enum hf_auth_verdict decide_cert(const struct hf_auth_request *req, const struct hf_scope_ident *ident,
					const char *d, int64_t *ret_expiry_s)
{
	struct hf_x509_info info;

	if (req->module.len || ident->auth == HF_AUTH_SAS || ident->auth == HF_AUTH_NONE)
		return HF_DENY_TYPE;
	if (hf_x509_info(req->cert_der, &info) != 0 || req->now_s < info.not_before || req->now_s > info.not_after)
		return HF_DENY_CERT;
	if (ident->auth == HF_AUTH_THUMBPRINT) {
		if (!hf_x509_thumb_is(ident->primary_thumb, &info) && !hf_x509_thumb_is(ident->secondary_thumb, &info))
			return HF_DENY_CERT;
		*ret_expiry_s = info.not_after;
	} else {
		if (strcmp(info.common_name, d) != 0 || req->now_s > req->chain_until_s)
			return HF_DENY_CERT;
		*ret_expiry_s = req->chain_until_s;
	}
	return HF_ALLOW;
}

enum hf_auth_verdict hf_auth_decide(const struct hf_scope *scope, const struct hf_auth_request *req,
				    int64_t *ret_expiry_s)
{
	const struct hf_scope_ident *ident, *device;
	char id[HF_IDENT_MAX + 1], d[HF_ID_MAX + 1], m[HF_ID_MAX + 1];

	if (req->device.len == 0 || req->device.len > HF_ID_MAX || req->module.len > HF_ID_MAX)
		return HF_DENY_UNKNOWN;
	snprintf(d, sizeof d, "%.*s", (int)req->device.len, (const char *)req->device.ptr);
	snprintf(m, sizeof m, "%.*s", (int)req->module.len, (const char *)req->module.ptr);
	snprintf(id, sizeof id, "%s%s%s", d, *m ? "/" : "", m);
	ident = hf_scope_find(scope, hf_span_str(id));
	device = hf_scope_find(scope, req->device);
	if (!ident || !device)
		return HF_DENY_UNKNOWN;
	if (!ident->enabled || !device->enabled)
		return HF_DENY_DISABLED;
	if (!hf_scope_may_connect(scope, req->edge_id, ident))
		return HF_DENY_UNKNOWN;
	if (req->password.len)
		return decide_sas(req, ident, device, d, m, ret_expiry_s);
	if (req->cert_der.len)
		return decide_cert(req, ident, d, ret_expiry_s);
	return HF_DENY_NO_CREDENTIALS;
}
