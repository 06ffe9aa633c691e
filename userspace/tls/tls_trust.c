/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tls/tls_trust.c - does a client's chain build to one of our roots?
 *
 * The library checks each step of the path (signature, validity, name constraints) against a certificate manager that
 * starts with our roots and takes in one issuer after the other, from the root down, each only after it was verified
 * and found to be one that may sign. The manager is made for each judgement: the one of the handshake would keep what
 * one peer presented for the next peer. What this build of the library lets pass is checked here: version, key usage,
 * path length, extended key usage, weak signatures and keys. */
#include "tls/tls_int.h"

#include "core/log.h"
#include "core/util.h"

#include <holdfast/err.h>
#include <wolfssl/openssl/evp.h>
#include <wolfssl/openssl/ssl.h>
#include <wolfssl/openssl/x509v3.h>
#include <wolfssl/wolfcrypt/asn.h>

#include <errno.h>

enum { PRESENTED_MAX = 9, PATH_MAX_CERTS = 6, CA_FILE_MAX = 4 * 1024 * 1024, RSA_MIN_BITS = 2048, EC_MIN_BITS = 256 };

struct hf_trust {
	WOLFSSL_X509 **roots;
	unsigned n_roots;
};

/* --- time ------------------------------------------------------------------------------------------------- */

/* The library takes one function for the process; set before threads. */
static const struct hf_tls_clock *server_clock;
static void *clock_arg;
static _Thread_local int64_t judging_at_s;	/* not 0 while a judgement goes on in this thread */

static time_t library_time(time_t *ret)
{
	time_t now = judging_at_s ? (time_t)judging_at_s : server_clock ? (time_t)server_clock->now_s(clock_arg) : time(NULL);

	if (ret)
		*ret = now;
	return now;
}

void hf_tls_set_clock(const struct hf_tls_clock *clock, void *arg)
{
	server_clock = clock;
	clock_arg = arg;
}

int hf_trust_note_dates(int preverify, WOLFSSL_X509_STORE_CTX *store)
{
	int err = wolfSSL_X509_STORE_CTX_get_error(store);
	WOLFSSL_X509 *x = wolfSSL_X509_STORE_CTX_get_current_cert(store);
	int64_t begin;

	if (server_clock && err == X509_V_ERR_ERROR_IN_CERT_NOT_BEFORE_FIELD && x && hf_x509_time(wolfSSL_X509_get_notBefore(x), &begin) == 0)
		server_clock->too_early(clock_arg, begin);
	else if (server_clock && err == X509_V_ERR_ERROR_IN_CERT_NOT_AFTER_FIELD)
		server_clock->too_late(clock_arg);
	return preverify && err == 0;	/* the library says yes beside an error that it found later */
}

void hf_trust_global_init(void)
{
	wc_SetTimeCb(library_time);
}

/* --- one certificate -------------------------------------------------------------------------------------- */

static const char no_root[] = "the chain builds to no trusted root";

struct cert {
	const unsigned char *der;
	int len;
	WOLFSSL_X509 *x;
};

static bool is_signed_strongly(WOLFSSL_X509 *x)
{
	switch (wolfSSL_X509_get_signature_type(x)) {
	case CTC_SHA256wRSA: case CTC_SHA384wRSA: case CTC_SHA512wRSA: case CTC_SHA256wECDSA: case CTC_SHA384wECDSA:
	case CTC_SHA512wECDSA: case CTC_ED25519: case CTC_ED448:
		return true;
	default:
		return false;	/* MD5, SHA-1, RSA-PSS (its hash cannot be told here), and what nobody named */
	}
}

static bool has_strong_key(WOLFSSL_X509 *x)
{
	WOLFSSL_EVP_PKEY *key = wolfSSL_X509_get_pubkey(x);
	int kind = key ? wolfSSL_EVP_PKEY_base_id(key) : 0, bits = key ? wolfSSL_EVP_PKEY_bits(key) : 0;

	wolfSSL_EVP_PKEY_free(key);
	return kind == EVP_PKEY_RSA ? bits >= RSA_MIN_BITS : kind == EVP_PKEY_EC && bits >= EC_MIN_BITS;
}

static bool may_use(WOLFSSL_X509 *x, unsigned usage)
{
	return !wolfSSL_X509_ext_isSet_by_NID(x, NID_key_usage) || (wolfSSL_X509_get_keyUsage(x) & usage);
}

/* How many CA certificates may stand between this one and the leaf; INT_MAX = any number. */
static int path_length(WOLFSSL_X509 *x)
{
	return wolfSSL_X509_get_isSet_pathLength(x) ? (int)wolfSSL_X509_get_pathLength(x) : INT32_MAX;
}

static const char *issuer_refused(WOLFSSL_X509 *x, int below)
{
	if (wolfSSL_X509_version(x) != 3 || wolfSSL_X509_get_isCA(x) != 1)
		return "an issuer in the chain is no CA certificate";
	if (!may_use(x, KEYUSE_KEY_CERT_SIGN))
		return "an issuer in the chain may not sign certificates";
	return path_length(x) < below ? "the chain is longer than an issuer allows" : NULL;
}

static const char *leaf_refused(WOLFSSL_X509 *x)
{
	unsigned use = wolfSSL_X509_get_extended_key_usage(x);

	if (wolfSSL_X509_get_isCA(x) == 1)
		return "the client's certificate is a CA certificate";
	if (!may_use(x, KEYUSE_DIGITAL_SIG))
		return "the client's certificate may not sign";
	if (wolfSSL_X509_ext_isSet_by_NID(x, NID_ext_key_usage) && !(use & (XKU_SSL_CLIENT | XKU_ANYEKU)))
		return "the client's certificate is for another purpose";
	return NULL;
}

static const char *weak_or_stale(WOLFSSL_X509 *x, int64_t now_s, int64_t *until_s)
{
	int64_t from, to;

	if (!is_signed_strongly(x))
		return "a certificate in the chain has a weak signature";
	if (!has_strong_key(x))
		return "a certificate in the chain has a weak key";
	if (hf_x509_time(wolfSSL_X509_get_notBefore(x), &from) != 0 || hf_x509_time(wolfSSL_X509_get_notAfter(x), &to) != 0 ||
	    now_s < from || now_s > to)
		return "a certificate in the chain is not valid now";
	*until_s = hf_min(*until_s, to);
	return NULL;
}

/* --- the roots -------------------------------------------------------------------------------------------- */

static WOLFSSL_CERT_MANAGER *manager_of(WOLFSSL_X509 *root)
{
	WOLFSSL_CERT_MANAGER *cm = wolfSSL_CertManagerNew();
	int len = 0;
	const unsigned char *der = wolfSSL_X509_get_der(root, &len);

	if (cm && (!der || wolfSSL_CertManagerLoadCABuffer(cm, der, len, WOLFSSL_FILETYPE_ASN1) != WOLFSSL_SUCCESS)) {
		wolfSSL_CertManagerFree(cm);
		cm = NULL;
	}
	return cm;
}

static int read_roots(struct hf_trust *t, struct hf_span pem)
{
	WOLFSSL_BIO *bio = wolfSSL_BIO_new_mem_buf(pem.ptr, (int)pem.len);
	WOLFSSL_X509 *x;
	int r = bio ? 0 : -ENOMEM;

	while (r == 0 && (x = wolfSSL_PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
		WOLFSSL_X509 **more = realloc(t->roots, (t->n_roots + 1) * sizeof(WOLFSSL_X509 *));

		if (!more) {
			wolfSSL_X509_free(x);
			r = -ENOMEM;
			break;
		}
		t->roots = more;
		t->roots[t->n_roots++] = x;
	}
	wolfSSL_BIO_free(bio);
	return r;
}

/* All of them must be able to vouch for others: a bundle that names a child's own certificate is a mistake by which that child
 * could vouch for anybody. */
static bool roots_may_sign(const struct hf_trust *t, const char *file)
{
	for (unsigned i = 0; i < t->n_roots; i++) {
		WOLFSSL_X509 *x = t->roots[i];
		const char *why = issuer_refused(x, 0) ? "it is no CA certificate, or may not sign certificates"
				: !has_strong_key(x) ? "its key is too weak" : NULL;
		char *name = why ? wolfSSL_X509_NAME_oneline(wolfSSL_X509_get_subject_name(x), NULL, 0) : NULL;

		if (why)
			hf_log(HF_LOG_ERR, "tls.file", "%s: certificate %u (%.200s) cannot vouch for clients: %s; remove it", file, i + 1,
			       name ? name : "unnamed", why);
		if (name)
			XFREE(name, NULL, DYNAMIC_TYPE_OPENSSL);
		if (why)
			return false;
	}
	return true;
}

int hf_trust_create(const char *ca_pem_file, struct hf_trust **ret_trust)
{
	hf_autobuf struct hf_buf pem = HF_BUF_INIT(CA_FILE_MAX);
	struct hf_trust *t = calloc(1, sizeof *t);
	int r;

	if (!t)
		return -ENOMEM;
	r = hf_read_file(ca_pem_file, CA_FILE_MAX, &pem);
	if (r < 0) {
		hf_log(HF_LOG_ERR, "tls.file", "%s: CA certificates of clients: %s", ca_pem_file, hf_strerror(r));
	} else {
		r = read_roots(t, hf_buf_span(&pem));
		if (r == 0 && t->n_roots == 0)
			r = HF_ETLS;
		if (r < 0)
			hf_log(HF_LOG_ERR, "tls.file", "%s: holds no usable CA certificate in PEM form", ca_pem_file);
		else if (!roots_may_sign(t, ca_pem_file))
			r = HF_ETLS;
		wolfSSL_ERR_clear_error();
	}
	if (r < 0)
		hf_trust_destroy(&t);
	else
		*ret_trust = t;
	return r;
}

void hf_trust_destroy(struct hf_trust **pt)
{
	struct hf_trust *t = hf_take(*pt);

	if (!t)
		return;
	for (unsigned i = 0; i < t->n_roots; i++)
		wolfSSL_X509_free(t->roots[i]);
	free(t->roots);
	free(t);
}

/* --- the path --------------------------------------------------------------------------------------------- */

static bool verifies(WOLFSSL_CERT_MANAGER *cm, const struct cert *c)
{
	bool good = wolfSSL_CertManagerVerifyBuffer(cm, c->der, c->len, WOLFSSL_FILETYPE_ASN1) == WOLFSSL_SUCCESS;

	wolfSSL_ERR_clear_error();
	return good;
}

/* Of the presented certificates, the indices of a path from the leaf upward, until one that a root may have issued: its
 * issuer was not presented. The order in which the peer sent them does not matter. */
static unsigned find_path(const struct cert *certs, unsigned n, unsigned path[PATH_MAX_CERTS])
{
	bool used[PRESENTED_MAX] = { true };
	unsigned len = 1;

	path[0] = 0;
	for (bool found = true; found && len < PATH_MAX_CERTS;) {
		WOLFSSL_X509_NAME *issuer = wolfSSL_X509_get_issuer_name(certs[path[len - 1]].x);

		found = false;
		for (unsigned i = 1; i < n && !found; i++) {
			if (used[i] || wolfSSL_X509_NAME_cmp(wolfSSL_X509_get_subject_name(certs[i].x), issuer) != 0)
				continue;
			used[i] = found = true;
			path[len++] = i;
		}
	}
	return len;
}

static bool is_root(const struct hf_trust *t, const struct cert *c)
{
	for (unsigned i = 0; i < t->n_roots; i++) {
		int len = 0;
		const unsigned char *der = wolfSSL_X509_get_der(t->roots[i], &len);

		if (der && len == c->len && memcmp(der, c->der, (size_t)len) == 0)
			return true;
	}
	return false;
}

static bool is_issuer(WOLFSSL_X509 *root, const struct cert *c)
{
	return wolfSSL_X509_NAME_cmp(wolfSSL_X509_get_subject_name(root), wolfSSL_X509_get_issuer_name(c->x)) == 0;
}

static const char *judge_path(const struct hf_trust *t, WOLFSSL_X509 *root, WOLFSSL_CERT_MANAGER *cm, const struct cert *certs,
			      const unsigned *path, unsigned len, int64_t now_s, int64_t *until_s)
{
	unsigned top = len;

	/* The root may have been presented with the rest, and what is above it in another hierarchy: the path begins with
	 * what the root verifies. */
	while (top > 1 && (is_root(t, &certs[path[top - 1]]) || !verifies(cm, &certs[path[top - 1]])))
		top--;
	if (!is_issuer(root, &certs[path[top - 1]]))
		return no_root;
	if (path_length(root) < (int)top - 1)
		return "the chain is longer than its root allows";
	for (unsigned i = top; i-- > 0;) {
		const struct cert *c = &certs[path[i]];
		const char *why = weak_or_stale(c->x, now_s, until_s);

		if (!why && !verifies(cm, c))
			why = no_root;
		if (!why)
			why = i ? issuer_refused(c->x, (int)i - 1) : leaf_refused(c->x);
		if (why)
			return why;
		if (i && wolfSSL_CertManagerLoadCABuffer(cm, c->der, c->len, WOLFSSL_FILETYPE_ASN1) != WOLFSSL_SUCCESS)
			return "an issuer in the chain cannot be used";
	}
	return NULL;
}

/* Each root on its own: of two with one name, the limits of the one that signed count. */
static const char *judge(const struct hf_trust *t, const struct cert *certs, unsigned n, int64_t now_s, int64_t *until_s)
{
	unsigned path[PATH_MAX_CERTS], len = find_path(certs, n, path);
	const char *why = no_root;

	for (unsigned i = 0; i < t->n_roots; i++) {
		WOLFSSL_CERT_MANAGER *cm;
		const char *here;
		bool related = false;

		for (unsigned k = 0; k < len && !related; k++)
			related = is_issuer(t->roots[i], &certs[path[k]]);
		if (!related)
			continue;
		*until_s = INT64_MAX;
		cm = manager_of(t->roots[i]);
		here = cm ? judge_path(t, t->roots[i], cm, certs, path, len, now_s, until_s) : "no memory for the chain";
		wolfSSL_CertManagerFree(cm);
		if (!here)
			return NULL;
		why = here == no_root ? why : here;
	}
	return why;
}

const char *hf_tls_peer_refused(const struct hf_tls *tls, int64_t now_s, int64_t *ret_until_s)
{
	WOLFSSL_X509_CHAIN *chain = wolfSSL_get_peer_chain(tls->ssl);
	int count = chain ? wolfSSL_get_chain_count(chain) : 0;
	struct cert certs[PRESENTED_MAX];
	const char *why = NULL;
	int64_t until_s = INT64_MAX;
	unsigned n = 0;

	if (!tls->ctx->trust)
		return "no CA certificates are configured for clients";
	if (count <= 0 || count > PRESENTED_MAX)
		return count ? "the chain is too long" : "no certificate";
	for (; n < (unsigned)count && !why; n++) {
		certs[n].der = wolfSSL_get_chain_cert(chain, (int)n);
		certs[n].len = wolfSSL_get_chain_length(chain, (int)n);
		certs[n].x = wolfSSL_X509_load_certificate_buffer(certs[n].der, certs[n].len, WOLFSSL_FILETYPE_ASN1);
		if (!certs[n].x)
			why = "a certificate in the chain cannot be read";
	}
	judging_at_s = now_s;
	if (!why)
		why = judge(tls->ctx->trust, certs, n, now_s, &until_s);
	judging_at_s = 0;
	for (unsigned i = 0; i < n; i++)
		wolfSSL_X509_free(certs[i].x);
	wolfSSL_ERR_clear_error();
	if (!why)
		*ret_until_s = until_s;
	return why;
}
