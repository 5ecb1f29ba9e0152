"""torchvision, imported without torch's compiler.

One operator of its detection models asks the compiler a yes-or-no question, and for that the whole of `torch._dynamo` is
imported, which takes four times as long as the rest of torchvision (1.8 s and 0.4 s on 2 cores). The operator's file is
loaded with that one import put off until the question is asked; a torchvision without the import is loaded as it is.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

OPERATOR = "torchvision.ops.roi_align"
IMPORT = b"from torch._dynamo.utils import is_compile_supported"
LATE_IMPORT = b"from encoder.model.vision import is_compile_supported"


def torchvision_models() -> Any:
    """Return `torchvision.models`."""
    import torchvision.models

    return torchvision.models


def is_compile_supported(device_type: str) -> bool:
    """Ask torch's compiler itself."""
    from torch._dynamo.utils import is_compile_supported

    return bool(is_compile_supported(device_type))


class _Loader(SourceFileLoader):
    """Loads the operator from its source; a compiled file in the cache has the import in it."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path).replace(IMPORT, LATE_IMPORT), path)
        return code


class _Finder:
    """Finds the operator where it is, and nothing else."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != OPERATOR:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(name, spec.loader.path)
        return spec


sys.meta_path.insert(0, _Finder)
