"""Three sub-nets of the digits from one training, whole."""

import keras
import numpy as np

from apps import models
from spfde_keras import AlternatingSparseTraining, sparsify
from spfde_keras.masking import find_masks


def test_one_training_makes_three_nets_of_the_digits(digits):
    x_train, x_test = (np.asarray(digits.normalize(x)) for x in (digits.train_x, digits.test_x))
    plain = models.build("small_cnn", digits.input_shape, digits.classes, width=0.5)
    model = sparsify(plain, sparsity=[0.8, 0.9, 0.95])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"], steps_per_execution=4
    )
    training = AlternatingSparseTraining(epochs=8, interval=1)
    history = model.fit(
        x_train, digits.train_y, batch_size=32, epochs=8, verbose=0, callbacks=[training]
    ).history

    accuracies = []
    for subnet in range(3):
        model.activate(subnet)
        accuracies.append(model.evaluate(x_test, digits.test_y, verbose=0)[1])
        # Every net is one of its own, and the weights it does not keep do not count.
        outputs = model.predict(x_test[:64], verbose=0)
        kept = [mask.read() for mask in find_masks(model)]
        for mask, (kernel, masks) in zip(find_masks(model), kept, strict=True):
            mask.kernel.assign(np.where(masks[subnet], kernel, 7.0))
        np.testing.assert_array_equal(model.predict(x_test[:64], verbose=0), outputs)
        for mask, (kernel, _) in zip(find_masks(model), kept, strict=True):
            mask.kernel.assign(kernel)
    assert min(accuracies) > 0.93
    for mask in find_masks(model):
        counts = [subnet.count(1 - subnet.sparsity) for subnet in mask.subnets]
        assert [kept.sum() for kept in mask.read()[1]] == counts
    assert sum(history["gradient_corrections"]) > 0
    assert history["flops_share"][-1] < 0.35
