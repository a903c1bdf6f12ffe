"""Here everything runs on the kernel, with both bindings."""

from __future__ import annotations

import pytest

from ..fs.sites import WITH_KERNEL


@pytest.fixture(scope="session", params=WITH_KERNEL)
def kind(request: pytest.FixtureRequest) -> str:
    """The binding: mfusepy or fuse (fusepy)."""
    return str(request.param)
