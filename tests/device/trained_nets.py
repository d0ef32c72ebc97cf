"""Nets, optimizers and losses whose updates a file must make as Keras does."""

import keras

L = keras.layers
O = keras.optimizers  # noqa: E741


def residual(x):
    y = L.Conv2D(8, 3, padding="same", use_bias=False)(x)
    y = L.ReLU()(L.BatchNormalization()(y))
    z = L.BatchNormalization(momentum=0.9)(L.Conv2D(8, 3, padding="same")(y))
    y = L.ReLU()(L.Add()([y, z]))
    z = L.BatchNormalization(scale=False)(L.Conv2D(8, 3, strides=2, padding="same")(y))
    return L.Add()([z, L.Conv2D(8, 1, strides=2)(y)])


def separable(x):
    y = L.ReLU(max_value=6)(L.SeparableConv2D(8, 3, depth_multiplier=2)(x))
    y = L.BatchNormalization()(L.DepthwiseConv2D(3, strides=2, padding="same")(y))
    return L.Conv2D(8, 1, activation="silu")(y)


def pools(x):
    y = L.MaxPooling2D(2)(L.Conv2D(8, 3, padding="same")(x))
    y = L.MaxPooling2D(3, strides=2, padding="same")(y)
    y = L.AveragePooling2D(2, strides=1, padding="same")(y)
    return L.Concatenate()([L.GlobalAveragePooling2D()(y), L.GlobalMaxPooling2D()(y)])


def norms(x):
    y = L.LayerNormalization()(L.Conv2D(8, 3, padding="same")(x))
    y = L.GroupNormalization(2)(L.Conv2D(8, 3)(y))
    return L.RMSNormalization()(L.UnitNormalization()(y))


def squeezed(x):
    y = L.Conv2D(8, 3, groups=2, activation="relu")(L.Conv2D(6, 1)(x))
    s = L.Dense(2, activation="gelu")(L.GlobalAveragePooling2D(keepdims=True)(y))
    return L.Multiply()([y, L.Dense(8, activation="sigmoid")(s)])


def reshaped(x):
    y = L.Cropping2D(1)(L.Conv2D(4, 3, dilation_rate=2)(L.ZeroPadding2D(1)(x)))
    y = L.Conv2DTranspose(4, 3, strides=2, padding="same")(L.UpSampling2D(2)(y))
    return L.Permute((2, 1, 3))(y)[:, 1:-1, ::2]


def channels_first(x):
    return L.Conv2D(4, 3, data_format="channels_first")(L.Permute((3, 1, 2))(x))


def penalized(x):
    settings = {"kernel_regularizer": "l2", "activity_regularizer": keras.regularizers.L2(0.01)}
    y = L.Dense(8, kernel_constraint="non_neg", **settings)(x)
    return L.Dense(8, kernel_constraint=keras.constraints.MaxNorm(0.5))(y)


def frozen(x):
    layers = [L.Conv2D(8, 3, activation="relu"), L.BatchNormalization()]
    for layer in layers:
        x = layer(x)
        layer.trainable = False
    return L.BatchNormalization()(L.Conv2D(8, 3)(x))


def nested(x):
    inner = [keras.Input(x.shape[1:]), L.Conv2D(8, 3), L.BatchNormalization()]
    return keras.Sequential(inner)(x)


def sequences(x):
    y = L.Conv1D(8, 3, padding="causal", dilation_rate=2, activation="relu")(x)
    y = L.SeparableConv1D(8, 3, padding="same")(L.MaxPooling1D(2)(y))
    y = L.Conv1D(8, 3, strides=2, padding="same")(L.DepthwiseConv1D(3, padding="same")(y))
    return L.AveragePooling1D(2)(y)


def attention(x):
    y = L.Dense(8)(x)
    z = L.MultiHeadAttention(2, 4)(y, y, use_causal_mask=True)
    y = L.LayerNormalization()(L.Add()([y, z]))
    return L.Add()([y, L.Dense(8)(L.Dense(16, activation="gelu")(y))])


def recurrent(x):
    return L.LSTM(8, unroll=True)(x)


def activations(x):
    names = (
        "relu6 leaky_relu elu selu gelu silu softplus softsign sigmoid tanh hard_sigmoid hard_silu "
        "mish exponential celu log_sigmoid hard_tanh squareplus"
    )
    y = L.Flatten()(x)
    parts = [L.Dense(3, activation=name)(y) for name in names.split()]
    return L.Concatenate()([*parts, L.PReLU()(L.Dense(3)(y)), L.Softmax()(L.Dense(3)(y))])


IMAGES = [
    residual,
    separable,
    pools,
    norms,
    squeezed,
    reshaped,
    channels_first,
    penalized,
    frozen,
    nested,
    activations,
]
SEQUENCES = [sequences, attention, recurrent]


def classifier(body, classes=4):
    """A net with a body from above."""
    x = keras.Input((8, 8, 3) if body in IMAGES else (12, 3))
    y = body(x)
    y = y if len(y.shape) == 2 else L.Flatten()(y)
    return keras.Model(x, L.Dense(classes, activation="softmax")(y))


def looked_up():
    """A net of integers."""
    x = keras.Input((6,), dtype="int32")
    y = L.GlobalAveragePooling1D()(L.Embedding(2, 8)(x))
    return keras.Model(x, L.Dense(4, activation="softmax")(L.Dense(8)(y)))


def small(units=4, activation="softmax"):
    """A net of two masked layers, for optimizers and losses."""
    x = keras.Input((6, 6, 2))
    y = L.Dense(8, activation="relu")(L.Flatten()(L.Conv2D(4, 3, activation="tanh")(x)))
    return keras.Model(x, L.Dense(units, activation=activation)(y))


OPTIMIZERS = {
    "sgd": lambda: O.SGD(0.1),
    "nesterov": lambda: O.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=1e-2),
    "adam": O.Adam,
    "amsgrad": lambda: O.Adam(amsgrad=True, clipvalue=0.01),
    "adamw": lambda: O.AdamW(weight_decay=0.01, clipnorm=0.1),
    "global_clipnorm": lambda: O.SGD(0.1, global_clipnorm=0.1, use_ema=True),
    "rmsprop": lambda: O.RMSprop(momentum=0.9, centered=True),
    "adagrad": O.Adagrad,
    "adadelta": O.Adadelta,
    "adamax": O.Adamax,
    "nadam": O.Nadam,
    "ftrl": lambda: O.Ftrl(l1_regularization_strength=0.01),
    "lion": O.Lion,
    "lamb": O.Lamb,
    "muon": O.Muon,
}

LOSSES = {
    "categorical": ("categorical_crossentropy", "softmax", 4),
    "smoothed": (keras.losses.CategoricalCrossentropy(label_smoothing=0.1), "softmax", 4),
    "sparse logits": (keras.losses.SparseCategoricalCrossentropy(from_logits=True), None, 4),
    "binary": ("binary_crossentropy", "sigmoid", 1),
    "binary logits": (keras.losses.BinaryCrossentropy(from_logits=True), None, 3),
    "focal": ("binary_focal_crossentropy", "sigmoid", 1),
    "mse": ("mse", None, 3),
    "mae": ("mae", None, 1),
    "huber": ("huber", None, 2),
    "log_cosh": ("log_cosh", None, 1),
    "hinge": ("hinge", None, 1),
    "kl_divergence": ("kl_divergence", "softmax", 3),
    "poisson": ("poisson", "softplus", 2),
    "cosine": ("cosine_similarity", None, 3),
    "own": (lambda y, p: keras.ops.mean((y - p) ** 4, -1), None, 2),
}
