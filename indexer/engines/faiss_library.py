"""The one place where faiss is loaded: a faiss that cannot be is an error with its remedy, not a traceback."""

from encoder.errors import HashgrainError, Reason

try:
    import faiss
except (ImportError, OSError, RuntimeError) as err:  # RuntimeError: faiss-gpu's own, where CUDA's libraries are missing
    raise HashgrainError(
        Reason.BAD_VALUE,
        f"faiss could not be loaded ({next(iter(str(err).splitlines()), type(err).__name__)}); "
        "install what is missing, or faiss-cpu in its place",
    ) from err

__all__ = ["faiss"]
