"""The programs in four languages are short, and use nothing but the language's own HTTP client."""

import re

from recipes_test.checks import expect, holds
from recipes_test.document import Recipe

LIMIT = 40
LANGUAGES = {"JavaScript": "mjs", "Go": "go", "PHP": "php", "Ruby": "rb"}
# What a program may import: parts of the language's own library, and the other file of the recipe.
ALLOWED = {
    "JavaScript": {"node:timers/promises", "./emq.mjs"},
    "Go": {"bytes", "context", "encoding/json", "fmt", "io", "log", "math", "math/rand", "net/http", "os", "os/signal",
           "syscall", "time"},
    "PHP": {"emq.php"},
    "Ruby": {"json", "net/http", "emq"},
}


def code_lines(text):
    """The lines of code: not the blank ones, those with only a comment or closing brackets (or `end`), and imports."""
    without_imports = re.sub(r"(?m)^(package .*|import \((.|\n)*?^\)|import .*|require.*)$", "", text)
    return [line for line in without_imports.splitlines() if not re.fullmatch(r"\s*((//|#).*|end|[\])},;]*)", line)]


def imports(text):
    in_go = re.search(r"(?m)^import \(((.|\n)*?)^\)", text)
    if in_go:
        return set(re.findall(r'"(.*?)"', in_go[1]))
    return set(re.findall(r"""(?m)^(?:import|require).*?["'](.*?)["']""", text))


def run(emq):
    for language, ending in LANGUAGES.items():
        recipe = Recipe(language)
        expect(f"the files of {language}", [f"{name}.{ending}" for name in ("emq", "worker", "producer")],
               [block.name for block in recipe.blocks])
        for block in recipe.blocks:
            lines = code_lines(block.text)
            holds(f"{block.name} has fewer than {LIMIT} lines of code", 2 < len(lines) < LIMIT, len(lines))
            holds(f"{block.name} has no long lines", all(len(line) <= 120 for line in lines))
            found = imports(block.text)
            holds(f"{block.name} uses only what the language has", found <= ALLOWED[language], found)
