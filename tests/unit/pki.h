/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/pki.h - throw-away certificates for tests, made by the openssl command. */
#pragma once
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct pki {
	char dir[64];
	char ca[96], cert[96], key[96];			/* server leaf: gw.test, 127.0.0.1 */
	char client_cert[96], client_key[96];		/* self-signed, CN dev0 */
	char signed_cert[96], signed_key[96];		/* CN dev1, issued by the CA */
	char other_ca[96];
};

static inline int pki_run(const char *const *argv)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, 0);
		dup2(null, 1);
		dup2(null, 2);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	return pid < 0 || waitpid(pid, &status, 0) < 0 || status ? -1 : 0;
}

static inline int pki_self(const char *cn, const char *key, const char *cert)
{
	char subj[64];

	snprintf(subj, sizeof subj, "/CN=%s", cn);
	return pki_run((const char *const[]){ "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
		"ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", subj, "-keyout", key, "-out", cert,
		NULL });
}

static inline int pki_issue(const struct pki *p, const char *cn, const char *san, const char *key, const char *cert)
{
	char subj[64], csr[128], ext[128], cakey[96];
	FILE *f;

	snprintf(subj, sizeof subj, "/CN=%s", cn);
	snprintf(csr, sizeof csr, "%s.csr", cert);
	snprintf(ext, sizeof ext, "%s.ext", cert);
	snprintf(cakey, sizeof cakey, "%s/ca.key", p->dir);
	f = fopen(ext, "w");
	if (!f)
		return -1;
	fprintf(f, "basicConstraints=CA:FALSE\n");
	if (san)
		fprintf(f, "subjectAltName=%s\n", san);
	fclose(f);
	if (pki_run((const char *const[]){ "openssl", "req", "-newkey", "ec", "-pkeyopt",
		"ec_paramgen_curve:P-256", "-nodes", "-subj", subj, "-keyout", key, "-out", csr, NULL }) < 0)
		return -1;
	return pki_run((const char *const[]){ "openssl", "x509", "-req", "-in", csr, "-CA", p->ca, "-CAkey",
		cakey, "-set_serial", "7", "-days", "2", "-extfile", ext, "-out", cert, NULL });
}

static inline int pki_make(struct pki *p)
{
	char key[96];

	snprintf(p->dir, sizeof p->dir, "/tmp/hf-pki-XXXXXX");
	if (!mkdtemp(p->dir))
		return -1;
	snprintf(p->ca, sizeof p->ca, "%s/ca.pem", p->dir);
	snprintf(p->other_ca, sizeof p->other_ca, "%s/other.pem", p->dir);
	snprintf(p->cert, sizeof p->cert, "%s/srv.pem", p->dir);
	snprintf(p->key, sizeof p->key, "%s/srv.key", p->dir);
	snprintf(p->client_cert, sizeof p->client_cert, "%s/cl.pem", p->dir);
	snprintf(p->client_key, sizeof p->client_key, "%s/cl.key", p->dir);
	snprintf(p->signed_cert, sizeof p->signed_cert, "%s/sg.pem", p->dir);
	snprintf(p->signed_key, sizeof p->signed_key, "%s/sg.key", p->dir);
	snprintf(key, sizeof key, "%s/ca.key", p->dir);
	if (pki_self("Test CA", key, p->ca) < 0)
		return -1;
	snprintf(key, sizeof key, "%s/other.key", p->dir);
	if (pki_self("Other CA", key, p->other_ca) < 0 ||
	    pki_self("dev0", p->client_key, p->client_cert) < 0 ||
	    pki_issue(p, "dev1", NULL, p->signed_key, p->signed_cert) < 0)
		return -1;
	return pki_issue(p, "gw.test", "DNS:gw.test,IP:127.0.0.1", p->key, p->cert);
}

static inline void pki_remove(const struct pki *p)
{
	pki_run((const char *const[]){ "rm", "-rf", p->dir, NULL });
}
