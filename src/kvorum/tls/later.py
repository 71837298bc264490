"""``cryptography``, loaded with the first certificate; a start without TLS is shorter by a fifth."""

import importlib
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from cryptography import x509 as x509
else:

    @final
    class _Later:
        """Stands for the module until somebody asks for something in it."""

        def __getattr__(self, name: str) -> Any:
            return getattr(importlib.import_module("cryptography.x509"), name)

    x509 = _Later()
