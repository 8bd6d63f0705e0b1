"""Certificates of loopback servers, vouched for by an authority that nobody else knows."""

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files.

    Attributes:
        ca_file: What vouches for the server.
        certificate_file: The server's certificate, for these names alone.
        key_file: Its private key.
    """

    ca_file: Path
    certificate_file: Path
    key_file: Path


def certificates(folder: Path, *names: str) -> Certificates:
    """Write the certificates of a server that is reached by these host names or addresses."""
    authority = trustme.CA(organization_name="ol-devkit")
    issued = authority.issue_cert(*names)
    made = Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    authority.cert_pem.write_to_path(made.ca_file)
    issued.cert_chain_pems[0].write_to_path(made.certificate_file)
    made.key_file.touch(mode=0o600)
    issued.private_key_pem.write_to_path(made.key_file)
    return made
