/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tls/tls_conn.c - one TLS session over a non-blocking socket. */
#include "tls/tls_int.h"

#include "core/log.h"
#include "core/util.h"

#include <holdfast/err.h>
#include <wolfssl/error-ssl.h>
#include <wolfssl/wolfcrypt/error-crypt.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

enum { AHEAD_CAP = 32 * 1024, RECORD_MAX = 16 * 1024 };

int hf_tls_io_recv(WOLFSSL *ssl, char *p, int n, void *arg)
{
	struct hf_tls *tls = arg;
	size_t take;
	ssize_t got;

	(void)ssl;
	if (tls->ahead_pos == tls->ahead_end) {
		if (tls->dry) {
			tls->dry = false;
			return WOLFSSL_CBIO_ERR_WANT_READ;
		}
		if (!tls->ahead)
			tls->ahead = malloc(AHEAD_CAP);
		if (!tls->ahead) {
			tls->sock_err = ENOMEM;
			return WOLFSSL_CBIO_ERR_GENERAL;
		}
		do
			got = recv(tls->fd, tls->ahead, AHEAD_CAP, MSG_DONTWAIT);
		while (got < 0 && errno == EINTR);
		if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return WOLFSSL_CBIO_ERR_WANT_READ;
		if (got < 0) {
			tls->sock_err = errno;
			return errno == ECONNRESET ? WOLFSSL_CBIO_ERR_CONN_RST : WOLFSSL_CBIO_ERR_GENERAL;
		}
		if (got == 0) {
			tls->eof = true;
			return WOLFSSL_CBIO_ERR_CONN_CLOSE;
		}
		tls->ahead_pos = 0;
		tls->ahead_end = (uint32_t)got;
		tls->dry = got < AHEAD_CAP;
	}
	take = hf_min((size_t)n, (size_t)(tls->ahead_end - tls->ahead_pos));
	memcpy(p, tls->ahead + tls->ahead_pos, take);
	tls->ahead_pos += (uint32_t)take;
	return (int)take;
}

int hf_tls_io_send(WOLFSSL *ssl, char *p, int n, void *arg)
{
	struct hf_tls *tls = arg;
	ssize_t put;

	(void)ssl;
	do
		put = send(tls->fd, p, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (put < 0 && errno == EINTR);
	if (put >= 0)
		return (int)put;
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		return WOLFSSL_CBIO_ERR_WANT_WRITE;
	tls->sock_err = errno;
	if (errno == ECONNRESET)
		return WOLFSSL_CBIO_ERR_CONN_RST;
	return errno == EPIPE ? WOLFSSL_CBIO_ERR_CONN_CLOSE : WOLFSSL_CBIO_ERR_GENERAL;
}

static int set_server_name(struct hf_tls *tls, const char *name)
{
	unsigned char addr[sizeof(struct in6_addr)];

	if (inet_pton(AF_INET, name, addr) == 1 || inet_pton(AF_INET6, name, addr) == 1) {
		WOLFSSL_X509_VERIFY_PARAM *param = wolfSSL_get0_param(tls->ssl);

		return param && wolfSSL_X509_VERIFY_PARAM_set1_ip_asc(param, name) == WOLFSSL_SUCCESS
			       ? 0 : HF_ETLS;
	}
	if (wolfSSL_UseSNI(tls->ssl, WOLFSSL_SNI_HOST_NAME, name, (unsigned short)strlen(name)) !=
		    WOLFSSL_SUCCESS ||
	    wolfSSL_check_domain_name(tls->ssl, name) != WOLFSSL_SUCCESS)
		return HF_ETLS;
	return 0;
}

int hf_tls_create(struct hf_tls_ctx *ctx, int fd, const char *server_name, struct hf_tls **ret_tls)
{
	struct hf_tls *tls;

	/* A client that checks no name would accept any host of the CA. */
	if (!ctx->is_server && (!server_name || !*server_name || strlen(server_name) > 253))
		return HF_EINVALID;
	tls = calloc(1, sizeof *tls);
	if (!tls)
		return -ENOMEM;
	tls->fd = fd;
	tls->ctx = hf_tls_ctx_ref(ctx);
	tls->ssl = wolfSSL_new(ctx->wolf);
	if (!tls->ssl) {
		hf_tls_destroy(&tls);
		return -ENOMEM;
	}
	wolfSSL_SetIOReadCtx(tls->ssl, tls);
	wolfSSL_SetIOWriteCtx(tls->ssl, tls);
	if (!ctx->is_server && set_server_name(tls, server_name) < 0) {
		hf_tls_destroy(&tls);
		return HF_ETLS;
	}
	*ret_tls = tls;
	return 0;
}

void hf_tls_destroy(struct hf_tls **ptls)
{
	struct hf_tls *tls = *ptls;

	*ptls = NULL;
	if (!tls)
		return;
	if (tls->ssl)
		wolfSSL_free(tls->ssl);
	hf_tls_ctx_unref(&tls->ctx);
	if (tls->ahead)
		explicit_bzero(tls->ahead, tls->ahead_end);
	free(tls->ahead);
	free(tls->reason);
	free(tls->peer_der);
	free(tls);
}

const char *hf_tls_code_text(int code, char *buf, size_t cap)
{
	switch (code) {
	case MATCH_SUITE_ERROR:
	case UNSUPPORTED_SUITE:
		return "no common cipher";
	case VERSION_ERROR:
		return "no common TLS version";
	case DOMAIN_NAME_MISMATCH:
	case IPADDR_MISMATCH:
		return "certificate is for another host";
	case ASN_NO_SIGNER_E:
	case ASN_SELF_SIGNED_E:
		return "certificate of an unknown issuer";
	case ASN_AFTER_DATE_E:
		return "certificate expired";
	case ASN_BEFORE_DATE_E:
		return "certificate not yet valid";
	case ASN_SIG_CONFIRM_E:
		return "certificate signature is wrong";
	case UNKNOWN_HANDSHAKE_TYPE:
	case UNKNOWN_RECORD_TYPE:
		return "not TLS";
	default:
		break;
	}
	if (cap < WOLFSSL_MAX_ERROR_SZ)
		return "TLS failure";
	wolfSSL_ERR_error_string_n((unsigned long)(code < 0 ? -code : code), buf, cap);
	return buf;
}

static void set_reason(struct hf_tls *tls, int code)
{
	char buf[WOLFSSL_MAX_ERROR_SZ], line[WOLFSSL_MAX_ERROR_SZ + 64];
	WOLFSSL_ALERT_HISTORY alerts;

	free(tls->reason);
	tls->reason = NULL;
	if (tls->sock_err) {
		snprintf(line, sizeof line, "socket: %s", hf_strerror(-tls->sock_err));
	} else if (code == FATAL_ERROR && wolfSSL_get_alert_history(tls->ssl, &alerts) == WOLFSSL_SUCCESS &&
		   alerts.last_rx.code >= 0) {
		snprintf(line, sizeof line, "peer sent alert %d (%s)", alerts.last_rx.code,
			 wolfSSL_alert_desc_string_long(alerts.last_rx.code));
	} else {
		snprintf(line, sizeof line, "%s (%d)", hf_tls_code_text(code, buf, sizeof buf), code);
	}
	tls->reason = strdup(line);
}

static void drop_ahead(struct hf_tls *tls)
{
	free(tls->ahead);
	tls->ahead = NULL;
	tls->ahead_pos = tls->ahead_end = 0;
	tls->dry = false;
}

static enum hf_tls_step step_of(struct hf_tls *tls, int ret)
{
	int code = wolfSSL_get_error(tls->ssl, ret);

	switch (code) {
	case WOLFSSL_ERROR_WANT_READ:
		/* The record layer took all there was. */
		drop_ahead(tls);
		return HF_TLS_WANT_READ;
	case WOLFSSL_ERROR_WANT_WRITE:
		return HF_TLS_WANT_WRITE;
	case WOLFSSL_ERROR_ZERO_RETURN:
	case SOCKET_PEER_CLOSED_E:
		wolfSSL_ERR_clear_error();
		return HF_TLS_EOF;
	default:
		if (tls->eof && code != FATAL_ERROR) {
			wolfSSL_ERR_clear_error();
			return HF_TLS_EOF;
		}
		set_reason(tls, code);
		/* The library queues every failure per thread until it is cleared. */
		wolfSSL_ERR_clear_error();
		return HF_TLS_FAIL;
	}
}

static void keep_peer_cert(struct hf_tls *tls)
{
	WOLFSSL_X509 *x = wolfSSL_get_peer_certificate(tls->ssl);
	const unsigned char *der;
	int n = 0;

	if (!x)
		return;
	der = wolfSSL_X509_get_der(x, &n);
	if (der && n > 0 && (tls->peer_der = malloc((size_t)n)) != NULL) {
		memcpy(tls->peer_der, der, (size_t)n);
		tls->peer_der_len = (size_t)n;
	}
	wolfSSL_X509_free(x);
}

enum hf_tls_step hf_tls_handshake(struct hf_tls *tls)
{
	int ret = tls->ctx->is_server ? wolfSSL_accept(tls->ssl) : wolfSSL_connect(tls->ssl);

	if (ret != WOLFSSL_SUCCESS)
		return step_of(tls, ret);
	if (tls->ctx->want_peer_cert && !tls->peer_der)
		keep_peer_cert(tls);
	if (!hf_tls_pending(tls))
		drop_ahead(tls);
	return HF_TLS_OK;
}

enum hf_tls_step hf_tls_read(struct hf_tls *tls, void *p, size_t cap, size_t *ret_n)
{
	int ret;

	if (tls->dry && !hf_tls_pending(tls)) {
		drop_ahead(tls);
		return HF_TLS_WANT_READ;
	}
	ret = wolfSSL_read(tls->ssl, p, (int)hf_min(cap, (size_t)INT32_MAX));
	if (ret <= 0)
		return step_of(tls, ret);
	*ret_n = (size_t)ret;
	return HF_TLS_OK;
}

enum hf_tls_step hf_tls_write(struct hf_tls *tls, const void *p, size_t n, size_t *ret_n)
{
	int ret = wolfSSL_write(tls->ssl, p, (int)hf_min(n, (size_t)RECORD_MAX));

	if (ret <= 0)
		return step_of(tls, ret);
	*ret_n = (size_t)ret;
	return HF_TLS_OK;
}

bool hf_tls_pending(const struct hf_tls *tls)
{
	return tls->ahead_pos < tls->ahead_end || wolfSSL_pending(tls->ssl) > 0;
}

void hf_tls_shutdown(struct hf_tls *tls)
{
	wolfSSL_shutdown(tls->ssl);
	wolfSSL_ERR_clear_error();
}

const char *hf_tls_error(const struct hf_tls *tls)
{
	return tls->reason ? tls->reason : "TLS failure";
}

int hf_tls_sock_err(const struct hf_tls *tls)
{
	return tls->sock_err;
}

const char *hf_tls_version(const struct hf_tls *tls)
{
	return wolfSSL_get_version(tls->ssl);
}

const char *hf_tls_cipher(const struct hf_tls *tls)
{
	const char *name = wolfSSL_get_cipher_name(tls->ssl);

	return name ? name : "none";
}

struct hf_span hf_tls_peer_cert(const struct hf_tls *tls)
{
	return hf_span(tls->peer_der, tls->peer_der_len);
}
