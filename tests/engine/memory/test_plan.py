"""The planner against brute force, the texts it reads, and the table it prints."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffexplain_fast.engine.memory.plan import Cost, Plan, choose_levels, least_bytes, parse_bytes

BYTES = st.integers(0, 12)


@st.composite
def chains(draw):
    """A few steps with a few levels each; a backward needs at least what was kept for it."""
    steps = []
    for _ in range(draw(st.integers(1, 4))):
        step = {}
        for name in "abc"[: draw(st.integers(1, 3))]:
            kept = draw(BYTES)
            step[name] = Cost(kept, kept + draw(BYTES), float(draw(st.integers(0, 20))))
        steps.append(step)
    return steps


def every_choice(costs):
    """Levels, most bytes at once apart from the decoder's turn, bytes kept, and time of every choice."""
    for names in itertools.product(*costs):
        chosen = [step[name] for step, name in zip(costs, names, strict=True)]
        kept = list(itertools.accumulate((cost.kept for cost in chosen), initial=0))
        # While a step runs backward the ones before it are kept; its own bytes are part of what it works with.
        peak = max(before + cost.working for before, cost in zip(kept, chosen, strict=False))
        yield list(names), peak, kept[-1], sum(cost.time for cost in chosen)


@settings(max_examples=200, deadline=None)
@given(chains(), BYTES, st.integers(0, 60))
def test_no_choice_under_the_limit_is_faster(costs, head, limit):
    fitting = [choice for choice in every_choice(costs) if max(choice[1], choice[2] + head) <= limit]
    levels = choose_levels(costs, head, limit)
    if not fitting:
        assert levels is None
        return
    (time,) = (time for names, _, _, time in fitting if names == levels)  # it is one of those that fit
    assert time == min(time for *_, time in fitting)


@settings(max_examples=200, deadline=None)
@given(chains(), st.integers(0, 40), st.integers(0, 20), st.data())
def test_no_choice_within_host_memory_is_faster(costs, limit, host, data):
    costs = [{name: replace(cost, host=data.draw(BYTES)) for name, cost in step.items()} for step in costs]

    def moved(names):
        return sum(step[name].host for step, name in zip(costs, names, strict=True))

    choices = [choice for choice in every_choice(costs) if max(choice[1], choice[2]) <= limit]
    fitting = {tuple(names): time for names, *_, time in choices if moved(names) <= host}
    levels = choose_levels(costs, 0, limit, host)
    assert (levels is None) == (not fitting)
    assert levels is None or fitting[tuple(levels)] == min(fitting.values())


@settings(max_examples=200, deadline=None)
@given(chains(), BYTES)
def test_the_least_limit_is_the_least(costs, head):
    least = least_bytes(costs, head)
    assert least == min(max(peak, kept + head) for _, peak, kept, _ in every_choice(costs))
    assert choose_levels(costs, head, least) is not None
    assert choose_levels(costs, head, least - 1) is None


@settings(max_examples=100, deadline=None)
@given(chains(), BYTES, st.integers(0, 60), st.integers(0, 60))
def test_more_bytes_are_never_slower(costs, head, limit, more):
    def time(levels):
        return sum(step[name].time for step, name in zip(costs, levels, strict=True))

    tight, loose = choose_levels(costs, head, limit), choose_levels(costs, head, limit + more)
    assert tight is None or (loose is not None and time(loose) <= time(tight))


def test_late_steps_keep_more_than_early_ones_where_they_may():
    """The bytes that a late step keeps are free again while an early one is computed again."""
    costs = [{"keep": Cost(10, 11, 1.0), "again": Cost(1, 11, 2.0)}] * 4
    assert choose_levels(costs, 0, 14) == ["again", "again", "again", "keep"]
    assert choose_levels(costs, 0, 41) == ["keep"] * 4


def test_twenty_steps_of_five_levels_are_planned_at_once():
    costs = [{str(i): Cost(1000 >> i, 1100, 1.0 + i / 7) for i in range(5)}] * 20
    for limit in range(1000, 22_000, 1000):
        assert (choose_levels(costs, 50, limit) is None) == (limit < least_bytes(costs, 50))


def test_fifty_steps_with_host_memory_are_planned_at_once():
    costs = [{str(i): Cost(1000 >> i, 1100, 1.0 + i / 7) for i in range(4)} | {"host": Cost(9, 1100, 1.2, 0, 400)}] * 50
    found = choose_levels(costs, 50, 20_000, 4100)
    assert found is not None and found.count("host") == 10


@pytest.mark.parametrize(
    ("memory", "size"),
    [
        (None, None),
        ("auto", None),
        (1, 1),
        ("123", 123),
        ("7B", 7),
        ("8GiB", 8 * 2**30),
        (" 500 MiB ", 500 * 2**20),
        ("0.5KiB", 512),
        ("2 GB", 2 * 10**9),
    ],
)
def test_a_byte_limit_is_read_from_numbers_and_text(memory, size):
    assert parse_bytes(memory) == size


@pytest.mark.parametrize(
    "memory",
    ["", "GiB", "8gib", "8 gigabytes", "-1GiB", "1e9", "8GiB!", "nan", "AUTO", "0", "0.1B", 0, -5, "1,5GiB", "9" * 400],
    ids=str,
)
def test_a_text_that_is_not_a_byte_limit_is_refused(memory):
    with pytest.raises(ValueError, match="memory: wanted 'auto', None, a number of bytes, or text such as '8GiB', got"):
        parse_bytes(memory)


@pytest.mark.parametrize("memory", [1.5, True, [8], b"8GiB", object()], ids=lambda memory: type(memory).__name__)
def test_a_value_that_is_neither_number_nor_text_is_refused(memory):
    with pytest.raises(TypeError, match=f"memory: wanted .*got {type(memory).__name__}"):
        parse_bytes(memory)


def test_a_plan_prints_as_a_table():
    parts = {"weights": 3 * 2**20, "2 steps, keep": 2**19}
    plan = Plan(("keep", "keep", "block"), parts, 4 * 2**20, 5 * 2**20, 0.25, "a note")
    assert str(plan).splitlines() == [
        "weights                  3.0 MiB",
        "2 steps, keep            0.5 MiB",
        "predicted peak           4.0 MiB",
        "limit                    5.0 MiB",
        "computed again            25 % of a forward",
        "note            a note",
    ]
    assert plan.summary == "2 steps at keep, the decoder at block, 25 % computed again"
    mixed = Plan(("step", "lean", "lean", "bands"), parts, 1, None, 0.5)
    assert mixed.summary == "1 step at step, 2 at lean, the decoder at bands, 50 % computed again"
    plain = str(Plan(("keep",), parts, 4 * 2**20, None, 0.0))
    assert "limit                       none" in plain and "note" not in plain
