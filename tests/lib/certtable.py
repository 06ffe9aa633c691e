# SPDX-License-Identifier: GPL-3.0-or-later
"""Client certificates, good and bad: one table for whoever judges them, each row a chain as it is presented.

Table(folder, name) makes two roots (`roots_file`; the second one allows no CA below it) and yields rows:
(what it is, accepted?, file with the key and the chain, leaf first)."""
import datetime
import os
import subprocess

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.datetime.utcnow()
DAY = datetime.timedelta(days=1)
PEM = serialization.Encoding.PEM


def ec_key():
    return ec.generate_private_key(ec.SECP256R1())


def name_of(*common_names):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n) for n in common_names])


def usage(sign=False, digital=True, encipher=False):
    return x509.KeyUsage(digital, False, encipher, False, False, sign, sign, False, False)


class Cert:
    """A certificate and its key. ca: None leaves basicConstraints out, else (is_ca, path length)."""

    def __init__(self, subject, issuer=None, key=None, ca=(False, None), key_usage=None, ext_usage=None, begin=NOW - DAY,
                 end=NOW + 30 * DAY, digest=None):
        subject = (subject,) if isinstance(subject, str) else subject
        self.key, self.name = key or ec_key(), name_of(*subject)
        signer = issuer or self
        b = (x509.CertificateBuilder().subject_name(self.name).issuer_name(signer.name).public_key(self.key.public_key())
             .serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end))
        if ca is not None:
            b = b.add_extension(x509.BasicConstraints(*ca), critical=True)
        if key_usage:
            b = b.add_extension(key_usage, critical=True)
        if ext_usage:
            b = b.add_extension(x509.ExtendedKeyUsage(ext_usage), critical=False)
        if not subject:
            b = b.add_extension(x509.SubjectAlternativeName([x509.DNSName("cdev")]), critical=True)
        self.cert = b.sign(signer.key, digest or hashes.SHA256())

    def pem(self):
        return self.cert.public_bytes(PEM)


def authority(name, issuer=None, length=None, **kw):
    kw.setdefault("key_usage", usage(sign=True))
    return Cert(name, issuer, ca=(True, length), **kw)


def by_openssl(folder, name, issuer, *options):
    """Signed by the command; without options as old tools make them: version 1, no extensions."""
    path = lambda what: os.path.join(folder, f"by-openssl.{what}")
    c = Cert(name, issuer)
    for what, data in (("key", key_pem(c.key)), ("ca", issuer.pem()), ("cakey", key_pem(issuer.key))):
        with open(path(what), "wb") as f:
            f.write(data)
    subprocess.run(["openssl", "req", "-new", "-key", path("key"), "-subj", f"/CN={name}", "-out", path("csr")], check=True)
    subprocess.run(["openssl", "x509", "-req", "-in", path("csr"), "-CA", path("ca"), "-CAkey", path("cakey"), "-days", "30",
                    "-set_serial", "77", "-out", path("pem"), *options], check=True, capture_output=True)
    with open(path("pem"), "rb") as f:
        c.cert = x509.load_pem_x509_certificate(f.read())
    return c


def key_pem(key):
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def tampered(cert):
    """The same certificate with one bit of its signature turned."""
    der = bytearray(cert.cert.public_bytes(serialization.Encoding.DER))
    der[-4] ^= 1
    cert.cert = x509.load_der_x509_certificate(bytes(der))
    return cert


class Table:
    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        self.root = authority("table root")
        self.short_root = authority("table root without CAs below", length=0)
        self.roots_file = os.path.join(folder, "roots.pem")
        with open(self.roots_file, "wb") as f:
            f.write(self.root.pem() + self.short_root.pem())
            # Two of one name, as after a renewal: only the second one allows CAs below it.
            self.twins = authority("twin root", length=0), authority("twin root")
            self.rsa_root = authority("RSA root", key=rsa.generate_private_key(65537, 2048))
            f.write(b"".join(c.pem() for c in (*self.twins, self.rsa_root)))

    def leaf(self, issuer, subject=None, **kw):
        return Cert(self.name if subject is None else subject, issuer, **kw)

    def good(self):
        root, leaf = self.root, self.leaf
        one = authority("one", root, 0)
        upper = authority("upper", root, 1)
        lower = authority("lower", upper, 0)
        client, server = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
        yield "signed by the root", [leaf(root)]
        yield "one intermediate, path length 0", [leaf(one), one]
        yield "two intermediates, path lengths 1 and 0", [leaf(lower), lower, upper]
        yield "the same in another order", [leaf(lower), upper, lower]
        yield "the root sent along", [leaf(one), one, root]
        yield "an unrelated certificate sent along", [leaf(one), one, authority("unrelated")]
        yield "an intermediate without a path length", [leaf(i := authority("free", root)), i]
        yield "an intermediate without key usage", [leaf(i := authority("plain", root, key_usage=None)), i]
        yield "for clients", [leaf(root, ext_usage=[client])]
        yield "for servers and clients", [leaf(root, ext_usage=[server, client])]
        yield "a leaf with key usage", [leaf(root, key_usage=usage())]
        yield "RSA 2048", [leaf(root, key=rsa.generate_private_key(65537, 2048))]
        yield "SHA-384", [leaf(root, digest=hashes.SHA384())]
        yield "a root that allows no CA below it, none there", [leaf(self.short_root)]
        yield "the first of two roots of one name", [leaf(self.twins[0])]
        yield "the second of two roots of one name", [leaf(self.twins[1])]
        yield "an intermediate below the one of two roots that allows it", [leaf(i := authority("below", self.twins[1])), i]

    def bad(self):
        root, leaf = self.root, self.leaf
        one = authority("one", root, 0)
        other = Cert("other-child", root)
        yield "issued by another child's leaf", [leaf(other), other]
        no_extension = Cert("other-child", root, ca=None)
        yield "issued by a leaf without basicConstraints", [leaf(no_extension), no_extension]
        v1 = by_openssl(self.folder, "version 1", root)
        assert v1.cert.version == x509.Version.v1
        yield "issued by a version 1 certificate", [leaf(v1), v1]
        no_sign = authority("no keyCertSign", root, key_usage=usage(sign=False))
        yield "an intermediate without keyCertSign", [leaf(no_sign), no_sign]
        deeper = authority("deeper", one)
        yield "a chain longer than the path length", [leaf(deeper), deeper, one]
        below = authority("below the short root", self.short_root)
        yield "a chain longer than the root allows", [leaf(below), below]
        below_twin = authority("below", self.twins[0])
        yield "an intermediate below the one of two roots that allows none", [leaf(below_twin), below_twin]
        yield "signed with RSA-PSS and SHA-1", [by_openssl(self.folder, self.name, self.rsa_root, "-sha1", "-sigopt", "rsa_padding_mode:pss")]
        yield "an unknown root", [leaf(authority("stranger"))]
        stranger = authority("stranger")
        strange = authority("strange intermediate", stranger)
        yield "an unknown root, sent along", [leaf(strange), strange, stranger]
        yield "the intermediate missing", [leaf(one)]
        impostor = authority("table root")
        yield "an impostor with the root's name", [leaf(impostor), impostor]
        false_one = authority("one", stranger, 0)
        yield "an impostor with an intermediate's name", [leaf(false_one), one]
        old = authority("old", root, begin=NOW - 9 * DAY, end=NOW - DAY)
        yield "an expired intermediate", [leaf(old), old]
        young = authority("young", root, begin=NOW + DAY)
        yield "an intermediate of tomorrow", [leaf(young), young]
        yield "an expired leaf", [leaf(root, begin=NOW - 9 * DAY, end=NOW - DAY)]
        yield "a leaf of tomorrow", [leaf(root, begin=NOW + DAY)]
        yield "for servers only", [leaf(root, ext_usage=[ExtendedKeyUsageOID.SERVER_AUTH])]
        yield "for code signing only", [leaf(root, ext_usage=[ExtendedKeyUsageOID.CODE_SIGNING])]
        yield "a leaf for key encipherment only", [leaf(root, key_usage=usage(digital=False, encipher=True))]
        yield "a CA certificate as leaf", [authority(self.name, root)]
        yield "two common names, ours first", [leaf(root, (self.name, "other-child"))]
        yield "two common names, ours last", [leaf(root, ("other-child", self.name))]
        yield "another child's name", [leaf(root, "other-child")]
        yield "the name in another case", [leaf(root, self.name.upper())]
        yield "no common name", [leaf(root, ())]
        yield "signed by itself", [Cert(self.name)]
        yield "a leaf signed with SHA-1", [leaf(root, digest=hashes.SHA1())]
        weak = authority("SHA-1", root, digest=hashes.SHA1())
        yield "an intermediate signed with SHA-1", [leaf(weak), weak]
        yield "RSA 1024", [leaf(root, key=rsa.generate_private_key(65537, 1024))]
        short = authority("RSA 1024", root, key=rsa.generate_private_key(65537, 1024))
        yield "an intermediate with RSA 1024", [leaf(short), short]
        yield "a bit of the signature turned", [tampered(leaf(root))]
        yield "a bit of the intermediate's signature turned", [leaf(i := tampered(authority("bent", root))), i]

    def rows(self):
        n = 0
        for accepted, rows in ((True, self.good()), (False, self.bad())):
            for what, chain in rows:
                path = os.path.join(self.folder, f"{n}.pem")
                n += 1
                with open(path, "wb") as f:
                    f.write(key_pem(chain[0].key) + b"".join(c.pem() for c in chain))
                yield what, accepted, path
