"""How a connection proves who it is. Values starting with ``$`` are secrets, resolved at use."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Discriminator

from integrations_pipeline.spec.forms import Call, Duration, Model, Origin, Unit
from integrations_pipeline.spec.paths import PathText
from integrations_pipeline.spec.places import ReadPlaceText, SendPlaceText


class NoAuth(Model):
    """The source is open to everybody."""

    type: Literal["none"] = "none"


class Bearer(Model):
    type: Literal["bearer"]
    token: str


class Basic(Model):
    type: Literal["basic"]
    username: str
    password: str = ""


class ApiKey(Model):
    type: Literal["api_key"]
    send: SendPlaceText
    key: str
    prefix: str = ""


class OAuth2ClientCredentials(Model):
    type: Literal["oauth2_client_credentials"]
    token_url: Origin
    client_id: str
    client_secret: str
    scope: str | None = None
    client_auth: Literal["body", "basic"] = "body"
    extra: dict[str, Any] = {}


class OAuth2Refresh(Model):
    type: Literal["oauth2_refresh"]
    token_url: Origin
    client_id: str
    client_secret: str = ""
    refresh_token: str
    scope: str | None = None
    client_auth: Literal["body", "basic"] = "body"
    extra: dict[str, Any] = {}


Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]


class Jwt(Model):
    type: Literal["jwt"]
    algorithm: Algorithm
    key: str
    key_encoding: Literal["utf8", "hex", "base64", "pem"] = "utf8"
    key_id: str | None = None
    claims: dict[str, Any] = {}
    lifetime: Duration = timedelta(minutes=5)
    prefix: str = "Bearer "
    token_url: Origin | None = None


class Expires(Model):
    read: ReadPlaceText
    unit: Unit = "s"


class LoginCall(Call):
    keep: dict[str, PathText] = {}
    expires: Expires | None = None


class Session(Model):
    type: Literal["session"]
    login: list[LoginCall]
    refresh: LoginCall | None = None
    cookies: bool = False
    send: dict[SendPlaceText, str] = {}


Auth = Annotated[
    NoAuth | Bearer | Basic | ApiKey | OAuth2ClientCredentials | OAuth2Refresh | Jwt | Session,
    Discriminator("type"),
]
