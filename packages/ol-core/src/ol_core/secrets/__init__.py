"""The `secrets` resource: values behind `SecretRef`s, read when first used and never while loading."""

from ol_core.secrets.resource import LocalSecrets, Secrets, Vault, secrets_resource
from ol_core.secrets.vault import AccessRefused, DatabaseCredentials, VaultClient

__all__ = [
    "AccessRefused",
    "DatabaseCredentials",
    "LocalSecrets",
    "Secrets",
    "Vault",
    "VaultClient",
    "secrets_resource",
]
