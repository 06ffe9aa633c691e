/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/auth.h - who may do what, for every head: tokens become claims, claims and certificates are held against
 * identities (iothub-protocol 6, 8.2). Functions that judge return NULL for yes, else a static reason. */
#pragma once
#include "hub/model/model.h"
#include "tls/tls.h"

/* What one valid token says. */
struct hub_claim {
	int64_t expiry_s;
	unsigned rights;			/* HUB_REGISTRY_READ, ...; HUB_DEVICE_CONNECT for an identity's own token */
	bool is_policy;
	bool is_event_hub;			/* of an Event Hubs client (3.2): for AMQP alone */
	char path[640];				/* policy tokens: what they cover, "" = everything */
	char ident[HF_IDENT_MAX + 1];		/* identity tokens: whose key signed; "" for policies */
};
/* Checks form, expiry, host, signature. Tokens of Event Hubs clients (audience sb://...) come with the raw text of
 * the policy key as HMAC key (3.2) and give ServiceConnect. */
extern const char hub_token_of_nobody[];	/* the reason for a token that names no registered identity */
const char *hub_claim_verify(struct hub_model *m, struct hf_span token, struct hub_claim *ret_claim);
/* Does a policy's claim reach the device, or module (NULL or "": the device; device "" the whole hub)? */
bool hub_claim_covers(const struct hub_claim *claim, const char *device, const char *module);
/* May the bearer act as this identity? auth_chain: "target;...;actor" of a nested gateway, or NULL or "". */
const char *hub_claim_act_as(struct hub_model *m, const struct hub_claim *claim, const struct hub_ident *ident,
			     const char *auth_chain);
/* Does the chain lead from target, parent by parent, to an actor whose $edgeHub is enabled? */
bool hub_chain_holds(struct hub_model *m, const char *target, const char *auth_chain);
/* May the holder of the peer certificate of tls act as this identity? */
const char *hub_cert_act_as(struct hf_tls *tls, const struct hub_ident *ident);
/* The identity exists, and it and its device are enabled. *ret_ident on yes. */
const char *hub_ident_usable(struct hub_model *m, struct hf_span id, const struct hub_ident **ret_ident);
