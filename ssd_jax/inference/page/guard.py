"""Access to the page: checks host names, origins and a password; adds headers to answers."""

import base64
import binascii
import hmac
import ipaddress
import re
import socket
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ssd_jax.errors import UserError, shown
from ssd_jax.inference.page.refusal import Refusal

# A Host header, or an Origin without `scheme://`: a name or an address, and a port.
NAME_AND_PORT = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?", re.IGNORECASE)
DEFAULT_PORTS = {"http": "80", "https": "443"}

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class AllowedNames:
    """The allowed host names of the page.

    This prevents "DNS rebinding": a malicious page resolves its host name to this machine, so that
    its scripts have the same origin. Numeric addresses are safe.

    Args:
      host: the host of the user to listen on.
      address: its address.
      allowed_hosts: other names, for example of a proxy.

    Raises:
      UserError: an allowed host is not a host name.
    """

    def __init__(self, host: str, address: str, allowed_hosts: Iterable[str]) -> None:
        self.added = {_checked_name(name) for name in allowed_hosts}
        listening = ipaddress.ip_address(address.partition("%")[0])
        self._any_address = listening.is_unspecified
        self._names = self.added | {host.lower(), str(listening)}
        if listening.is_loopback or listening.is_unspecified:
            self._names |= {"localhost", "127.0.0.1", "::1"}
        if listening.is_unspecified:
            self._names.add(socket.gethostname().lower())

    def __contains__(self, name: str) -> bool:
        return name in self._names or (self._any_address and _is_address(name))


def check_auth(auth: str) -> None:
    """Checks that `auth` is USER:PASSWORD, or "".

    Raises:
      UserError: it has another form.
    """
    user, _, password = auth.partition(":")
    if auth and not (user and password and auth.isprintable()):
        raise UserError("--auth does not have the form USER:PASSWORD, each with at least one sign")


class Guard:
    """Rejects requests for other hosts or without access, and passes others to the app.

    Args:
      app: the app.
      names: see `AllowedNames`.
      auth: USER:PASSWORD, or "".
    """

    def __init__(self, app: ASGIApp, names: AllowedNames, auth: str) -> None:
        self._app = app
        self._names = names
        self._auth = auth.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        app = self._refusal(scope["method"], Headers(scope=scope)) or self._app
        await app(scope, receive, send_guarded)

    def _refusal(self, method: str, headers: Headers) -> Refusal | None:
        name = _name(headers.get("host", ""))
        if name is None or name not in self._names:
            given = shown(headers.get("host", ""))
            return Refusal(
                403,
                f"this page does not accept the host {given}: if this is its name, start it with "
                "--allowed_hosts=NAME",
            )
        if "transfer-encoding" in headers and "content-length" in headers:
            return Refusal(400, "a request must have either Content-Length or Transfer-Encoding")
        if self._auth and not self._is_user(headers.get("authorization", "")):
            return Refusal(
                401,
                "this page needs a user name and a password",
                {"www-authenticate": 'Basic realm="ssd_jax", charset="UTF-8"'},
            )
        if method not in ("GET", "HEAD", "OPTIONS") and not self._is_same_origin(headers):
            origin = shown(headers.get("origin", headers.get("sec-fetch-site")))
            return Refusal(
                403,
                f"this page accepts no uploads from other pages ({origin}): if this is its name, "
                "start it with --allowed_hosts=NAME",
            )
        return None

    def _is_user(self, authorization: str) -> bool:
        scheme, _, credentials = authorization.partition(" ")
        try:
            given = base64.b64decode(credentials.strip(), validate=True)
        except (binascii.Error, ValueError):
            given = b""
        return hmac.compare_digest(given, self._auth) and scheme.lower() == "basic"

    def _is_same_origin(self, headers: Headers) -> bool:
        """Whether the request comes from this page; programs other than browsers send no origin."""
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return False
        origin = headers.get("origin")
        if origin is None:
            return True
        scheme, _, place = origin.partition("://")
        if scheme not in DEFAULT_PORTS:
            return False
        port = DEFAULT_PORTS[scheme]
        same = place.removesuffix(f":{port}").lower()
        return same == headers["host"].removesuffix(f":{port}").lower() or (
            _name(place) in self._names.added
        )


def _name(place: str) -> str | None:
    """The name in `name:port`, in lower case and without brackets; None if invalid."""
    match = NAME_AND_PORT.fullmatch(place)
    return match[1].lower().strip("[]").removesuffix(".") if match else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _checked_name(name: str) -> str:
    match = NAME_AND_PORT.fullmatch(name)
    if match is None or match[2]:
        raise UserError(
            f"--allowed_hosts names {shown(name)}, but must be host names without scheme and port, "
            "like detector.example.com"
        )
    return match[1].lower().strip("[]").removesuffix(".")
