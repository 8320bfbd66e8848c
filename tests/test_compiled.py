import numpy as np

from neurocodec.compiled import compiled


def test_a_function_whose_code_cannot_be_kept_is_compiled_all_the_same() -> None:
    names: dict[str, object] = {}
    exec("def total(x):\n    s = 0.0\n    for a in x:\n        s += a\n    return s", names)
    total = compiled(names["total"])  # type: ignore[type-var]
    assert total(np.arange(5.0)) == 10  # type: ignore[operator]
    assert total.signatures  # type: ignore[attr-defined]
