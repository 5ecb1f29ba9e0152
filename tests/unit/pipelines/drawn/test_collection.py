import hashlib
import json
import tarfile

import numpy as np

from pipelines.drawn.collection import SIZE, draw_collection, draw_shards
from pipelines.drawn.drawing import KINDS, draw_thing


def digest(pictures):
    found = hashlib.sha256()
    for picture in pictures:
        found.update(picture.key.encode() + picture.image.tobytes())
    return found.hexdigest()


def test_the_seed_decides_every_pixel():
    first, again, other = (digest(draw_collection(seed, 1, 2)) for seed in (0, 0, 1))
    assert first == again != other


def test_every_class_every_instance_every_view():
    pictures = list(draw_collection(0, 2, 3))
    classes = sum(len(of_kind) for of_kind in KINDS.values())
    assert len(pictures) == classes * 2 * 3 == len({picture.key for picture in pictures})
    assert {picture.image.size for picture in pictures} == {(SIZE, SIZE)}
    assert len({picture.labels["class"] for picture in pictures}) == classes
    assert {picture.labels["kind_name"] for picture in pictures} == set(KINDS)
    assert len({picture.labels["instance"] for picture in pictures}) == classes * 2


def test_views_of_a_thing_are_more_alike_than_things_of_other_kinds():
    """By nothing but the pixels' colours: otherwise no network could find them."""
    pictures = list(draw_collection(3, 2, 4))
    small = np.stack([np.asarray(picture.image.resize((8, 8)), dtype=np.float32).ravel() for picture in pictures])
    kinds = np.array([picture.labels["kind"] for picture in pictures])
    distances = ((small[:, None] - small[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    same_kind = kinds[distances.argmin(axis=1)] == kinds
    assert same_kind.mean() > 2 / len(KINDS)


def test_the_likest_other_thing_is_of_the_same_class():
    """Views of the thing itself do not count, so a class must look like one; chance is 1 in 24."""
    pictures = list(draw_collection(5, 4, 2))
    small = np.stack([np.asarray(picture.image.resize((8, 8)), dtype=np.float32).ravel() for picture in pictures])
    small /= np.linalg.norm(small, axis=1, keepdims=True)
    classes, things = (np.array([picture.labels[field] for picture in pictures]) for field in ("class", "instance"))
    likeness = np.where(things[:, None] == things, -1, small @ small.T)
    assert (classes[likeness.argmax(axis=1)] == classes).mean() > 0.6


def test_nothing_is_cut_at_the_edge_of_the_canvas():
    for number, draw_class in enumerate(draw_class for classes in KINDS.values() for draw_class in classes):
        for instance in range(4):
            alpha = np.asarray(draw_thing(draw_class, np.random.default_rng([number, instance])).getchannel("A"))
            edges = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
            assert not edges.any(), draw_class.__name__


def test_the_seed_decides_every_byte_of_the_files(tmp_path):
    for name in ("first", "again"):
        draw_shards(tmp_path / name, instances=2, views=2)
    first, again = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*.*") if path.is_file()}
        for root in (tmp_path / "first", tmp_path / "again")
    )
    assert first == again


def labels_in(folder):
    """Read the labels of every picture, by its key."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.j*") if path.is_file()}
    for shard in folder.glob("*.tar"):
        with tarfile.open(shard) as tar:
            files |= {member.name: file.read() for member in tar if (file := tar.extractfile(member))}
    return {name[:-4]: json.loads(files[name[:-4] + ".json"]) for name in files if name.endswith(".jpg")}


def test_no_thing_that_asks_is_trained_on_and_all_its_other_views_are_there(tmp_path):
    draw_shards(tmp_path, instances=5, views=3)
    train, more, queries = (labels_in(tmp_path / name) for name in ("train", "more", "queries"))
    assert (len(train), len(more), len(queries)) == (24 * 3 * 3, 24 * 2 * 2, 24 * 2)
    trained, kept_out, asking = ({of["instance"] for of in part.values()} for part in (train, more, queries))
    assert not trained & kept_out
    assert asking == kept_out
    assert {key[-1] for key in queries} == {"0"}
    assert {key[-1] for key in more} == {"1", "2"}
    for key, labels in (train | more | queries).items():
        assert key.startswith(f"{labels['kind_name']}/{labels['class_name']}-")
