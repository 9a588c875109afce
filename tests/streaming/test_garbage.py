import gc
import weakref

import pytest

from streaming import garbage


@pytest.fixture(autouse=True)
def as_before():
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


class _Thing:
    pass


def test_what_lives_is_set_aside_and_still_freed_by_its_references():
    kept = _Thing()
    gone = weakref.ref(kept)
    garbage.on_our_terms()
    assert gc.get_freeze_count() > 0 and not any(one is kept for one in gc.get_objects())
    del kept
    assert gone() is None


def test_what_only_points_at_itself_is_collected():
    garbage.on_our_terms()
    circle = _Thing()
    circle.own = circle
    gone = weakref.ref(circle)
    del circle
    assert gone() is not None
    garbage.tidy()
    assert gone() is None
