"""The light core in an environment of its own: `python benchmarks/light_install.py`.

Makes a virtual environment, runs `pip install .` in it, and there `zhen inspect`, `zhen rename` and `zhen convert` on a
small checkpoint, whose tensors must come back with the same bytes. Prints seconds and megabytes; exit status 1 above
30 s or 120 MB, or where a verb fails. Needs the package index.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from zhen.console import out, table

SECONDS, MEGABYTES = 30, 120
PARTS = ("src", "pyproject.toml", "README.md", "LICENSE", "NOTICE")
"""What pip needs of the repository; a copy, since it builds inside it."""

MAKE = """
import json, sys
from pathlib import Path
import msgspec
from zhen.checkpoint.writer import write_sharded
from zhen.model.config import PRESETS, to_config_json
from zhen.model.size import shapes
folder, config = Path(sys.argv[1]), msgspec.structs.replace(PRESETS["tiny-1m"], vocab_size=512)
folder.mkdir()
(folder / "config.json").write_text(json.dumps(to_config_json(config, "bfloat16")))
names = enumerate(shapes(config).items())
def filled(number, shape):
    size = 2
    for dimension in shape:
        size *= dimension
    return bytes(at * 7 + number & 255 for at in range(size))
tensors = [(name, "BF16", shape, filled(number, shape)) for number, (name, shape) in names]
write_sharded(folder, tensors, 1_000_000)
"""

HASHES = """
import hashlib, json, sys
from zhen.checkpoint.reader import open_checkpoint
found = open_checkpoint(sys.argv[1])
print(json.dumps({name: hashlib.sha256(found.read(name)).hexdigest() for name in sorted(found.tensors)}))
"""


def on_disk(folder: Path) -> float:
    """Megabytes (10^6) that the files below a folder take on the disk."""
    return sum(file.lstat().st_blocks * 512 for file in folder.rglob("*") if file.is_file()) / 1e6


def used_by_children() -> float:
    """Seconds of processor time that ended child processes took; what the machine's load doesn't change."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def ran(*command: str | Path) -> str:
    """The output of a command; ends this program where it fails."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))[:200]}: status {done.returncode}\n{done.stderr}")
    return done.stdout


def main() -> int:
    """Install, run, compare, print."""
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        root = Path(__file__).resolve().parents[1]
        (base / "zhen").mkdir()
        for part in PARTS:
            if (root / part).is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(root / part, base / "zhen" / part, ignore=ignored)
            else:
                shutil.copy(root / part, base / "zhen" / part)
        venv.create(base / "env", with_pip=True, symlinks=True)
        python = base / "env" / "bin" / "python"
        before = on_disk(base / "env")
        began, used = time.perf_counter(), used_by_children()
        ran(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", base / "zhen")
        seconds, used = time.perf_counter() - began, used_by_children() - used
        megabytes = on_disk(base / "env") - before
        probe = "import importlib.util as u; print(any(map(u.find_spec, ('torch', 'safetensors', 'pyarrow'))))"
        if ran(python, "-c", probe).strip() != "False":
            sys.exit("the environment is not light")
        rows = verbs(python, base)
    out.print(table(("verb", "seconds", ""), rows))
    print(f"pip install . took {seconds:.1f} s (at most {SECONDS}), {used:.1f} s of them on a core")
    print(f"it brought {megabytes:.1f} MB (at most {MEGABYTES})")
    return seconds > SECONDS or megabytes > MEGABYTES


def verbs(python: Path, base: Path) -> list[tuple[str, str, str]]:
    """Run the light verbs; a row each: the verb, its seconds, what was compared."""
    first, second, third, fourth = (base / name for name in ("llama", "yi", "fused", "again"))
    ran(python, "-c", MAKE, first)
    rows = []

    def verb(*arguments: str | Path) -> str:
        began = time.perf_counter()
        output = ran(python, "-m", "zhen", *arguments)
        shown = " ".join(part.name if isinstance(part, Path) else part for part in arguments)
        rows.append((shown, f"{time.perf_counter() - began:.2f}", ""))
        return output

    if json.loads(verb("inspect", first, "--json"))["family"] != "llama":
        sys.exit("inspect: no llama")
    verb("rename", first, "--to", "yi", "--out", second)
    verb("convert", second, "--to", "phi3", "--out", third)
    verb("convert", third, "--to", "llama", "--out", fourth)
    if ran(python, "-c", HASHES, first) != ran(python, "-c", HASHES, fourth):
        sys.exit("other tensors came back")
    return [*rows, ("llama = again", "", "each tensor's SHA-256")]


if __name__ == "__main__":
    sys.exit(main())
