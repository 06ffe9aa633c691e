/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Service documents of identities, read: iothub-protocol 5.3 and 5.4. Unknown and read-only members are ignored. */
#include "core/util.h"
#include "hub/model/model_int.h"

#include <ctype.h>
#include <errno.h>
#include <holdfast/err.h>
#include <strings.h>

#define BAD(err, ...) hub_refuse(err, HF_EINVALID, 400, 400004, "ArgumentInvalid", __VA_ARGS__)

bool hub_name_valid(const char *id)
{
	size_t n = id ? strlen(id) : 0;

	/* What every client's URL library would take out of a path: a request for module ".." reached its device. */
	if (n == 0 || n > HF_ID_MAX || strcmp(id, ".") == 0 || strcmp(id, "..") == 0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isascii(id[i]) || (!isalnum((unsigned char)id[i]) && !strchr("-:.+%_#*?!(),=@$'", id[i])))
			return false;
	return true;
}

/* What MQTT filters would take for wildcards names no device and no module. */
bool hub_id_valid(const char *id)
{
	return hub_name_valid(id) && !strpbrk(id, "+#");
}

static int set_text(char **to, const char *text)
{
	char *copy = text ? strdup(text) : NULL;

	if (text && !copy)
		return -ENOMEM;
	if (*to)
		explicit_bzero(*to, strlen(*to));
	free(*to);
	*to = copy;
	return 0;
}

static bool text_or_null(const json_t *v)
{
	return !v || json_is_null(v) || json_is_string(v);
}

static bool key_ok(const char *key)
{
	struct hf_buf raw = HF_BUF_INIT(256);
	bool ok = hf_b64_decode(hf_span_str(key), &raw) == 0 && !raw.err && hf_buf_len(&raw) >= 16 &&
		  hf_buf_len(&raw) <= 64;

	hf_buf_wipe(&raw);
	return ok;
}

/* Absent: keeps what is there, makes one when nothing is. Empty: makes a new one, as the service does. */
static int parse_key(char **key, const json_t *v, struct hub_error *err)
{
	const char *text = json_string_value(v);

	if (!text_or_null(v) || (text && *text && !key_ok(text)))
		return BAD(err, "a symmetric key must be base64 of 16 to 64 bytes");
	if (text && *text)
		return set_text(key, text);
	if (text || !*key || !**key) {
		set_text(key, NULL);
		*key = hub_new_key();
	}
	return *key ? 0 : -ENOMEM;
}

static int parse_thumb(char **thumb, const json_t *v, struct hub_error *err)
{
	const char *text = json_string_value(v);
	size_t hex = 0;

	if (!text_or_null(v))
		return BAD(err, "a thumbprint must be text");
	if (!text || !*text)
		return v ? set_text(thumb, NULL) : 0;
	for (const char *p = text; *p; p++) {
		if (isxdigit((unsigned char)*p))
			hex++;
		else if (*p != ':' && *p != '-' && *p != ' ')
			return BAD(err, "a thumbprint must be 40 or 64 hex digits");
	}
	if (hex != 40 && hex != 64)
		return BAD(err, "a thumbprint must be 40 or 64 hex digits");
	return set_text(thumb, text);
}

static int parse_auth(struct hub_ident *io, const json_t *auth, struct hub_error *err)
{
	static const char *const names[] = { "sas", "selfSigned", "certificateAuthority", "none" };
	const json_t *sym = json_object_get(auth, "symmetricKey"), *x509 = json_object_get(auth, "x509Thumbprint");
	const json_t *type = json_object_get(auth, "type");
	const char *text = json_string_value(type);
	unsigned i;
	int r;

	if (auth && !json_is_null(auth) && !json_is_object(auth))
		return BAD(err, "authentication must be an object");
	if (!text_or_null(type) || (sym && !json_is_null(sym) && !json_is_object(sym)) ||
	    (x509 && !json_is_null(x509) && !json_is_object(x509)))
		return BAD(err, "authentication has members of a wrong type");
	r = parse_thumb(&io->primary_thumb, json_object_get(x509, "primaryThumbprint"), err);
	if (r == 0)
		r = parse_thumb(&io->secondary_thumb, json_object_get(x509, "secondaryThumbprint"), err);
	if (r != 0)
		return r;
	if (text) {
		for (i = 0; i < HF_ARRAY_LEN(names) && strcasecmp(text, names[i]) != 0; i++)
			;
		if (i == HF_ARRAY_LEN(names))
			return BAD(err, "authentication.type is none of sas, selfSigned, certificateAuthority, none");
		io->auth = (enum hub_auth)i;
	} else if (json_string_length(json_object_get(x509, "primaryThumbprint")) > 0) {
		io->auth = HUB_AUTH_SELF_SIGNED;
	}
	if (io->auth == HUB_AUTH_SELF_SIGNED && !io->primary_thumb && !io->secondary_thumb)
		return BAD(err, "selfSigned needs a thumbprint, primaryThumbprint or secondaryThumbprint");
	if (io->auth != HUB_AUTH_SAS) {
		r = set_text(&io->primary_key, NULL);
		return r == 0 ? set_text(&io->secondary_key, NULL) : r;
	}
	r = parse_key(&io->primary_key, json_object_get(sym, "primaryKey"), err);
	return r == 0 ? parse_key(&io->secondary_key, json_object_get(sym, "secondaryKey"), err) : r;
}

static int parse_status(struct hub_ident *io, const json_t *doc, struct hub_error *err)
{
	const json_t *status = json_object_get(doc, "status"), *why = json_object_get(doc, "statusReason");
	const char *text = json_string_value(status);

	if (!text_or_null(status) || !text_or_null(why) || json_string_length(why) > HF_ID_MAX)
		return BAD(err, "status and statusReason must be text, statusReason of at most 128 characters");
	if (text && strcasecmp(text, "enabled") != 0 && strcasecmp(text, "disabled") != 0)
		return BAD(err, "status is neither enabled nor disabled");
	if (text)
		io->enabled = strcasecmp(text, "enabled") == 0;
	return why ? set_text(&io->status_reason, json_string_value(why)) : 0;
}

/* What the document says about the parent, NULL when it says nothing. For a leaf deviceScope decides; the deviceScope
 * of an edge device is the hub's own, also in a document that makes it a leaf. */
static int parse_scopes(const struct hub_ident *now, bool was_edge, const json_t *doc, const char **ret_parent,
			struct hub_error *err)
{
	const json_t *scope = json_object_get(doc, "deviceScope"), *parents = json_object_get(doc, "parentScopes");
	const char *text = json_string_value(scope), *parent = NULL;
	bool same;

	if (!text_or_null(scope) || (parents && !json_is_null(parents) && !json_is_array(parents)))
		return BAD(err, "deviceScope must be text and parentScopes an array");
	if (json_array_size(parents) > 1)
		return hub_scope_refuse(err, now->device_id, "a device has at most one parent");
	if (parents) {
		const json_t *first = json_array_get(parents, 0);

		if (first && !json_is_string(first))
			return BAD(err, "parentScopes must hold text");
		parent = first ? json_string_value(first) : "";
	}
	same = text && strcmp(text, now->device_scope) == 0;
	if (!now->is_edge && scope && !(was_edge && same))
		parent = text ? text : "";
	if (now->is_edge && text && *text && !same)
		return hub_scope_refuse(err, now->device_id,
					"the deviceScope of an edge device is made by the hub; use parentScopes");
	*ret_parent = parent;
	return 0;
}

int hub_ident_parse(struct hub_ident *io, const json_t *doc, bool create, const char **ret_parent_scope,
		    struct hub_error *err)
{
	const json_t *cap = json_object_get(doc, "capabilities"), *edge = json_object_get(cap, "iotEdge");
	const json_t *auth = json_object_get(doc, "authentication"), *by = json_object_get(doc, "managedBy");
	bool was_edge = io->is_edge;
	int r;

	if (!json_is_object(doc))
		return BAD(err, "the body must be a JSON object");
	if ((cap && !json_is_null(cap) && !json_is_object(cap)) || (edge && !json_is_boolean(edge)))
		return BAD(err, "capabilities.iotEdge must be true or false");
	if (!text_or_null(by))
		return BAD(err, "managedBy must be text");
	r = parse_status(io, doc, err);
	if (r == 0 && (create || (auth && !json_is_null(auth))))
		r = parse_auth(io, auth, err);
	if (r == 0 && json_is_string(by) && io->module_id)
		r = set_text(&io->managed_by, json_string_value(by));
	if (r != 0 || io->module_id)
		return r;
	if (edge)
		io->is_edge = json_is_true(edge);
	return parse_scopes(io, was_edge, doc, ret_parent_scope, err);
}
