"""The version of the installed distribution, which artefacts and man pages carry."""


def tool_version() -> str:
    """Return the version of the installed distribution; ``unknown`` where none is installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("epsilon-tools")
    except PackageNotFoundError:  # run from the sources
        return "unknown"
