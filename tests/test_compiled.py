import logging

import numpy as np
import pytest

from neurocodec.compiled import compiled, notice


def test_a_function_whose_code_cannot_be_kept_is_compiled_all_the_same() -> None:
    names: dict[str, object] = {}
    exec("def total(x):\n    s = 0.0\n    for a in x:\n        s += a\n    return s", names)
    total = compiled(names["total"])  # type: ignore[type-var]
    assert total(np.arange(5.0)) == 10  # type: ignore[operator]
    assert total.signatures  # type: ignore[attr-defined]


def test_who_waits_for_the_compiler_is_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notice, "given", False)
    logger, names = logging.getLogger("neurocodec"), dict[str, object]()
    monkeypatch.setattr(logger, "handlers", [])
    for kind in ("a library", "a program", "a program again"):
        if kind != "a library":
            monkeypatch.setattr(logger, "handlers", [logging.NullHandler()])
        exec("def double(x):\n    return 2 * x", names)
        assert compiled(names["double"])(4) == 8  # type: ignore[type-var,operator]
        assert len(caplog.records) == (kind != "a library")
    assert "compiling" in caplog.text
