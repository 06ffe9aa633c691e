/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Who may connect (iothub-protocol 1.1, 1.2, 6.3, 6.5, 8.2). */
#include "auth/sas.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "hub/dev_int.h"
#include <stdio.h>

static uint8_t refuse(const struct hub_session *s, struct hf_span client_id, uint8_t code, const char *why)
{
	static struct hf_log_limit limit;

	hf_metric_add(HUB_M_AUTH_REFUSED, 1);
	hf_log_limited(&limit, HF_LOG_NOTICE, "hub.connect.refused", "%s: client \"%.*s\": CONNACK %u: %s",
		       hf_conn_peer(s->conn), (int)hf_min(client_id.len, 128u), (const char *)client_id.ptr, code, why);
	return code;
}

/* chain = "target;parent;...;actor": every element must be the scope parent of the one before it. The actor,
 * the last, is returned in *ret_actor. */
static bool chain_holds(struct hub_model *m, const char *target, const char *chain, struct hf_span *ret_actor)
{
	struct hf_span rest = hf_span_str(chain), link, device;
	const struct hub_ident *below = NULL;

	hf_span_cut(&rest, ';', &link);
	if (!hf_span_is(link, target) || rest.len == 0)
		return false;
	below = hub_ident_find(m, link);
	while (below && rest.len) {
		hf_span_cut(&rest, ';', &device);
		const struct hub_ident *above = hub_ident_find(m, device);

		if (!above || !above->enabled || above->module_id)
			return false;
		if (below->module_id ? strcmp(below->device_id, above->device_id) != 0
				     : !above->is_edge || !*above->device_scope ||
					       strcmp(below->parent_scope, above->device_scope) != 0)
			return false;
		below = above;
		link = device;
	}
	*ret_actor = link;
	return below != NULL;
}

static bool policy_allows(struct hub_model *m, const struct hf_sas *sas, const char *device_id)
{
	char name[128], path[HF_ID_MAX + 16];
	size_t n = strlen(sas->path);

	if (sas->skn.len >= sizeof name)
		return false;
	memcpy(name, sas->skn.ptr, sas->skn.len);
	name[sas->skn.len] = 0;
	const struct hub_policy *p = hub_policy_find(m, name);

	if (!p || !(p->rights & HUB_DEVICE_CONNECT))
		return false;
	snprintf(path, sizeof path, "/devices/%s", device_id);
	if (n && (strncmp(path, sas->path, n) != 0 || (path[n] != 0 && path[n] != '/')))
		return false;
	return hf_sas_verify(sas, p->primary_key) || hf_sas_verify(sas, p->secondary_key);
}

static const char *check_sas(struct hub_session *s, const struct hub_ident *ident, struct hf_span token,
			     const struct hf_mqtt_user *user)
{
	struct hub_model *m = s->dev->model;
	const struct hub_ident *signer = ident;
	const char *reason = NULL;
	struct hf_sas sas;

	if (hf_sas_parse(token, &sas, &reason) != 0)
		return reason;
	if (sas.expiry_s <= hf_clock_wall_s())
		return "token expired";
	if (!hf_span_ieq(hf_span_str(sas.host), hf_span_str(s->dev->host)))
		return "token is for another host";
	s->expiry_s = sas.expiry_s;
	if (user->auth_chain[0]) {
		struct hf_span actor;
		char hub_id[HF_IDENT_MAX + 1];

		if (!chain_holds(m, ident->id, user->auth_chain, &actor))
			return "auth-chain does not hold";
		snprintf(hub_id, sizeof hub_id, "%.*s/$edgeHub", (int)actor.len, (const char *)actor.ptr);
		signer = hub_ident_find(m, hf_span_str(hub_id));
		if (!signer || !signer->enabled)
			return "acting gateway unknown or disabled";
	}
	s->auth_type = "sas";
	if (sas.skn.len) {
		s->auth_type = "symkey";
		return policy_allows(m, &sas, signer->device_id) ? NULL : "policy token refused";
	}
	if (signer->auth != HUB_AUTH_SAS)
		return "identity does not use SAS";
	if (!hf_sas_audience_is(&sas, signer->device_id, signer->module_id, false, false))
		return "token is for another identity";
	if (!hf_sas_verify(&sas, signer->primary_key) && !hf_sas_verify(&sas, signer->secondary_key))
		return "signature does not match";
	return NULL;
}

static bool thumb_is(const char *registered, const struct hf_x509_info *info)
{
	char hex[65];
	size_t n = 0;

	for (const char *p = registered; p && *p && n < 64; p++)
		if (*p != ':' && *p != ' ' && *p != '-')
			hex[n++] = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
	hex[n] = 0;
	return n && (strcmp(hex, info->sha1_hex) == 0 || strcmp(hex, info->sha256_hex) == 0);
}

static const char *check_cert(struct hub_session *s, const struct hub_ident *ident)
{
	struct hf_tls *tls = hf_conn_tls(s->conn);
	struct hf_span der = tls ? hf_tls_peer_cert(tls) : hf_span(NULL, 0);
	struct hf_x509_info info;
	int64_t now = hf_clock_wall_s();

	if (der.len == 0)
		return "neither token nor certificate";
	if (hf_x509_info(der, &info) != 0)
		return "certificate not understood";
	if (now < info.not_before || now > info.not_after)
		return "certificate not valid now";
	s->auth_type = "x509";
	if (ident->auth == HUB_AUTH_SELF_SIGNED)
		return thumb_is(ident->primary_thumb, &info) || thumb_is(ident->secondary_thumb, &info)
			       ? NULL : "thumbprint does not match";
	if (ident->auth != HUB_AUTH_CA)
		return "identity does not use certificates";
	if (strcmp(info.common_name, ident->device_id) != 0 && strcmp(info.common_name, ident->id) != 0)
		return "common name is not the device id";
	if (info.is_ca || !s->dev->client_ca_file || hf_tls_peer_chain_verify(tls, s->dev->client_ca_file) != 0)
		return "certificate chain is not trusted";
	return NULL;
}

uint8_t hub_dev_authenticate(struct hub_session *s, const struct hf_mqtt_connect *c, const struct hf_mqtt_user *user)
{
	const struct hub_ident *ident, *device;
	const char *why;
	char id[HF_IDENT_MAX + 1];

	if (user->device.len > HF_ID_MAX || user->module.len > HF_ID_MAX || user->device.len == 0)
		return refuse(s, c->client_id, HF_CONNACK_BAD_USER, "identity name too long or empty");
	snprintf(id, sizeof id, "%.*s%s%.*s", (int)user->device.len, (const char *)user->device.ptr,
		 user->module.len ? "/" : "", (int)user->module.len, (const char *)user->module.ptr);
	if (!hf_span_is(c->client_id, id))
		return refuse(s, c->client_id, HF_CONNACK_CLIENT_ID, "client id is not the user name's identity");
	if (!hf_span_ieq(user->host, hf_span_str(s->dev->host)))
		return refuse(s, c->client_id, HF_CONNACK_NOT_AUTHORISED, "user name is for another host");
	ident = hub_ident_find(s->dev->model, hf_span_str(id));
	device = hub_ident_find(s->dev->model, user->device);
	if (!ident || !device)
		return refuse(s, c->client_id, HF_CONNACK_NOT_AUTHORISED, "identity unknown");
	if (!ident->enabled || !device->enabled)
		return refuse(s, c->client_id, HF_CONNACK_NOT_AUTHORISED, "identity disabled");
	why = c->password.len ? check_sas(s, ident, c->password, user) : check_cert(s, ident);
	if (why)
		return refuse(s, c->client_id, HF_CONNACK_NOT_AUTHORISED, why);
	memcpy(s->id, id, strlen(id) + 1);
	return HF_CONNACK_OK;
}
