import json

import keras
import pytest

from spfde_keras import schedules
from spfde_keras.schedules import Constant, Cosine, Cubic, Polynomial, Step


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Constant(0.3), {0: 0.3, 0.5: 0.3, 1: 0.3}),
        (Step((3, 2, 1), (0.25, 0.5)), {0: 3, 0.24: 3, 0.25: 2, 0.49: 2, 0.5: 1, 1: 1}),
        (Step((1,), ()), {0: 1, 1: 1}),
        (Polynomial(1, 0), {0: 1, 0.25: 0.75, 1: 0}),
        (Polynomial(4, 2, power=2), {0: 4, 0.5: 2.5, 1: 2}),
        (Polynomial(0, 1, begin=0.2, end=0.6), {0: 0, 0.2: 0, 0.4: 0.5, 0.6: 1, 1: 1}),
        (Cubic(1, 0), {0: 1, 0.5: 1 / 8, 0.75: 1 / 64, 1: 0}),
        (Cubic(1, 0.1, 0.2, 0.6), {0.1: 1, 0.4: 0.1 + 0.9 / 8, 0.7: 0.1}),
        (Cosine(0.4), {0: 0.4, 1 / 3: 0.3, 0.5: 0.2, 2 / 3: 0.1, 1: 0}),
        (Cosine(1, 0.5, 0.5, 0.75), {0.4: 1, 0.625: 0.75, 0.75: 0.5, 0.9: 0.5}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values(schedule, values):
    for t, value in values.items():
        assert schedule(t) == pytest.approx(value)


def test_a_boundary_is_reached_though_rounding_falls_short():
    assert Step((1, 0), (0.3,))(0.1 * 3 - 1e-16) == 0
    assert Step((1, 0), (90 / 160,))(18 * 5 / 160) == 0


ALL = [
    Constant(0.3),
    Step((0.05, 0.025, 0.0), (0.5, 0.75)),
    Polynomial(1.0, 0.1, 2.0, 0.1, 0.9),
    Cubic(1.0, 0.0, 0.1, 0.9),
    Cosine(0.3, 0.1, 0.1, 0.9),
]


@pytest.mark.parametrize("schedule", ALL, ids=lambda schedule: type(schedule).__name__)
def test_a_restored_schedule_is_equal(schedule):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(schedule)))
    restored = schedules.get(config)
    assert type(restored) is type(schedule)
    assert restored.get_config() == schedule.get_config()
    assert [restored(t / 16) for t in range(17)] == [schedule(t / 16) for t in range(17)]


def test_get_takes_schedules_and_numbers():
    schedule = Cosine(0.3)
    assert schedules.get(schedule) is schedule
    assert schedules.get(1)(0.5) == 1.0
    assert schedules.get(0.25)(0.5) == 0.25


@pytest.mark.parametrize("identifier", ["cosine", None, [0.1]])
def test_get_refuses_the_rest(identifier):
    with pytest.raises(ValueError, match="`schedule` must be a Schedule,.* or a number"):
        schedules.get(identifier)


def test_a_share_stays_in_0_to_1():
    assert schedules.share("bound", 0.5)(0.0) == 0.5
    for wrong in (1.5, -0.1, Polynomial(0.5, -0.5), Cosine(2.0)):
        with pytest.raises(ValueError, match=r"`bound` must be in \[0, 1\].*Received: values from"):
            schedules.share("bound", wrong)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Step((1, 2), ()), "`values` must have one entry more than `boundaries`"),
        (lambda: Step((1, 2, 3), (0.5, 0.5)), r"`boundaries` must increase. .*\[0.5, 0.5\]"),
        (lambda: Step((1, 2, 3), (0.5, 0.2)), "`boundaries` must increase"),
        (
            lambda: Polynomial(1, 0, power=0),
            "`power` must be a .* greater than 0. Received: 0",
        ),
        (lambda: Polynomial(1, 0, begin=0.5, end=0.5), "`begin` must be before `end`"),
        (lambda: Cubic(1, 0, 0.6, 0.5), "`begin` must be before `end`. Received: begin=0.6"),
        (lambda: Cosine(1, begin=1.0), "`begin` must be before `end`"),
    ],
)
def test_arguments_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
