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
        raise ConfigError(f"{repository}: expected a repository of the Hugging Face hub (there is no such path here), got: "
                          f"{_first_line(error)}. {_by_hand(repository)}") from error
    missing = [name for name in _WANTED if not (into / name).is_file()]
    if missing:
        raise ConfigError(f"{repository}: expected {' and '.join(_WANTED)} in the repository, there is no "
                          f"{' and no '.join(missing)}")
    return into


def fetch_file(repository: str, revision: str, name: str, into: Path, *, most_bytes: int) -> None:
    """Brings one file of a hub's repository into a folder, by its name.

    Mirrors, tokens and offline mode are as the user has set them for the hub. Raises ConfigError where it cannot be had,
    and for a larger one, of which nothing is fetched.
    """
    import huggingface_hub

    try:
        address = huggingface_hub.hf_hub_url(repository, name, revision=revision)
        size_bytes = huggingface_hub.get_hf_file_metadata(address).size
        if size_bytes is not None and size_bytes <= most_bytes:
            huggingface_hub.hf_hub_download(repository, name, revision=revision, local_dir=into)
    except Exception as error:  # as above
        raise ConfigError(f"expected {name} of {repository} from the Hugging Face hub, got: {_first_line(error)}") from error
    if size_bytes is None or size_bytes > most_bytes:
        raise ConfigError(f"expected at most {most_bytes} bytes of {name} of {repository} on the Hugging Face hub, it has "
                          f"{size_bytes if size_bytes is not None else 'an unknown number'}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _by_hand(repository: str) -> str:
    files = " and ".join(f"https://huggingface.co/{repository}/resolve/main/{name}" for name in _WANTED)
    return (f"Without a network, fetch {files} elsewhere, put both into a folder, and import that folder.")
