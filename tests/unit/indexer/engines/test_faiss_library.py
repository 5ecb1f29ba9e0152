"""A faiss that cannot be loaded is one line with a remedy."""

import subprocess
import sys

import pytest

LIBRARIES = "faiss-gpu installed but nvidia-cublas-cu12 is missing — pip install 'nvidia-cublas-cu12>=12.6,<13'"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (f'raise RuntimeError("""{LIBRARIES}\nand so on""")', LIBRARIES),
        ("raise OSError('libcudart.so.12: cannot open shared object file')", "libcudart.so.12: cannot open"),
        ("import no_such_module", "No module named 'no_such_module'"),
    ],
)
def test_a_faiss_that_cannot_be_loaded_says_what_is_missing(tmp_path, monkeypatch, fault, said):
    (tmp_path / "faiss").mkdir()
    (tmp_path / "faiss/__init__.py").write_text(fault)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nfrom encoder.errors import HashgrainError\n"
        "for _ in range(2):\n  try: import indexer.engines.faiss_cpu\n  except HashgrainError as err: print(err.reason, err)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2  # the second import says so, too
    assert lines[0] == lines[1]
    assert lines[0].startswith("bad-value faiss could not be loaded (")
    assert said in lines[0]
    assert "and so on" not in lines[0]
    assert "faiss-cpu" in lines[0]
