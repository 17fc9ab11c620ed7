"""Names of timm's networks, for who asked for one that there is not."""

from __future__ import annotations

import difflib

_MOST = 3
_EXAMPLES = ("resnet50", "efficientnet_b0", "tf_efficientnet_lite0", "convnext_tiny", "vit_base_patch16_224")


def near_networks(name: str) -> list[str]:
    """The names that are most like an unknown one; none where none is near."""
    import timm

    return difflib.get_close_matches(name, timm.list_models(), n=_MOST)


def known_networks(name: str) -> str:
    """What an unknown name is answered with: the nearest names, or examples where none is near."""
    import timm

    known = timm.list_models()
    return ", ".join(near_networks(name) or
                     [*_EXAMPLES, f"... ({len(known):,} in all, timm.list_models() gives them)"])
