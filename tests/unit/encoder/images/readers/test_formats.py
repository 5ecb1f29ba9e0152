import pytest

from encoder.errors import HashgrainError, Reason
from encoder.images.readers.formats import kind_of


def test_a_disk_that_does_not_give_what_a_file_holds_is_told():
    """Nothing can be read where the memory of a process begins: EIO."""
    with pytest.raises(HashgrainError, match="cannot read /proc/self/mem: Input/output error; give a file") as caught:
        kind_of("/proc/self/mem")
    assert caught.value.reason is Reason.SHARD_MISSING
