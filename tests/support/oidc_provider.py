# SPDX-License-Identifier: Apache-2.0
"""A small OpenID provider on a loopback port, which a test can make misbehave."""

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

CLIENT = "scrigno-box"
SECRET = "a secret / of the box"


@dataclass
class OidcProvider:
    """Somebody at it is always logged in; `claims`, `forge` and `key` shape the next token."""

    issuer: str = ""
    claims: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] | None = None
    forge: Callable[[dict[str, Any]], str] | None = None  # makes the token instead
    key: Any = None
    issuer_said: str = ""  # in the discovery document, when it lies
    asked: dict[str, int] = field(default_factory=dict)
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.signing = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})

    def change_keys(self) -> None:
        """Sign with a new key from now on."""
        self.signing = RSAKey.generate_key(2048, {"kid": secrets.token_hex(4), "use": "sig"})

    def authorise(self, url: str) -> dict[str, str]:
        """Do what the browser and the person do at the provider; returns what it brings back."""
        parts = urlsplit(url)
        assert url.startswith(f"{self.issuer}/authorize?")
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        return {"code": code, "state": asked["state"], "iss": self.issuer}

    def _count(self, what: str) -> None:
        self.asked[what] = self.asked.get(what, 0) + 1

    async def discovery(self, _: web.Request) -> web.Response:
        self._count("discovery")
        return web.json_response(
            {
                "issuer": self.issuer_said or self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "userinfo_endpoint": f"{self.issuer}/userinfo",
                "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            }
        )

    async def keys(self, _: web.Request) -> web.Response:
        self._count("keys")
        return web.json_response(KeySet([self.signing]).as_dict(private=False))

    async def token(self, request: web.Request) -> web.Response:
        self._count("token")
        form = await request.post()
        basic = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
        assert basic == f"{CLIENT}:a%20secret%20%2F%20of%20the%20box"
        asked = self._codes.pop(str(form["code"]), None)
        if asked is None or form["redirect_uri"] != asked["redirect_uri"]:
            return web.json_response({"error": "invalid_grant"}, status=400)
        made = hashlib.sha256(str(form["code_verifier"]).encode()).digest()
        challenge = base64.urlsafe_b64encode(made).rstrip(b"=").decode()
        if challenge != asked["code_challenge"]:
            return web.json_response({"error": "invalid_grant"}, status=400)
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "person-1",
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            "preferred_username": "carla",
            "groups": ["radiology"],
            **self.claims,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        header = {"alg": "RS256", "kid": self.signing.kid}
        token = (self.forge or partial(jwt.encode, header, key=self.key or self.signing))(claims)
        return web.json_response(
            {"id_token": token, "access_token": "for-userinfo", "token_type": "Bearer"}
        )

    async def info(self, request: web.Request) -> web.Response:
        self._count("userinfo")
        assert request.headers["Authorization"] == "Bearer for-userinfo"
        return web.json_response(self.userinfo or {})


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def unsigned(claims: dict[str, Any]) -> str:
    """Return a token that nobody has signed."""
    parts = ({"alg": "none"}, claims)
    return ".".join(_encoded(json.dumps(each).encode()) for each in parts) + "."


def signed_with(secret: bytes, claims: dict[str, Any]) -> str:
    """Return a token signed with a secret that both sides know."""
    parts = ({"alg": "HS256"}, claims)
    text = ".".join(_encoded(json.dumps(each).encode()) for each in parts)
    return f"{text}.{_encoded(hmac.digest(secret, text.encode(), 'sha256'))}"


@asynccontextmanager
async def oidc_provider() -> AsyncIterator[OidcProvider]:
    """Run a provider."""
    provider = OidcProvider()
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", provider.discovery)
    app.router.add_get("/keys", provider.keys)
    app.router.add_post("/token", provider.token)
    app.router.add_get("/userinfo", provider.info)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    provider.issuer = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield provider
    finally:
        await runner.cleanup()
