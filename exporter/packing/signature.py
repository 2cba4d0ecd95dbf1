"""Ed25519 signatures of a bundle's manifest, which lists the sha256 of every other file.

The signature is the 64 bytes that openssl makes and checks, too:

    openssl pkeyutl -verify -rawin -in manifest.json -sigfile manifest.sig -pubin -inkey PUBLIC.pem
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from exporter.errors import BundleError, ConfigError
from exporter.packing.contents import MANIFEST, SIGNATURE, Contents


def sign(contents: Contents, key_file: Path) -> bytes:
    """Return the signature of the manifest; raises ConfigError for a key that cannot sign."""
    pem = _read(key_file)
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise ConfigError(
            f"{key_file} is locked by a password; unlock it: openssl pkey -in {key_file} -out FILE"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"{key_file} is not a private key in PEM; "
            f"make one: openssl genpkey -algorithm ed25519 -out {key_file}"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(
            f"{key_file} is a key of another kind; "
            "make one: openssl genpkey -algorithm ed25519 -out FILE"
        )
    return key.sign(contents[MANIFEST])


def check_signature(source: Path, contents: Contents, key_file: Path) -> None:
    """Return if the manifest was signed by the owner of the public key in ``key_file``.

    Raises:
        BundleError: there is no signature, or another one.
        ConfigError: the key file is none.
    """
    key = _public_key(key_file)
    if SIGNATURE not in contents:
        raise BundleError(f"{source} is not signed: it has no {SIGNATURE}.")
    try:
        key.verify(contents[SIGNATURE], contents[MANIFEST])
    except InvalidSignature as error:
        raise BundleError(
            f"{source} is forged: {SIGNATURE} is not {key_file}'s signature of {MANIFEST}."
        ) from error


def _public_key(key_file: Path) -> Ed25519PublicKey:
    pem = _read(key_file)
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"{key_file} is not a public key in PEM; "
            f"get it: openssl pkey -in KEY.pem -pubout -out {key_file}"
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{key_file} is a key of another kind than ed25519.")
    return key


def _read(key_file: Path) -> bytes:
    try:
        return key_file.read_bytes()
    except OSError as error:
        raise ConfigError(f"Cannot read the key {key_file}: {error.strerror}.") from error
