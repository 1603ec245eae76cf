"""Which addresses a callback may go to."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.addresses import embedded, reason_against

PUBLIC = ["93.184.215.14", "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"]
PRIVATE = ["127.0.0.1", "127.8.9.10", "::1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "100.64.0.1", "fc00::1", "198.18.0.1", "240.0.0.1"]
NEVER = [
    "169.254.169.254",
    "169.254.0.7",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "100.100.100.200",
    "192.0.0.192",
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "ff02::1",
]


@pytest.mark.parametrize("address", PUBLIC)
@pytest.mark.parametrize("allow_private", [False, True])
def test_public_addresses_are_allowed(address: str, allow_private: bool):
    assert reason_against(address, allow_private=allow_private) == ""


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_need_the_setting(address: str):
    assert reason_against(address, allow_private=False) != ""
    assert reason_against(address, allow_private=True) == ""


@pytest.mark.parametrize("address", NEVER)
@pytest.mark.parametrize("allow_private", [False, True])
def test_link_local_metadata_and_multicast_addresses_are_never_allowed(address: str, allow_private: bool):
    assert reason_against(address, allow_private=allow_private) != ""


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("::ffff:127.0.0.1", "a loopback address"),
        ("::ffff:a9fe:a9fe", "the metadata service of a cloud"),
        ("64:ff9b::10.0.0.1", "a private or reserved address"),
        ("2002:7f00:1::", "a loopback address"),
        ("::ffff:192.168.0.1", "a private or reserved address"),
    ],
)
def test_an_ipv4_address_in_ipv6_clothes_is_judged_as_what_it_is(address: str, what: str):
    assert reason_against(address, allow_private=False) == what


@given(st.ip_addresses(v=4))
def test_every_ipv4_address_is_judged_the_same_in_every_form(address: ipaddress.IPv4Address):
    plain = reason_against(str(address), allow_private=False)
    for form in (f"::ffff:{address}", f"64:ff9b::{address}"):
        assert reason_against(form, allow_private=False) == plain


@given(st.ip_addresses())
def test_nothing_allowed_without_the_setting_is_private(address: ipaddress.IPv4Address | ipaddress.IPv6Address):
    if not reason_against(str(address), allow_private=False):
        assert embedded(address).is_global
