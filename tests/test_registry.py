"""Names, configurations and objects work alike in each family, the user's own included."""

import keras
import pytest

from spfde_keras import updaters
from spfde_keras.registry import Registry
from tests.registries import FAMILIES, left_as_they_were


class Greeting:
    def __init__(self, times: int = 1):
        self.times = times

    def get_config(self):
        return {"times": self.times}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@pytest.fixture
def greetings():
    registry = Registry("greeting", Greeting, default="hello")

    @registry.register("hello", pattern="hello x([0-9]+)")
    class Hello(Greeting):
        pass

    @registry.register("bye")
    class Bye(Greeting):
        pass

    return registry


def test_get_by_name_pattern_configuration_and_default(greetings):
    assert greetings.names() == ["bye", "hello"]
    assert [type(greetings.get(name)).__name__ for name in ("hello", "bye", None)] == [
        "Hello",
        "Bye",
        "Hello",
    ]
    three = greetings.get("hello x3")
    assert three.times == 3 and greetings.get(three) is three
    restored = greetings.get(keras.saving.serialize_keras_object(three))
    assert (type(restored), restored.times) == (type(three), 3)
    assert greetings.name_of(three) == "hello" and greetings.name_of(Greeting()) is None


@pytest.mark.parametrize(
    "wrong", ["Hello", "hello x", 3, [], {}, {"class_name": "None", "config": {}}, Greeting]
)
def test_what_is_unknown_is_answered_with_what_is_known(greetings, wrong):
    rule = "`greeting` must be a Greeting, its configuration, 'bye' or 'hello'. Received: "
    with pytest.raises(ValueError, match=rule):
        greetings.get(wrong)
    with pytest.raises(ValueError, match="`welcome` must be"):
        greetings.get(wrong, argument="welcome")


def test_a_class_of_another_family_is_refused(greetings):
    with pytest.raises(ValueError, match="'odd' must be a subclass of Greeting. Received: .*int"):
        greetings.register("odd")(int)


def test_a_name_stays_with_its_class(greetings):
    class Other(Greeting):
        pass

    with pytest.raises(ValueError, match="`name` must not be that of another .*Hello"):
        greetings.register("hello")(Other)
    assert type(greetings.get("hello")).__name__ == "Hello"
    greetings.register("hello")(type(greetings.get("hello")))  # again, as in a notebook


def test_a_class_that_needs_arguments_is_not_made_by_name(greetings):
    @greetings.register("named")
    class Named(Greeting):
        def __init__(self, name):
            super().__init__()
            self.name = name

    assert "named" not in greetings.names()
    with pytest.raises(ValueError, match="`greeting` must be"):
        greetings.get("named")
    assert greetings.name_of(Named("you")) == "named"


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_each_name_of_a_family_makes_what_its_configuration_makes(family):
    for name in family.names():
        made = family.get(name)
        restored = family.get(keras.saving.serialize_keras_object(made))
        assert type(restored) is type(made) and family.get(made) is made
        assert restored.get_config() == made.get_config()
        # As saved models of earlier versions have them.
        assert keras.saving.get_registered_name(type(made)).startswith("spfde_keras>")


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_each_family_refuses_what_is_not_of_it(family):
    for wrong in ("", "nothing", object(), updaters.Updater):
        with pytest.raises(ValueError, match="must be an? .*, its configuration.*Received: "):
            family.get(wrong)


def test_a_users_class_is_registered_under_the_users_package():
    class Own(updaters.SET):
        pass

    @keras.saving.register_keras_serializable("mine")
    class Named(updaters.SET):
        pass

    with left_as_they_were():
        updaters.register("own")(Own)
        updaters.register("named")(Named)
        assert type(updaters.get("own")) is Own
    assert keras.saving.get_registered_name(Own) == "tests>Own"
    assert keras.saving.get_registered_name(Named) == "mine>Named"
    assert "own" not in updaters.names()
