"""Login: tokens in the form of JSON web tokens, good for ten minutes unless told otherwise.

They are signed with a key of this run of the root: after a restart none is good any more.
"""

import base64
import hashlib
import hmac
import json
import os
import time
from typing import Any


class TokenRefused(Exception):
    """Why; `expired` ones are told apart from those that were never ours."""

    def __init__(self, why: str, expired: bool = False):
        super().__init__(why)
        self.expired = expired


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Tokens:
    def __init__(self, lifetime_s: float, refresh_lifetime_s: float = 7 * 86400.0):
        self.lifetime_s = {"access": lifetime_s, "refresh": refresh_lifetime_s}
        self.not_before = 0.0
        self.new_key()

    def new_key(self) -> None:
        self.key = os.urandom(32)

    def expire_all(self) -> None:
        """Those given until now are taken for expired."""
        self.not_before = time.time()

    def give(self, user: str, kind: str) -> str:
        now = time.time()
        claims = {"sub": user, "user": user, "type": kind, "iat": now, "exp": now + self.lifetime_s[kind]}
        signed = ".".join(encode(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT"}, claims))
        return f"{signed}.{encode(self._sign(signed))}"

    def user_of(self, token: str, kind: str = "access") -> str:
        claims = self._claims(token)
        if time.time() > claims["exp"] or claims["iat"] < self.not_before:
            raise TokenRefused("Token has expired", expired=True)
        if claims["type"] != kind:
            raise TokenRefused(f"Only non-{claims['type']} tokens are allowed")
        return str(claims["user"])

    def _sign(self, text: str) -> bytes:
        return hmac.new(self.key, text.encode(), hashlib.sha256).digest()

    def _claims(self, token: str) -> dict[str, Any]:
        signed, _, mark = token.rpartition(".")
        try:
            good = hmac.compare_digest(self._sign(signed), decode(mark))
            claims = json.loads(decode(signed.split(".")[1])) if good else None
        except (ValueError, IndexError) as error:
            raise TokenRefused("Not enough segments") from error
        if claims is None:
            raise TokenRefused("Signature verification failed")
        return dict(claims)
