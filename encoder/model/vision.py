"""torchvision, imported without torch's compiler.

One operator of its detection models asks the compiler a yes-or-no question, and for that the whole of `torch._dynamo` is
imported, which takes four times as long as the rest of torchvision (1.8 s and 0.4 s on 2 cores). The question is put off
until somebody asks it.
"""

import sys
import threading
from contextlib import suppress
from types import ModuleType
from typing import Any

COMPILER, COMPILER_UTILS = "torch._dynamo", "torch._dynamo.utils"
_IMPORT = threading.Lock()


def torchvision_models() -> Any:
    """Return `torchvision.models`."""
    with _IMPORT:
        if COMPILER not in sys.modules and "torchvision" not in sys.modules:
            _import_without_compiler()
        import torchvision.models

    return torchvision.models


def _import_without_compiler() -> None:
    """Import torchvision while a module stands in for the compiler; where it asks for more, it is not imported."""
    package, utils = ModuleType(COMPILER), ModuleType(COMPILER_UTILS)
    package.__path__ = []
    utils.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    sys.modules.update({COMPILER: package, COMPILER_UTILS: utils})
    try:
        with suppress(ImportError, AttributeError):
            import torchvision.models  # noqa: F401
    finally:
        for name in (COMPILER, COMPILER_UTILS):
            sys.modules.pop(name)


def _is_compile_supported(device_type: str) -> bool:
    """Ask the compiler itself."""
    from torch._dynamo.utils import is_compile_supported

    return bool(is_compile_supported(device_type))
