"""What all small serializable objects share."""


class Configurable:
    """An object that its constructor's arguments describe, as Keras' configurations do.

    Base of schemes, distributions, schedules, updaters, sieve policies and `Freezing`. Together
    with `keras.saving.register_keras_serializable` it makes them part of saved models.
    """

    def get_config(self) -> dict:
        """Returns the arguments that make an equal object."""
        return {}

    @classmethod
    def from_config(cls, config: dict) -> "Configurable":
        """Returns the object that `get_config` described."""
        return cls(**config)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"
