"""The stand-in for the Hub and its user, as the tests of push and pull have them."""

from tests.vcrd.conftest import hub, running_hub, user, waiting_user

__all__ = ["hub", "running_hub", "user", "waiting_user"]
