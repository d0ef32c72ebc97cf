from spfde_keras.sieve.identified import Identified, strip_ids


def test_strip_ids_takes_the_inputs_out_and_leaves_anything_else_alone():
    assert strip_ids(Identified("images", "ids")) == "images"
    assert strip_ids(("images", "ids")) == ("images", "ids")
