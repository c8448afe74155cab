"""What HTML pages share: colours, text that is shown as text, a policy by which nothing but their own parts runs."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

# As the script of `vcrd inspect` has it. Joiners stay, as scripts and emoji need them.
_STEERING = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


def spelled_out(text: str) -> str:
    """Return text in which nothing steers the display unseen; line ends and tabs stay.

    >>> spelled_out("a\u202eb")
    'a[U+202E]b'
    """
    return _STEERING.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)


def with_shared_style(style: str) -> str:
    """Return a page's own style behind what all pages share."""
    return files("vcrd.io").joinpath("pages.css").read_text(encoding="utf-8") + style


def policy_hash(text: str) -> str:
    """Return what a content security policy calls an inline script or style by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
