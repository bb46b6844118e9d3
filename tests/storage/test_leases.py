"""One at a time, on any host: a lease is taken, renewed, lost and taken over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from converter.model.errors import RunError
from converter.storage import exclusive, lease
from converter.storage.lease import HeldError, Lease, LostError
from converter.storage.location import Url
from converter.storage.objects import opened
from tests.objectstore import Store

pytestmark = [pytest.mark.storage]

HOLD = """
import sys
from converter.storage import exclusive, lease, location
lease.Lease.__init__.__defaults__ = (1.0,)
exclusive.hold(location.parse(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
exclusive.release_all()
"""


def holder(bucket: Store, place: Url) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **bucket.environment},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_place_that_another_process_holds_names_it(bucket: Store, place: Url) -> None:
    with holder(bucket, place) as process:
        words = rf"{place} is held by process {process.pid} on .* since \d{{4}}-.*: wait for that"
        with pytest.raises(RunError, match=words):
            exclusive.hold(place)
        time.sleep(1.5)  # it is renewed
        with pytest.raises(RunError, match=words), exclusive.lock_with_timeout(place, 0.1):
            pass
        process.communicate("")
    assert opened(place).read(exclusive.LEASE) is None
    assert exclusive.hold(place) is exclusive.hold(place)


def test_the_lease_of_a_process_that_was_killed_expires(bucket: Store, place: Url) -> None:
    with holder(bucket, place) as process:
        process.kill()
    with pytest.raises(RunError, match="a process that was killed holds it for a minute"):
        exclusive.hold(place)
    begun = time.monotonic()
    with exclusive.lock_with_timeout(place, 15) as guard:
        guard.check()
        said = json.loads(opened(place).read(exclusive.LEASE).data)  # type: ignore[union-attr]
        assert said["pid"] == os.getpid()
        assert {"holder", "host", "since", "expires"} <= said.keys()
    assert time.monotonic() - begun < 10


def test_who_was_cut_off_notices_before_it_writes(
    bucket: Store, place: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = opened(place)
    ours = Lease(there, "lease", 1.0)
    ours.take()
    ours.check()
    bucket.faults.answer = ("403 Forbidden", "AccessDenied", "")
    time.sleep(1.2)
    with pytest.raises(LostError, match="its lease was lost, since it could not be renewed"):
        ours.check()
    bucket.faults.mend()
    theirs = Lease(there, "lease", 60.0)
    # The age that a store tells is in whole seconds: it is the new holder's after three.
    end = time.monotonic() + 10
    while True:
        try:
            theirs.take()
            break
        except HeldError:
            assert time.monotonic() < end
            # Ours may have been renewed meanwhile, where nobody else had it yet.
            ours._ended.set()
            time.sleep(0.2)
    ours.release()
    held = there.read("lease")
    assert held is not None  # what is released is not the lease of another
    assert json.loads(held.data)["token"] == theirs._token
    theirs.release()
    assert there.read("lease") is None


def test_one_of_many_gets_it(place: Url) -> None:
    there = opened(place)
    leases = [Lease(there, "lease", 60.0) for _ in range(12)]
    got, start = [], threading.Barrier(len(leases))

    def take(each: Lease) -> None:
        start.wait()
        try:
            each.take()
        except HeldError:
            return
        got.append(each)

    threads = [threading.Thread(target=take, args=(each,)) for each in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = got
    winner.check()
    winner.release()


def test_without_a_clock_of_the_store_there_is_a_margin(
    place: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = opened(place)
    ours = Lease(there, "lease", 0.5)
    ours.take()
    ours._ended.set()
    found = there.read("lease")
    assert found is not None
    blind = lease.Content(found.data, found.version, None)
    ahead = time.time() + 0.5
    for seconds, expired in ((10, False), (200, False), (400, True)):
        monkeypatch.setattr(time, "time", lambda seconds=seconds: ahead + seconds)
        assert Lease(there, "lease")._has_expired(blind) is expired


@pytest.mark.parametrize(
    "said",
    [b"", b"[]", b"garbage", b"{}"]
    + [
        b'{"seconds": %s, "expires": "tomorrow"}' % text
        for text in (b"null", b"1e9", b"NaN", b"-5", b"1" * 400, b'"soon"')
    ],
)
def test_what_is_no_lease_holds_a_place_for_minutes_only(place: Url, said: bytes) -> None:
    there = opened(place)
    version = there.write(exclusive.LEASE, said)
    ours = Lease(there, exclusive.LEASE)
    for age, expired in ((0.0, False), (290.0, False), (310.0, True)):
        assert ours._has_expired(lease.Content(said, version, age)) is expired
    with pytest.raises(RunError, match="is no lease of this converter") as raised:
        exclusive.hold(place)
    words = f"is held by whoever wrote {place}/.holder.json, which is no lease of this converter"
    assert words in str(raised.value)
    assert "remove it where nobody is at work" in str(raised.value)


def test_a_stated_length_is_believed_up_to_a_bound(place: Url) -> None:
    text = b'{"seconds": 1e9, "expires": 1e99, "holder": "process 1 on a"}'
    ours = Lease(opened(place), exclusive.LEASE)
    assert not ours._has_expired(lease.Content(text, "1", 290.0))
    assert ours._has_expired(lease.Content(text, "1", 310.0))
