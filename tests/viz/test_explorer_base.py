"""What explorers share: packed arrays, the page without a kernel, the size limit."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest

from bckd.system.errors import InputError
from bckd.viz.explorers import base
from bckd.viz.explorers.base import DTYPES, MAX_BYTES, Explorer, packed
from bckd.viz.explorers.protocol_lab import ProtocolLab
from bckd.viz.style import PALETTE

FOLDER = Path(base.__file__).parent


class Sample(Explorer):
    """The lab's files with data of the tests."""

    stem = "protocol_lab"


def content(html: str) -> dict:
    """State and data of a static page."""
    (text,) = re.findall(r'<script type="application/json">(.*?)</script>', html, flags=re.DOTALL)
    return json.loads(text)


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_travel_as_little_endian_rows(dtype: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    for variant in (array, array.astype(array.dtype.newbyteorder(">")), np.asfortranarray(array)):
        sent = packed(variant)
        assert (sent["dtype"], sent["shape"]) == (dtype, [2, 3])
        read = np.frombuffer(sent["buffer"], np.dtype(dtype).newbyteorder("<"))
        assert read.tolist() == [0, 1, 2, 3, 4, 5]


def test_arrays_may_stand_anywhere_in_the_data() -> None:
    explorer = Sample(state={}, data={"maps": [np.zeros(2, "uint8"), {"deep": np.ones(1, "int8")}]})
    first, second = explorer.data["maps"]
    assert first == {"dtype": "uint8", "shape": [2], "buffer": b"\0\0"}
    assert second["deep"] == {"dtype": "int8", "shape": [1], "buffer": b"\1"}


@pytest.mark.parametrize("dtype", ["int64", "bool", "float16", "complex64"])
def test_a_dtype_without_a_typed_array_is_refused(dtype: str) -> None:
    with pytest.raises(InputError, match=rf"has dtype {dtype}; expected one of uint8"):
        Sample(state={}, data={"map": np.zeros(3, dtype)})


def test_too_much_data_is_refused_with_its_size() -> None:
    Sample(state={}, data={"maps": np.zeros(MAX_BYTES - 100, "uint8")})
    parts = [np.zeros(MAX_BYTES // 8, "float32") for _ in range(3)]
    with pytest.raises(InputError, match=r"the data of Sample has 7\.5 MB; at most 5 MB"):
        Sample(state={}, data={"maps": parts})


def test_script_and_style_are_put_together_from_the_files() -> None:
    script, style = ProtocolLab()._esm, ProtocolLab()._css
    for name in ("shared.js", "losses.js", "descent.js", "protocol_lab.js"):
        assert (FOLDER / name).read_text(encoding="utf-8") in script
    assert script.rstrip().endswith("export default { render };")
    assert len(re.findall(r"^\s*export\b", script, flags=re.MULTILINE)) == 1, "the last line's"
    for name in ("theme.css", "protocol_lab.css"):
        rules = (FOLDER / name).read_text(encoding="utf-8")
        assert re.sub(r"/\*.*?\*/\n?", "", rules, flags=re.DOTALL) in style
    assert "/*" not in style
    for colour in PALETTE:
        assert colour in style


def test_static_page_holds_state_and_data() -> None:
    values = np.array([[0.5, -2.0]], dtype="float32")
    explorer = Sample(state={"text": "</script><b>&é"}, data={"map": values, "names": ["a"]})
    html = explorer.static_html()
    found = content(html)
    assert found["state"] == {"text": "</script><b>&é"}
    assert found["data"]["names"] == ["a"]
    sent = found["data"]["map"]
    assert (sent["dtype"], sent["shape"]) == ("float32", [1, 2])
    assert np.frombuffer(base64.b64decode(sent["base64"]), "<f4").tolist() == [0.5, -2.0]
    assert html.count("</script>") == 2, "no text of the state ends an element"
    assert 'mountStatic("protocol_lab", render);' in html


def test_static_page_follows_the_state() -> None:
    explorer = Sample(state={"step": 1})
    explorer.state = {"step": 7}
    assert content(explorer.static_html())["state"] == {"step": 7}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.[jc]s*")), ids=lambda path: path.name)
def test_files_reach_for_no_network(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|//\w+\.\w|@import|\bimport\b|\bfetch\(|url\(", text)
    assert "</script" not in text and "</style" not in text


def test_rules_of_an_explorer_touch_no_other() -> None:
    """Every selector outside theme.css starts with the explorer's own class."""
    for path in FOLDER.glob("*.css"):
        if path.name == "theme.css":
            continue
        own = f".bckd-{path.stem.replace('_', '-')}"
        text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        selectors = [part.strip() for part in re.findall(r"([^{};]+)\{", text)]
        rules = [part for part in selectors if not part.startswith("@")]
        assert rules
        assert [rule for rule in rules if not rule.startswith(own)] == []


def test_displays_as_a_widget_and_in_a_book_as_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    explorer = Sample(state={})
    monkeypatch.delenv("BCKD_BOOK", raising=False)
    bundle, _ = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    monkeypatch.setenv("BCKD_BOOK", "1")
    assert explorer._repr_mimebundle_() == {"text/html": explorer.static_html()}


def test_text_for_where_no_kernel_runs() -> None:
    text = "ProtocolLab: an interactive explorer; run the notebook to use it"
    explorer = ProtocolLab()
    assert repr(explorer) == repr(ProtocolLab([1.0], [2.0])) == text
    bundle, _ = explorer._repr_mimebundle_()
    assert bundle["text/plain"] == text, "the whole of it"
    assert repr(Sample(state={})).startswith("Sample: ")
