"""Who may use the page: names of hosts, origins, and a password; and the headers of answers."""

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

# Of a Host header, and of an Origin behind `scheme://`: a name or an address, and a port.
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
    """The names by which the page is called, which no stranger's name on the internet is.

    A page of a stranger can have its own name lead to this machine ("DNS rebinding"), and its
    scripts would then be of the same origin. An address in numbers cannot be bent so.

    Args:
      host: what the user named to listen on.
      address: the address that this is.
      allowed_hosts: other names, as of a proxy.

    Raises:
      UserError: an allowed host is not the name of a host.
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
      UserError: it is not.
    """
    user, _, password = auth.partition(":")
    if auth and not (user and password and auth.isprintable()):
        raise UserError("--auth is not of the form USER:PASSWORD, both of one sign or more")


class Guard:
    """Refuses requests that are not for this page or not by its users; the rest goes to the app.

    Args:
      app: the app behind it.
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
                f"this page does not answer to the host {given}: start it with "
                "--allowed_hosts=NAME if that is its name",
            )
        if "transfer-encoding" in headers and "content-length" in headers:
            return Refusal(400, "a request has either Content-Length or Transfer-Encoding")
        if self._auth and not self._is_user(headers.get("authorization", "")):
            return Refusal(
                401,
                "this page asks for a user name and a password",
                {"www-authenticate": 'Basic realm="ssd_jax", charset="UTF-8"'},
            )
        if method not in ("GET", "HEAD", "OPTIONS") and not self._is_same_origin(headers):
            origin = shown(headers.get("origin", headers.get("sec-fetch-site")))
            return Refusal(
                403,
                f"this page takes no uploads from other pages ({origin}): start it with "
                "--allowed_hosts=NAME if that is its name",
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
        """Whether no browser says that another page sends this. Other programs say nothing."""
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
    """The name in `name:port`, in lower case and without brackets; None where it is none."""
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
            f"--allowed_hosts names {shown(name)}, but must be names of hosts without scheme and "
            "port, like detector.example.com"
        )
    return match[1].lower().strip("[]").removesuffix(".")
