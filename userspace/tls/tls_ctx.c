/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tls/tls_ctx.c - contexts: certificates, roots, and the one list of suites. */
#include "tls/tls_int.h"

#include "core/log.h"
#include "core/util.h"

#include <holdfast/err.h>
#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/ecc.h>

#include <errno.h>

/* The packaged library also offers NULL, anonymous, RC4, CBC and static RSA: only what is named here is
 * negotiated. ChaCha20 leads because that build has no AES instructions enabled: about 3 times faster. */
static const char suites[] =
	"TLS13-CHACHA20-POLY1305-SHA256:TLS13-AES128-GCM-SHA256:TLS13-AES256-GCM-SHA384:"
	"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
	"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
	"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";

enum { CERT_FILE_MAX = 4 * 1024 * 1024 };

int hf_tls_global_init(void)
{
	if (wolfSSL_Init() != WOLFSSL_SUCCESS)
		return HF_ETLS;
	hf_trust_global_init();
	return 0;
}

void hf_tls_thread_fini(void)
{
	wc_ecc_fp_free();
}

static int log_file(int err, const char *file, const char *what, int code)
{
	char buf[WOLFSSL_MAX_ERROR_SZ];

	hf_log(HF_LOG_ERR, "tls.file", "%s: %s: %s", file, what,
	       code ? hf_tls_code_text(code, buf, sizeof buf) : hf_strerror(err));
	wolfSSL_ERR_clear_error();
	return err;
}

static int ctx_new(bool is_server, struct hf_tls_ctx **ret_ctx)
{
	struct hf_tls_ctx *ctx = calloc(1, sizeof *ctx);
	int groups[] = { WOLFSSL_ECC_X25519, WOLFSSL_ECC_SECP256R1, WOLFSSL_ECC_SECP384R1 };
	WOLFSSL_CTX *w;

	if (!ctx)
		return -ENOMEM;
	ctx->refs = 1;
	ctx->is_server = is_server;
	w = ctx->wolf = wolfSSL_CTX_new(is_server ? wolfSSLv23_server_method() : wolfSSLv23_client_method());
	if (!w) {
		free(ctx);
		return -ENOMEM;
	}
	if (wolfSSL_CTX_SetMinVersion(w, WOLFSSL_TLSV1_2) != WOLFSSL_SUCCESS ||
	    wolfSSL_CTX_set_cipher_list(w, suites) != WOLFSSL_SUCCESS ||
	    wolfSSL_CTX_set_groups(w, groups, HF_ARRAY_LEN(groups)) != WOLFSSL_SUCCESS) {
		hf_tls_ctx_unref(&ctx);
		return HF_ETLS;
	}
	/* No resumption: neither a cache nor tickets, so nothing of a session outlives its connection. */
	wolfSSL_CTX_set_session_cache_mode(w, WOLFSSL_SESS_CACHE_OFF);
	wolfSSL_CTX_no_ticket_TLSv13(w);
	wolfSSL_CTX_NoTicketTLSv12(w);
	wolfSSL_CTX_set_group_messages(w);	/* one send per flight */
	wolfSSL_CTX_SetIORecv(w, hf_tls_io_recv);
	wolfSSL_CTX_SetIOSend(w, hf_tls_io_send);
	*ret_ctx = ctx;
	return 0;
}

/* Presented certificates are kept, not judged, here. Possession of the key is proven by the handshake. */
static int accept_any_cert(int preverify, WOLFSSL_X509_STORE_CTX *store)
{
	(void)preverify;
	(void)store;
	return 1;
}

/* The library's own check compares RSA moduli but lets a foreign EC key pass. Keys of other kinds are left
 * to it. */
static bool ec_key_fits(WOLFSSL_X509 *x, struct hf_span key_pem)
{
	uint8_t pub[256], spki[512], *der = malloc(key_pem.len);
	word32 at = 0, pub_len = sizeof pub;
	int spki_len = sizeof spki, n;
	bool fits = true;
	ecc_key key;

	if (!der)
		return false;
	n = wc_KeyPemToDer(key_pem.ptr, (int)key_pem.len, der, (int)key_pem.len, NULL);
	if (n > 0 && wc_ecc_init(&key) == 0) {
		if (wc_EccPrivateKeyDecode(der, &at, &key, (word32)n) == 0)
			fits = wc_ecc_make_pub(&key, NULL) == 0 &&
			       wc_ecc_export_x963(&key, pub, &pub_len) == 0 &&
			       wolfSSL_X509_get_pubkey_buffer(x, spki, &spki_len) == WOLFSSL_SUCCESS &&
			       (word32)spki_len >= pub_len &&	/* the point ends the SPKI */
			       memcmp(spki + spki_len - pub_len, pub, pub_len) == 0;
		wc_ecc_free(&key);
	}
	explicit_bzero(der, key_pem.len);
	free(der);
	return fits;
}

static int check_leaf(struct hf_tls_ctx *ctx, const struct hf_tls_server_cfg *cfg, struct hf_span cert_pem,
		      struct hf_span key_pem)
{
	WOLFSSL_X509 *x = wolfSSL_X509_load_certificate_buffer(cert_pem.ptr, (int)cert_pem.len,
							       WOLFSSL_FILETYPE_PEM);
	struct hf_x509_info info;
	const unsigned char *der;
	int n = 0, r = HF_EINVALID;

	der = x ? wolfSSL_X509_get_der(x, &n) : NULL;
	if (der && n > 0)
		r = hf_x509_info(hf_span(der, (size_t)n), &info);
	if (r < 0) {
		log_file(r, cfg->cert_file, "certificate cannot be read", 0);
	} else if (wolfSSL_CTX_check_private_key(ctx->wolf) != WOLFSSL_SUCCESS || !ec_key_fits(x, key_pem)) {
		hf_log(HF_LOG_ERR, "tls.file", "%s: private key does not belong to the certificate of %s",
		       cfg->key_file, cfg->cert_file);
		r = HF_ETLS;
	} else {
		ctx->not_after = info.not_after;
	}
	wolfSSL_X509_free(x);
	wolfSSL_ERR_clear_error();
	return r < 0 ? HF_ETLS : 0;
}

static int load_server_files(struct hf_tls_ctx *ctx, const struct hf_tls_server_cfg *cfg)
{
	struct hf_buf cert = HF_BUF_INIT(CERT_FILE_MAX), key = HF_BUF_INIT(CERT_FILE_MAX);
	int r, code;

	r = hf_read_file(cfg->cert_file, CERT_FILE_MAX, &cert);
	if (r < 0) {
		log_file(r, cfg->cert_file, "certificate", 0);
		goto out;
	}
	r = hf_read_file(cfg->key_file, CERT_FILE_MAX, &key);
	if (r < 0) {
		log_file(r, cfg->key_file, "private key", 0);
		goto out;
	}
	code = wolfSSL_CTX_use_certificate_chain_buffer(ctx->wolf, hf_buf_span(&cert).ptr,
							(long)hf_buf_len(&cert));
	if (code != WOLFSSL_SUCCESS) {
		r = log_file(HF_ETLS, cfg->cert_file, "certificate", code);
		goto out;
	}
	code = wolfSSL_CTX_use_PrivateKey_buffer(ctx->wolf, hf_buf_span(&key).ptr, (long)hf_buf_len(&key),
						 WOLFSSL_FILETYPE_PEM);
	if (code != WOLFSSL_SUCCESS) {
		r = log_file(HF_ETLS, cfg->key_file, "private key", code);
		goto out;
	}
	r = check_leaf(ctx, cfg, hf_buf_span(&cert), hf_buf_span(&key));
out:
	hf_buf_fini(&cert);
	hf_buf_wipe(&key);
	return r;
}

int hf_tls_ctx_create_server(const struct hf_tls_server_cfg *cfg, struct hf_tls_ctx **ret_ctx)
{
	struct hf_tls_ctx *ctx;
	int r = ctx_new(true, &ctx);

	if (r < 0)
		return r;
	r = load_server_files(ctx, cfg);
	if (r < 0) {
		hf_tls_ctx_unref(&ctx);
		return r;
	}
	if (cfg->client_ca_file) {
		r = hf_trust_create(cfg->client_ca_file, &ctx->trust);
		if (r < 0) {
			hf_tls_ctx_unref(&ctx);
			return r;
		}
	}
	ctx->want_peer_cert = cfg->request_client_cert;
	if (cfg->request_client_cert)
		wolfSSL_CTX_set_verify(ctx->wolf, WOLFSSL_VERIFY_PEER, accept_any_cert);
	else
		wolfSSL_CTX_set_verify(ctx->wolf, WOLFSSL_VERIFY_NONE, NULL);
	*ret_ctx = ctx;
	return 0;
}

static int load_roots(struct hf_tls_ctx *ctx, const char *ca_file)
{
	hf_autobuf struct hf_buf pem = HF_BUF_INIT(CERT_FILE_MAX);
	int r, code;

	if (!ca_file) {
		code = wolfSSL_CTX_load_system_CA_certs(ctx->wolf);
		return code == WOLFSSL_SUCCESS ? 0 : log_file(HF_ETLS, "system roots", "cannot load", code);
	}
	r = hf_read_file(ca_file, CERT_FILE_MAX, &pem);
	if (r < 0)
		return log_file(r, ca_file, "CA certificates", 0);
	code = wolfSSL_CTX_load_verify_buffer(ctx->wolf, hf_buf_span(&pem).ptr, (long)hf_buf_len(&pem),
					      WOLFSSL_FILETYPE_PEM);
	return code == WOLFSSL_SUCCESS ? 0 : log_file(HF_ETLS, ca_file, "CA certificates", code);
}

int hf_tls_ctx_create_client(const char *ca_file, struct hf_tls_ctx **ret_ctx)
{
	struct hf_tls_ctx *ctx;
	int r = ctx_new(false, &ctx);

	if (r < 0)
		return r;
	r = load_roots(ctx, ca_file);
	if (r < 0) {
		hf_tls_ctx_unref(&ctx);
		return r;
	}
	wolfSSL_CTX_set_verify(ctx->wolf, WOLFSSL_VERIFY_PEER, hf_trust_note_dates);
	*ret_ctx = ctx;
	return 0;
}

struct hf_tls_ctx *hf_tls_ctx_ref(struct hf_tls_ctx *ctx)
{
	if (ctx)
		__atomic_add_fetch(&ctx->refs, 1, __ATOMIC_RELAXED);
	return ctx;
}

void hf_tls_ctx_unref(struct hf_tls_ctx **pctx)
{
	struct hf_tls_ctx *ctx = *pctx;

	*pctx = NULL;
	if (!ctx || __atomic_sub_fetch(&ctx->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	wolfSSL_CTX_free(ctx->wolf);
	hf_trust_destroy(&ctx->trust);
	free(ctx);
}

int64_t hf_tls_ctx_expiry(const struct hf_tls_ctx *ctx)
{
	return ctx->not_after;
}
