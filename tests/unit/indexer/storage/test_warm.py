import indexer
from indexer.storage.warm import read_files


def test_files_are_read_up_to_a_bound_the_smallest_first(index_folder, monkeypatch):
    index, opened = indexer.open(index_folder), []
    sizes = {name: size for name, (size, _) in index.manifest.files.items()}
    ordered = sorted(sizes, key=sizes.__getitem__)
    real = type(index.folder).open

    def noted(path, *arguments, **options):
        opened.append(str(path.relative_to(index.folder)))
        return real(path, *arguments, **options)

    monkeypatch.setattr(type(index.folder), "open", noted)
    read_files(index.folder, index.manifest.files, sum(sizes[name] for name in ordered[:3]))
    assert sorted(opened) == sorted(ordered[:3])
