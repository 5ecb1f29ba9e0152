"""What an error advises is done, and helps: each remedy of the command lines is run as it is written.

A case is: lines that set the stage, the line that fails, what it says, and for each remedy the lines that a user would type. All of those
have to pass. Lines that begin with `$` are a shell's.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

import indexer
from encoder.cli import REMEDIES as ENCODER
from encoder.errors import HashgrainError, Reason
from indexer.cli import REMEDIES as INDEXER
from tests.support.pictures import encoded, labelled_members, write_tar

FIT = "--weights none --backbone alexnet --image-size 64"
TRAIN = "--image-size 32 --epochs 1 --bits 16 --batch 8"


@dataclass(frozen=True)
class Case:
    """How an error comes about, and the ways out of it."""

    fails: str
    says: str
    remedies: tuple[str | tuple[str, ...], ...]
    before: tuple[str, ...] = ()


CASES = {
    "fit exists": Case(
        f"encoder fit shards --out model.safetensors --hash lsh {FIT}",
        "model.safetensors exists; choose another file (--out), or replace it (--overwrite)",
        (
            f"encoder fit shards --out other.safetensors --hash lsh {FIT}",
            f"encoder fit shards --out model.safetensors --overwrite --hash lsh {FIT}",
        ),
    ),
    "fit fit-impossible bits": Case(
        f"encoder fit shards --out m.st {FIT}",
        "give more images, fewer bits, or take lsh (--label, --hash, --bits)",
        (f"encoder fit shards --out a.st --bits 32 {FIT}", f"encoder fit shards --out b.st --hash lsh {FIT}"),
    ),
    "fit fit-impossible label": Case(
        f"encoder fit shards --out m.st --hash ksh --label mid=kind --bits 16 {FIT}",
        "(labels found: coarse, fine, name); name one that is there (--label",
        (f"encoder fit shards --out m.st --hash ksh --label mid=name --bits 16 {FIT}",),
    ),
    "fit weights-unavailable": Case(
        f"encoder fit shards --out m.st {FIT} --hash lsh --weights nowhere.pth",
        "or none for an untrained network (--weights)",
        (f"encoder fit shards --out m.st {FIT} --hash lsh --weights none",),
    ),
    "train exists": Case(
        f"encoder train shards --out model.safetensors {TRAIN}",
        "model.safetensors exists; choose another file (--out), or replace it (--overwrite)",
        (
            f"encoder train shards --out other.safetensors {TRAIN}",
            f"encoder train shards --out model.safetensors --overwrite {TRAIN}",
        ),
    ),
    "train exists checkpoint": Case(
        f"encoder train shards --out m.st {TRAIN}",
        "m.st.checkpoint is not a readable checkpoint (UnpicklingError); delete it to train from the start, or choose another file",
        (
            f"encoder train shards --out n.st {TRAIN}",
            ("$ rm m.st.checkpoint", f"encoder train shards --out m.st {TRAIN}"),
        ),
        ("$ echo cut > m.st.checkpoint",),
    ),
    "train fit-impossible": Case(
        f"encoder train shards --out m.st --label mid=kind,coarse=coarse {TRAIN}",
        "(labels found: coarse, fine, name); name one that is there (--label, --loss)",
        (f"encoder train shards --out m.st --label mid=fine,coarse=coarse {TRAIN}",),
    ),
    "train weights-unavailable": Case(
        f"encoder train shards --out m.st --weights nowhere.pth {TRAIN}",
        "or none for an untrained network (--weights)",
        (f"encoder train shards --out m.st --weights none {TRAIN}",),
    ),
    "encode exists": Case(
        "encoder encode shards --out codes --levels fine",
        "has the levels fine,mid,coarse,fused, of which fine would remain; choose another folder, or overwrite it "
        "(--out, --overwrite)",
        (
            "encoder encode shards --model model.safetensors --out other --levels fine",
            "encoder encode shards --out codes --levels fine --overwrite",
        ),
    ),
    "encode level-unknown": Case(
        "encoder encode shards --model model.safetensors --out new --levels fine,ultra",
        "the levels are fine, mid, coarse, fused (--levels)",
        ("encoder encode shards --model model.safetensors --out new --levels fine,mid",),
    ),
    "encode level-unknown near": Case(
        "encoder encode shards --model model.safetensors --out new --skip-duplicates near --levels mid",
        "add the level fine, or take exact (--levels)",
        (
            "encoder encode shards --model model.safetensors --out new --skip-duplicates near --levels mid,fine",
            "encoder encode shards --model model.safetensors --out two --skip-duplicates exact --levels mid",
        ),
    ),
    "encode bad-value device": Case(
        "encoder encode shards --model model.safetensors --out new --device tpu",
        "device 'tpu' is not available here; give one of auto, cpu",
        ("encoder encode shards --model model.safetensors --out new --device cpu",),
    ),
    "encode model-invalid": Case(
        "encoder encode shards --model photo.jpg --out new",
        "fit or train one (--model)",
        ((f"encoder fit shards --out m.st --hash lsh {FIT}", "encoder encode shards --model m.st --out new"),),
    ),
    "encode model-mismatch": Case(
        "encoder encode shards --model other.st --out codes",
        "choose another folder, or overwrite them (--out, --overwrite)",
        (
            "encoder encode shards --model other.st --out other",
            "encoder encode shards --model other.st --out codes --overwrite",
        ),
        (f"encoder fit shards --out other.st --hash lsh --bits 32 {FIT}",),
    ),
    "encode shard-clash": Case(
        "encoder encode y/a.tar --out mine",
        "into another folder, or overwrite it (--out, --overwrite)",
        (
            "encoder encode y/a.tar --model model.safetensors --out other",
            "encoder encode y/a.tar --out mine --overwrite",
        ),
        ("encoder encode x/a.tar --model model.safetensors --out mine",),
    ),
    "encode too-many-bad": Case(
        "encoder encode bad.tar --model model.safetensors --out mine --max-bad 0",
        "1 of 2 images were rejected, 0 may be; allow more, and the code files will name them "
        "(--max-bad, encoder inspect --rejects)",
        (
            (
                "encoder encode bad.tar --model model.safetensors --out mine --max-bad 1",
                "encoder inspect mine --rejects",
            ),
        ),
    ),
    "encode weights-unavailable": Case(
        f"encoder encode shards --out new --hash lsh {FIT} --weights nowhere.pth",
        "or none for an untrained network (--weights)",
        (f"encoder encode shards --out new --hash lsh {FIT}",),
    ),
    "inspect codes-missing": Case(
        "encoder inspect nowhere",
        "no code file (*.h5) at nowhere; encode some shards (encoder encode SHARDS --out CODES)",
        (("encoder encode shards --model model.safetensors --out nowhere", "encoder inspect nowhere"),),
    ),
    "inspect codes-mismatch": Case(
        "encoder inspect codes",
        "; inspect them apart",
        ("encoder inspect codes/a.h5", "encoder inspect codes/part-0001.h5"),
        ("encoder encode x/a.tar --out codes --levels fine",),
    ),
    "build codes-missing": Case(
        "indexer build nowhere --out new",
        "encode some shards (encoder encode SHARDS --out CODES)",
        (("encoder encode shards --model model.safetensors --out nowhere", "indexer build nowhere --out new"),),
    ),
    "build codes-missing not ours": Case(
        "indexer build codes.npy --out new",
        "codes.npy is not a code file (it does not begin with 'hashgrain-codes'); give files or folders that encoding has written",
        ("indexer build codes --out new",),
        ("$ printf '\\223NUMPY' > codes.npy",),
    ),
    "build codes-damaged": Case(
        "indexer build codes --out new",
        "part-0001.h5 is damaged: its ",
        (("$ rm codes/part-0001.h5", "encoder encode shards --out codes", "indexer build codes --out new"),),
        ("$ truncate -s -9 codes/part-0001.h5",),
    ),
    "build codes-mismatch levels": Case(
        "indexer build codes --out new",
        "encode all shards with one model and the same levels (encoder encode SHARDS --out CODES --overwrite)",
        (
            (
                "encoder encode shards x/a.tar --out codes --overwrite",
                "indexer build codes --out new --on-duplicate first",
            ),
        ),
        ("encoder encode x/a.tar --out codes --levels fine",),
    ),
    "build codes-mismatch models": Case(
        "indexer build codes other --out new",
        "encode all shards with one model (encoder encode SHARDS --out CODES --overwrite)",
        (
            (
                "encoder encode x/a.tar --model codes/model.safetensors --out other --overwrite",
                "indexer build codes other --out new --on-duplicate first",
            ),
        ),
        (f"encoder fit shards --out other.st --hash lsh {FIT}", "encoder encode x/a.tar --model other.st --out other"),
    ),
    "build codes-twice": Case(
        "indexer build mine --out new",
        "2 keys in more than one row, first 'pic-100' in mine/a.h5 and mine/x-a.h5, both of the shard ",
        (("$ rm mine/a.h5", "indexer build mine --out new", "indexer query key:pic-100 --index new"),),
        ("encoder encode x/a.tar --model model.safetensors --out mine", "$ sleep 0.01; cp mine/a.h5 mine/x-a.h5"),
    ),
    "build duplicate-keys": Case(
        "indexer build mine --out new",
        "which are not the same; encode with prefixed keys, or build with the first of each key (--on-duplicate first, "
        "encoder encode --prefix-keys)",
        (
            "indexer build mine --out new --on-duplicate first",
            ("encoder encode x/a.tar z.tar --out mine --prefix-keys", "indexer build mine --out all"),
        ),
        ("encoder encode x/a.tar z.tar --model model.safetensors --out mine",),
    ),
    "build duplicate-keys of a copy": Case(
        "indexer build mine --out new",
        "which hold the same; take one file away, or build with the first of each key",
        (
            "indexer build mine --out new --on-duplicate first",
            ("$ rm mine/copy.h5", "indexer build mine --out new2"),
        ),
        ("$ cp x/a.tar copy.tar", "encoder encode x/a.tar copy.tar --model model.safetensors --out mine"),
    ),
    "build exists": Case(
        "indexer build codes --out index",
        "index holds an index; choose another folder, or overwrite it (--out, --overwrite)",
        ("indexer build codes --out other", "indexer build codes --out index --overwrite"),
    ),
    "build level-unknown": Case(
        "indexer build mine --out new --levels fine,mid",
        "level mid is not in mine/a.h5 (has: fine); name those (--levels)",
        ("indexer build mine --out new --levels fine",),
        ("encoder encode x/a.tar --model model.safetensors --out mine --levels fine",),
    ),
    "build shard-damaged": Case(
        "indexer build mine --out new",
        "and encode it again, or allow damaged shards (--allow-damaged)",
        (
            "indexer build mine --out new --allow-damaged",
            ("$ cp x/a.tar cut.tar", "encoder encode cut.tar --out mine", "indexer build mine --out whole"),
        ),
        ("$ head -c 2000 x/a.tar > cut.tar", "$ encoder encode cut.tar --model model.safetensors --out mine"),
    ),
    "query index-missing": Case(
        "indexer query key:pic-001 --index nowhere",
        "no index at nowhere; build one of code files (--index, indexer build CODES --out INDEX)",
        (
            "indexer query key:pic-001 --index index",
            ("indexer build codes --out nowhere", "indexer query key:pic-001 --index nowhere"),
        ),
    ),
    "query index-missing generation": Case(
        "indexer query key:pic-001 --index index/gen-000001",
        "is a generation of an index; give the folder that it is in, ",
        ("indexer query key:pic-001 --index index",),
    ),
    **{
        f"query index-damaged {name}": Case(
            "indexer verify --index index",
            "(indexer build CODES --out INDEX --overwrite)",
            (("indexer build codes --out index --overwrite", "indexer verify --index index"),),
            (f"$ {harm}",),
        )
        for name, harm in {
            "pointer": "echo gen > index/CURRENT",
            "manifest": "echo >> index/gen-000001/manifest.json",
            "no manifest": "rm index/gen-000001/manifest.json",
            "no generation": "rm -r index/gen-000001",
            "cut": "truncate -s -1 index/gen-000001/segment-000/keys.text.npy",
            "flipped": "printf x | dd conv=notrunc bs=1 seek=200 of=index/gen-000001/segment-000/fine.flat.faiss",
        }.items()
    },
    "query index-damaged model": Case(
        "indexer query photo.jpg",
        "the model of index index is damaged: ",
        (("indexer build codes --out index --overwrite", "indexer query photo.jpg"),),
        ("$ printf x | dd conv=notrunc bs=1 seek=9000 of=index/gen-000001/model.safetensors",),
    ),
    "query level-unknown": Case(
        "indexer query key:pic-001 --index two --level mid",
        "level mid is not in two (has: fine, coarse); search one of those (--level, --levels)",
        (
            "indexer query key:pic-001 --index two --level fine",
            "indexer query key:pic-001 --index two --levels coarse,fine",
        ),
        ("indexer build codes --out two --levels coarse,fine",),
    ),
    "query model-invalid": Case(
        "indexer query photo.jpg --index bare",
        "none stood beside its code files; give the one that made them (--model)",
        ("indexer query photo.jpg --index bare --model model.safetensors",),
        ("$ rm codes/model.safetensors", "indexer build codes --out bare"),
    ),
    "query model-invalid nowhere": Case(
        "indexer query photo.jpg --model nowhere",
        "give the one that made the codes (--model)",
        ("indexer query photo.jpg --model model.safetensors",),
    ),
    "query model-mismatch": Case(
        "indexer query photo.jpg --model other.st",
        "give that one, or none where the index has its own (--model)",
        ("indexer query photo.jpg --model model.safetensors", "indexer query photo.jpg"),
        (f"encoder fit shards --out other.st --hash lsh {FIT}",),
    ),
    "calibrate level-unknown": Case(
        "indexer calibrate --index two --levels mid",
        "level mid is not in two (has: fine, coarse)",
        ("indexer calibrate --index two --levels fine",),
        ("indexer build codes --out two --levels fine,coarse",),
    ),
    "explain level-unknown": Case(
        "indexer explain key:pic-001 pic-002 --level finest",
        "(--level)",
        ("indexer explain key:pic-001 pic-002 --level fine",),
    ),
    "duplicates level-unknown": Case(
        "indexer duplicates --index two --level mid",
        "level mid is not in two (has: fine, coarse); search one of those (--level)",
        ("indexer duplicates --index two --level fine",),
        ("indexer build codes --out two --levels fine,coarse",),
    ),
    "query recall": Case(
        "indexer query key:pic-001 --index lists --recall 0.9",
        "nothing is known of these lists; tune the index, or give nprobe or exact",
        (
            "indexer query key:pic-001 --index lists --nprobe 1",
            "indexer query key:pic-001 --index lists --exact",
            ("indexer tune --index lists --recall 0.9", "indexer query key:pic-001 --index lists --recall 0.9"),
        ),
        ("indexer build codes --out lists --kind ivf --nlist 2",),
    ),
    "query empty filter": Case(
        "indexer query key:pic-001 --where=",
        "the filter is empty; give a condition on one of key, shard, label.coarse, label.fine, label.name, or no filter",
        ("indexer query key:pic-001 --where label.coarse=1", "indexer query key:pic-001"),
    ),
    "tune index-missing": Case(
        "indexer tune --index nowhere",
        "no index at nowhere; build one of code files (--index, indexer build CODES --out INDEX)",
        (("indexer build codes --out nowhere --kind ivf --nlist 2", "indexer tune --index nowhere"),),
    ),
    "tune level-unknown": Case(
        "indexer tune --index two --levels mid",
        "search one of those (--levels)",
        ("indexer tune --index two --levels fine",),
        ("indexer build codes --out two --levels coarse,fine --kind ivf --nlist 2",),
    ),
    "info index-missing": Case(
        "indexer info --index nowhere",
        "(--index, indexer build CODES --out INDEX)",
        ("indexer info --index index", ("indexer build codes --out nowhere", "indexer info --index nowhere")),
    ),
    "add index-missing": Case(
        "indexer add codes --index nowhere",
        "no index at nowhere; build one of code files (--index, indexer build CODES --out INDEX)",
        ("indexer add codes --index index", ("indexer build codes --out nowhere", "indexer add codes --index nowhere")),
    ),
    "add codes-missing": Case(
        "indexer add nowhere",
        "no code file (*.h5) at nowhere; encode some shards (encoder encode SHARDS --out CODES)",
        (("encoder encode z.tar --model model.safetensors --out nowhere", "indexer add nowhere"),),
    ),
    "add codes-mismatch": Case(
        "indexer add mine",
        "encode all shards with one model (encoder encode SHARDS --out CODES --overwrite)",
        (("encoder encode z.tar --model model.safetensors --out mine --overwrite", "indexer add mine"),),
        (f"encoder fit shards --out other.st --hash lsh {FIT}", "encoder encode z.tar --model other.st --out mine"),
    ),
    "add duplicate-keys": Case(
        "indexer add codes --on-duplicate error",
        "replace those rows, or add with the first of each key (--on-duplicate)",
        ("indexer add codes --on-duplicate first", "indexer add codes --on-duplicate replace", "indexer add codes"),
    ),
    "add shard-damaged": Case(
        "indexer add mine",
        "and encode it again, or allow damaged shards (--allow-damaged)",
        ("indexer add mine --allow-damaged",),
        ("$ head -c 2000 z.tar > cut.tar", "$ encoder encode cut.tar --model model.safetensors --out mine"),
    ),
    "remove key-unknown": Case(
        "indexer remove pic-001 none",
        "first 'none'; give keys as they are spelled in the shards, or let those be missing (--missing-ok)",
        ("indexer remove pic-001 none --missing-ok", "indexer remove pic-002"),
    ),
    "rollback generation-missing": Case(
        "indexer rollback 7",
        "index has no generation 7 before the current one, gen-000001, on the disk; it has none (indexer history)",
        ("indexer history",),
    ),
    "sync codes-missing": Case(
        "indexer sync nowhere --index new",
        "no code file (*.h5) at nowhere; encode some shards (encoder encode SHARDS --out CODES, --keep-gone)",
        (("encoder encode shards --model model.safetensors --out nowhere", "indexer sync nowhere --index new"),),
    ),
    "sync codes-missing gone": Case(
        "indexer sync mine --index new",
        "new is not an index yet, and the shards of its code files are gone, all 1, first ",
        (
            "indexer sync mine --index new --keep-gone",
            ("encoder encode z.tar --model model.safetensors --out mine", "indexer sync mine --index two"),
        ),
        ("encoder encode x/a.tar --model model.safetensors --out mine", "$ mv x/a.tar x/b.tar"),
    ),
    "sync codes-mismatch": Case(
        "indexer sync mine",
        "encode all shards with one model (encoder encode SHARDS --out CODES --overwrite)",
        (("encoder encode z.tar --model model.safetensors --out mine --overwrite", "indexer sync mine"),),
        (f"encoder fit shards --out other.st --hash lsh {FIT}", "encoder encode z.tar --model other.st --out mine"),
    ),
    "sync duplicate-keys": Case(
        "indexer sync codes mine",
        "(--on-duplicate first, encoder encode --prefix-keys)",
        (
            "indexer sync codes mine --on-duplicate first",
            ("encoder encode same.tar --out mine --prefix-keys", "indexer sync codes mine"),
        ),
        ("$ cp shards/part-0000.tar same.tar", "encoder encode same.tar --model model.safetensors --out mine"),
    ),
    "sync shard-damaged": Case(
        "indexer sync mine",
        "and encode it again, or allow damaged shards (--allow-damaged)",
        ("indexer sync mine --allow-damaged",),
        ("$ head -c 2000 z.tar > cut.tar", "$ encoder encode cut.tar --model model.safetensors --out mine"),
    ),
    "import codes-mismatch": Case(
        "indexer import --level fine=out/fine.npy --keys out/keys.txt --bit-order little",
        "encode all shards with one model (--model, --index)",
        (
            "indexer import --level fine=out/fine.npy --keys out/keys.txt --bit-order little --index new",
            " ".join(f"--level {level}=out/{level}.npy" for level in ("fine", "mid", "coarse", "fused")).join(
                ("indexer import ", " --keys out/keys.txt --bit-order little --model model.safetensors")
            ),
        ),
        ("indexer export out",),
    ),
    "import duplicate-keys": Case(
        "indexer import --level fine=out/fine.npy --keys out/keys.txt --bit-order little --index new --on-duplicate error",
        "replace those rows, or add with the first of each key (--on-duplicate, --keys)",
        (
            "indexer import --level fine=out/fine.npy --keys out/keys.txt --bit-order little --index new --on-duplicate first",
            "indexer import --level fine=out/fine.npy --keys others.txt --bit-order little --index new --on-duplicate error",
        ),
        (
            "indexer export out",
            "indexer import --level fine=out/fine.npy --keys out/keys.txt --bit-order little --index new",
            "$ sed s/pic/other/ out/keys.txt > others.txt",
        ),
    ),
    "import model-invalid": Case(
        "indexer import --level fine=out/fine.npy --bit-order little --index new --model photo.jpg",
        "fit or train one (--model)",
        ("indexer import --level fine=out/fine.npy --bit-order little --index new --model model.safetensors",),
        ("indexer export out",),
    ),
    "export exists": Case(
        "indexer export out",
        "out exists; choose another folder, or replace it (--overwrite)",
        ("indexer export other", "indexer export out --overwrite"),
        ("indexer export out",),
    ),
    "export level-unknown": Case(
        "indexer export out --index two --levels mid",
        "level mid is not in two (has: fine, coarse); search one of those (--levels)",
        ("indexer export out --index two --levels fine",),
        ("indexer build codes --out two --levels coarse,fine",),
    ),
    "relocate index-missing": Case(
        "indexer relocate a=b --index nowhere",
        "no index at nowhere; build one of code files (--index, indexer build CODES --out INDEX)",
        (("indexer build codes --out nowhere", "indexer relocate /=/moved --index nowhere"),),
    ),
    "verify index-missing": Case(
        "indexer verify --index codes",
        "codes holds code files, not an index; build one of them (--index, indexer build CODES --out INDEX)",
        (("indexer build codes --out new", "indexer verify --index new"),),
    ),
}

NOT_RUN = {
    "encode process-died": "takes several devices",
    "train training-diverged": "no small training diverges for sure",
    "query index-damaged": "by `verify`, which is the same table",
    "tune index-damaged": "the same",
    "info index-damaged": "the same",
    "relocate index-damaged": "the same",
    "add index-damaged": "the same",
    "remove index-damaged": "the same",
    "history index-damaged": "the same",
    "rollback index-damaged": "the same",
    "gc index-damaged": "the same",
    "compact index-damaged": "the same",
    "sync index-damaged": "the same",
    "export index-damaged": "the same",
    "calibrate index-damaged": "the same",
    "explain index-damaged": "the same",
    "duplicates index-damaged": "the same",
    "serve index-damaged": "the same",
    "calibrate index-missing": "by `query`, which is the same table",
    "explain index-missing": "the same",
    "duplicates index-missing": "the same",
    "explain model-invalid": "the same",
    "explain model-mismatch": "the same",
    "serve bad-value": "a service that starts does not end: tests/e2e/test_serve.py",
    "serve write-failed": "the same",
    "serve index-missing": "the same",
    "serve model-invalid": "the same",
    "serve model-mismatch": "the same",
    "remove index-missing": "by `add`, which is the same table",
    "history index-missing": "by `add`, which is the same table",
    "rollback index-missing": "by `add`, which is the same table",
    "gc index-missing": "by `add`, which is the same table",
    "compact index-missing": "by `add`, which is the same table",
    "sync index-missing": "by `add`, which is the same table",
    "export index-missing": "by `add`, which is the same table",
    "verify index-damaged": "the same",
}


@pytest.fixture
def stage(tmp_path, monkeypatch, index_folder, codes_folder, model_path, shards_folder):
    """Shards, a model, codes and an index, all of them to be broken."""
    monkeypatch.chdir(tmp_path)
    for name, of in (("index", index_folder), ("codes", codes_folder)):
        shutil.copytree(of, name)
    (tmp_path / "shards").symlink_to(shards_folder)
    shutil.copyfile(model_path, "model.safetensors")
    (tmp_path / "photo.jpg").write_bytes(encoded(1))
    write_tar(tmp_path / "x/a.tar", labelled_members(100, 2))
    write_tar(tmp_path / "y/a.tar", labelled_members(200, 2))
    write_tar(tmp_path / "z.tar", labelled_members(101, 2))
    write_tar(tmp_path / "bad.tar", [("a.jpg", b"no picture"), ("b.jpg", encoded(1))])


@pytest.mark.parametrize("name", CASES)
def test_what_an_error_advises_helps(command, stage, name):
    def run(line):
        if line.startswith("$ encoder"):  # one that may fail
            command(*line.removeprefix("$ ").split())
        elif line.startswith("$"):
            subprocess.run(["bash", "-ec", line[1:]], check=True, capture_output=True)
        else:
            code, _, err = command(*line.split())
            assert code == 0, (line, err)

    case = CASES[name]
    for line in case.before:
        run(line)
    code, _, err = command(*case.fails.split())
    assert (code, case.says in err.splitlines()[-1]) == (1, True), err
    for remedy in case.remedies:
        for line in (remedy,) if isinstance(remedy, str) else remedy:
            run(line)


def test_an_image_whose_shard_was_replaced_comes_back_as_advised(command, stage):
    assert command("encoder", "encode", "x/a.tar", "--model", "model.safetensors", "--out", "mine")[0] == 0
    assert command("indexer", "build", "mine", "--out", "new")[0] == 0
    shard = Path("x/a.tar")
    whole = shard.read_bytes()
    shard.write_bytes(whole[:700])
    with pytest.raises(HashgrainError, match="or encode this one and build the index again") as caught:
        indexer.open("new").image(0)
    assert caught.value.reason is Reason.SHARD_DAMAGED
    shard.write_bytes(whole)
    assert indexer.open("new").image(0) == encoded(100)
    write_tar(shard, labelled_members(300, 1))
    assert command("encoder", "encode", "x/a.tar", "--out", "mine")[0] == 0
    assert command("indexer", "build", "mine", "--out", "new", "--overwrite")[0] == 0
    assert indexer.open("new").image(0) == encoded(300)


@pytest.mark.parametrize(("program", "table"), [("encoder", ENCODER), ("indexer", INDEXER)])
def test_every_remedy_of_the_tables_is_run(program, table):
    ran = {tuple(name.split()[:2]) for name in [*CASES, *NOT_RUN]}
    assert [(name, reason) for name, of in table.items() for reason in of if (name, str(reason)) not in ran] == []
    assert {reason for _, reason in ran if re.fullmatch(r"[a-z]+-[a-z-]+", reason)} <= set(map(str, Reason))
