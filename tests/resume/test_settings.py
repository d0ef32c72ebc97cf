"""Settings that must be the same where a run goes on."""

import pytest

from spfde_keras.resume.settings import _text, check_same


def test_what_differs_is_named():
    before = {"epochs": "6", "seed": "0", "old": "1"}
    with pytest.raises(ValueError) as raised:
        check_same(before, {"epochs": "7", "seed": "0", "new": "2"})
    assert str(raised.value) == (
        "A run must be resumed with the same settings. Received: epochs was 6, is 7; old was 1, "
        "is None; new was None, is 2"
    )
    check_same(before, dict(before))


def test_addresses_do_not_count():
    assert _text([object()]) == _text([object()]) == "[<object object>]"
