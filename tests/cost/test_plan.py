import keras
import numpy as np
import pytest
from keras import layers

from spfde_keras import AlternatingSparseTraining, sparsify
from spfde_keras.alternating import JointSparseTraining
from spfde_keras.cost.model import profile
from spfde_keras.cost.plan import TrainingPlan
from spfde_keras.freezing.plan import FreezePlan, Freezing
from spfde_keras.schedules import Step
from spfde_keras.updaters import MESTEMS, SET, Magnitude, Mutation, RigL
from spfde_keras.updaters.prune_and_regrow import PruneAndRegrow


@pytest.fixture
def cost():
    """Two kernels of 100 and 50 MACs in two blocks."""
    inputs = keras.Input((10,))
    x = layers.Dense(10, name="a")(inputs)
    return profile(keras.Model(inputs, layers.Dense(5, name="b")(x)))


DENSITIES = {"a/kernel": 0.1, "b/kernel": 0.2}


def plan(cost, updater, **changes):
    run = {"epochs": 4, "interval": 2, "samples": 1000, "batch_size": 10} | changes
    return TrainingPlan(cost, DENSITIES, updater, **run)


def test_a_plan_without_updater_by_hand(cost):
    # 10 + 10 MACs forward; both weight gradients; the input gradient of `b`.
    whole = plan(cost, None).cost()
    np.testing.assert_allclose(whole.flops, [1000 * 2 * (10 + 10 + 20 + 10)] * 4)
    np.testing.assert_allclose(whole.memory, [4 * 2 * (10 + 10 + 10 * 15)] * 4)
    assert whole.total == pytest.approx(400_000)


def test_freezing_by_hand(cost):
    frozen = plan(cost, None).cost(FreezePlan([0, 0, 1, 1], blocks=2))
    np.testing.assert_allclose(frozen.flops, np.array([50, 50, 30, 30]) * 2000)
    np.testing.assert_allclose(frozen.memory[2:], 4 * (10 + 100 + 2 * (10 + 50)))


def test_a_soft_bound_counts_until_its_block_is_frozen(cost):
    updater = MESTEMS(Step((0.05, 0.0), (0.5,)), lam=0.0)
    whole = plan(cost, updater, epochs=8)
    # a: 15 then 10 MACs, b: 12.5 then 10.
    flops = whole.flops(FreezePlan([0, 0, 1, 1, 0, 0, 0, 0], blocks=2))
    assert flops[0] == pytest.approx(2000 * (2 * 15 + 3 * 12.5))
    assert flops[3] == pytest.approx(2000 * (10 + 2 * 12.5))
    assert flops[4] == pytest.approx(2000 * (2 * 10 + 3 * 10))
    assert whole.cost().memory[0] == pytest.approx(4 * 2 * (15 + 12.5 + 150))


def test_the_density_is_that_at_the_last_update(cost):
    class Falling(SET):
        def densities(self, t, density):
            return density, density * (2 - t)

    whole = plan(cost, Falling(stop=1.0), epochs=8, interval=3)
    np.testing.assert_allclose(whole.flops() / 100_000, [2, 2, 2, 1.625, 1.625, 1.625, 1.25, 1.25])


def test_a_kernel_that_nothing_happens_to_has_its_final_density(cost):
    class Resting(SET):
        def plan(self, moment, t, density):
            return Mutation()

    np.testing.assert_array_equal(plan(cost, Resting()).cost().flops, plan(cost, None).cost().flops)


def test_rigl_pays_a_pass_with_a_dense_gradient_per_update(cost):
    flops = plan(cost, RigL(stop=0.5), epochs=8).cost().flops
    extra = 10 * 2 * (20 + 150 + 10)
    # Updates before epochs 2 and 4; the latter at `stop`.
    np.testing.assert_allclose(flops - 100_000, [0, 0, extra, 0, extra, 0, 0, 0])


def test_set_needs_no_gradient(cost):
    np.testing.assert_allclose(plan(cost, SET()).cost().flops, [100_000] * 4)


def test_each_epoch_has_its_own_samples(cost):
    whole = plan(cost, None, samples=[1000, 1000, 500, 0]).cost()
    np.testing.assert_allclose(whole.flops, [100_000, 100_000, 50_000, 0])
    arrays = plan(cost, None, samples=np.array([1000, 1000, 500, 0])).cost()
    np.testing.assert_array_equal(arrays.flops, whole.flops)
    for wrong in ([1000] * 3, [-1] * 4, "1000"):
        with pytest.raises(ValueError, match="`samples` must be a"):
            plan(cost, None, samples=wrong)


def test_it_fits_the_freezing_solver(cost):
    whole = plan(cost, MESTEMS(), epochs=20)
    solved = whole.solve(Freezing(0.2))
    saved = 1 - whole.cost(solved).total / whole.cost().total
    assert saved == pytest.approx(0.2, abs=0.04)


SUBNETS = [DENSITIES, {"a/kernel": 0.3, "b/kernel": 0.4}]


@pytest.mark.parametrize("passes", [1, 2])
def test_several_sub_nets_cost_their_mean_for_each_that_a_step_trains(cost, passes):
    whole = TrainingPlan(cost, SUBNETS, None, 4, 2, 1000, 10, passes)
    # 10 + 10 MACs forward in the first and 30 + 20 in the second.
    flops = whole.flops(FreezePlan([0, 0, 1, 1], blocks=2))
    assert flops[0] == pytest.approx(passes * 1000 * 2 * (50 + 30 + 20 + 50 + 20) / 2)
    assert flops[2] == pytest.approx(passes * 1000 * 2 * (10 + 20 + 30 + 40) / 2)
    single = [TrainingPlan(cost, one, None, 4, 2, 1000, 10) for one in SUBNETS]
    mean = np.mean([plan.cost().flops for plan in single], axis=0)
    np.testing.assert_allclose(whole.cost().flops, passes * mean)
    # Held in memory is the densest.
    np.testing.assert_allclose(whole.cost().memory, single[1].cost().memory)


def test_a_list_of_one_sub_net_is_that_sub_net(cost):
    one = TrainingPlan(cost, [DENSITIES], RigL(), 8, 2, 1000, 10).cost()
    other = TrainingPlan(cost, DENSITIES, RigL(), 8, 2, 1000, 10).cost()
    np.testing.assert_array_equal(one.flops, other.flops)
    np.testing.assert_array_equal(one.memory, other.memory)


@pytest.mark.parametrize("passes", [1, 2])
def test_each_sub_net_pays_for_its_own_gradients(cost, passes):
    """However many of them a step trains."""
    plans = [TrainingPlan(cost, SUBNETS, u, 8, 2, 1000, 10, passes) for u in (RigL(stop=0.5), None)]
    with_gradients, without = (plan.cost().flops for plan in plans)
    extra = 10 * 2 * (20 + 150 + 10) + 10 * 2 * (50 + 150 + 20)
    np.testing.assert_allclose(with_gradients - without, [0, 0, extra, 0, extra, 0, 0, 0])


def test_sub_nets_fall_from_one_density_each_to_its_own(cost):
    updater = PruneAndRegrow(initial_density=0.5, end=0.5)
    whole = TrainingPlan(cost, SUBNETS, updater, 4, 1, 1000, 10)
    # All at a half at first; after a half of the way an eighth of the fall is left.
    flops, frozen = whole.flops(), whole.flops(FreezePlan([0, 1, 1, 1], blocks=2))
    assert flops[0] == pytest.approx(2000 * (2 * 50 + 3 * 25))
    halfway = 2 * (10 + 40 / 8 + 30 + 20 / 8) + 3 * (10 + 15 / 8 + 20 + 5 / 8)
    assert flops[1] == pytest.approx(2000 * halfway / 2)
    # The block that is frozen has been settled.
    macs = 10 + 30 + 2 * (10 + 15 / 8 + 20 + 5 / 8)
    assert frozen[1] == pytest.approx(2000 * macs / 2)
    assert flops[2] == pytest.approx(2000 * (2 * 40 + 3 * 30) / 2)


def test_a_ramp_ends_with_its_block(cost):
    """`a` freezes after 3 of 6 epochs, and its cubic has come a third of its way in each."""
    whole = plan(cost, Magnitude(stop=1.0), epochs=6, interval=1)
    left = lambda t: (1 - t) ** 3  # noqa: E731
    a = [100 * (0.1 + 0.9 * left(e / 3)) for e in range(3)] + [10] * 3
    b = [50 * (0.2 + 0.8 * left(e / 6)) for e in range(6)]
    flops = whole.flops(FreezePlan([0, 0, 0, 1, 1, 1], blocks=2))
    trained = [2 * x + 3 * y for x, y in zip(a, b, strict=True)]
    trained[3:] = [x + 2 * y for x, y in zip(a[3:], b[3:], strict=True)]
    np.testing.assert_allclose(flops, 2000 * np.array(trained))


def test_blocks_with_ramps_train_two_intervals_at_least(cost):
    falls, stays = (plan(cost, u, epochs=4, interval=1) for u in (Magnitude(), SET()))
    assert stays.solve(Freezing(0.25)).frozen.tolist() == [0, 1, 1, 1]
    with pytest.raises(ValueError, match="at most"):
        falls.solve(Freezing(0.25))
    with pytest.raises(ValueError, match="must train for 2 intervals.*'periodic'"):
        falls.solve(Freezing(None, "periodic"))
    assert stays.solve(Freezing(None, "periodic")).frozen.any()
    assert falls.solve(Freezing(0.01)).frozen.tolist()[:2] == [0, 0]


def test_blocks_that_the_user_has_frozen_take_no_turn(cost):
    inputs = keras.Input((10,))
    x = inputs
    for name in "abc":
        x = layers.Dense(10, name=name)(x)
    three = profile(keras.Model(inputs, x))
    # Of 8 kernel passes that two trained blocks take, a frozen one saves 2, in 2 of 10 epochs.
    solved = TrainingPlan(three, {}, SET(), 10, 1, 1).solve(Freezing(0.05), first=1)
    assert solved.frozen.tolist() == [1] * 8 + [2] * 2


@pytest.mark.parametrize(
    ("kind", "updater", "freeze"),
    [
        (AlternatingSparseTraining, "prune_and_regrow", None),
        (AlternatingSparseTraining, "mest_ems", 0.1),
        (AlternatingSparseTraining, "prune_and_regrow", 0.15),
        (JointSparseTraining, "prune_and_regrow", 0.1),
    ],
)
def test_the_plan_is_about_what_sub_nets_book(kind, updater, freeze):
    """Within an interval they follow the first one late, and those to be frozen pay once more."""
    plain = keras.Sequential([keras.Input((8,)), *(layers.Dense(16) for _ in range(4))])
    model = sparsify(plain, sparsity=[0.5, 0.75, 0.9])
    model.compile("sgd", "mse")
    callback = kind(10, updater=updater, interval=1, freeze=freeze)
    x, y = np.zeros((96, 8), "float32"), np.zeros((96, 16), "float32")
    model.fit(x, y, epochs=10, batch_size=4, verbose=0, callbacks=[callback])
    planned = callback.planned_cost(samples=96, batch_size=4)
    assert callback.training_flops == pytest.approx(planned.total, rel=0.04)
