# PHP as in the tip jar's tests, and real servers.
from tests.tipjar.test_php import served  # noqa: F401
from tests.whole.test_rig import alice, customer, hardening, rig, rigs, web  # noqa: F401
