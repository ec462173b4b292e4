"""What a GPU engine needs of a machine, and one line that names all of it that is missing."""

from collections.abc import Mapping
from importlib.util import find_spec

from engines.probe import ProbeOutcome, probe
from engines.runner import EngineUnavailableError


def require_gpu(engine: str, packages: Mapping[str, str]) -> ProbeOutcome:
    """Make sure that a GPU engine may be loaded here.

    Args:
        engine: as in the registry, for the message.
        packages: name to import -> how to get it.

    Returns:
        What the probe found; at least one device can be used.

    Raises:
        EngineUnavailableError: naming everything that is missing and how to get it.
    """
    outcome = probe()
    missing = [] if outcome.usable else [outcome.text]
    missing += [f"package {name} is not installed ({how})" for name, how in packages.items() if not _installed(name)]
    if missing:
        raise EngineUnavailableError(f"engine {engine} cannot run here: {'; '.join(missing)}")
    return outcome


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # the package that it would be part of
        return False
