"""Waves: valid on any cluster, never below the bound, near it where it can be, blind to order."""

import random
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from math import ceil, isclose

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.optimize import linprog

from persyn_ray.errors import ConfigError
from persyn_ray.scheduling.schedule import Job, lower_bound, schedule

ANY = 10**6  # as many replicas as fit
SECONDS = st.one_of(st.just(0.0), st.floats(0.01, 1e4), st.sampled_from([1.0, 60.0, 100.0]))


@st.composite
def clusters(draw):
    """Jobs that fit, of any width, and nodes of any size."""
    nodes = draw(st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any))
    jobs = []
    for number in range(draw(st.integers(1, 8))):
        per_node = draw(st.integers(1, max(nodes)))
        groups = draw(st.integers(1, sum(gpus // per_node for gpus in nodes)))
        most = draw(st.sampled_from([1, 2, 3, ANY]))
        load, work = draw(SECONDS), draw(SECONDS)
        jobs.append(Job(f"t{number}", groups * per_node, per_node, load, work, most))
    return jobs, nodes


def job(name, workers=1, load=10.0, work=100.0, most=ANY, per_node=None):
    return Job(name, workers, per_node or workers, load, work, most)


def pool(seed, num=19):
    """Teachers of about the sizes, loads and shares of a real pool."""
    rng = np.random.default_rng(seed)
    widths = rng.choice([1, 1, 1, 1, 2, 4, 8], size=num)
    return [
        job(f"t{i}", int(width), 60 + 20.0 * width, float(rng.lognormal(5, 1)))
        for i, width in enumerate(widths)
    ]


def check(plan, jobs, nodes):
    """Everything that makes a schedule a schedule."""
    by_name = {each.name: each for each in jobs}
    assert {part.job for part in plan.parts} == set(by_name)
    assert [part.start for part in plan.parts] == sorted(part.start for part in plan.parts)
    assert plan.makespan == max(part.end for part in plan.parts)
    assert plan.makespan >= plan.bound * (1 - 1e-6)
    slack = 1e-6 * max(plan.makespan, 1e-6)
    for part in plan.parts:
        check_gpus(part, by_name[part.job], nodes)
    for name, each in by_name.items():
        check_work([part for part in plan.parts if part.job == name], each, slack)
    check_order(plan, slack)


def check_gpus(part, each, nodes):
    assert len(set(part.gpus)) == len(part.gpus) == part.replicas * each.workers
    assert all(0 <= gpu < nodes[node] for node, gpu in part.gpus)
    for first in range(0, len(part.gpus), each.per_node):
        group = part.gpus[first : first + each.per_node]
        assert len({node for node, _ in group}) == 1
        assert list(group) == sorted(group)


def check_work(parts, each, slack):
    assert isclose(sum(part.share for part in parts), 1, rel_tol=1e-9)
    for part in parts:
        worked = part.replicas * (part.end - part.start - each.load_seconds)
        assert part.share > 0
        assert worked == pytest.approx(part.share * each.work_seconds, abs=slack)
        at_once = sum(p.replicas for p in parts if p.start <= part.start < p.end)
        assert at_once <= each.max_replicas


def check_order(plan, slack):
    """No GPU is held twice; `after` is what happens on the GPUs, and it alone gives the starts."""
    held = defaultdict(list)
    for position, part in enumerate(plan.parts):
        assert all(before < position for before in part.after)
        for gpu in part.gpus:
            held[gpu].append(position)
    expected = defaultdict(set)
    for positions in held.values():
        for before, position in pairwise(positions):
            assert plan.parts[before].end <= plan.parts[position].start
            expected[position].add(before)
    ends = []
    for position, part in enumerate(plan.parts):
        assert set(part.after) == expected[position]
        start = max((ends[before] for before in part.after), default=0.0)
        assert start == pytest.approx(part.start, abs=slack)
        ends.append(start + part.end - part.start)


@given(clusters())
@example(([job("a", load=0, work=0), job("b", load=0, work=0)], [1]))
@example(([job("a", 3), job("b", 6, per_node=3), job("c", 2, most=1)], [8, 0, 5]))
def test_any_schedule_is_valid(cluster):
    jobs, nodes = cluster
    plan = schedule(jobs, nodes)
    check(plan, jobs, nodes)
    in_turn = sum(each.load_seconds + each.work_seconds for each in jobs)
    assert plan.makespan <= in_turn * (1 + 1e-9)


@given(clusters(), st.randoms(use_true_random=False))
def test_the_order_of_jobs_does_not_matter(cluster, shuffle):
    jobs, nodes = cluster
    shuffled = list(jobs)
    shuffle.shuffle(shuffled)
    assert schedule(shuffled, nodes) == schedule(jobs, nodes)


@given(clusters(), st.floats(0.01, 100))
def test_the_unit_of_time_does_not_matter(cluster, factor):
    jobs, nodes = cluster
    scaled = [
        replace(
            each, load_seconds=factor * each.load_seconds, work_seconds=factor * each.work_seconds
        )
        for each in jobs
    ]
    assert lower_bound(scaled, nodes) == pytest.approx(factor * lower_bound(jobs, nodes))


def test_one_job_on_one_gpu_loads_and_works():
    plan = schedule([job("a", load=10, work=100)], [1])
    assert plan.makespan == plan.bound == pytest.approx(110)
    (part,) = plan.parts
    assert (part.job, part.replicas, part.gpus, part.after) == ("a", 1, ((0, 0),), ())
    assert part.share == 1


def test_one_job_takes_all_gpus_as_replicas_of_one_part():
    plan = schedule([job("a", workers=2, load=10, work=400)], [8, 0, 5])
    assert plan.makespan == pytest.approx(10 + 400 / 6)
    (part,) = plan.parts
    assert part.replicas == 6
    assert part.gpus[-4:] == ((2, 0), (2, 1), (2, 2), (2, 3))


def test_two_equal_jobs_on_two_gpus_run_side_by_side():
    plan = schedule([job("a"), job("b")], [2])
    assert plan.makespan == pytest.approx(110)
    assert [part.gpus for part in plan.parts] == [((0, 0),), ((0, 1),)]
    assert all(part.after == () for part in plan.parts)


def test_three_jobs_on_two_gpus_wrap_around():
    # McNaughton: half of one job's work moves to the other GPU, at the price of one more load.
    plan = schedule([job(name, load=0, work=100, most=1) for name in "abc"], [2])
    assert plan.makespan == pytest.approx(150, rel=2e-3)
    loads = schedule([job(name, load=10, work=100) for name in "abc"], [2])
    assert loads.makespan == pytest.approx((3 * 110 + 10) / 2, rel=2e-3)


def test_max_replicas_leaves_gpus_idle():
    plan = schedule([job("a", load=10, work=400, most=3)], [8])
    assert plan.makespan == plan.bound == pytest.approx(10 + 400 / 3)
    assert sum(part.replicas for part in plan.parts) == 3


def test_a_group_never_leaves_its_node():
    wide = job("wide", workers=3, load=10, work=100)
    plan = schedule([wide], [2, 3, 5])
    (part,) = plan.parts
    assert part.gpus == ((1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2))


def test_pipeline_stages_stand_in_several_nodes():
    plan = schedule([job("deep", workers=16, per_node=8)], [8, 4, 8])
    assert plan.makespan == pytest.approx(110)
    assert {node for node, _ in plan.parts[0].gpus} == {0, 2}


def test_narrow_jobs_fill_what_odd_widths_leave():
    plan = schedule([job("six", 6, 0, 100), job("two", 2, 0, 100)], [8])
    assert plan.makespan == plan.bound == pytest.approx(100)


def test_no_jobs_take_no_time():
    assert schedule([], []).parts == ()
    assert schedule([], [8]).makespan == lower_bound([], []) == 0


@pytest.mark.parametrize("work", [0, 1e-15])
def test_a_job_without_work_only_loads(work):
    (part,) = schedule([job("a", load=10, work=work)], [4]).parts
    assert (part.replicas, part.end, part.share) == (1, 10, 1)


@pytest.mark.parametrize("nodes", [[], [0, 0], [4, 4], [7]])
def test_a_job_that_cannot_fit_is_refused(nodes):
    with pytest.raises(ConfigError, match=r"big needs 8 GPUs .* the nodes with GPUs are: "):
        schedule([job("small"), job("big", workers=8)], nodes)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"workers": 0}, "workers=0"),
        ({"workers": 6, "per_node": 4}, "per_node must divide workers"),
        ({"max_replicas": 0}, "max_replicas=0"),
        ({"load_seconds": -1.0}, "load_seconds=-1.0"),
        ({"work_seconds": float("nan")}, "work_seconds=nan"),
    ],
)
def test_ill_formed_jobs_are_refused(changed, message):
    with pytest.raises(ConfigError, match=message):
        schedule([replace(job("a"), **changed)], [8])


def test_names_and_nodes_are_checked():
    with pytest.raises(ConfigError, match="a stands twice"):
        schedule([job("a"), job("a")], [8])
    with pytest.raises(ConfigError, match="0 or more"):
        lower_bound([job("a")], [8, -1])


@pytest.mark.parametrize("seed", range(12))
def test_the_bound_is_where_the_linear_programme_turns_feasible(seed):
    rng = np.random.default_rng(seed)
    nodes = [8] * int(rng.integers(1, 6))
    jobs = pool(seed, num=int(rng.integers(1, 25)))
    bound = lower_bound(jobs, nodes)
    assert feasible(jobs, nodes, bound * (1 + 1e-6))
    assert not feasible(jobs, nodes, bound * (1 - 1e-6))


def feasible(jobs, nodes, seconds):
    """Whether fractional starts exist, by a solver; widths divide 8, so all GPUs can be held."""
    load, work, width = (
        np.array([getattr(each, field) for each in jobs])
        for field in ("load_seconds", "work_seconds", "workers")
    )
    if any(load + work * width / sum(nodes) > seconds):
        return False
    found = linprog(
        c=np.zeros(len(jobs)),
        A_ub=np.vstack([-np.diag(seconds - load), width * load]),
        b_ub=np.append(-work, sum(nodes) * seconds - width @ work),
        bounds=(1, None),
    )
    return found.status == 0


@pytest.mark.parametrize("seed", range(6))
def test_whole_starts_tighten_the_bound(seed):
    jobs, nodes = pool(seed), [8] * 4
    loose, tight = lower_bound(jobs, nodes), lower_bound(jobs, nodes, whole_starts=True)
    assert loose <= tight <= schedule(jobs, nodes).makespan * (1 + 1e-6)
    held = sum(
        each.workers
        * (
            each.work_seconds
            + each.load_seconds
            * max(1, ceil(each.work_seconds / (tight - each.load_seconds) - 1e-6))
        )
        for each in jobs
    )
    assert held <= 32 * tight * (1 + 1e-6)


def test_the_bound_knows_what_odd_widths_cannot_hold():
    # Two groups of 3 leave 2 of 8 GPUs idle, whatever the order.
    assert lower_bound([job("a", 3, 0, 100), job("b", 3, 0, 300)], [8]) == pytest.approx(200)
    # A group of 8 only runs in the one node of 8.
    wide = [job(name, 8, 0, 100) for name in "abc"]
    assert lower_bound(wide, [8, 4, 4]) == pytest.approx(300)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("num_nodes", [1, 2, 4, 8])
def test_a_real_pool_comes_close_to_the_bound(seed, num_nodes):
    jobs, nodes = pool(seed), [8] * num_nodes
    plan = schedule(jobs, nodes)
    check(plan, jobs, nodes)
    assert plan.makespan <= 1.15 * plan.bound


@pytest.mark.parametrize("seed", range(2))
def test_more_nodes_never_hurt(seed):
    jobs = pool(seed)
    spans = [schedule(jobs, [8] * num).makespan for num in (1, 2, 3, 4, 6, 8, 12)]
    assert spans == sorted(spans, reverse=True)


def test_work_much_longer_than_loads_comes_to_the_bound():
    rng = random.Random(0)
    jobs = [job(f"t{i}", rng.choice([1, 2, 4, 8]), 1, 1e5 * rng.random()) for i in range(20)]
    plan = schedule(jobs, [8] * 4)
    assert plan.makespan == pytest.approx(plan.bound, rel=3e-3)
