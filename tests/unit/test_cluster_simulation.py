"""The simulation of a cluster on cases that can be computed by hand."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from manifests import fp16, manifest_of, ok

from benchmarks.cluster_simulation import (
    Cluster,
    Job,
    Order,
    bounds,
    drawn,
    first_come,
    longest_chain_first,
    longest_first,
    lost_nodes,
    read,
    simulate,
)
from converter.model import manifest

ONE = Cluster(nodes=1, cores=2, memory_mib=4096)


def jobs(*seconds: float) -> list[Job]:
    return [Job(one, one) for one in seconds]


@pytest.mark.parametrize(("order", "makespan", "tail"), [(first_come, 5, 3), (longest_first, 4, 1)])
def test_the_order_of_jobs_decides_the_tail(order: Order, makespan: float, tail: float) -> None:
    """2 and 2, then 3 alone from 2 to 5; or 3 and 2, then 2 from 2 to 4, alone since 3."""
    found = simulate(jobs(2, 2, 3), ONE, order)
    assert (found.makespan_s, found.tail_s) == (makespan, tail)
    assert (found.retried, found.lost_s) == (0, 0)


def test_a_variant_waits_for_its_model() -> None:
    zoo = [Job(2, 2), Job(3, 3, after=0), Job(3, 3, after=0)]
    assert simulate(zoo, ONE).makespan_s == 5
    assert bounds(zoo, ONE) == {
        "all cores": 4,
        "all memory": 0,
        "the longest chain": 5,
        "the driver": 2,
    }


def test_a_chain_goes_before_a_longer_job() -> None:
    """The model takes 1 s and its variant 4: after 3 and 3 they end at 8, before them at 5."""
    zoo = [Job(3, 3), Job(3, 3), Job(1, 1), Job(4, 4, after=2)]
    assert simulate(zoo, ONE, longest_first).makespan_s == 8
    assert simulate(zoo, ONE, longest_chain_first(zoo)).makespan_s == 6


def test_memory_keeps_jobs_apart() -> None:
    large = [Job(5, 5, memory_mib=3000), Job(5, 5, memory_mib=3000)]
    found = simulate(large, ONE)
    # One core for 5 s while the second waits, and for 5 s while nothing does.
    assert (found.makespan_s, found.unfit_s, found.starved_s) == (10, 5, 5)
    assert bounds(large, ONE)["all memory"] == pytest.approx(10 * 3000 / 4096)


def test_a_small_job_passes_one_that_does_not_fit() -> None:
    large = Job(5, 5, memory_mib=3000)
    mixed = [large, large, Job(10, 10, memory_mib=1000)]
    assert simulate(mixed, ONE).makespan_s == 10


def test_the_cores_of_a_node_are_counted() -> None:
    assert simulate([Job(5, 5, cores=2), Job(1, 1), Job(1, 1)], ONE).makespan_s == 6


def test_a_job_that_no_node_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="no node can hold"):
        simulate([Job(1, 1, cores=3)], ONE)


def test_the_driver_hands_out_one_job_after_the_other() -> None:
    """The tenth is handed out at 5 s, and begins 0.25 s later on its node."""
    wide = Cluster(nodes=2, cores=5, memory_mib=1, dispatch_s=0.5, start_s=0.25)
    ten = jobs(*[1.0] * 10)
    found = simulate(ten, wide)
    assert found.makespan_s == pytest.approx(6.25)
    assert found.driver_s == pytest.approx(0.5 * 55)
    assert bounds(ten, wide)["the driver"] == pytest.approx(6.25)


def test_a_job_of_a_lost_node_begins_again() -> None:
    """It begins at 6 s and is lost at 10; another node takes it at 16."""
    one = Cluster(nodes=1, cores=1, memory_mib=1, startup_s=6)
    found = simulate(jobs(10), one, losses=[(10, 0)])
    assert (found.makespan_s, found.lost_s, found.retried) == (26, 4, 1)


def test_a_loss_after_the_last_job_changes_nothing() -> None:
    found = simulate(jobs(1), ONE, losses=[(5, 0)])
    assert (found.makespan_s, found.retried) == (1, 0)


def test_nodes_are_lost_as_often_as_they_are_said_to_be() -> None:
    day = 86400.0
    lost = lost_nodes(100, 0.5, 10 * day, random.Random(0))
    assert 400 < len(lost) < 600
    assert all(0 <= node < 100 for _, node in lost)
    assert lost_nodes(100, 0.0, day, random.Random(0)) == []


def test_no_schedule_is_below_the_bounds() -> None:
    rng = random.Random(1)
    zoo: list[Job] = []
    for _ in range(200):
        model = len(zoo)
        zoo.append(Job(rng.uniform(1, 9), rng.uniform(1, 9), rng.uniform(100, 2000)))
        zoo += [Job(rng.uniform(1, 5), 1, 500, after=model) for _ in range(3)]
    small = Cluster(nodes=3, cores=4, memory_mib=4096, startup_s=10, dispatch_s=0.01, start_s=0.1)
    for order in (first_come, longest_first, longest_chain_first(zoo)):
        found = simulate(zoo, small, order, lost_nodes(3, 100, 3600, random.Random(2)))
        assert found.makespan_s >= max(bounds(zoo, small).values())


def test_jobs_are_drawn_from_the_rows_of_a_run(tmp_path: Path) -> None:
    row = ok("a")
    found = manifest_of(row, fp16(row))
    (tmp_path / "manifest.json").write_text(manifest.dump(found))
    (measured,) = read(tmp_path)
    assert len(measured.variants) == 1
    made = drawn([measured], 3, 4, 0.0, random.Random(0))
    assert [job.after for job in made] == [None, 0, 0, 0, None, 4, 4, 4, None, 8, 8, 8]
    assert {job.seconds for job in made} == {measured.model.conversion}
    assert all(job.remembered == job.seconds for job in made)
