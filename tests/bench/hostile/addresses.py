"""Addresses that lead a download into a private network: spellings, carriers, redirects. None is visited."""

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mavi_tasks.media import MediaOptions, Refusal, identify
from mavi_tasks.media.addresses import is_private_host, is_public_address
from mavi_tasks.media.download import fetched
from mavi_tasks.media.local_files import RefusedError
from tests.bench.hostile.case import Case
from tests.support.media_files import image_bytes, served

INSIDE = (
    "127.0.0.1", "127.8.9.10", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "100.100.100.200", "0.0.0.0", "192.0.0.192", "168.63.129.16", "224.0.0.1", "255.255.255.255",
)  # fmt: skip
INSIDE_IPV6 = (
    "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "3fff::1",
    "100::1", "5f00::1", "3ffe::1", "2001:10::1",
)  # fmt: skip
OPTIONS = MediaOptions(download=True, allow_http=True, download_timeout_s=3)
PHOTO = image_bytes("JPEG")


def ipv4_spellings(address: str) -> Iterator[str]:
    """As resolvers read numbers: decimal, octal, hexadecimal, and with fewer parts."""
    number = int(ipaddress.IPv4Address(address))
    a, b, c, d = (number >> shift & 255 for shift in (24, 16, 8, 0))
    yield from (address, str(number), hex(number), f"0{number:o}", f"{a}.{number & 0xFFFFFF}")
    yield from (f"{a}.{b}.{c << 8 | d}", f"{a:#x}.{b:#x}.{c:#x}.{d:#x}", f"0{a:o}.0{b:o}.0{c:o}.0{d:o}")
    yield from (f"{a:#010x}.{b}.{c}.{d}", f"{a}.{b}.{c << 8 | d:#x}", f"{address}.", f"00{a:o}.{b}.{c}.{d}")
    wide = str.maketrans("0123456789.", "\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19\u3002")
    yield address.translate(wide)


def ipv6_carriers(address: str) -> Iterator[str]:
    """Compatible, mapped (two spellings), translated, NAT64 (two), 6to4, Teredo (two), ISATAP (two)."""
    number = int(ipaddress.IPv4Address(address))
    high, low = number >> 16, number & 0xFFFF
    wrong = number ^ 0xFFFFFFFF
    yield from (f"::{address}", f"::ffff:{address}", f"::ffff:{high:x}:{low:x}", f"::ffff:0:{address}")
    yield from (f"64:ff9b::{address}", f"64:ff9b:1::{address}", f"2002:{high:x}:{low:x}::1")
    yield from (f"2001:0:{high:x}:{low:x}::1", f"2001:0:808:808:0:0:{wrong >> 16:x}:{wrong & 0xFFFF:x}")
    yield from (f"2606:4700::5efe:{address}", f"2606:4700::200:5efe:{address}")


def spelled_private(address: str) -> Case:
    """No spelling of the host may pass as public."""

    def attempt(_: Path) -> str | None:
        passed = [host for host in ipv4_spellings(address) if host.isascii() and not is_private_host(host)]
        passed += [host for host in ipv6_carriers(address) if not is_private_host(host)]
        passed += [host for host in ipv6_carriers(address) if is_public_address(host)]
        return f"passed as public: {passed}" if passed else None

    return Case(f"{address} in every spelling", attempt)


def private_ipv6(_: Path) -> str | None:
    passed = [address for address in INSIDE_IPV6 if is_public_address(address)]
    return f"passed as public: {passed}" if passed else None


def public(_: Path) -> str | None:
    """What is out on the internet must stay reachable."""
    names = (
        "8.8.8.8",
        "1.1.1.1",
        "2606:4700::1111",
        "2a00:1450:4001::200e",
        "64:ff9b::8.8.8.8",
        "::ffff:8.8.8.8",
    )
    refused = [address for address in names if not is_public_address(address)]
    return f"refused: {refused}" if refused else None


def reached(url: str, folder: Path, seen: list[Any]) -> str | None:
    media = identify(url)
    if isinstance(media, Refusal):
        return None
    try:
        fetched(media, folder / "a", OPTIONS)
    except RefusedError:
        return f"{url} was connected to" if seen else None
    return f"{url} was read"


LOOPBACK_HOSTS = (
    *dict.fromkeys(ipv4_spellings("127.0.0.1")), "localhost", "LOCALHOST", "localhost.", "127.1", "127.0.1",
    "0", "[::1]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[0:0:0:0:0:ffff:7f00:1]", "user:password@127.0.0.1",
    "8.8.8.8@127.0.0.1", "127.0.0.1%2f", "127。0。0。1",
)  # fmt: skip


def connected(host: str) -> Case:
    """A real server on every loopback address sees no request."""

    def attempt(folder: Path) -> str | None:
        with served({"/a.jpg": lambda h: h.reply(PHOTO)}) as (base, seen):
            return reached(base.replace("127.0.0.1", host) + "/a.jpg", folder, seen)

    return Case(f"download from {host!a}", attempt)


def redirected(host: str) -> Case:
    """A server that may be visited sends on to one that may not."""

    def attempt(folder: Path) -> str | None:
        def on(handler: Any) -> None:
            handler.reply(b"", 302, Location=f"http://{host}:{handler.server.server_address[1]}/b.jpg")

        with served({"/a.jpg": on, "/b.jpg": lambda h: h.reply(PHOTO)}) as (base, seen):
            media = identify(base + "/a.jpg")
            try:
                fetched(media, folder / "a", OPTIONS, allowed=lambda address: address == "127.0.0.1")
            except RefusedError:
                return "the redirect was followed" if len(seen) > 1 else None
        return "the redirect was followed"

    return Case(f"redirect to {host!a}", attempt)


CASES = [
    *map(spelled_private, INSIDE),
    Case("private IPv6", private_ipv6),
    Case("public addresses stay public", public),
    *map(connected, LOOPBACK_HOSTS),
    *map(redirected, ("127.0.0.2", "127.0.0.3", "2130706434", "0x7f000002", "[::ffff:127.0.0.2]")),
]
