"""Keys for tests, in the form that openssl writes."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

PEM = Encoding.PEM


def write_keys(folder: Path, name: str, kind: str = "ed25519", password: str = "") -> None:
    """Write NAME.pem and NAME.pub.pem."""
    key = (
        ed25519.Ed25519PrivateKey.generate()
        if kind == "ed25519"
        else ec.generate_private_key(ec.SECP256R1())
    )
    lock: KeySerializationEncryption = (
        BestAvailableEncryption(password.encode()) if password else NoEncryption()
    )
    (folder / f"{name}.pem").write_bytes(key.private_bytes(PEM, PrivateFormat.PKCS8, lock))
    public = key.public_key().public_bytes(PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pub.pem").write_bytes(public)
