"""Numbers as results show them."""

from spfde_keras.rounding import rounded


def test_results_have_six_digits():
    found = {"a": 123456789.0, "b": [1 / 3, {"c": 7}], "d": None, "e": 12345678}
    assert rounded(found) == {
        "a": 123457000.0,
        "b": [0.333333, {"c": 7}],
        "d": None,
        "e": 12345678,
    }
