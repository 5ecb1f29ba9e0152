import io
import os
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from encoder.errors import HashgrainError, Reason
from encoder.runtime import parquet_child
from encoder.runtime.parquet_file import ParquetError, _Reader, open_parquet


def written(columns, **options):
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, **options)
    return buffer.getvalue()


def opened(data):
    return open_parquet(io.BufferedReader(io.BytesIO(data)), len(data))


NUMBERS = written({"n": list(range(100)), "text": [str(n) for n in range(100)]}, row_group_size=30)


def test_rows_come_in_batches_of_the_row_groups_that_were_asked_for():
    with opened(NUMBERS) as file:
        assert (file.rows, [rows for rows, _ in file.groups]) == (100, [30, 30, 30, 10])
        assert file.schema.names == ["n", "text"]
        assert [batch.to_pydict() for batch in file.batches(2, ["n"], [3])][:2] == [{"n": [90, 91]}, {"n": [92, 93]}]
        assert sum(len(batch) for batch in file.batches(7, ["text"])) == 100


def test_rows_are_not_taken_for_those_of_another_call():
    with opened(NUMBERS) as file:
        first = file.batches(5, ["n"])
        next(first)
        assert next(file.batches(5, ["n"], [3])).to_pydict() == {"n": [90, 91, 92, 93, 94]}
        with pytest.raises(RuntimeError, match="meanwhile"):
            next(first)


def test_one_process_reads_file_after_file_and_not_two_at_once():
    with opened(NUMBERS) as file, opened(NUMBERS) as other:
        first, second = file._reader.process, other._reader.process
        assert first.pid not in {second.pid, os.getpid()}
        assert next(file.batches(5, ["n"])).to_pydict() == next(other.batches(5, ["n"])).to_pydict()
    assert len(_Reader.idle) == 1
    with opened(NUMBERS) as file:
        assert file._reader.process in {first, second}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV])
def test_a_process_that_a_signal_ends_is_an_error_of_the_file_and_the_next_file_is_read(number):
    with opened(NUMBERS) as file:
        batches = file.batches(5, ["n"])
        next(batches)
        os.kill(file._reader.process.pid, number)
        with pytest.raises(ParquetError, match=f"the process that read it ended by {number.name}"):
            list(batches)
        assert file.lost
        with pytest.raises(ParquetError, match="ended by"):
            next(file.batches(5, ["n"]))
    with opened(NUMBERS) as file:
        assert next(file.batches(1, ["n"])).to_pydict() == {"n": [0]}


def test_an_idle_process_that_was_ended_is_not_asked():
    with opened(NUMBERS) as file:
        process = file._reader.process
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with opened(NUMBERS) as file:
        assert file.rows == 100


def test_a_forked_process_has_one_of_its_own():
    with opened(NUMBERS):
        pass
    [idle] = _Reader.idle
    if (forked := os.fork()) == 0:
        with opened(NUMBERS) as file:
            os._exit(0 if file._reader is not idle and file.rows == 100 else 1)
    assert os.waitpid(forked, 0)[1] == 0
    with opened(NUMBERS) as file:
        assert file._reader is idle
        assert sum(len(batch) for batch in file.batches(50, ["n"])) == 100


@pytest.mark.parametrize("data", [b"", b"PAR1", NUMBERS[:-5], b"PAR1" + bytes(100) + b"PAR1"])
def test_what_is_not_parquet_is_told(data):
    with pytest.raises(ParquetError), opened(data):
        pass


def test_what_reading_the_file_raises_comes_through():
    class Broken(io.BufferedReader):
        def read(self, size=-1):
            if self.tell() < 1000:
                raise HashgrainError(Reason.SHARD_MISSING, "the server went away")
            return super().read(size)

    data = written({"n": list(range(10_000))}, compression="none", use_dictionary=False)
    with open_parquet(Broken(io.BytesIO(data)), len(data)) as file:
        with pytest.raises(HashgrainError, match="the server went away"):
            list(file.batches(10, ["n"]))
        assert file.lost


def test_few_bytes_that_stand_for_many_large_values_come_in_pieces():
    value = bytes(2 << 20)
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 200, pa.int32()), pa.array([value]))
    data = written({"image": column}, compression="zstd", use_dictionary=True)
    assert len(data) < 10_000
    with opened(data) as file:
        assert pa.types.is_binary(file.schema.field("image").type)
        batch = next(file.batches(200, ["image"]))
        assert batch.nbytes <= parquet_child.PIECE
        assert batch.column(0)[0].as_py() == value


def test_a_row_of_more_values_than_memory_is_given_for_is_an_error():
    count = parquet_child.ROW // parquet_child.VALUE
    many = pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), pa.nulls(count, pa.int8()))
    data = written({"tags": many})
    assert len(data) < 10_000
    with opened(data) as file, pytest.raises(ParquetError, match="a row takes"):
        next(file.batches(1, ["tags"]))


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["cat", "dog", None]).dictionary_encode(),
        pa.array([["a"], None, []], pa.list_(pa.string())),
        pa.array(["a", None, "b"], pa.string_view()),
        pa.array([b"a", None, b"b"], pa.binary_view()),
        pa.array([{"w": 1, "h": [2]}, None, {"w": None, "h": None}]),
        pa.array([1, None, 3], pa.timestamp("us", "UTC")),
    ],
    ids=str,
)
def test_values_of_any_type_are_those_that_were_written(column):
    data = written({"column": column})
    with opened(data) as file:
        [batch] = file.batches(10, ["column"])
    assert batch.column(0).to_pylist() == column.to_pylist()
    assert batch.schema.field("column").type == file.schema.field("column").type


def test_the_process_ends_with_the_one_that_started_it():
    script = (
        "import io, os, pyarrow as pa, pyarrow.parquet as pq\n"
        "from encoder.runtime.parquet_file import open_parquet\n"
        "b = io.BytesIO(); pq.write_table(pa.table({'n': [1]}), b)\n"
        "with open_parquet(b, len(b.getvalue())) as file:\n"
        "    print(file._reader.process.pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("it lives on")
