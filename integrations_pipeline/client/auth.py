"""How requests prove who sends them: which value goes to which place."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from integrations_pipeline.spec.auth import ApiKey, Auth, Basic, Bearer, NoAuth
from integrations_pipeline.spec.errors import ConfigError
from integrations_pipeline.spec.places import SendPlace
from integrations_pipeline.spec.secrets import Secret, reference_in

AUTHORIZATION = SendPlace("header", name="Authorization")
Credentials = tuple[tuple[SendPlace, Secret], ...]


def revealed(text: str, secrets: Mapping[str, Secret]) -> str:
    """The text, or the secret it names. Raises ConfigError for one that isn't declared."""
    name = reference_in(text)
    if name is None:
        return text
    if name not in secrets:
        raise ConfigError(f"${name} is used, but no secret of that name is declared", next="add it under `secrets`")
    return secrets[name].reveal()


def credentials(auth: Auth, secrets: Mapping[str, Secret]) -> Credentials:
    """What is added to each request. Raises ConfigError for a kind that isn't supported yet.

    The kinds that obtain tokens at run time (oauth2_*, session, jwt) belong here: they need the session to log in, the
    TokenStore, and to be asked again for each request and once after a 401.
    """
    match auth:
        case NoAuth():
            return ()
        case Bearer():
            return ((AUTHORIZATION, Secret(f"Bearer {revealed(auth.token, secrets)}")),)
        case Basic():
            pair = f"{revealed(auth.username, secrets)}:{revealed(auth.password, secrets)}"
            return ((AUTHORIZATION, Secret(f"Basic {base64.b64encode(pair.encode()).decode()}")),)
        case ApiKey():
            return ((auth.send, Secret(auth.prefix + revealed(auth.key, secrets))),)
    raise ConfigError(f"auth type {auth.type} is not supported yet", next="use none, api_key, bearer or basic")
