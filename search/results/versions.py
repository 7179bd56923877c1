"""The versions of installed packages, for what must be light to import."""

from importlib.metadata import PackageNotFoundError, version

UNKNOWN = "unknown"


def version_of(package: str) -> str:
    """Of what stands on the path under another name (faiss from Conda), or without its metadata, it isn't known."""
    try:
        return version(package)
    except PackageNotFoundError:
        return UNKNOWN
