"""An embedded broker that asks who is there: TLS with certificates made for it, SCRAM-SHA-512, and Kafka's own authorizer."""

# confluent_kafka.admin documents these names, but its stubs do not list them as exported.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import datetime
import ipaddress
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from services.runtime.kafka.client import base
from services.runtime.kafka.local import EmbeddedKafka, Security
from services.runtime.settings import Settings

MECHANISM: Final = "SCRAM-SHA-512"
ITERATIONS: Final = 4096
"""The least that Kafka takes."""
ROOT: Final = "root"
"""Name of the first user, who may do everything, and by whom the broker speaks with itself."""

PROPERTIES: Final = """\
listener.security.protocol.map=CLIENT:SASL_SSL,CONTROLLER:SSL
sasl.enabled.mechanisms={mechanism}
sasl.mechanism.inter.broker.protocol={mechanism}
listener.name.client.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \
username="{root}" password="{password}";
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
# The broker and the controller know each other by the certificate.
listener.name.controller.ssl.client.auth=required
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:{root};User:CN={name}
allow.everyone.if.no.acl.found=false
"""


class Authority:
    """A certificate authority of its own, in a folder."""

    def __init__(self, folder: Path, name: str = "Reelworks tests") -> None:
        self.path = folder / "ca.pem"
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = self._draft(self._name, self._key.public_key()).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        usage = x509.KeyUsage(
            False, False, False, False, False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False
        )
        signed = made.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        folder.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(signed.public_bytes(Encoding.PEM))

    def issue(self, name: str) -> Path:
        """Key and certificate of a server on loopback, one after the other, in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        draft = self._draft(subject, key.public_key()).add_extension(x509.SubjectAlternativeName(names), critical=False)
        signed = draft.sign(self._key, hashes.SHA256())
        path = self._folder / f"{name}.pem"
        path.touch(mode=0o600)
        path.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + signed.public_bytes(Encoding.PEM)
        )  # fmt: skip
        return path

    def _draft(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )


class SecuredKafka:
    """A running one. Its users have passwords made by chance, and rights that a test gives them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.authority = Authority(folder)
        self.authority.issue("broker")
        self.passwords: dict[str, str] = {ROOT: secrets.token_urlsafe(18)}
        properties = PROPERTIES.format(mechanism=MECHANISM, root=ROOT, password=self.passwords[ROOT], folder=folder, name="broker")
        first = f"{MECHANISM}=[name={ROOT},iterations={ITERATIONS},password={self.passwords[ROOT]}]"
        security = Security(properties=properties, format_options=("--add-scram", first), client=self.access(ROOT))
        self.broker = EmbeddedKafka(folder / "kafka", cache=Settings().cache_path(), security=security)

    @property
    def bootstrap_servers(self) -> str:
        return self.broker.bootstrap_servers

    def access(self, user: str, changes: Mapping[str, str] = {}) -> dict[str, str]:
        """librdkafka's settings of a user, with other values in their place."""
        return {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(self.authority.path),
            "sasl.mechanism": MECHANISM,
            "sasl.username": user,
            "sasl.password": self.passwords[user],
            **changes,
        }

    def settings(self, user: str, changes: Mapping[str, str] = {}) -> Settings:
        """Those of a process that signs in as this user."""
        return Settings(bootstrap_servers=self.bootstrap_servers, kafka_config=str(self.file(user, changes)))

    def file(self, user: str, changes: Mapping[str, str] = {}) -> Path:
        """The user's file for REELWORKS_KAFKA_CONFIG."""
        return write(self._folder / f"{'-'.join((user, *changes))}.properties", self.access(user, changes))

    def add_users(self, names: Iterable[str]) -> None:
        """Users who may do nothing yet."""
        self.passwords |= {name: secrets.token_urlsafe(18) for name in names}
        told = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
        wanted: list[UserScramCredentialAlteration] = [
            UserScramCredentialUpsertion(name, told, self.passwords[name].encode()) for name in self.passwords if name != ROOT
        ]
        admin = AdminClient(base(self.settings(ROOT)))
        for changed in admin.alter_user_scram_credentials(wanted).values():
            changed.result()


def write(path: Path, properties: Mapping[str, str]) -> Path:
    """A file of properties that nobody else may read."""
    path.touch(mode=0o600)
    path.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    return path


@contextmanager
def secured_kafka(folder: Path) -> Iterator[SecuredKafka]:
    made = SecuredKafka(folder)
    with made.broker:
        yield made
