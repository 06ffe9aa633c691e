/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "auth/sas.h"
#include "core/util.h"
#include "tls/tls.h"
#include <holdfast/err.h>
#include <stdio.h>

static int bad(const char **ret_reason, const char *why)
{
	*ret_reason = why;
	return HF_EINVALID;
}

static bool fold_eq(struct hf_span a, const char *b)
{
	return hf_span_ieq(a, hf_span_str(b));
}

/* "amqps://Host:5671/devices/D" -> host "host", path "/devices/D". */
static int split_audience(struct hf_span sr, struct hf_sas *out)
{
	hf_autobuf struct hf_buf text = HF_BUF_INIT(2048);
	struct hf_span rest, host, port;
	const uint8_t *scheme;

	if (hf_uri_decode(sr, &text) != 0 || text.err || !hf_utf8_ok(hf_buf_span(&text)))
		return HF_EINVALID;
	rest = hf_buf_span(&text);
	scheme = rest.len ? memmem(rest.ptr, rest.len, "://", 3) : NULL;
	/* A separator that is still encoded belongs to a multiply encoded audience. */
	if (scheme && !memchr(rest.ptr, '/', (size_t)(scheme - rest.ptr)))
		rest = hf_span_skip(rest, (size_t)(scheme - rest.ptr) + 3);
	hf_span_cut(&rest, '/', &host);
	if (host.len == 0)
		return HF_EINVALID;
	if (memmem(host.ptr, host.len, "%2f", 3) || memmem(host.ptr, host.len, "%2F", 3)) {
		/* encoded twice or more: peel one layer and start again */
		hf_autofree char *once = hf_span_dup(hf_buf_span(&text));

		return once ? split_audience(hf_span_str(once), out) : HF_EINVALID;
	}
	port = host;
	hf_span_cut(&port, ':', &host);
	if (host.len == 0 || host.len >= sizeof out->host || rest.len + 2 > sizeof out->path)
		return HF_EINVALID;
	for (size_t i = 0; i < host.len; i++)
		out->host[i] = (char)(host.ptr[i] >= 'A' && host.ptr[i] <= 'Z' ? host.ptr[i] + 32 : host.ptr[i]);
	out->host[host.len] = 0;
	if (rest.len) {
		out->path[0] = '/';
		memcpy(out->path + 1, rest.ptr, rest.len);
		out->path[rest.len + 1] = 0;
	} else {
		out->path[0] = 0;
	}
	return 0;
}

static int parse_expiry(struct hf_span se, int64_t *ret_s)
{
	struct hf_span whole, frac = se;
	int64_t ignored;

	if (hf_span_cut(&frac, '.', &whole) && frac.len && hf_parse_i64(frac, 0, INT64_MAX, &ignored) != 0)
		return HF_EINVALID;
	return hf_parse_i64(whole, 0, INT64_MAX, ret_s);
}

int hf_sas_parse(struct hf_span token, struct hf_sas *ret_sas, const char **ret_reason)
{
	static const char prefix[] = "SharedAccessSignature ";
	hf_autobuf struct hf_buf sig = HF_BUF_INIT(256), raw = HF_BUF_INIT(256);
	struct hf_sas out = { 0 };
	struct hf_span rest, field, name, sig_text = { 0 };
	unsigned seen = 0;

	if (!hf_span_starts(token, prefix))
		return bad(ret_reason, "token does not start with SharedAccessSignature");
	rest = hf_span_skip(token, sizeof prefix - 1);
	if (rest.len == 0 || memchr(rest.ptr, ' ', rest.len))
		return bad(ret_reason, "token is not two words");
	while (rest.len) {
		unsigned bit = 0;

		hf_span_cut(&rest, '&', &field);
		if (!hf_span_cut(&field, '=', &name))
			return bad(ret_reason, "token field without '='");
		if (fold_eq(name, "sr")) {
			bit = 1;
			out.sr = field;
		} else if (fold_eq(name, "sig")) {
			bit = 2;
			sig_text = field;
		} else if (fold_eq(name, "se")) {
			bit = 4;
			out.se = field;
		} else if (fold_eq(name, "skn")) {
			bit = 8;
			out.skn = field;
		}
		if (seen & bit)
			return bad(ret_reason, "token field given twice");
		seen |= bit;
	}
	if ((seen & 7) != 7)
		return bad(ret_reason, "token lacks sr, sig or se");
	if (parse_expiry(out.se, &out.expiry_s) != 0)
		return bad(ret_reason, "token expiry is not a number");
	if (hf_uri_decode(sig_text, &sig) != 0 || hf_b64_decode(hf_buf_span(&sig), &raw) != 0 ||
	    hf_buf_len(&raw) == 0 || hf_buf_len(&raw) > sizeof out.sig)
		return bad(ret_reason, "token signature is not base64");
	out.sig_len = hf_buf_len(&raw);
	memcpy(out.sig, hf_buf_span(&raw).ptr, out.sig_len);
	if (split_audience(out.sr, &out) != 0)
		return bad(ret_reason, "token audience is not understood");
	*ret_sas = out;
	return 0;
}

bool hf_sas_verify_raw(const struct hf_sas *sas, struct hf_span raw_key)
{
	hf_autobuf struct hf_buf text = HF_BUF_INIT(4096);
	uint8_t mac[32];

	hf_buf_put_span(&text, sas->sr);
	hf_buf_putc(&text, '\n');
	hf_buf_put_span(&text, sas->se);
	if (text.err || raw_key.len == 0)
		return false;
	hf_hmac_sha256(raw_key, hf_buf_span(&text), mac);
	return hf_ct_eq(hf_span(sas->sig, sas->sig_len), hf_span(mac, sizeof mac));
}

bool hf_sas_verify(const struct hf_sas *sas, const char *key_b64)
{
	struct hf_buf key = HF_BUF_INIT(256);
	bool ok = key_b64 && *key_b64 && hf_b64_decode(hf_span_str(key_b64), &key) == 0 &&
		  hf_sas_verify_raw(sas, hf_buf_span(&key));

	hf_buf_wipe(&key);
	return ok;
}

static bool id_eq(struct hf_span a, const char *b, bool fold)
{
	return fold ? hf_span_ieq(a, hf_span_str(b)) : hf_span_is(a, b);
}

/* path is "/devices/D[/modules/M]" at one level of decoding. */
static bool path_is(struct hf_span path, const char *device, const char *module, bool device_token_ok, bool fold)
{
	struct hf_span word, d, m;

	hf_span_cut(&path, '/', &word);
	if (word.len)
		return false;
	hf_span_cut(&path, '/', &word);
	hf_span_cut(&path, '/', &d);
	if (!hf_span_is(word, "devices") || !id_eq(d, device, fold))
		return false;
	hf_span_cut(&path, '/', &word);
	if (hf_span_is(word, "modules")) {
		hf_span_cut(&path, '/', &m);
		return module && *module && id_eq(m, module, fold);
	}
	return !module || !*module || device_token_ok;
}

bool hf_sas_audience_is(const struct hf_sas *sas, const char *device, const char *module, bool device_token_ok,
			bool fold)
{
	hf_autobuf struct hf_buf a = HF_BUF_INIT(1024), b = HF_BUF_INIT(1024);

	hf_buf_puts(&a, sas->path);
	for (int depth = 0; depth < 3; depth++) {
		if (path_is(hf_buf_span(&a), device, module, device_token_ok, fold))
			return true;
		hf_buf_reset(&b);
		if (hf_uri_decode(hf_buf_span(&a), &b) != 0 || b.err)
			return false;
		hf_buf_reset(&a);
		hf_buf_put_span(&a, hf_buf_span(&b));
	}
	return false;
}

int hf_sas_create(const char *audience, const char *key_b64, const char *policy, int64_t expiry_s, struct hf_buf *out)
{
	hf_autobuf struct hf_buf sr = HF_BUF_INIT(4096), text = HF_BUF_INIT(4096), sig = HF_BUF_INIT(128);
	struct hf_buf key = HF_BUF_INIT(256);
	uint8_t mac[32];

	if (hf_b64_decode(hf_span_str(key_b64), &key) != 0 || hf_buf_len(&key) == 0) {
		hf_buf_wipe(&key);
		return HF_EINVALID;
	}
	hf_uri_encode(hf_span_str(audience), &sr);
	hf_buf_put_span(&text, hf_buf_span(&sr));
	hf_buf_printf(&text, "\n%lld", (long long)expiry_s);
	hf_hmac_sha256(hf_buf_span(&key), hf_buf_span(&text), mac);
	hf_buf_wipe(&key);
	hf_b64_encode(hf_span(mac, sizeof mac), &sig);
	hf_buf_puts(out, "SharedAccessSignature sr=");
	hf_buf_put_span(out, hf_buf_span(&sr));
	hf_buf_puts(out, "&sig=");
	hf_uri_encode(hf_buf_span(&sig), out);
	hf_buf_printf(out, "&se=%lld", (long long)expiry_s);
	if (policy && *policy)
		hf_buf_printf(out, "&skn=%s", policy);
	return sr.err ? sr.err : text.err ? text.err : out->err;
}

bool hf_connstr_get(struct hf_span text, const char *name, struct hf_span *ret_value)
{
	struct hf_span pair, key;

	while (text.len) {
		hf_span_cut(&text, ';', &pair);
		if (hf_span_cut(&pair, '=', &key) && hf_span_is(key, name)) {
			*ret_value = pair;
			return true;
		}
	}
	return false;
}
