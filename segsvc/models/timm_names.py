"""Names of timm's networks, for who asked for one that there is not."""

from __future__ import annotations

import difflib

_MOST = 3
_EXAMPLES = ("resnet50", "efficientnet_b0", "tf_efficientnet_lite0", "convnext_tiny", "vit_base_patch16_224")


def known_networks(name: str) -> str:
    """What an unknown name is answered with: the nearest names, or examples where none is near."""
    import timm

    known = timm.list_models()
    return ", ".join(difflib.get_close_matches(name, known, n=_MOST) or
                     [*_EXAMPLES, f"... ({len(known):,} in all, timm.list_models() gives them)"])
