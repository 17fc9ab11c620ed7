"""Files from the Hugging Face hub: JSON and safetensors alone, never a pickle or code."""

from __future__ import annotations

from pathlib import Path

from segsvc.errors import ConfigError
from segsvc.exchange.sources import CONFIG

_WANTED = (CONFIG, "model.safetensors")


def fetch_repository(repository: str, into: Path) -> Path:
    """config.json and model.safetensors of a hub's repository, copied into a folder, which is returned.

    Raises ConfigError where they cannot be had: it says which files to fetch and how to go on without a network.
    """
    import huggingface_hub

    try:
        huggingface_hub.snapshot_download(repository, allow_patterns=list(_WANTED), local_dir=into)
    except Exception as error:  # its own errors, its HTTP library's, and the system's: any of them ends here
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ConfigError(f"{repository}: expected a repository of the Hugging Face hub (there is no such path here), got: "
                          f"{said}. {_by_hand(repository)}") from error
    missing = [name for name in _WANTED if not (into / name).is_file()]
    if missing:
        raise ConfigError(f"{repository}: expected {' and '.join(_WANTED)} in the repository, there is no "
                          f"{' and no '.join(missing)}")
    return into


def _by_hand(repository: str) -> str:
    files = " and ".join(f"https://huggingface.co/{repository}/resolve/main/{name}" for name in _WANTED)
    return (f"Without a network, fetch {files} elsewhere, put both into a folder, and import that folder.")
