from hypothesis import given
from hypothesis import strategies as st

from streaming.ledger import Ledger


@given(st.permutations(range(1, 8)))
def test_only_a_gapless_prefix_is_committable(order):
    ledger = Ledger()
    for offset in range(1, 8):
        ledger.delivered("tp", offset * 10)
    done = set()
    for offset in order:
        ledger.finished("tp", offset * 10)
        done.add(offset)
        prefix = 0
        while prefix + 1 in done:
            prefix += 1
        assert ledger.committable("tp") == (prefix * 10 or None)


def test_work_of_a_revoked_partition_commits_nothing():
    ledger = Ledger()
    ledger.delivered("tp", 5)
    ledger.clear(["tp"])
    ledger.finished("tp", 5)
    assert ledger.committable("tp") is None
