/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tls/tls_issue.c - makes keys and certificates: P-256 with SHA-256 (RFC 5280). The DER is written here because the
 * library's generator cannot mark basic constraints critical, which strict verifiers ask for. */
#include "tls/tls_int.h"

#include "core/clock.h"
#include "core/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <holdfast/err.h>
#include <time.h>
#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/ecc.h>
#include <wolfssl/wolfcrypt/random.h>

enum { KEY_BYTES = 32, DER_MAX = 4096 };
enum { BOOLEAN = 0x01, INTEGER = 0x02, BIT_STRING = 0x03, OCTET_STRING = 0x04, OID = 0x06, UTF8 = 0x0c, UTC_TIME = 0x17, GENERALIZED_TIME = 0x18,
       SEQUENCE = 0x30, SET = 0x31, CONTEXT = 0x80, CONSTRUCTED = 0x20 };

#define BYTES(...) hf_span((const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))
#define ECDSA_SHA256 BYTES(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02)
#define COMMON_NAME BYTES(0x55, 0x04, 0x03)
#define SUBJECT_KEY_ID BYTES(0x55, 0x1d, 0x0e)
#define KEY_USAGE BYTES(0x55, 0x1d, 0x0f)
#define ALT_NAME BYTES(0x55, 0x1d, 0x11)
#define BASIC_CONSTRAINTS BYTES(0x55, 0x1d, 0x13)
#define AUTHORITY_KEY_ID BYTES(0x55, 0x1d, 0x23)
#define EXT_KEY_USAGE BYTES(0x55, 0x1d, 0x25)
#define SERVER_AUTH BYTES(0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01)
#define CLIENT_AUTH BYTES(0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02)

/* --- DER -------------------------------------------------------------------------------------------------- */

static void put(struct hf_buf *out, int tag, struct hf_span body)
{
	hf_buf_u8(out, (uint8_t)tag);
	if (body.len >= 256) {
		hf_buf_u8(out, 0x82);
		hf_buf_be16(out, (uint16_t)body.len);
	} else {
		if (body.len >= 128)
			hf_buf_u8(out, 0x81);
		hf_buf_u8(out, (uint8_t)body.len);
	}
	hf_buf_put_span(out, body);
}

/* Wraps what is in the buffer from `start` on: elements are written first, then closed. */
static void wrap(struct hf_buf *b, size_t start, int tag)
{
	struct hf_buf inner = HF_BUF_INIT(DER_MAX);
	struct hf_span all = hf_buf_span(b);

	hf_buf_put_span(&inner, hf_span_skip(all, start));
	if (b->err || inner.err) {
		b->err = b->err ? b->err : inner.err;
	} else {
		b->end = b->start + start;
		put(b, tag, hf_buf_span(&inner));
	}
	hf_buf_wipe(&inner);
}

static void put_name(struct hf_buf *out, const char *common_name)
{
	size_t start = hf_buf_len(out);

	put(out, OID, COMMON_NAME);
	put(out, UTF8, hf_span_str(common_name));
	wrap(out, start, SEQUENCE);
	wrap(out, start, SET);
	wrap(out, start, SEQUENCE);
}

/* Two digits of the year before 2050, four from then on. */
static void put_time(struct hf_buf *out, int64_t unix_s)
{
	time_t t = (time_t)unix_s;
	bool is_short;
	char text[32];
	struct tm tm;

	gmtime_r(&t, &tm);
	is_short = tm.tm_year < 150;
	strftime(text, sizeof text, "%Y%m%d%H%M%SZ", &tm);
	put(out, is_short ? UTC_TIME : GENERALIZED_TIME, hf_span_skip(hf_span_str(text), is_short ? 2 : 0));
}

/* value: the DER that the extension's octet string holds. */
static void put_extension(struct hf_buf *out, struct hf_span oid, bool critical, struct hf_span value)
{
	size_t start = hf_buf_len(out);

	put(out, OID, oid);
	if (critical)
		put(out, BOOLEAN, BYTES(0xff));
	put(out, OCTET_STRING, value);
	wrap(out, start, SEQUENCE);
}

static void put_key_id(struct hf_buf *out, bool authority, const uint8_t id[20])
{
	hf_autobuf struct hf_buf v = HF_BUF_INIT(64);

	put(&v, authority ? CONTEXT | 0 : OCTET_STRING, hf_span(id, 20));
	if (authority)
		wrap(&v, 0, SEQUENCE);
	put_extension(out, authority ? AUTHORITY_KEY_ID : SUBJECT_KEY_ID, false, hf_buf_span(&v));
	if (v.err)
		out->err = v.err;
}

/* GeneralNames of "hub.test,127.0.0.1,::1". */
static void put_alt_names(struct hf_buf *out, const char *names)
{
	hf_autobuf struct hf_buf v = HF_BUF_INIT(DER_MAX);
	struct hf_span rest = hf_span_str(names), name;

	while (rest.len) {
		uint8_t address[16];
		char text[256] = "";

		hf_span_cut(&rest, ',', &name);
		if (name.len < sizeof text)
			memcpy(text, name.ptr, name.len);
		if (inet_pton(AF_INET, text, address) == 1)
			put(&v, CONTEXT | 7, hf_span(address, 4));
		else if (inet_pton(AF_INET6, text, address) == 1)
			put(&v, CONTEXT | 7, hf_span(address, 16));
		else
			put(&v, CONTEXT | 2, name);
	}
	wrap(&v, 0, SEQUENCE);
	put_extension(out, ALT_NAME, false, hf_buf_span(&v));
	if (v.err)
		out->err = v.err;
}

static void put_usages(struct hf_buf *out, bool is_ca)
{
	hf_autobuf struct hf_buf v = HF_BUF_INIT(64);

	if (is_ca)
		put(&v, BOOLEAN, BYTES(0xff));
	wrap(&v, 0, SEQUENCE);
	put_extension(out, BASIC_CONSTRAINTS, true, hf_buf_span(&v));
	/* keyCertSign and cRLSign, or digitalSignature: unused bits, then the bits from the top */
	put_extension(out, KEY_USAGE, true, is_ca ? BYTES(BIT_STRING, 2, 1, 0x06) : BYTES(BIT_STRING, 2, 7, 0x80));
	if (!is_ca) {
		hf_buf_reset(&v);
		put(&v, OID, SERVER_AUTH);
		put(&v, OID, CLIENT_AUTH);
		wrap(&v, 0, SEQUENCE);
		put_extension(out, EXT_KEY_USAGE, false, hf_buf_span(&v));
	}
	if (v.err)
		out->err = v.err;
}

static void put_algorithm(struct hf_buf *out)
{
	size_t start = hf_buf_len(out);

	put(out, OID, ECDSA_SHA256);
	wrap(out, start, SEQUENCE);
}

/* --- certificates ----------------------------------------------------------------------------------------- */

static int key_id(ecc_key *key, uint8_t out[20])
{
	uint8_t point[2 * KEY_BYTES + 1];
	word32 n = sizeof point;

	if (wc_ecc_export_x963(key, point, &n) != 0)
		return HF_ETLS;
	hf_sha1(hf_span(point, n), out);
	return 0;
}

/* The part that is signed. */
static int put_body(struct hf_buf *out, const struct hf_x509_request *req, ecc_key *key, ecc_key *issuer_key)
{
	uint8_t serial[16], public_key[256], id[20];
	int64_t now = hf_clock_wall_s();
	size_t start = hf_buf_len(out), part;
	int n = wc_EccPublicKeyToDer(key, public_key, sizeof public_key, 1);

	if (n <= 0)
		return HF_ETLS;
	put(out, INTEGER, BYTES(2));			/* version 3 */
	wrap(out, start, CONTEXT | CONSTRUCTED | 0);
	hf_random(serial, sizeof serial);
	serial[0] = (serial[0] & 0x7f) | 0x40;		/* positive, in its shortest form */
	put(out, INTEGER, hf_span(serial, sizeof serial));
	put_algorithm(out);
	put_name(out, req->issuer_name ? req->issuer_name : req->common_name);
	part = hf_buf_len(out);
	put_time(out, now - 24 * 3600);			/* clocks differ */
	put_time(out, now + (int64_t)req->days * 24 * 3600);
	wrap(out, part, SEQUENCE);
	put_name(out, req->common_name);
	hf_buf_put(out, public_key, (size_t)n);
	part = hf_buf_len(out);
	put_usages(out, req->is_ca);
	if (key_id(key, id) != 0)
		return HF_ETLS;
	put_key_id(out, false, id);
	if (key_id(issuer_key, id) != 0)
		return HF_ETLS;
	put_key_id(out, true, id);
	if (req->alt_names)
		put_alt_names(out, req->alt_names);
	wrap(out, part, SEQUENCE);
	wrap(out, part, CONTEXT | CONSTRUCTED | 3);
	wrap(out, start, SEQUENCE);
	return out->err;
}

static int sign(struct hf_buf *cert, ecc_key *issuer_key, WC_RNG *rng)
{
	uint8_t hash[32], signature[ECC_MAX_SIG_SIZE + 1] = { 0 };	/* in front: no unused bits */
	word32 n = ECC_MAX_SIG_SIZE;

	hf_sha256(hf_buf_span(cert), hash);
	if (wc_ecc_sign_hash(hash, sizeof hash, signature + 1, &n, rng, issuer_key) != 0)
		return HF_ETLS;
	put_algorithm(cert);
	put(cert, BIT_STRING, hf_span(signature, n + 1));
	wrap(cert, 0, SEQUENCE);
	return cert->err;
}

static int put_pem(struct hf_span der, int type, struct hf_buf *out)
{
	uint8_t *to = hf_buf_reserve(out, 2 * DER_MAX);
	int n = to ? wc_DerToPem(der.ptr, (word32)der.len, to, 2 * DER_MAX, type) : 0;

	if (n > 0)
		hf_buf_grow(out, (size_t)n);
	return !to ? -ENOMEM : n > 0 ? 0 : HF_ETLS;
}

static int load_key(struct hf_span pem, ecc_key *key)
{
	uint8_t der[512];
	word32 at = 0;
	int n = wc_KeyPemToDer(pem.ptr, (int)pem.len, der, sizeof der, NULL);
	int r = n > 0 ? wc_EccPrivateKeyDecode(der, &at, key, (word32)n) : -1;

	if (r == 0)
		r = wc_ecc_make_pub(key, NULL);
	explicit_bzero(der, sizeof der);
	return r == 0 ? 0 : HF_ETLS;
}

static int make(const struct hf_x509_request *req, ecc_key *key, ecc_key *issuer_key, WC_RNG *rng, struct hf_buf *cert_pem,
		struct hf_buf *key_pem)
{
	hf_autobuf struct hf_buf cert = HF_BUF_INIT(DER_MAX);
	uint8_t der[512];
	int r, n;

	if (wc_ecc_make_key_ex(rng, KEY_BYTES, key, ECC_SECP256R1) != 0)
		return HF_ETLS;
	r = req->issuer_name ? load_key(req->issuer_key_pem, issuer_key) : 0;
	if (!req->issuer_name)
		issuer_key = key;
	if (r == 0)
		r = put_body(&cert, req, key, issuer_key);
	if (r == 0)
		r = sign(&cert, issuer_key, rng);
	if (r == 0)
		r = put_pem(hf_buf_span(&cert), CERT_TYPE, cert_pem);
	if (r != 0)
		return r == HF_ELIMIT ? HF_EINVALID : r;
	n = wc_EccKeyToDer(key, der, sizeof der);
	r = n > 0 ? put_pem(hf_span(der, (size_t)n), ECC_PRIVATEKEY_TYPE, key_pem) : HF_ETLS;
	explicit_bzero(der, sizeof der);
	return r;
}

int hf_x509_issue(const struct hf_x509_request *req, struct hf_buf *cert_pem, struct hf_buf *key_pem)
{
	ecc_key key, issuer_key;
	WC_RNG rng;
	int r = HF_ETLS;

	if (wc_InitRng(&rng) != 0)
		return r;
	if (wc_ecc_init(&key) == 0 && wc_ecc_init(&issuer_key) == 0) {
		r = make(req, &key, &issuer_key, &rng, cert_pem, key_pem);
		wc_ecc_free(&issuer_key);
		wc_ecc_free(&key);
	}
	wc_FreeRng(&rng);
	return r;
}
