"""Which hosts and addresses are out on the internet; all others are private, and downloads do not visit them.

An IPv6 address may carry an IPv4 address, to which routers deliver. It is public when the carried one is:

| form    | range         | the IPv4 address                     | source   |
|---------|---------------|--------------------------------------|----------|
| mapped  | ::ffff:0:0/96 | the last 32 bits                     | RFC 4291 |
| NAT64   | 64:ff9b::/96  | the last 32 bits                     | RFC 6052 |
| 6to4    | 2002::/16     | the 32 bits after 2002               | RFC 3056 |
| ISATAP  | any           | the last 32, after 0:5efe, 200:5efe  | RFC 5214 |

Every other address outside 2000::/3 is private: loopback, link-local, unique local, site-local (fec0::/10),
compatible (::127.0.0.1), translated (::ffff:0:127.0.0.1), the local NAT64 prefix (64:ff9b:1::/48).
"""

import ipaddress
import socket
from functools import lru_cache
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PRIVATE_SUFFIXES: Final = (".localhost", ".local", ".internal", ".lan", ".home.arpa")
_GIVEN_OUT: Final = ipaddress.IPv6Network("2000::/3")  # all of IPv6 that is given out on the internet
# Private, although Python's ipaddress calls them global, in this version or in another one.
_PRIVATE_RANGES: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure's own services, as each of its machines sees them
        "192.0.0.0/24",  # protocols between a router and its provider (RFC 6890)
        "192.88.99.0/24",  # relays of 6to4, withdrawn (RFC 7526)
        "2001::/32",  # Teredo: carries two IPv4 addresses, and is not served any more (RFC 4380)
        "3ffe::/16",  # the 6bone, given back (RFC 3701)
        "3fff::/20",  # documentation (RFC 9637)
    )
)
# range -> how many bits stand to the right of the IPv4 address
_CARRIERS: Final = (
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),
    (ipaddress.IPv6Network("2002::/16"), 80),
)
_ISATAP: Final = (0x00005EFE, 0x02005EFE)
_BITS_32: Final = 0xFFFFFFFF


@lru_cache(maxsize=4096)
def is_private_host(host: str) -> bool:
    """Whether a host, by its name alone, cannot be reached from outside: loopback, private, without dots.

    Numbers are read as resolvers read them: 127.1, 0x7f000001 and 2130706433 are loopback. Names are not
    looked up here; downloads check the address they connect to.
    """
    name = host.rstrip(".").lower()
    address = _address(name)
    if address is not None:
        return not is_public(address)
    return "." not in name or name.endswith(_PRIVATE_SUFFIXES)


def is_public_address(address: str) -> bool:
    """Whether an address is out on the internet: downloads visit no others, unless allowed."""
    return is_public(ipaddress.ip_address(address))


def is_public(address: Address) -> bool:
    """Whether an address, and every IPv4 address that it carries, is out on the internet."""
    if any(address in network for network in _PRIVATE_RANGES):
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast
    carried = [
        ipaddress.IPv4Address(int(address) >> bits & _BITS_32)
        for network, bits in _CARRIERS
        if address in network
    ]
    if int(address) >> 32 & _BITS_32 in _ISATAP:
        carried.append(ipaddress.IPv4Address(int(address) & _BITS_32))
    if carried:
        return all(map(is_public, carried))
    return address in _GIVEN_OUT and address.is_global


def _address(name: str) -> Address | None:
    try:
        return ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(name))
    except (OSError, UnicodeError):
        return None
