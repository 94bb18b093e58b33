"""The programs and commands in docs/recipes.md."""

import pathlib
import re

PAGE = pathlib.Path(__file__).resolve().parents[3] / "docs" / "recipes.md"
# The first line that names a program's file, behind a line for the interpreter.
NAME = re.compile(r"\A(?:#!.*\n)?(?:<\?php )?(?://|#|--) ([\w-]+\.\w+): ")


class Block:
    """A block of code, with the last heading before it. Commands have no `name`."""

    def __init__(self, heading, language, text):
        self.heading = heading
        self.language = language
        self.text = text
        match = NAME.match(text)
        self.name = match[1] if match else None


def blocks():
    """All blocks of the page, in order."""
    found, heading, fence, lines = [], None, None, []
    for line in PAGE.read_text().splitlines():
        if fence is not None:
            if line == "```":
                found.append(Block(heading, fence, "".join(lines)))
                fence = None
            else:
                lines.append(line + "\n")
        elif line.startswith("```"):
            fence, lines = line[3:], []
        elif line.startswith("#"):
            heading = line.lstrip("# ")
    return found


class Recipe:
    """What is below a heading."""

    def __init__(self, heading):
        self.blocks = [block for block in blocks() if block.heading == heading]
        if not self.blocks:
            raise AssertionError(f"{PAGE} has no code below '{heading}'")

    def save(self, folder):
        """Writes the programs into a folder, with the permission to run."""
        for block in self.blocks:
            if block.name:
                path = pathlib.Path(folder) / block.name
                path.write_text(block.text)
                path.chmod(0o755)

    def commands(self, *beginnings):
        """The blocks of commands that begin so, in this order."""
        return [self.command(beginning) for beginning in beginnings]

    def command(self, beginning):
        """The one block without a file name that begins so."""
        found = [block.text for block in self.blocks if not block.name and block.text.startswith(beginning)]
        if len(found) != 1:
            raise AssertionError(f"{PAGE} has {len(found)} commands that begin with '{beginning}'")
        return found[0]
