"""Pieces of HTML and SVG that are escaped by construction: what comes from a model is text, never markup."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence

# Controls, direction marks and overrides, invisible separators, lone surrogates, noncharacters: what they would do to
# a page is never wanted, and some of it cannot be encoded.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\uffff\ud800-\udfff]"
)
_VOID = frozenset({"meta", "input", "br", "col", "link"})


class Html(str):
    """Markup, as opposed to text that still has to be escaped."""

    __slots__ = ()


Child = str | Iterable["Child"] | None


def visible(text: str) -> str:
    """Text in which characters that cannot be seen, or change how others are seen, are written by their code points."""
    return _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def escape(text: str) -> Html:
    """Text as markup: fit for content and for quoted attributes."""
    return text if isinstance(text, Html) else Html(html.escape(visible(text), quote=True))


def join(children: Iterable[Child]) -> Html:
    """Children one after the other; plain text among them is escaped."""
    parts: list[str] = []
    for child in children:
        if isinstance(child, str):
            parts.append(escape(child))
        elif child is not None:
            parts.append(join(child))
    return Html("".join(parts))


def tag(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Html:
    """An element.

    Args:
        name: Its name.
        *children: Text (escaped), markup, or iterables of both; None is nothing.
        **attributes: Values are escaped; True is an attribute without a value, None and False are none. A leading
            underscore is dropped (`_class`), others stand for hyphens.
    """
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.removeprefix("_").replace("_", "-")
        if value is True:
            parts.append(f" {attribute}")
        else:
            shown = f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
            parts.append(f' {attribute}="{escape(shown)}"')
    parts.append(">")
    if name not in _VOID:
        parts += [join(children), f"</{name}>"]
    return Html("".join(parts))


def shortened(text: str, limit: int) -> str:
    """Text of at most `limit` characters; what is left out is marked."""
    text = visible(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def quantity(value: float, unit: str) -> str:
    """A value with three digits and a decimal prefix: 46.8 MB."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")):
        if abs(value) >= factor:
            scaled = value / factor
            return f"{scaled:.{max(0, 2 - len(str(int(abs(scaled)))) + 1)}f} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def duration(seconds: float) -> str:
    """A time with three digits: 1.25 ms."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= factor:
            scaled = seconds / factor
            return f"{scaled:.{max(0, 3 - len(str(int(scaled))))}f} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def section(anchor: str, heading: str, *children: Child) -> Html:
    """A section of the page, with an anchor for links."""
    return tag("section", tag("h2", heading), children, id=anchor)


def packed(anchor: str, texts: Mapping[str, str] | Sequence[str]) -> Html:
    """Texts as packed data that the page's script unpacks when they are asked for."""
    data = gzip.compress(json.dumps(texts).encode(), 9, mtime=0)
    return tag("script", Html(base64.b64encode(data).decode()), type="application/octet-stream", id=anchor)
