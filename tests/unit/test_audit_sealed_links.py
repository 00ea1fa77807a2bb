"""An audit chain with sealed links is verified like the complete one."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxreval.audit import chain
from cxreval.errors import AuditMismatch

SUBMISSIONS = ("a", "b", "c")


def made(order: list[int]) -> list[chain.AuditEvent]:
    events: list[chain.AuditEvent] = []
    head, versions = chain.Head(), dict.fromkeys(SUBMISSIONS, 0)
    for place, index in enumerate(order, 1):
        name = SUBMISSIONS[index]
        versions[name] += 1
        event = chain.AuditEvent(
            place, name, versions[name], "queued", "queued", "somebody", "why", {"key": "value"},
            "2026-01-01T00:00:00.000000+00:00", place, f"{place:032x}", "",
        )  # fmt: skip
        event = replace(event, digest=event.link(head.digest))
        head = chain.Head(place, event.digest)
        events.append(event)
    return events


parts = st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=2, max_size=12)


def partly(pairs: list[tuple[int, bool]]) -> tuple[list[chain.AuditEvent], list[chain.AuditEvent]]:
    whole = made([index for index, _ in pairs])
    return whole, [
        event.sealed() if sealed else event for event, (_, sealed) in zip(whole, pairs, strict=True)
    ]


@given(parts)
def test_every_part_of_a_chain_leads_to_its_head(pairs):
    whole, seen = partly(pairs)
    assert chain.verify(seen) == chain.verify(whole)


@given(parts, st.data())
def test_every_change_of_an_unsealed_link_is_detected(pairs, data):
    _, seen = partly(pairs)
    place = data.draw(st.integers(0, len(seen) - 1))
    if seen[place].is_sealed:
        return
    changes = {
        "reason": "another",
        "actor": "me",
        "version": 99,
        "change": "published",
        "details": {},
        "id": "x",
    }
    field = data.draw(st.sampled_from(sorted(changes)))
    seen[place] = replace(seen[place], **{field: changes[field]})
    with pytest.raises(AuditMismatch):
        chain.verify(seen)


@given(parts, st.data())
def test_a_link_that_is_missing_or_out_of_order_is_found_sealed_or_not(pairs, data):
    _, seen = partly(pairs)
    place = data.draw(st.integers(0, len(seen) - 2))
    with pytest.raises(AuditMismatch):
        chain.verify([*seen[:place], *seen[place + 1 :]])
    seen[place], seen[place + 1] = seen[place + 1], seen[place]
    with pytest.raises(AuditMismatch):
        chain.verify(seen)


@given(parts, st.data())
def test_another_digest_of_a_sealed_link_is_found_by_the_link_after_it(pairs, data):
    whole, _ = partly(pairs)
    place = data.draw(st.integers(0, len(whole) - 2))
    whole[place] = replace(whole[place].sealed(), digest="0" * 64)
    with pytest.raises(AuditMismatch):
        chain.verify(whole)


@pytest.mark.parametrize(
    "wrong", [{"digest": ""}, {"digest": "x" * 64}, {"reason": "hidden"}, {"version": 1}]
)
def test_a_seal_has_place_and_digest_and_nothing_else(wrong):
    first, second = made([0, 1])
    with pytest.raises(AuditMismatch):
        chain.verify([replace(first.sealed(), **wrong), second])
