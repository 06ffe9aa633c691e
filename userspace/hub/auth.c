/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "hub/auth.h"
#include "auth/sas.h"
#include "core/clock.h"
#include "core/util.h"
#include <stdio.h>
#include <strings.h>

const char hub_token_of_nobody[] = "token names no registered identity";

/* --- tokens ----------------------------------------------------------------------------------------------- */

/* "/devices/D[/modules/M][/...]" at one level of decoding -> "D" or "D/M". */
static bool path_ident(struct hf_span path, char out[HF_IDENT_MAX + 1])
{
	struct hf_span word, device, module = { 0 };

	hf_span_cut(&path, '/', &word);
	if (word.len)
		return false;
	hf_span_cut(&path, '/', &word);
	hf_span_cut(&path, '/', &device);
	if (!hf_span_is(word, "devices") || device.len == 0 || device.len > HF_ID_MAX)
		return false;
	hf_span_cut(&path, '/', &word);
	if (hf_span_is(word, "modules")) {
		hf_span_cut(&path, '/', &module);
		if (module.len == 0 || module.len > HF_ID_MAX)
			return false;
	}
	snprintf(out, HF_IDENT_MAX + 1, "%.*s%s%.*s", (int)device.len, (const char *)device.ptr, module.len ? "/" : "",
		 (int)module.len, (const char *)module.ptr);
	return true;
}

/* Clients encode the audience up to three times: the first reading that names somebody registered counts. */
static const struct hub_ident *signer_of(struct hub_model *m, const struct hf_sas *sas)
{
	hf_autobuf struct hf_buf a = HF_BUF_INIT(1024), b = HF_BUF_INIT(1024);
	const struct hub_ident *ident;
	char id[HF_IDENT_MAX + 1];

	hf_buf_puts(&a, sas->path);
	for (int depth = 0; depth < 3; depth++) {
		if (path_ident(hf_buf_span(&a), id) && (ident = hub_ident_find(m, hf_span_str(id))))
			return ident;
		hf_buf_reset(&b);
		if (hf_uri_decode(hf_buf_span(&a), &b) != 0 || b.err)
			return NULL;
		hf_buf_reset(&a);
		hf_buf_put_span(&a, hf_buf_span(&b));
	}
	return NULL;
}

/* For the built-in endpoint alone: "sb://HOST/...", or "HOST/messages/events" as older samples sign it. */
static bool is_event_hub(const struct hf_sas *sas)
{
	hf_autobuf struct hf_buf text = HF_BUF_INIT(4096);
	static const char events[] = "/messages/events";
	size_t n = sizeof events - 1;

	if (strncasecmp(sas->path, events, n) == 0 && (sas->path[n] == '\0' || sas->path[n] == '/'))
		return true;
	return hf_uri_decode(sas->sr, &text) == 0 && !text.err && hf_span_starts(hf_buf_span(&text), "sb://");
}

static const char *verify_policy(struct hub_model *m, const struct hf_sas *sas, struct hub_claim *claim)
{
	hf_autofree char *name = hf_span_dup(sas->skn);
	const struct hub_policy *p = name ? hub_policy_find(m, name) : NULL;
	bool event_hub = is_event_hub(sas), ok;

	if (!p)
		return "unknown policy";
	ok = hf_sas_verify(sas, p->primary_key) || hf_sas_verify(sas, p->secondary_key);
	if (!ok && event_hub)
		ok = hf_sas_verify_raw(sas, hf_span_str(p->primary_key)) ||
		     hf_sas_verify_raw(sas, hf_span_str(p->secondary_key));
	if (!ok)
		return "signature does not match";
	claim->is_policy = true;
	claim->is_event_hub = event_hub;
	claim->rights = event_hub ? p->rights & HUB_SERVICE_CONNECT : p->rights;
	if (!event_hub)
		snprintf(claim->path, sizeof claim->path, "%s", sas->path);
	return NULL;
}

static const char *verify_identity(struct hub_model *m, const struct hf_sas *sas, struct hub_claim *claim)
{
	const struct hub_ident *who = signer_of(m, sas);

	if (!who)
		return hub_token_of_nobody;
	if (who->auth != HUB_AUTH_SAS)
		return "identity does not use SAS";
	if (!hf_sas_verify(sas, who->primary_key) && !hf_sas_verify(sas, who->secondary_key))
		return "signature does not match";
	claim->rights = HUB_DEVICE_CONNECT;
	snprintf(claim->ident, sizeof claim->ident, "%s", who->id);
	return NULL;
}

const char *hub_claim_verify(struct hub_model *m, struct hf_span token, struct hub_claim *ret_claim)
{
	struct hub_claim claim = { 0 };
	const char *why = "malformed token";
	struct hf_sas sas;

	if (hf_sas_parse(token, &sas, &why) != 0)
		return why;
	if (sas.expiry_s <= hf_clock_wall_s())
		return "token expired";
	if (!hf_span_ieq(hf_span_str(sas.host), hf_span_str(hub_model_host(m))))
		return "token is for another host";
	claim.expiry_s = sas.expiry_s;
	why = sas.skn.len ? verify_policy(m, &sas, &claim) : verify_identity(m, &sas, &claim);
	if (!why)
		*ret_claim = claim;
	return why;
}

bool hub_claim_covers(const struct hub_claim *claim, const char *device, const char *module)
{
	char resource[2 * HF_ID_MAX + 32];
	size_t n = strlen(claim->path);

	while (n && claim->path[n - 1] == '/')
		n--;
	if (n == 0)
		return true;
	snprintf(resource, sizeof resource, "/devices%s%s%s%s", *device ? "/" : "", device,
		 module && *module ? "/modules/" : "", module ? module : "");
	return strncmp(resource, claim->path, n) == 0 && (resource[n] == '\0' || resource[n] == '/');
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

/* The $edgeHub that ends the chain, NULL when the chain does not hold. */
static const struct hub_ident *chain_actor(struct hub_model *m, const char *target, const char *chain)
{
	const struct hub_ident *hub;
	struct hf_span actor;
	char id[HF_IDENT_MAX + 1];

	if (!chain_holds(m, target, chain, &actor))
		return NULL;
	snprintf(id, sizeof id, "%.*s/$edgeHub", (int)actor.len, (const char *)actor.ptr);
	hub = hub_ident_find(m, hf_span_str(id));
	return hub && hub->enabled ? hub : NULL;
}

bool hub_chain_holds(struct hub_model *m, const char *target, const char *auth_chain)
{
	return chain_actor(m, target, auth_chain) != NULL;
}

const char *hub_claim_act_as(struct hub_model *m, const struct hub_claim *claim, const struct hub_ident *ident,
			     const char *auth_chain)
{
	const struct hub_ident *signer = ident;

	if (auth_chain && *auth_chain) {
		signer = chain_actor(m, ident->id, auth_chain);
		if (!signer)
			return "auth-chain does not hold";
	}
	if (claim->is_policy) {
		if (!(claim->rights & HUB_DEVICE_CONNECT))
			return "the policy lacks the right to connect devices";
		return hub_claim_covers(claim, signer->device_id, signer->module_id) ? NULL : "token is for another identity";
	}
	return strcmp(claim->ident, signer->id) == 0 ? NULL : "token is for another identity";
}

/* --- certificates ------------------------------------------------------------------------------------------- */

const char *hub_cert_act_as(struct hf_tls *tls, const struct hub_ident *ident)
{
	struct hf_span der = tls ? hf_tls_peer_cert(tls) : hf_span(NULL, 0);
	struct hf_x509_info info;
	int64_t now = hf_clock_wall_s(), until;

	if (der.len == 0)
		return "neither token nor certificate";
	if (hf_x509_info(der, &info) != 0)
		return "certificate not understood";
	if (now < info.not_before || now > info.not_after)
		return "certificate not valid now";
	if (ident->auth == HUB_AUTH_SELF_SIGNED)
		return hf_x509_thumb_is(ident->primary_thumb, &info) || hf_x509_thumb_is(ident->secondary_thumb, &info)
			       ? NULL : "thumbprint does not match";
	if (ident->auth != HUB_AUTH_CA)
		return "identity does not use certificates";
	if (strcmp(info.common_name, ident->device_id) != 0 && strcmp(info.common_name, ident->id) != 0)
		return "common name is not the device id";
	return hf_tls_peer_refused(tls, now, &until);
}

const char *hub_ident_usable(struct hub_model *m, struct hf_span id, const struct hub_ident **ret_ident)
{
	const struct hub_ident *ident = hub_ident_find(m, id);
	const struct hub_ident *device = ident && ident->module_id ? hub_ident_find(m, hf_span_str(ident->device_id)) : ident;

	if (!ident || !device)
		return "identity unknown";
	if (!ident->enabled || !device->enabled)
		return "identity disabled";
	*ret_ident = ident;
	return NULL;
}
