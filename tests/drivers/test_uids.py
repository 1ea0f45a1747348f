"""uid ranges: never one for two live sandboxes, on however many nodes of one host."""

import os
from itertools import pairwise
from pathlib import Path

import pytest

from sandboxd.drivers.exec.uids import SLOT, UidSlots
from sandboxd.errors import DriverFault, Overload

BASE = 0x2000_0000


def drained(slots: UidSlots) -> list[int]:
    taken: list[int] = []
    while True:
        try:
            taken.append(slots.take())
        except Overload:
            return taken


def test_allocators_that_share_a_lock_directory_never_overlap(tmp_path: Path) -> None:
    slots = [UidSlots(BASE, 1_500, tmp_path), UidSlots(BASE, 3_000, tmp_path)]
    first, second = map(drained, slots)
    assert (len(first), len(second)) == (1_500, 3_000)
    taken = sorted(first + second)
    assert all(after - before >= SLOT for before, after in pairwise(taken))
    for each in slots:
        each.close()


def test_ranges_stay_within_uids_that_exist(tmp_path: Path) -> None:
    taken = drained(UidSlots(BASE, 100_000, tmp_path))
    assert min(taken) == BASE and max(taken) + SLOT <= 0xFFFF_0000


def test_ranges_of_a_node_that_ended_are_free_again(tmp_path: Path) -> None:
    first = UidSlots(BASE, 10, tmp_path)
    taken = first.take()
    first.close()
    again = UidSlots(BASE, 10, tmp_path)
    assert again.take() == taken
    again.close()


def test_host_whose_ranges_are_all_locked_is_a_fault(tmp_path: Path) -> None:
    whole = UidSlots(BASE, 1_000_000, tmp_path)
    with pytest.raises(DriverFault, match="in use"):
        UidSlots(BASE, 1, tmp_path)
    whole.close()


def test_exhaustion_says_to_try_later(tmp_path: Path) -> None:
    slots = UidSlots(BASE, 2, tmp_path)
    first = slots.take(), slots.take()
    with pytest.raises(Overload) as caught:
        slots.take()
    assert caught.value.retry_after
    slots.give_back(first[1])
    assert slots.take() == first[1]
    slots.close()


def test_range_longest_out_of_use_comes_first(tmp_path: Path) -> None:
    slots = UidSlots(BASE, 3, tmp_path)
    a, b, c = (slots.take() for _ in range(3))
    for uid in (c, a, b):
        slots.give_back(uid)
    assert [slots.take() for _ in range(3)] == [c, a, b]
    slots.close()


def test_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / f"{BASE}.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        UidSlots(BASE, 1, tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_bases_within_one_block_meet_at_its_lock(tmp_path: Path) -> None:
    first = UidSlots(BASE, 10, tmp_path)
    shifted = UidSlots(BASE + 512 * SLOT, 2_000, tmp_path)
    assert not set(drained(first)) & set(drained(shifted))
    first.close()
    shifted.close()


def test_the_next_node_takes_over_the_ranges_of_one_whose_locks_it_holds(tmp_path: Path) -> None:
    first = UidSlots(BASE, 2_000, tmp_path)
    live = first.take()
    held = [os.dup(fd) for fd in first.locks]
    first.close()
    stranger = UidSlots(BASE, 10, tmp_path)
    assert live not in drained(stranger), "what is held is still in force"
    second = UidSlots(BASE, 2_000, tmp_path, held=held)
    second.adopt(live)
    taken = drained(second)
    assert len(taken) == 1_999 and live not in taken
    with pytest.raises(DriverFault):
        second.adopt(live)
    second.give_back(live)
    assert second.take() == live
    for each in (stranger, second):
        each.close()
