"""A worker calls public addresses only; the ranges do not depend on the interpreter."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxreval.errors import EndpointRefused, EndpointUnavailable
from cxreval.evaluation.endpoints import resolve
from cxreval.public_addresses import REFUSED_IPV4, REFUSED_IPV6, is_public

# Address blocks of both registries; then multicast and site-local.
REGISTRIES = [
    "0.0.0.0/8", "0.0.0.0/32", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
    "172.16.0.0/12", "192.0.0.0/24", "192.0.0.0/29", "192.0.0.8/32", "192.0.0.9/32",
    "192.0.0.10/32", "192.0.0.170/32", "192.0.0.171/32", "192.0.2.0/24", "192.31.196.0/24",
    "192.52.193.0/24", "192.88.99.0/24", "192.88.99.2/32", "192.168.0.0/16", "192.175.48.0/24",
    "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4", "255.255.255.255/32",
    "::1/128", "::/128", "::ffff:127.0.0.0/104", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64",
    "100:0:0:1::/64", "2001::/23", "2001::/32", "2001:1::1/128", "2001:1::2/128", "2001:1::3/128",
    "2001:2::/48", "2001:3::/32", "2001:4:112::/48", "2001:10::/28", "2001:20::/28",
    "2001:30::/28", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20", "5f00::/16",
    "fc00::/7", "fe80::/10", "224.0.0.0/4", "ff00::/8", "fec0::/10",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
          "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.88.98.255", "192.88.100.0",
          "223.255.255.255", "2001:200::", "2001:4860:4860::8888", "2606:4700::1", "2003::",
          "2620:4f:8001::", "3ffe:ffff::", "3fff:1000::"]  # fmt: skip


@pytest.mark.parametrize("block", REGISTRIES)
def test_no_address_of_the_registries_is_public(block: str) -> None:
    network = ip_network(block)
    first, last = int(network.network_address), int(network.broadcast_address)
    for number in {first, first + (last - first) // 3, last}:
        assert not is_public(type(network.network_address)(number))


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_beside_the_blocks_are_public(address: str) -> None:
    found = IPv6Address(address) if ":" in address else IPv4Address(address)
    assert is_public(found)
    if isinstance(found, IPv4Address):
        assert is_public(IPv6Address(f"::ffff:{address}"))


def near(blocks: tuple[IPv4Network, ...] | tuple[IPv6Network, ...], bits: int) -> st.SearchStrategy:
    """Returns numbers of `bits` bits: any, and those around the ends of the blocks."""
    ends = [
        int(end) for block in blocks for end in (block.network_address, block.broadcast_address)
    ]
    around = st.builds(
        lambda end, by: (end + by) % 2**bits, st.sampled_from(ends), st.integers(-2, 2)
    )
    return st.integers(0, 2**bits - 1) | around


@given(near(REFUSED_IPV4, 32))
def test_no_ipv4_address_that_the_interpreter_refuses_is_public(number: int) -> None:
    address = IPv4Address(number)
    mapped = IPv6Address(0xFFFF << 32 | number)
    assert is_public(mapped) == is_public(address)
    if is_public(address):
        assert not address.is_private
        assert not address.is_multicast
        assert not address.is_reserved
    for embedded in (0x2002 << 112 | number << 80, 0x64FF9B << 96 | number, number):
        assert not is_public(IPv6Address(embedded))


@given(near(REFUSED_IPV6, 128))
def test_no_ipv6_address_that_the_interpreter_refuses_is_public(number: int) -> None:
    address = IPv6Address(number)
    if is_public(address) and not address.ipv4_mapped:
        assert not address.is_private
        assert not address.is_multicast
        assert not address.is_reserved
        assert not address.is_site_local
        assert not address.sixtofour
        assert not address.teredo


@pytest.mark.parametrize(
    "host",
    ["192.0.0.192", "192.88.99.1", "[3fff::1]", "127.1", "0x7f.1", "0x7f000001", "017700000001",
     "2130706433", "3221225664", "0300.0.0.0300", "localhost.", "127.0.0.1.", "0",
     "[0:0:0:0:0:ffff:7f00:1]", "[::ffff:192.88.99.1]", "[64:ff9b::8.8.8.8]"],
)  # fmt: skip
def test_no_spelling_of_a_refused_address_is_resolved(host: str) -> None:
    with pytest.raises((EndpointRefused, EndpointUnavailable)):
        resolve(f"{host}:443", allow_private=False)


@pytest.mark.parametrize(
    "host", ["[fe80::1%eth0]", "①②⑦.0.0.1", "127。0.0.1", "a b", "[::1", "a@b"]
)
def test_an_address_of_other_characters_is_no_address(host: str) -> None:
    with pytest.raises(ValueError, match="is not host:port"):
        resolve(f"{host}:443", allow_private=True)


def test_one_refused_address_of_a_name_refuses_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(2, 1, 6, "", (address, 443)) for address in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: answers)
    with pytest.raises(EndpointRefused):
        resolve("models.example.org:443", allow_private=False)
    assert resolve("models.example.org:443", allow_private=True) == ("ipv4:8.8.8.8:443", False)
