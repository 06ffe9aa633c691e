/* SPDX-License-Identifier: GPL-3.0-or-later */
/* auth/sas.h - shared access signature tokens: parse, verify, create (iothub-protocol 6, edgehub-behaviour 3.4). */
#pragma once
#include "core/buf.h"

struct hf_sas {
	struct hf_span sr, se, skn;	/* as received, still encoded; skn empty = absent */
	uint8_t sig[64];
	size_t sig_len;
	int64_t expiry_s;
	char host[256];			/* of the decoded audience, lower case, scheme and port dropped */
	char path[640];			/* decoded rest after the host: "/devices/D/modules/M" or "" */
};
/* Borrows from token. HF_EINVALID + static reason. Accepts fields in any order, empty skn, upper and lower
 * case escapes, raw audience. Numeric se may have a fraction. */
int hf_sas_parse(struct hf_span token, struct hf_sas *ret_sas, const char **ret_reason);
/* Signature check against one base64 key, constant time. False for an empty or undecodable key. */
bool hf_sas_verify(const struct hf_sas *sas, const char *key_b64);
bool hf_sas_verify_raw(const struct hf_sas *sas, struct hf_span raw_key);	/* Event Hubs style */
/* Does any of the 1-, 2-, 3-fold percent-decodings of the audience's ids equal this identity? module NULL or
 * "" for devices. device_token_ok: a device audience also fits its module (gateway rule, edgehub 3.4).
 * Id comparison is case-insensitive as the reference does when `fold`, else exact. */
bool hf_sas_audience_is(const struct hf_sas *sas, const char *device, const char *module, bool device_token_ok,
			bool fold);
/* "SharedAccessSignature sr=..&sig=..&se=..[&skn=..]": audience is encoded once with hf_uri_encode.
 * HF_EINVALID when the key is not base64. */
int hf_sas_create(const char *audience, const char *key_b64, const char *policy, int64_t expiry_s,
		  struct hf_buf *out);
/* Connection strings "A=b;C=d" (iothub-protocol 6.4): value of a name, borrowed; false when absent. */
bool hf_connstr_get(struct hf_span text, const char *name, struct hf_span *ret_value);
