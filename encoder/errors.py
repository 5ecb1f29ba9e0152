"""What can go wrong, said once.

`HashgrainError` is the only exception a user of the project has to know: a closed `Reason` for programs, and one line
for people (what was done, the offending value, what was expected, the remedy). `Reject` is not an error: it is why one
image has no code while the run goes on.
"""

import errno
from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """Every way a command can fail, for programs to branch on."""

    SHARD_MISSING = "shard-missing"
    """A shard, folder, list or image named by the user is not there or holds no image."""
    SHARD_DAMAGED = "shard-damaged"
    """A shard ends early or has a broken header, so a build refuses its codes; or it no longer holds an image that is read back."""
    SHARD_CLASH = "shard-clash"
    """Two shards would share one code file."""
    TOO_MANY_BAD = "too-many-bad"
    """More images were rejected than `--max-bad` allows."""
    IMAGE_REJECTED = "image-rejected"
    """A single image that the user named cannot be decoded."""
    WEIGHTS_UNAVAILABLE = "weights-unavailable"
    """Weights could not be read, downloaded, or do not fit the backbone."""
    MODEL_INVALID = "model-invalid"
    """A model file is missing, damaged, or of an unknown version."""
    MODEL_MISMATCH = "model-mismatch"
    """Codes or an index were made by another model."""
    FIT_IMPOSSIBLE = "fit-impossible"
    """A hash function cannot be fitted to this sample."""
    TRAINING_DIVERGED = "training-diverged"
    """A loss is no longer a finite number."""
    CODES_MISSING = "codes-missing"
    """No code file where one was expected."""
    CODES_DAMAGED = "codes-damaged"
    """A code file's bytes are not what its writer wrote."""
    CODES_MISMATCH = "codes-mismatch"
    """Code files differ in levels, bits or fingerprint."""
    CODES_TWICE = "codes-twice"
    """Two code files hold the codes of one shard."""
    DUPLICATE_KEYS = "duplicate-keys"
    """The same key stands in more than one row."""
    INDEX_MISSING = "index-missing"
    """No index where one was expected."""
    INDEX_DAMAGED = "index-damaged"
    """An index file's bytes are not what its builder wrote."""
    SLICE_DOWN = "slice-down"
    """A part of an index that another process holds cannot be asked now."""
    TOO_NEW = "too-new"
    """A file is of a format version that this program does not know yet."""
    LEVEL_UNKNOWN = "level-unknown"
    """A level that does not exist, or is not in this file."""
    LEAK = "leak"
    """What is to be scored was in the training, or the answer is in the question."""
    KEY_UNKNOWN = "key-unknown"
    """A key that is not in the index."""
    BAD_VALUE = "bad-value"
    """An argument outside its range or form."""
    PROCESS_DIED = "process-died"
    """A process of a run on several devices ended without a word."""
    BUSY = "busy"
    """Another process is writing to the same folder."""
    WRITE_FAILED = "write-failed"
    """The disk did not take what was written."""
    EXISTS = "exists"
    """Something exists already that may not be overwritten."""
    NO_RESOURCES = "no-resources"
    """The system has no memory or no handle left to give."""
    GENERATION_MISSING = "generation-missing"
    """A generation of an index that is not on the disk, or no longer."""
    NOT_ALLOWED = "not-allowed"
    """An index of somebody else names a file or URL that the user has not allowed to be read."""


class HashgrainError(Exception):
    """A failure with a reason a program can test and a line a person can act on.

    Args:
        reason: which of the closed set of failures this is.
        message: one line: what was done, the value, what was expected, the remedy.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(" ".join(message.split()))
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.reason, str(self))  # so that it comes back whole from another process


NO_MORE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""What the system answers when it has no handles or memory left to give."""


def unreadable(path: object, err: OSError, damaged: HashgrainError) -> HashgrainError:
    """Return the error of a file of an index that could not be read: nothing is wrong with the file where the system refuses.

    Args:
        path: of the file.
        err: what the system said.
        damaged: the error of anything else.
    """
    if err.errno in NO_MORE:
        return unless_short(str(path), err, damaged)
    if err.errno in {errno.EACCES, errno.EPERM}:
        return HashgrainError(
            Reason.INDEX_MISSING, f"index file {path} cannot be read ({why(err)}); give an index that you may read"
        )
    return damaged


def unless_short(path: str, err: OSError | ValueError, otherwise: HashgrainError) -> HashgrainError:
    """Return the error of a file that could not be read: `otherwise`, unless the process got no more handles or memory."""
    if isinstance(err, OSError) and err.errno in NO_MORE:
        return HashgrainError(Reason.NO_RESOURCES, no_more(f"{path} could not be read", err))
    return otherwise


def no_more(what: str, err: OSError | MemoryError) -> str:
    """Return the line of a process that gets no more memory or handles: nothing was changed."""
    reason = "the memory is used up" if isinstance(err, MemoryError) else why(err)
    return f"{what} ({reason}); end other work, or raise the system's limit"


def not_installed(what: str, package: str, extra: str, err: ImportError) -> HashgrainError:
    """Return the error of work that takes a package of an extra.

    Args:
        what: the work.
        package: its name as it is installed.
        extra: of this project, which has it.
        err: why it could not be imported.
    """
    return HashgrainError(
        Reason.BAD_VALUE,
        f"{what} takes the package {package}, which is not installed ({err}); pip install 'hashgrain[{extra}]', or in "
        f"hashgrain's folder pip install '.[{extra}]'",
    )


def shown(value: object) -> str:
    """Return an argument as a message shows it: an array by type and shape (`uint8[3, 64]`), all else in short."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype}{list(value.shape)}"
    return repr(value)[:80]


def why(err: OSError | ValueError) -> str:
    """Return why the system refused a path, in words; a `ValueError` says that a path is none, for a null character."""
    return getattr(err, "strerror", None) or str(err)


class Reject(StrEnum):
    """Why an image that was seen has no code."""

    EMPTY = "empty"
    """Zero bytes."""
    TOO_LARGE = "too-large"
    """More bytes than the limit."""
    TOO_MANY_PIXELS = "too-many-pixels"
    """More pixels than the limit, by its header."""
    TOO_MANY_SCANS = "too-many-scans"
    """A progressive JPEG with more scans than any encoder writes: a decompression bomb."""
    UNKNOWN_FORMAT = "unknown-format"
    """The bytes are not of an image format that is accepted, whatever the name says."""
    UNSUPPORTED = "unsupported"
    """An accepted format with pixels that have no defined 8-bit RGB rendering, or whose decoder is not installed."""
    TRUNCATED = "truncated"
    """The image's data end early."""
    CORRUPT = "corrupt"
    """The decoder refused the data."""
    DUPLICATE_KEY = "duplicate-key"
    """An earlier image of the same shard has this key."""
    SAME_CONTENT = "same-content"
    """An earlier image has the same bytes, and such are to be skipped."""
    NEAR_CONTENT = "near-content"
    """An earlier image has nearly the same fine code, and such are to be skipped."""
    UNSAFE_NAME = "unsafe-name"
    """An absolute name, a `..` part, a control character, or no valid UTF-8."""
    LINK = "link"
    """A symbolic or hard link."""
    NOT_A_FILE = "not-a-file"
    """A device, FIFO, folder or sparse member with an image's name."""
    UNREADABLE = "unreadable"
    """The file system refused to read it, or it is encrypted or packed in a way that is not known."""

    @property
    def bad(self) -> bool:
        """Whether something is wrong with the image."""
        return self not in {Reject.SAME_CONTENT, Reject.NEAR_CONTENT}
