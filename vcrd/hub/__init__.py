"""A run's data on the Hugging Face Hub: what is shared, the card that says what it is, push and pull; or in a store."""

from vcrd.hub.card import make_card
from vcrd.hub.contents import Contents, collect
from vcrd.hub.pull import Pulled, pull
from vcrd.hub.push import Pushed, push
from vcrd.hub.store import Published, publish

__all__ = ["Contents", "Published", "Pulled", "Pushed", "collect", "make_card", "publish", "pull", "push"]
