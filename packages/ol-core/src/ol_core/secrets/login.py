"""How a process, or a person, logs in to Vault.

Sources: https://developer.hashicorp.com/vault/api-docs/auth (OpenBao's is the same, without AWS).
"""

import hashlib
import json
import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ol_core.environment import JwtAuth, OidcAuth, VaultAuth, VaultBackend
from ol_core.failures import PermanentFailure, TransientFailure

if TYPE_CHECKING:
    import hvac

    from ol_core.secrets.callback import Browser

_BUILT_IN = "the token itself"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a login gave.

    Attributes:
        token: The token; never shown.
        lifetime_seconds: How long it is valid; 0 where it does not expire.
        renewable: Whether it may be renewed.
    """

    token: str = field(repr=False)
    lifetime_seconds: float
    renewable: bool


def log_in(client: "hvac.Client", backend: VaultBackend, variables: Mapping[str, str]) -> Grant:
    """Log in with the method that the environment states.

    Raises:
        PermanentFailure: what the method needs is not there (a file, a variable, a cached token).
        hvac.exceptions.VaultError: the server refuses, or fails.
    """
    auth = backend.auth
    match auth.method:
        case "token":
            return _looked_up(client, variables.get("VAULT_TOKEN", "").strip() or _token_file(variables))
        case "oidc":
            return _looked_up(client, cached_token(backend, variables))
        case "kubernetes":
            jwt = _read(Path(auth.token_file), "the pod's service account token")
            answer = client.auth.kubernetes.login(role=auth.role, jwt=jwt, mount_point=auth.mount)
        case "approle":
            secret_id = _read(Path(auth.secret_id_file), "the secret id of the AppRole login")
            answer = client.auth.approle.login(role_id=auth.role_id, secret_id=secret_id, mount_point=auth.mount)
        case "jwt":
            answer = client.auth.jwt.jwt_login(role=auth.role, jwt=_jwt(auth, variables), path=auth.mount)
        case _:  # aws
            answer = _aws_login(client, role=auth.role, mount=auth.mount, region=auth.region)
    return granted(answer)


def granted(answer: Mapping[str, Any]) -> Grant:
    """Return what the `auth` part of a login's or a renewal's answer grants."""
    auth = answer["auth"]
    return Grant(str(auth["client_token"]), float(auth["lease_duration"]), bool(auth["renewable"]))


def described(auth: VaultAuth) -> str:
    """Return method, mount and role of a login, for messages."""
    mount, role = getattr(auth, "mount", _BUILT_IN), getattr(auth, "role", getattr(auth, "role_id", ""))
    return f"login by {auth.method} (mount {mount}, role {role or '-'})"


def log_in_person(
    client: "hvac.Client", backend: VaultBackend, browser: "Browser", variables: Mapping[str, str]
) -> Path:
    """Log a person in through the browser, and keep the token for this user alone.

    Args:
        client: Client without a token.
        backend: The environment's; its method must be `oidc`.
        browser: The person's.
        variables: Where HOME and XDG_CACHE_HOME are looked up.

    Returns:
        The file that holds the token, readable by this user only.

    Raises:
        PermanentFailure: the environment logs in by another method, or the person did not come back.
        hvac.exceptions.VaultError: the server refuses.
    """
    from ol_core.secrets.callback import wait_for_code

    auth = backend.auth
    if not isinstance(auth, OidcAuth):
        raise PermanentFailure(f"this environment's {described(auth)} needs no person; nothing was done")
    asked = client.auth.jwt.oidc_authorization_url_request(
        role=auth.role, redirect_uri=browser.redirect_uri, path=auth.mount
    )
    address = asked["data"]["auth_url"]
    if not address:
        raise PermanentFailure(
            f"{described(auth)} at {backend.url} gives no address to open; check that the role exists and allows the "
            f"redirect URI {browser.redirect_uri}"
        )
    code, state, nonce = wait_for_code(address, browser)
    grant = granted(client.auth.jwt.oidc_callback(state=state, nonce=nonce, code=code, path=auth.mount))
    expires_at = time.time() + grant.lifetime_seconds if grant.lifetime_seconds else None
    content = json.dumps({"url": str(backend.url), "token": grant.token, "expires_at": expires_at})
    file = token_cache(backend, variables)
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            part = Path(folder) / file.name
            part.touch(mode=0o600)
            part.write_text(content, encoding="utf-8")
            part.replace(file)
    except OSError as error:
        raise PermanentFailure(f"the token cannot be kept in {file}: {error.strerror}; set XDG_CACHE_HOME") from error
    return file


def token_cache(backend: VaultBackend, variables: Mapping[str, str]) -> Path:
    """Return the file that keeps a person's token for a server and a namespace."""
    home = Path(variables.get("XDG_CACHE_HOME") or Path(variables.get("HOME", "~")).expanduser() / ".cache")
    return home / "ol" / f"vault-{hashlib.sha256(f'{backend.url} {backend.namespace}'.encode()).hexdigest()[:16]}.json"


def cached_token(backend: VaultBackend, variables: Mapping[str, str]) -> str:
    """Return the token that `ol secrets login` kept.

    Raises:
        PermanentFailure: there is none, or it has expired.
    """
    file = token_cache(backend, variables)
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        token, expires_at = str(kept["token"]), float(kept["expires_at"] or "inf")
    except (OSError, ValueError, TypeError, KeyError):  # none, or not what the login wrote
        raise PermanentFailure(f"nobody is logged in to {backend.url}; run `ol secrets login`") from None
    if expires_at <= time.time():
        raise PermanentFailure(f"the login to {backend.url} has expired; run `ol secrets login`")
    return token


def _looked_up(client: "hvac.Client", token: str) -> Grant:
    """Return what a token is good for; one that may not look itself up counts as one that does not expire."""
    import hvac.exceptions

    if not re.fullmatch("[!-~]+", token):
        raise PermanentFailure("the token holds a character that no header can carry; store the bare token")
    client.token = token
    try:
        data = client.auth.token.lookup_self()["data"]
    except hvac.exceptions.Forbidden:
        return Grant(token, 0.0, renewable=False)
    return Grant(token, float(data["ttl"]), bool(data.get("renewable")))


def _token_file(variables: Mapping[str, str]) -> str:
    file = Path(variables.get("HOME", "~")).expanduser() / ".vault-token"
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise PermanentFailure(f"there is no token: set VAULT_TOKEN, or log in so that {file} exists") from None


def _jwt(auth: JwtAuth, variables: Mapping[str, str]) -> str:
    if auth.token_file:
        return _read(Path(auth.token_file), "the token of the JWT login")
    token = variables.get(auth.token_variable, "").strip()
    if not token:
        raise PermanentFailure(f"{auth.token_variable}, which holds the token of the JWT login, is not set")
    return token


def _read(file: Path, what: str) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise PermanentFailure(f"cannot read {what}: {file}: {getattr(error, 'strerror', error)}") from None


def _aws_login(client: "hvac.Client", *, role: str, mount: str, region: str) -> Mapping[str, Any]:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

    try:
        credentials = boto3.Session().get_credentials()
        frozen = credentials.get_frozen_credentials() if credentials else None
    except (BotoCoreError, ClientError, OSError) as error:
        kind = TransientFailure if isinstance(error, HTTPClientError) else PermanentFailure
        raise kind(
            f"the AWS login gets no credentials: {error}; correct the AWS role, or the AWS_* variables"
        ) from error
    if frozen is None:
        raise PermanentFailure("the AWS login finds no credentials; give the process an AWS role, or AWS_* variables")
    answer: Mapping[str, Any] = client.auth.aws.iam_login(
        access_key=frozen.access_key,
        secret_key=frozen.secret_key,
        session_token=frozen.token,
        role=role,
        region=region,
        mount_point=mount,
    )
    return answer
