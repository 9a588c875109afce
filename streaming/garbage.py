"""When Python's cyclic garbage collector runs in a worker. Owns that; reference counts free nearly everything at once.

Left alone it walks every long-lived object, patients' states above all, whenever a quarter more has come to live: tens of
milliseconds in the middle of a batch, hundreds with many patients. So what lives is set aside (`gc.freeze`: still freed
by its reference counts, no longer walked), once a second, when nothing waits; each time only what is new is walked.
"""

import gc

YOUNG = 50_000
"""Objects made and not freed after which the collector runs by itself: so many come together only in a long hurry."""

SELDOM = (50, 20)
"""Of the collector's own runs every fiftieth walks those that lived through one, of these every twentieth all: so memory
is bounded even where something always waits."""


def on_our_terms() -> None:
    """At the end of a worker's start: what start-up made lives as long as the process."""
    gc.set_threshold(YOUNG, *SELDOM)
    tidy()


def tidy() -> None:
    """Collects what has become garbage since the last time, and sets aside what lives. About a millisecond."""
    gc.collect()
    gc.freeze()
