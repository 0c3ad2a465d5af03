"""What is not out on the internet is private, in every spelling and inside every form that carries it."""

import ipaddress

import pytest

from mavi_tasks.media.addresses import is_private_host, is_public_address

PRIVATE_IPV4 = (
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "168.63.129.16",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1",
    "192.168.0.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
    "255.255.255.255",
)  # fmt: skip
PUBLIC_IPV4 = ("8.8.8.8", "1.1.1.1", "172.32.0.1", "192.169.0.1", "100.128.0.1")
MAPPED, NAT64, SIX_TO_FOUR, COMPATIBLE, TRANSLATED = (
    0xFFFF << 32,
    0x64FF9B << 96,
    0x2002 << 112,
    0,
    0xFFFF << 48,
)


def carriers(address):
    """The IPv6 forms of an IPv4 address to which some router delivers."""
    number = int(ipaddress.IPv4Address(address))
    site = 0x2606_4700 << 96
    return [
        str(ipaddress.IPv6Address(value))
        for value in (
            MAPPED | number,
            NAT64 | number,
            SIX_TO_FOUR | number << 80 | 1,
            site | 0x5EFE << 32 | number,
            site | 0x200_5EFE << 32 | number,
        )
    ]


def other_forms(address):
    """Forms that are not in use any more: compatible, translated, Teredo (twice), local NAT64."""
    number = int(ipaddress.IPv4Address(address))
    return [
        str(ipaddress.IPv6Address(value))
        for value in (
            COMPATIBLE | number,
            TRANSLATED | number,
            0x2001 << 112 | number << 64,
            0x2001 << 112 | 0x08080808 << 64 | number ^ 0xFFFFFFFF,
            0x64FF9B0001 << 80 | number,
        )
    ]


@pytest.mark.parametrize("address", PRIVATE_IPV4)
def test_a_private_address_is_private_in_every_form_that_carries_it(address):
    forms = [address, *carriers(address), *other_forms(address)]
    assert [form for form in forms if is_public_address(form)] == []


@pytest.mark.parametrize("address", PUBLIC_IPV4)
def test_a_public_address_stays_public_in_the_forms_that_are_in_use(address):
    assert all(map(is_public_address, [address, *carriers(address)]))


@pytest.mark.parametrize(
    "address",
    ["::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "fec0::1", "feff::1", "ff02::1", "100::1",
     "2001:db8::1", "3fff::1", "3ffe::1", "5f00::1", "4000::1", "2001:20::1", "64:ff9b:1::808:808"],
)  # fmt: skip
def test_ipv6_that_is_not_given_out_on_the_internet_is_private(address):
    assert not is_public_address(address)


@pytest.mark.parametrize("address", ["2606:4700::1111", "2001:4860:4860::8888", "2a00:1450:4001::200e"])
def test_ipv6_of_the_internet_is_public(address):
    assert is_public_address(address)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "a.localhost",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "10.1.2.3",
        "192.168.0.9",
        "172.16.5.4",
        "169.254.169.254",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fd00::1",
        "fec0::1",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "017700000001",
        "0x7f.1",
        "::ffff:10.0.0.1",
        "intranet",
        "nas.local",
        "metadata.google.internal",
        "0.0.0.0",
        "64:ff9b::a00:1",
        "100.64.0.1",
        "LOCALHOST.",
    ],
)
def test_private_hosts_are_told_in_every_spelling(host):
    assert is_private_host(host)


@pytest.mark.parametrize("host", ["example.com", "8.8.8.8", "2606:4700::1111", "192.169.0.1"])
def test_public_hosts_are_not_private(host):
    assert not is_private_host(host)
