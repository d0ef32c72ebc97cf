"""One step of an updater: planned, then carried out, as the callbacks do."""

from spfde_keras.updaters import Change, Moment, Updater, carry_out


def mutate(updater: Updater, moment: Moment, subnet, t: float, rng, gradient=None) -> Change:
    mutation = updater.plan(moment, t, 1 - subnet.sparsity)
    return carry_out(mutation, updater, subnet, rng, gradient)
