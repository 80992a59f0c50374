"""Keys of a federation: a certificate authority, one certificate a server and client, one token and one SuperNode key
a client.

A token is an HMAC of the client's name and the run's under a secret that the server alone has; it travels inside
TLS. With its SuperNode key a client signs what it asks of Flower's SuperLink, which knows the public halves. What
lies in ``server/`` stays with the operator, each ``CLIENT/`` goes to that client.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import ipaddress
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saccade.optional import need

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SUPERNODE_KEY, PUBLIC_KEYS = (
    "supernode.key",
    "supernodes",
)  # a client's private half; the server's folder of public ones


@dataclass(frozen=True)
class Identity:
    """PEM bytes of one side, and what it proves itself with: the server's secret, or a client's token."""

    authority: bytes
    certificate: bytes
    key: bytes
    secret: bytes
    run: str = ""


def token_of(secret: bytes, run: str, client: str) -> str:
    return hmac.new(secret, f"{run}\n{client}".encode(), hashlib.sha256).hexdigest()


def token_fits(secret: bytes, run: str, client: str, token: object) -> bool:
    return isinstance(token, str) and hmac.compare_digest(token_of(secret, run, client).encode(), token.encode())


def check_name(name: str) -> str:
    """The name. Raises ValueError unless it can be a folder, a certificate's and a line of a log."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r}: a client's name has letters, digits, . _ - and at most 64 of them")
    return name


def make_keys(
    folder: Path, clients: Sequence[str], hosts: Sequence[str] = ("localhost", "127.0.0.1"), days: int = 365
) -> None:
    """Write ``folder/server`` and ``folder/CLIENT`` for every client. Raises ValueError if the folder holds keys
    already."""
    if (folder / "server").exists():
        raise ValueError(f"{folder}: holds keys already; choose another folder or take it away")
    served = tuple(dict.fromkeys((*hosts, "localhost", "127.0.0.1")))  # Flower's SuperLink listens on the loopback
    run = secrets.token_hex(8)
    secret = secrets.token_bytes(32)
    ca_key, ca = _authority(days)
    (folder / "server" / PUBLIC_KEYS).mkdir(parents=True)
    for name in ("server", *clients):
        own = folder / check_name(name)
        own.mkdir(parents=True, exist_ok=name == "server")
        key, certificate = _signed(name, ca_key, ca, served if name == "server" else (), days)
        files = {
            "ca.pem": _pem(ca),
            "certificate.pem": _pem(certificate),
            "key.pem": _private(key),
            "run": run.encode(),
        }
        files["secret" if name == "server" else "token"] = (
            secret.hex() if name == "server" else token_of(secret, run, name)
        ).encode()
        if name != "server":
            files[SUPERNODE_KEY], public = _supernode_pair()
            _write(_public_key(folder / "server", name), public)
        for file, content in files.items():
            _write(own / file, content)


def _write(file: Path, content: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(content)


def _public_key(server: Path, client: str) -> Path:
    return server / PUBLIC_KEYS / f"{client}.pub"


def supernode_key(folder: Path) -> Path:
    """The private key of a client's SuperNode. Raises ValueError where its folder has none."""
    return _there(folder / SUPERNODE_KEY)


def public_keys(folder: Path, clients: Sequence[str]) -> list[Path]:
    """The public keys of these clients' SuperNodes in the server's folder. Raises ValueError naming one that is
    missing."""
    return [_there(_public_key(folder, client)) for client in clients]


def _there(file: Path) -> Path:
    if not file.is_file():
        raise ValueError(
            f"{file}: no such SuperNode key; `saccade split keys` makes one for every client that it is told"
        )
    return file


def read_identity(folder: Path) -> Identity:
    """The keys of one side. Raises ValueError naming what is missing."""
    secret = "secret" if (folder / "secret").exists() else "token"
    try:
        parts = [(folder / name).read_bytes() for name in ("ca.pem", "certificate.pem", "key.pem", secret)]
        run = (folder / "run").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder}: not a folder of `saccade split keys` ({error})") from None
    if secret == "secret":
        try:
            parts[3] = bytes.fromhex(parts[3].decode())
        except ValueError:
            raise ValueError(f"{folder}: its secret is damaged") from None
    authority, certificate, key, proof = parts
    return Identity(authority, certificate, key, proof, run)


def _authority(days: int) -> tuple[Any, Any]:
    x509, key = need("cryptography.x509", "split"), _new_key()
    name = _name("saccade split authority")
    builder = _builder(name, name, key, days).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    return key, builder.sign(key, _hash())


def _signed(name: str, ca_key: Any, ca: Any, hosts: Sequence[str], days: int) -> tuple[Any, Any]:
    x509, key = need("cryptography.x509", "split"), _new_key()
    builder = _builder(_name(name), ca.subject, key, days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
    return key, builder.sign(ca_key, _hash())


def _builder(subject: Any, issuer: Any, key: Any, days: int) -> Any:
    x509 = need("cryptography.x509", "split")
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _host(host: str) -> Any:
    x509 = need("cryptography.x509", "split")
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(name: str) -> Any:
    x509 = need("cryptography.x509", "split")
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _new_key() -> Any:
    ec = need("cryptography.hazmat.primitives.asymmetric.ec", "split")
    return ec.generate_private_key(ec.SECP256R1())


def _supernode_pair() -> tuple[bytes, bytes]:
    """Private and public half as Flower reads them: OpenSSH's form, a NIST curve."""
    ec = need("cryptography.hazmat.primitives.asymmetric.ec", "split")
    s = need("cryptography.hazmat.primitives.serialization", "split")
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.OpenSSH, s.NoEncryption())
    return private, key.public_key().public_bytes(s.Encoding.OpenSSH, s.PublicFormat.OpenSSH)


def _hash() -> Any:
    return need("cryptography.hazmat.primitives.hashes", "split").SHA256()


def _pem(certificate: Any) -> bytes:
    return certificate.public_bytes(need("cryptography.hazmat.primitives.serialization", "split").Encoding.PEM)


def _private(key: Any) -> bytes:
    s = need("cryptography.hazmat.primitives.serialization", "split")
    return key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
