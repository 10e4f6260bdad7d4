"""The only way out to addresses that strangers name: webhooks, and images and videos on the web.

A name is resolved where the connection is made, and the connection goes to the very address that
was checked, so that a name which points elsewhere a moment later (DNS rebinding) gains nothing.
Redirects are not followed, proxies of the environment not used.
"""

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import httpcore
import httpx

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

LONGEST_URL = 2048
"""Characters."""
PORTS = range(1024, 65_536)
"""Those below are other services', but for 80 and 443."""
_EMBEDDING = ipaddress.ip_network("64:ff9b::/96")
"""NAT64 (RFC 6052): the last 32 bits are an IPv4 address."""


class Forbidden(Exception):
    """An address that may not be asked; the message completes "... must be", with what is wrong."""


class Failed(Exception):
    """The other side gave no answer that can be used; the message says what happened."""


class Egress:
    """HTTPS to public addresses, and HTTP or HTTPS into the trusted networks `private`."""

    def __init__(self, private: Iterable[Network] = ()) -> None:
        self._private = tuple(private)

    def check(self, url: str) -> None:
        """Raise `Forbidden` unless `url` may be asked, as far as that can be told now."""
        parsed = self._parsed(url)
        self.addresses(parsed.host, parsed.scheme == "https")

    def get(self, url: str, most: int, seconds: float) -> bytes:
        """The body of `url`, of at most so many bytes, within so many seconds in all.

        Raises:
            Forbidden: for an address that may not be asked.
            Failed: for any other status than 200, a body that is too large, or no answer in time.
        """
        status, body = self._ask("GET", url, {"accept": "*/*"}, None, most, seconds)
        if 300 <= status < 400:
            raise Failed(f"it redirects ({status}), which is not followed")
        if status != 200:
            raise Failed(f"it answered {status}")
        return body

    def post(self, url: str, headers: Mapping[str, str], body: bytes, seconds: float) -> int:
        """Send `body` and give the status of the answer, whose own body is not read.

        Raises:
            Forbidden: for an address that may not be asked.
            Failed: for no answer in time.
        """
        return self._ask("POST", url, headers, body, None, seconds)[0]

    def _ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        most: int | None,
        seconds: float,
    ) -> tuple[int, bytes]:
        parsed = self._parsed(url)
        backend = _Guarded(self, parsed.scheme == "https", time.monotonic() + seconds)
        sent = {"host": parsed.netloc.decode(), "user-agent": "Kinetograph", **headers}
        try:
            with httpcore.ConnectionPool(
                ssl_context=ssl.create_default_context(), network_backend=backend
            ) as pool:
                asked = (method, httpcore.URL(str(parsed.copy_with(fragment=None))))
                with pool.stream(*asked, headers=list(sent.items()), content=body) as answer:
                    return answer.status, b"" if most is None else _read(answer, most)
        except (httpcore.TimeoutException, TimeoutError):
            raise Failed(f"it did not answer within {seconds:g} s") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise Failed(f"it cannot be reached ({type(error).__name__})") from None

    def _parsed(self, url: str) -> httpx.URL:
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, UnicodeError):
            raise Forbidden("an https address") from None
        if len(url) > LONGEST_URL:
            raise Forbidden(f"an address of at most {LONGEST_URL} characters")
        if parsed.scheme not in (("https", "http") if self._private else ("https",)):
            raise Forbidden("an https address")
        if not parsed.host or parsed.userinfo:
            raise Forbidden("an https address with a host, and without a password")
        if parsed.port not in (None, 80, 443, *PORTS):
            raise Forbidden(f"at port 443, or one from {PORTS.start} on")
        return parsed

    def addresses(self, host: str, public: bool) -> list[str]:
        """The addresses of `host`, all of which may be asked. One that may not forbids them all."""
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise Forbidden("at a host whose name can be resolved") from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not all(self._allowed(address, public) for address in addresses):
            # The address itself would tell a stranger about the network that this service is in.
            raise Forbidden("at a public address")
        return addresses

    def _allowed(self, text: str, public: bool) -> bool:
        address = _embedded(ipaddress.ip_address(text.partition("%")[0]))
        return (public and is_public(address)) or any(address in net for net in self._private)


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet."""
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified
    )


def _embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, if it does (mapped, 6to4, Teredo, NAT64)."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _EMBEDDING:
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, address))[1]


def _read(answer: httpcore.Response, most: int) -> bytes:
    parts, size = [], 0
    for part in answer.iter_stream():
        size += len(part)
        if size > most:
            raise Failed(f"it is larger than {most} bytes")
        parts.append(part)
    return b"".join(parts)


class _Guarded(httpcore.NetworkBackend):
    """Connects to addresses that were checked, and never waits past `deadline`."""

    def __init__(self, egress: Egress, public: bool, deadline: float) -> None:
        self._egress, self._public, self._deadline = egress, public, deadline

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *_: Any, **__: Any
    ) -> httpcore.NetworkStream:
        addresses: Sequence[str] = self._egress.addresses(host, self._public)
        plain, last = httpcore.SyncBackend(), len(addresses) - 1
        for number, address in enumerate(addresses):
            try:
                stream = plain.connect_tcp(address, port, _left(self._deadline))
                return _Deadlined(stream, self._deadline)
            except (httpcore.NetworkError, httpcore.TimeoutException):
                if number == last:
                    raise
        raise httpcore.ConnectError("no address")


class _Deadlined(httpcore.NetworkStream):
    """A stream whose every wait ends at one instant: a drip of bytes cannot prolong it."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(self._deadline)
        stream = self._stream.start_tls(ssl_context, server_hostname, left)
        return _Deadlined(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout
    return left
