"""Which addresses a worker may call: the public ones.

The list is this module's own, because the interpreter's `is_global` follows the registries with
each patch release. Source: IANA's IPv4 and IPv6 Special-Purpose Address Registries, as of
2024-10-22, with `100:0:0:1::/64` of RFC 9780. Every block of both registries is refused, also
those that are globally reachable, such as the anycast addresses of 192.0.0.0/24 and 2001::/23: no
submitter's server has such an address.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

REFUSED_IPV4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private use
            "100.64.0.0/10",  # shared address space
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # not IANA's: every Azure machine reaches its host's metadata here
            "169.254.0.0/16",  # link-local
            "172.16.0.0/12",  # private use
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # automatic multicast tunneling
            "192.88.99.0/24",  # 6to4 relays, deprecated
            "192.168.0.0/16",  # private use
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarking
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and limited broadcast
        ),
    )
)

ALLOWED_IPV6 = IPv6Network("2000::/3")
"""Global unicast: the only IPv6 addresses that are assigned to networks.

Outside of it are loopback, link-local, site-local, unique local and multicast addresses, the
translation prefixes 64:ff9b::/96 and 64:ff9b:1::/48, which embed an IPv4 address, and other
blocks of the registry: 100::/64, 100:0:0:1::/64 and 5f00::/16.
"""

REFUSED_IPV6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments; Teredo, which embeds an IPv4 address; ORCHID
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4, which embeds an IPv4 address
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
        ),
    )
)
"""Blocks of `ALLOWED_IPV6` that are refused."""


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Returns whether an address is public; an IPv4-mapped one is as its IPv4 address is."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return is_public(address.ipv4_mapped)
        return address in ALLOWED_IPV6 and not any(address in block for block in REFUSED_IPV6)
    return not any(address in block for block in REFUSED_IPV4)
