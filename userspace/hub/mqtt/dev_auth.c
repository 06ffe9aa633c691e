/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Judges a CONNECT (iothub-protocol 1.1, 1.2). */
#include "core/log.h"
#include "core/util.h"
#include "hub/auth.h"
#include "hub/mqtt/dev_int.h"
#include <stdio.h>

static uint8_t refuse(const struct hub_session *s, struct hf_span client_id, uint8_t code, const char *why)
{
	static struct hf_log_limit limit;

	hf_metric_add(HUB_M_AUTH_REFUSED, 1);
	hf_log_limited(&limit, HF_LOG_NOTICE, "hub.connect.refused", "%s: client \"%.*s\": CONNACK %u: %s",
		       hf_conn_peer(s->conn), (int)hf_min(client_id.len, 128u), (const char *)client_id.ptr, code, why);
	return code;
}

static const char *check_token(struct hub_session *s, const struct hub_ident *ident, struct hf_span token,
			       const char *auth_chain)
{
	struct hub_claim claim = { 0 };
	const char *why = hub_claim_verify(s->dev->model, token, &claim);

	if (!why)
		why = hub_claim_act_as(s->dev->model, &claim, ident, auth_chain);
	s->expiry_s = claim.expiry_s;
	s->auth_type = claim.is_policy ? "policy" : "sas";
	return why;
}

uint8_t hub_dev_authenticate(struct hub_session *s, const struct hf_mqtt_connect *c, const struct hf_mqtt_user *user)
{
	const struct hub_ident *ident;
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
	why = hub_ident_usable(s->dev->model, hf_span_str(id), &ident);
	if (!why && c->password.len)
		why = check_token(s, ident, c->password, user->auth_chain);
	else if (!why)
		why = hub_cert_act_as(hf_conn_tls(s->conn), ident);
	if (why)
		return refuse(s, c->client_id, HF_CONNACK_NOT_AUTHORISED, why);
	if (c->password.len == 0)
		s->auth_type = "x509";
	free(hf_take(s->client.auth_chain));	/* of this CONNECT, when a fault put it off */
	if (c->password.len && *user->auth_chain && !(s->client.auth_chain = strdup(user->auth_chain)))
		return refuse(s, c->client_id, HF_CONNACK_UNAVAILABLE, "no memory");
	memcpy(s->id, id, strlen(id) + 1);
	return HF_CONNACK_OK;
}
