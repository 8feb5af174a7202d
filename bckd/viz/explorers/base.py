"""What all explorers share: their files, their data and the page that needs no kernel.

An explorer `NAME` is one Python class and two files beside it, NAME.js and NAME.css.
NAME.js defines `function render({ model, el })` and exports nothing; it may use every
function of shared.js. No bundler is needed: the text of shared.js and of NAME.js are
put one after the other, and the last line says what becomes of `render`:

    widget       shared.js + parts + NAME.js + "export default { render };"
    static page  shared.js + parts + NAME.js + "mountStatic(NAME, render);"

Parts are scripts that some explorers share, and that the class names: `parts = ("losses",)`.
What a worker runs is named as `worker_parts`: their text stands before the parts as one string,
`WORKER_SOURCE`, from which the page makes a worker without asking any server; shared.js is not
among them, since a worker has no document.

The style sheets are put together in the same way: colours of `bckd.viz.style`, theme.css,
NAME.css. Every rule of NAME.css starts with `.bckd-NAME` (underscores as hyphens): other
explorers stand on the same page, and `render` marks its element with that class.
"""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bckd.system.errors import InputError
from bckd.system.extras import extra
from bckd.viz.style import PALETTE

with extra("notebooks", "an explorer"):
    import anywidget
    import traitlets

MAX_BYTES = 5_000_000
# The element types that a browser has a typed array for.
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")

_FOLDER = Path(__file__).parent
_COMMENT = re.compile(r"/\*.*?\*/\n?", re.DOTALL)  # of a style sheet


class Explorer(anywidget.AnyWidget):
    """A widget over precomputed arrays; a subclass names its files.

        class ScoreMaps(Explorer):
            stem = "score_maps"

    In a notebook it is a live widget. With BCKD_BOOK=1 in the environment it displays as
    `static_html()`, which works in an exported page.

    Attributes:
        stem: name of the subclass's .js and .css file, without the ending.
        parts: names of further scripts that it uses, without the ending.
        worker_parts: names of the scripts of its worker, if it has one.
        state: settings and shown values, plain JSON; either side may replace it.
        data: what the browser draws, sent once; arrays as `packed` makes them.
    """

    stem: ClassVar[str]
    parts: ClassVar[tuple[str, ...]] = ()
    worker_parts: ClassVar[tuple[str, ...]] = ()
    state = traitlets.Dict().tag(sync=True)
    data = traitlets.Dict().tag(sync=True)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # Widgets derive a class of their own when traits are added; that one names no files.
        if "stem" in cls.__dict__:
            cls._esm = f"{_script(cls)}\nexport default {{ render }};\n"
            cls._css = _style_sheet(cls.stem)
        super().__init_subclass__(**kwargs)

    def __init__(self, state: dict[str, Any], data: dict[str, Any] | None = None) -> None:
        """Pack `data`, whose numpy arrays may stand anywhere inside.

        Raises:
            InputError: the data exceeds `MAX_BYTES`, or an array's dtype is not in `DTYPES`.
        """
        arrays = packed(data or {})
        size = _size(arrays)
        if size > MAX_BYTES:
            raise InputError(
                f"the data of {type(self).__name__} has {size / 1e6:.1f} MB; at most "
                f"{MAX_BYTES / 1e6:.0f} MB fit in a page: give fewer or smaller arrays"
            )
        super().__init__(state=state, data=arrays)

    def static_html(self) -> str:
        """The explorer as a fragment of HTML that needs neither a kernel nor a network.

        The present state and data stand in it as JSON, arrays in base64. The element keeps
        its model: `document.querySelector('[data-bckd="NAME"]').model.get("state")`.
        """
        content = {"state": self.state, "data": _as_text(self.data)}
        # "</script>" inside a string would end the element.
        text = json.dumps(content, allow_nan=False).replace("<", "\\u003c")
        return (
            f"<style>\n{_style_sheet(self.stem)}</style>\n"
            f'<div data-bckd="{self.stem}"><script type="application/json">{text}</script>'
            "<noscript>This explorer needs JavaScript.</noscript></div>\n"
            f'<script type="module">\n{_script(type(self))}\n'
            f'mountStatic("{self.stem}", render);\n</script>\n'
        )

    def __repr__(self) -> str:
        """What stands in a saved notebook where no kernel runs, so without an address."""
        return f"{type(self).__name__}: an interactive explorer; run the notebook to use it"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if os.environ.get("BCKD_BOOK") == "1":
            return {"text/html": self.static_html()}
        return super()._repr_mimebundle_(**kwargs)


def packed(value: Any) -> Any:
    """`value` with every numpy array replaced by {"dtype", "shape", "buffer"}.

    The buffer holds the elements row by row, little-endian; `decode` of shared.js reads it.

    Raises:
        InputError: an array's dtype is not in `DTYPES`.
    """
    if isinstance(value, np.ndarray):
        if value.dtype.name not in DTYPES:
            raise InputError(
                f"an explorer's array has dtype {value.dtype}; expected one of {', '.join(DTYPES)}"
            )
        little = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"), copy=False)
        return {"dtype": value.dtype.name, "shape": list(value.shape), "buffer": little.tobytes()}
    if isinstance(value, dict):
        return {key: packed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [packed(item) for item in value]
    return value


def _as_text(value: Any) -> Any:
    """Packed data with each buffer as base64: {"dtype", "shape", "base64"}."""
    if isinstance(value, dict):
        if isinstance(value.get("buffer"), bytes):
            text = base64.b64encode(value["buffer"]).decode("ascii")
            return {"dtype": value["dtype"], "shape": value["shape"], "base64": text}
        return {key: _as_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    return value


def _size(value: Any) -> int:
    """Bytes of packed data on their way to the browser."""
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(len(str(key)) + _size(item) for key, item in value.items())
    if isinstance(value, list):
        return sum(_size(item) for item in value)
    return len(json.dumps(value))


def _script(explorer: type[Explorer]) -> str:
    page = _joined("shared", *explorer.parts, explorer.stem)
    if not explorer.worker_parts:
        return page
    # "</script>" inside the string would end the element of a static page.
    source = json.dumps(_joined(*explorer.worker_parts)).replace("<", "\\u003c")
    return f"const WORKER_SOURCE = {source};\n{page}"


def _joined(*names: str) -> str:
    return "\n".join(_read(f"{name}.js") for name in names)


def _style_sheet(stem: str) -> str:
    """Without comments, which no page needs."""
    colours = "".join(f"--bckd-colour-{n}: {value}; " for n, value in enumerate(PALETTE))
    rules = f"{_read('theme.css')}\n{_read(f'{stem}.css')}"
    return f".bckd {{ {colours}}}\n{_COMMENT.sub('', rules)}"


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
