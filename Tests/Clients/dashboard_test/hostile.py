"""What a hostile producer or worker writes everywhere: markup, script, and characters that reverse or hide others."""

# Each part would be seen in the page: as an alert, as an element with the class `injected`, or as a change of what is
# around it.
MARKUP = ("<img class=injected src=x onerror=alert(1)><script class=injected>alert(2)</script></script>"
          "<b class=injected onmouseover=alert(3)>bold</b>\"'><svg class=injected onload=alert(4)>"
          "</textarea></template><iframe class=injected srcdoc='<script>alert(5)</script>'></iframe>"
          "<a class=injected href=javascript:alert(6)>link</a><style class=injected>*{display:none}</style>"
          "{{7*7}}${alert(8)}`${alert(9)}`&lt;b&gt;&#60;")
# A right-to-left override and an embedding that are not ended, marks, zero-width characters, a byte order mark, and
# characters with many accents.
DIRECTION = "\u202egnp.txt \u202b\u05d0\u05d1\u05d2\u200f \u2067abc \u200b\u200c\u200d\u2060\ufeff zero Z\u0351\u036b\u0343\u036a\u0302"
LONG_WORD = "Donaudampfschifffahrtsgesellschaft" * 60

QUEUE = "<img src=x onerror=alert(1) class=injected>\"'&lt;\u202egpj.\u2067/..%2f?a=b#c"
KEY = f"{MARKUP[:150]}{DIRECTION[:20]}"
WORKER = f"<script class=injected>alert(10)</script>{DIRECTION[:20]}"
ERROR = f"{MARKUP}{DIRECTION} {LONG_WORD}\n\n\tat line 2 {MARKUP}"
CONTENT = {
    MARKUP: DIRECTION,
    "__proto__": {"polluted": True},
    "constructor": {"prototype": {"polluted": True}},
    "toString": MARKUP,
    "text": f"{MARKUP} {DIRECTION}",
    "word": LONG_WORD,
    "megabyte": f"{MARKUP} " * 2100,
    "lines": "\r\n\u2028\u2029\v\f\u0085" * 20,
    "control": "\u0000\u0001\u001b[31mred\u001b[0m\u007f\u009b",
    "deep": None,
}
METADATA = {MARKUP: MARKUP, "\u202ereversed": DIRECTION, "word": LONG_WORD}


def nested(depth):
    """JSON with arrays in arrays."""
    return "[" * depth + "1" + "]" * depth
